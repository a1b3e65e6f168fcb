"""The folder for fuzzing clusters: all runs are from a copy of it, with an empty PATH and nothing else of ours."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dialects import DEFAULT
from planted import load_all
from processes import descendants, s2fuzz
from seeds import SEEDS

from fuzz.cluster.folder import DICTIONARY, FILES, INTERPRETER, NAME, OPTIONS, PARTS, dictionary, shared_libraries
from fuzz.cluster.packaged import COMPILED, IMAGES, LIBRARIES, MANIFEST
from fuzz.corpus.store import input_for, name_of, stamp_of
from harness.errors import ToolFailure
from harness.program.codec import Dialect, decode, dialect_for, encode, header_of
from harness.program.granule import granule_named
from harness.program.text import parse, read
from reference.build.sources import KernelChoice, prepare
from reference.link.console import QEMU, QEMU_SETTING
from reference.link.executor import INPUT_TIMEOUT

IN_16K = dialect_for(granule=granule_named("16k"))
ROOT = Path(__file__).parent.parent.parent
MERGE = "map ipa=0x1000 size=4K phys=0x80001000 prot=rwx mc=5\nmap ipa=0x0 size=2M phys=0x80000000 prot=rwx mc=5\n"


@dataclass(frozen=True)
class Cluster:
    """A machine of a cluster: what it runs lies in `out`, and it works in `work`, with nothing on its PATH."""

    out: Path
    work: Path

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments) as process:
            stdout, stderr = process.communicate(timeout=200)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        (self.work / "bin").mkdir(exist_ok=True)
        return subprocess.Popen(
            [self.out / NAME, *arguments],
            cwd=self.work,
            env={"HOME": "/nonexistent", "PATH": str(self.work / "bin"), "PYTHONPATH": "/nonexistent"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and when it was written."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package, where it was made."""
    out = tmp_path_factory.mktemp("made") / "out"
    result = s2fuzz("package", out, "--no-compile", cwd=out.parent)
    assert result.returncode == 0, result.stderr
    assert f"{out / NAME}: model:6.12 against kernel:6.12, 4k; " in result.stdout
    return out


@pytest.fixture(scope="module")
def moved(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy under a name that a shell has to quote. In the end nothing in it may have changed."""
    out = tmp_path_factory.mktemp("cluster") / "the copy's"
    shutil.copytree(made, out)
    for path in (out, *out.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    before = listing(out)
    yield out
    assert listing(out) == before
    for path in (out, *out.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)


@pytest.fixture
def cluster(moved: Path, tmp_path: Path) -> Cluster:
    return Cluster(moved, tmp_path)


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a kernel with `merge-leaks-table` planted, with the compiled model."""
    folder = tmp_path_factory.mktemp("leaky")
    mutant = next(one for one in load_all() if one.name == "merge-leaks-table")
    (folder / "pgtable.c").write_text(mutant.apply(prepare(KernelChoice()).pgtable.read_text()))
    result = s2fuzz("package", "out", "--pgtable", "pgtable.c", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert any((folder / "out" / FILES / COMPILED).iterdir())
    (folder / "pgtable.c").unlink()
    return folder / "out"


# What clusters look for


def oss_fuzz_targets(out: Path) -> set[str]:
    """As `find_fuzz_targets` of its infra/base-images/base-runner/test_all.py does."""
    return {
        path.name
        for path in out.iterdir()
        if path.is_file() and os.access(path, os.X_OK) and b"LLVMFuzzerTestOneInput" in path.read_bytes()
    }


def clusterfuzz_targets(out: Path) -> set[str]:
    """As `is_fuzz_target` of its src/clusterfuzz/_internal/bot/fuzzers/utils.py does, for every file below."""
    words = (b"LLVMFuzzerTestOneInput", b"LLVMFuzzerRunDriver")
    return {
        str(path.relative_to(out))
        for path in out.rglob("*")
        if path.is_file()
        and re.fullmatch(r"[a-zA-Z0-9@_.-]+", path.stem)
        and path.suffix in ("", ".exe", ".par")
        and (path.name.endswith("_fuzzer") or any(word in path.read_bytes() for word in words))
    }


def test_clusters_find_one_target_and_what_belongs_to_it(moved: Path) -> None:
    assert oss_fuzz_targets(moved) == clusterfuzz_targets(moved) == {"stage2_fuzzer"}
    assert {path.name for path in moved.iterdir()} == {
        *("stage2_fuzzer", "stage2_fuzzer.pkg", "stage2_fuzzer.dict", "stage2_fuzzer.options"),
        *("stage2_fuzzer_seed_corpus.zip", "stage2_fuzzer.files"),
    }
    assert {path.name for path in moved.iterdir()} == set(PARTS)
    interpreter = (moved / INTERPRETER).read_bytes()
    assert interpreter[:4] == b"\x7fELF" and interpreter[18] == 62, "what says that a target is for x86-64"
    options = configparser.ConfigParser()
    options.read(moved / OPTIONS)
    assert dict(options["libfuzzer"]) == {"max_len": "320", "len_control": "0", "timeout": str(INPUT_TIMEOUT)}


def test_the_seed_corpus_is_the_seeds(moved: Path) -> None:
    expected = {name_of(data): data for path in SEEDS if (data := input_for(read(path), DEFAULT)) is not None}
    assert len(expected) > 90
    with zipfile.ZipFile(moved / "stage2_fuzzer_seed_corpus.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == expected


def test_the_dictionary_is_one_to_libfuzzer(cluster: Cluster) -> None:
    lines = (cluster.out / DICTIONARY).read_text().splitlines()
    result = cluster.run(f"-dict={cluster.out / DICTIONARY}", "-runs=1")
    assert f"Dictionary: {len(lines)} entries" in result.stderr
    assert result.returncode == 0


@pytest.mark.parametrize("dialect", [DEFAULT, IN_16K], ids=["4k", "16k"])
def test_the_dictionary_has_every_operation_and_knob(dialect: Dialect) -> None:
    matches = [re.fullmatch(r'(\w+)="((?:\\x[0-9a-f]{2}){1,64})"', line) for line in dictionary(dialect)]
    words = {match[1]: bytes.fromhex(match[2].replace("\\x", "")) for match in matches if match}
    assert len(words) == len(matches)
    for stage in (1, 2):
        header = header_of(dialect.bare.replace("stage", stage), dialect)
        for op in dialect.capabilities.ops:
            if stage in op.stages:
                assert decode(header + words[f"stage{stage}_{op.name}"], dialect).ops[0].name == op.name
    for knob in dialect.knobs:
        changed = [decode(words[name], dialect).machine for name in words if name.startswith(f"{knob.name}_")]
        assert any(machine[knob.name] != knob.default for machine in changed)


# libFuzzer's command line


def test_runs_are_counted_and_inputs_kept(cluster: Cluster) -> None:
    (cluster.work / "corpus").mkdir()
    result = cluster.run("-runs=200", "-seed=1337", "corpus")
    assert result.returncode == 0, result.stderr
    assert "Done 200 runs" in result.stderr
    assert re.search(r"MS: \d+ Custom", result.stderr), "our mutator is the one that works"
    assert len(list((cluster.work / "corpus").iterdir())) > 20
    assert {path.name for path in cluster.work.iterdir()} == {"bin", "corpus"}, "not even a stamp is left elsewhere"


def test_a_build_check_passes(cluster: Cluster) -> None:
    """OSS-Fuzz's bad_build_check: four runs without a corpus; then the seed corpus, which must be without findings."""
    result = cluster.run("-rss_limit_mb=2560", "-timeout=25", "-seed=1337", "-runs=4")
    assert result.returncode == 0, result.stderr
    assert "Done 4 runs" in result.stderr
    assert "no interesting inputs were found" not in result.stderr
    with zipfile.ZipFile(cluster.out / "stage2_fuzzer_seed_corpus.zip") as archive:
        archive.extractall(cluster.work / "seeds")
    assert cluster.run("-rss_limit_mb=2560", "-timeout=25", "seeds", "-runs=0").returncode == 0


def test_atheris_ends_by_itself(cluster: Cluster) -> None:
    result = cluster.run("-atheris_runs=50")
    assert result.returncode == 0, result.stderr
    assert "Done 50 in" in result.stderr


def runs_qemu_of(out: Path, pid: int) -> bool:
    """Whether a process was started as the folder's QEMU."""
    return str(out / FILES / QEMU).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def test_time_ends_it_and_all_that_is_mapped_is_in_the_folder(cluster: Cluster) -> None:
    with cluster.start("-max_total_time=3") as process:
        deadline = time.monotonic() + 60
        while not (qemus := [pid for pid, _ in descendants(process.pid) if runs_qemu_of(cluster.out, pid)]):
            assert time.monotonic() < deadline and process.poll() is None, "no QEMU appeared"
            time.sleep(0.02)
        time.sleep(0.3)  # until it has mapped all
        alive = [pid for pid in (process.pid, *qemus) if Path(f"/proc/{pid}/maps").exists()]
        assert alive
        for pid in alive:  # one QEMU gives way to another where a table of hyp's is to be looked at
            maps = Path(f"/proc/{pid}/maps").read_text()
            mapped = set(re.findall(r" (/[^\n]*)$", maps, re.MULTILINE))
            outside = {path for path in mapped if not path.startswith((f"{cluster.out}/", "/memfd:s2fuzz-ram"))}
            assert mapped and not outside
        _, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    assert re.search(r"Done \d+ runs in \d+ second", stderr)


SHELL = Path("/bin/sh")
NEW_ROOT = """\
mount --rbind /proc "$1/proc" && mount --bind /dev/null "$1/dev/null" || exit 99
exec chroot "$1" /bin/sh -c 'cd /work && exec /out/stage2_fuzzer -runs=100 corpus'
"""


def test_it_runs_where_there_is_nothing_else(moved: Path, tmp_path: Path) -> None:
    """Below a root that holds a shell with its libraries, /proc and /dev/null."""
    root = tmp_path / "root"
    libraries = {str(path): path for path in shared_libraries([SHELL]).values()}
    for name, source in {str(SHELL): SHELL, **libraries}.items():
        target = root / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    for name in ("proc", "dev", "work/corpus"):
        (root / name).mkdir(parents=True)
    (root / "dev/null").touch()
    shutil.copytree(moved, root / "out", copy_function=os.link)
    namespace = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace may be made here")
    words = [*namespace, "sh", "-c", NEW_ROOT, "sh", str(root)]
    result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=200)
    if result.returncode == 99:
        pytest.skip(f"nothing may be mounted here: {result.stderr}")
    assert result.returncode == 0, result.stderr
    assert "Done 100 runs" in result.stderr
    assert len(list((root / "work/corpus").iterdir())) > 10


@pytest.mark.parametrize("flags", [("-merge=1",), ("-fork=1", "-runs=100")])
def test_it_can_start_itself_anew(flags: tuple[str, ...], cluster: Cluster) -> None:
    """libFuzzer that cannot ends with status 0 all the same, and an empty corpus."""
    for name in ("new", "old"):
        (cluster.work / name).mkdir()
    for path in SEEDS[:20]:
        if (data := input_for(read(path), DEFAULT)) is not None:
            (cluster.work / "old" / name_of(data)).write_bytes(data)
    given = {path.name for path in (cluster.work / "old").iterdir()}
    result = cluster.run(*flags, "new", "old")
    assert result.returncode == 0, result.stderr
    merged = {path.name for path in (cluster.work / "new").iterdir()}
    assert merged, result.stderr
    assert flags[0] != "-merge=1" or (merged <= given and len(merged) > 5)


def test_archives_may_lose_modes(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(made, out, copy_function=shutil.copyfile)
    (out / NAME).chmod(0o755)
    loader = next((out / FILES / LIBRARIES).glob("ld-*"))
    assert not os.access(loader, os.X_OK)
    result = subprocess.run(
        [out / NAME, "-runs=1"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


# What is a finding, and what is none


def frames(trace: str) -> list[str]:
    """Of a Python trace, the functions from the innermost outwards, as ClusterFuzz reads them."""
    return re.findall(r'^\s*File "[^"]+", line \d+, in (.+)$', trace.partition("=== Uncaught Python")[2], re.MULTILINE)[
        ::-1
    ]


def test_a_finding_is_raised_and_raised_again(leaky: Path, cluster: Cluster) -> None:
    sick = Cluster(leaky, cluster.work)
    result = sick.run("-runs=5000", "-seed=1")
    assert result.returncode == 77, result.stderr
    (artifact,) = cluster.work.glob("crash-*")
    (bucket,) = set(re.findall(r"^(?:fuzz\.cluster\.packaged\.)?FindingRaised: (\S+)$", result.stdout, re.MULTILINE))
    assert frames(result.stdout)[:3] == [bucket] * 3
    assert "fuzz target exited" in result.stderr
    assert f"divergence: {bucket}" in result.stderr and "First differing op" in result.stderr
    again = sick.run(artifact)
    assert again.returncode == 77
    assert frames(again.stdout)[:3] == [bucket] * 3
    assert cluster.run(artifact).returncode == 0, "a sound kernel"


def test_findings_of_one_bucket_look_the_same(leaky: Path, tmp_path: Path) -> None:
    seen = set()
    for number in range(2):
        (tmp_path / "input").write_bytes(encode(parse("s2 1\n" + "get_leaf ipa=0x0\n" * number + MERGE)))
        result = Cluster(leaky, tmp_path).run("input")
        assert result.returncode == 77, result.stderr
        seen.add(tuple(frames(result.stdout)))
    assert len(seen) == 1


def damaged(made: Path, out: Path, name: str, data: bytes) -> None:
    """A copy of a package (the rest is linked), with one file damaged."""
    shutil.copytree(made, out, copy_function=os.link)
    (out / FILES / name).unlink()
    (out / FILES / name).write_bytes(data)


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        (QEMU, 3, "s2fuzz: the test kernel did not boot"),
        (f"{IMAGES}/1.elf", 2, "1.elf is not the image that was packaged"),
        (MANIFEST, 2, "is no package of s2fuzz"),
    ],
)
def test_what_fails_is_no_finding(name: str, status: int, said: str, made: Path, tmp_path: Path) -> None:
    damaged(made, tmp_path / "out", name, b"nonsense\n")
    result = Cluster(tmp_path / "out", tmp_path).run("-runs=10")
    assert (result.returncode, list(tmp_path.glob("crash-*"))) == (status, []), result.stderr
    assert said in result.stderr
    assert "Uncaught Python exception" not in result.stdout


def test_an_error_of_our_own_is_no_finding(made: Path, tmp_path: Path) -> None:
    name = "packages/fuzz/engine/stats.py"
    broken = "def broken(*_):\n    raise KeyError('ours')\n\n\nStats.count = broken\n"
    damaged(made, tmp_path / "out", name, (made / FILES / name).read_bytes() + f"\n\n{broken}".encode())
    next((tmp_path / "out" / FILES / "packages/fuzz/engine/__pycache__").glob("stats.*")).unlink()
    result = Cluster(tmp_path / "out", tmp_path).run("-runs=10")
    assert (result.returncode, list(tmp_path.glob("crash-*"))) == (3, []), result.stderr
    assert "s2fuzz: an error of its own; please report it:" in result.stderr and "KeyError: 'ours'" in result.stderr


def test_inputs_of_another_codec_are_refused_where_a_stamp_says_so(cluster: Cluster) -> None:
    corpus = cluster.work / "corpus"
    corpus.mkdir()
    (corpus / "input").write_bytes(b"123")
    assert cluster.run("-runs=1", "corpus").returncode == 0
    stamp_of(corpus).write_text("999 4k\n")
    result = cluster.run("-runs=1", "corpus")
    assert result.returncode == 2
    assert "written by codec 999" in result.stderr


# Making it


def test_nothing_of_others_is_written_over(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / NAME).write_text("mine")
    (out / "llvm-symbolizer").write_text("the cluster's")
    result = s2fuzz("package", "out", "--no-compile", cwd=tmp_path)
    assert result.returncode == 2
    assert f"{out} holds stage2_fuzzer, which s2fuzz did not make; --force replaces" in result.stderr
    assert {path.name: path.read_text() for path in out.iterdir()} == {NAME: "mine", "llvm-symbolizer": "the cluster's"}
    result = s2fuzz("package", "out", "--no-compile", "--force", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in out.iterdir()} == {*PARTS, "llvm-symbolizer"}


def test_a_package_is_replaced_as_a_whole_and_with_other_seeds(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(made, out, copy_function=os.link)
    (out / FILES / "left over").write_text("")
    store = tmp_path / "inputs"
    store.mkdir()
    program = parse("s2 1\ngranule = 16k\nmap ipa=0x0 size=16K phys=0x80000000 prot=rw mc=2\n")
    data = encode(program, IN_16K)
    (store / name_of(data)).write_bytes(data)
    (store / "damaged").write_bytes(b"not what its name says")
    stamp_of(store).write_text("999 16k\n")
    words = ("package", "out", "--no-compile", "--granule", "16k", "--corpus", "inputs")
    refused = s2fuzz(*words, cwd=tmp_path)
    assert refused.returncode == 2 and "written by codec 999" in refused.stderr
    assert (out / FILES / "left over").exists()
    stamp_of(store).write_text(refused.stderr.rpartition("this is codec ")[2].partition(";")[0] + "\n")
    refused = s2fuzz(*words, cwd=tmp_path)
    assert refused.returncode == 2 and "inputs/damaged: not called as an input is" in refused.stderr
    (store / "damaged").unlink()
    result = s2fuzz(*words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert not (out / FILES / "left over").exists()
    assert json.loads((out / FILES / MANIFEST).read_text())["granule"] == "16k"
    with zipfile.ZipFile(out / "stage2_fuzzer_seed_corpus.zip") as archive:
        assert archive.namelist() == [name_of(data)]


def test_no_qemu_and_what_cannot_be_packaged(tmp_path: Path) -> None:
    made_by_make = s2fuzz("package", "out", "--no-compile", "--sides", "model:6.12,kernel-make:6.12", cwd=tmp_path)
    assert made_by_make.returncode == 2 and "cannot be packaged" in made_by_make.stderr
    words = s2fuzz("package", "out", "--no-compile", cwd=tmp_path, env={QEMU_SETTING: f"/usr/bin/env {QEMU}"})
    assert words.returncode == 2 and "S2FUZZ_QEMU has to name a file" in words.stderr
    missing = s2fuzz("package", "out", "--no-compile", cwd=tmp_path, env={"PATH": str(tmp_path)})
    assert missing.returncode == 3
    assert "qemu-system-aarch64 is not installed" in missing.stderr
    assert not (tmp_path / "out").exists()


def test_a_library_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ldd").write_text("#!/bin/sh\necho '	libgone.so.1 => not found'\n")
    (tmp_path / "ldd").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolFailure, match=r"libgone\.so\.1"):
        shared_libraries([tmp_path / "anything"])


def test_the_cluster_s_build_script_puts_it_where_it_belongs(made: Path, tmp_path: Path) -> None:
    folder = ROOT / ".clusterfuzzlite"
    assert {"language: python", "  - libfuzzer"} <= set((folder / "project.yaml").read_text().splitlines())
    last = (folder / "Dockerfile").read_text().split("\nFROM ")[-1]
    assert last.startswith("gcr.io/oss-fuzz-base/base-builder-python\n")
    shutil.copytree(made, tmp_path / "package", copy_function=os.link)
    (tmp_path / "out").mkdir()
    env = {**os.environ, "SRC": str(tmp_path), "OUT": str(tmp_path / "out")}
    subprocess.run([folder / "build.sh"], env=env, check=True)
    assert oss_fuzz_targets(tmp_path / "out") == {NAME}
    assert Cluster(tmp_path / "out", tmp_path).run("-runs=1").returncode == 0
