"""Corpora put in order: through text and back, checked, and made smaller without losing anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from dialects import DEFAULT
from processes import s2fuzz

from fuzz.campaign.setup import CampaignSetup, new_assignment
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.cli.main import status_of
from fuzz.cluster.folder import seed_inputs
from fuzz.corpus.minset import cmin, cover, measure
from fuzz.corpus.store import MAX_INPUT, Store, beside, input_for, is_whole, name_of, stamp_of, why_left_out
from fuzz.engine.process import LAUNCHER
from fuzz.generate.scenario import vm_scenario
from fuzz.sides import capabilities_of, choose_sides
from harness.errors import BadInput, ToolFailure
from harness.program.codec import CODEC, decode, dialect_for, encode
from harness.program.text import parse, read

SEEDS = Path(__file__).parent.parent.parent / "corpora" / "seeds"
SIDES = choose_sides()


def a_corpus(folder: Path, count: int = 24) -> Store:
    """Of generated programs and beginnings of them, for the default sides."""
    store = Store.open(folder / "corpus", folder / "corpus.tmp", DEFAULT)
    choice = Random(3)
    inputs = [vm_scenario(choice, DEFAULT) for _ in range(count // 2)]
    programs = [decode(data) for data in inputs]
    every = [*inputs, *(encode(program.prefix(len(program.ops) // 2)) for program in programs)]
    store.add([data for data in every if len(data) <= MAX_INPUT])
    return store


def features(store: Store) -> frozenset[object]:
    found, lost = measure(store, store.names(), [SIDES], lambda _: None)
    assert not lost
    return frozenset().union(*found.values())


def test_a_smaller_corpus_reaches_the_same_and_nothing_is_left_beside(tmp_path: Path) -> None:
    store = a_corpus(tmp_path)
    before = features(store)
    old = {name: store.read(name) for name in store.names()}
    saved = cmin(store, [SIDES], lambda _ran, _of: None)
    names = store.names()
    assert 0 < len(names) == saved.inputs < saved.inputs_before == len(old)
    assert saved.size == sum(len(old[name]) for name in names)
    assert all(store.read(name) == old[name] for name in names)
    assert features(store) == before
    assert len(before) == saved.features
    again = cmin(store, [SIDES], lambda _ran, _of: None)
    assert (again.inputs, again.size) == (saved.inputs, saved.size), "there is nothing more to leave out"
    assert {path.name for path in tmp_path.iterdir()} == {"corpus", "corpus.tmp", stamp_of(store.folder).name}
    gone = next(name for name in names)
    (store.folder / gone).unlink()
    assert features(store) < before, "every input that was kept is needed"


def test_a_corpus_that_would_lose_something_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = a_corpus(tmp_path, 12)
    before = store.names()
    monkeypatch.setattr("fuzz.corpus.minset.cover", lambda reached, _sizes: sorted(reached)[:2])
    with pytest.raises(ToolFailure, match="left as it was, since the smaller corpus did not reach"):
        cmin(store, [SIDES], lambda _ran, _of: None)
    assert store.names() == before
    assert not beside(store.folder).exists()


def test_a_crash_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    """Whenever cmin ends, the corpus that is opened next reaches all."""
    store = a_corpus(tmp_path, 8)
    before = features(store)
    script = (
        "import os, sys; from pathlib import Path; import harness.durable as durable, fuzz.corpus.minset as minset;"
        "from fuzz.corpus.store import Store; from harness.model.executor import Model;"
        "from harness.program.codec import dialect_for; from fuzz.sides import choose_sides;"
        "left = [int(sys.argv[2])]\n"
        "def dying(call):\n"
        "    def step(*a, **k):\n"
        "        left[0] -= 1\n"
        "        if left[0] == 0: os._exit(9)\n"
        "        return call(*a, **k)\n"
        "    return step\n"
        "for module, name in ((minset, 'exchange'), (minset, 'sync_folder'), (minset, '_remove')):\n"
        "    setattr(module, name, dying(getattr(module, name)))\n"
        "os.rename = dying(os.rename); os.fsync = dying(os.fsync)\n"
        "folder = Path(sys.argv[1])\n"
        "store = Store.open(folder / 'corpus', folder / 'corpus.tmp', dialect_for(Model().capabilities))\n"
        "minset.cmin(store, [choose_sides()], lambda *_: None)\n"
    )
    ends = set()
    for moment in (1, 9, 1000):
        result = subprocess.run([sys.executable, "-c", script, tmp_path, str(moment)], check=False)
        ends.add(result.returncode)
        opened = Store.open(store.folder, store.scratch, DEFAULT)
        assert not opened.damaged()
        assert features(opened) == before
    assert ends == {0, 9}


def test_folders_that_changed_names_in_three_steps_are_found_again(tmp_path: Path) -> None:
    store = a_corpus(tmp_path, 3)
    names = store.names()
    store.folder.rename(f"{beside(store.folder)}-old")
    assert Store.open(store.folder, store.scratch, DEFAULT).names() == names


def test_a_cover_is_small_and_whole() -> None:
    reached = {
        "most": frozenset({(1,), (2,), (3,), (4,)}),
        "first": frozenset({(1,), (2,), (5,)}),
        "last": frozenset({(3,), (4,), (6,)}),
        "long last": frozenset({(3,), (4,), (6,)}),
        "nothing": frozenset(),
    }
    sizes = {"most": 1, "first": 9, "last": 1, "long last": 2, "nothing": 0}
    assert cover(reached, sizes) == ["first", "last"], "what was chosen first is superfluous in the end"


@pytest.mark.parametrize("flag", ["-merge=1", "-set_cover_merge=1"])
def test_libfuzzer_s_merge_does_the_same(flag: str, tmp_path: Path) -> None:
    """With an interpreter that is not the one that PATH leads to: an empty corpus with status 0 would come of that."""
    store = a_corpus(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    path = tmp_path / "bin"
    path.mkdir()
    (path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (path / "python3").chmod(0o755)
    result = subprocess.run(
        [sys.executable, LAUNCHER, flag, "-max_len=320", out, store.folder],
        cwd=tmp_path, env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    merged = Store.open(out, tmp_path / "out.tmp", DEFAULT)
    assert 0 < len(merged.names()) <= len(store.names())
    assert all(map(is_whole, out.iterdir()))
    assert features(merged) == features(store)


def test_why_a_corpus_cannot_hold_a_program() -> None:
    """Each reason by itself, as `import` and `package` tell it."""
    reasons = {
        "s2 1\ngranule = 16k\ndestroy\n": "for pages of 16k",
        "s2 1\nmkold ipa=0x0\n": "a side lacks mkold",
        "s2 1\n"
        + "get_vtcr mmfr0=0x1234567812345678 mmfr1=0x1 phys_shift=77\n" * 40: "longer than 320 bytes as an input",
    }
    for text, why in reasons.items():
        program = parse(text)
        assert (input_for(program, DEFAULT), why_left_out(program, DEFAULT)) == (None, why)


def test_programs_go_in_and_out(tmp_path: Path) -> None:
    for name in ("access_flag", "owner_ids", "pages_16k"):
        (tmp_path / f"{name}.s2").write_text((SEEDS / f"{name}.s2").read_text())
    result = s2fuzz("corpus", "import", "inputs", tmp_path, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "inputs: 2 inputs added, 0 were there" in result.stdout
    assert f"{tmp_path / 'pages_16k.s2'}: left out: for pages of 16k" in result.stdout
    expected = {name_of(encode(read(SEEDS / f"{name}.s2"))) for name in ("access_flag", "owner_ids")}
    assert {path.name for path in (tmp_path / "inputs").iterdir()} == expected
    assert "0 inputs added, 2 were there" in s2fuzz("corpus", "import", "inputs", tmp_path, cwd=tmp_path).stdout
    assert s2fuzz("corpus", "export", "inputs", "texts", cwd=tmp_path).returncode == 0
    back = {read(path).ops for path in (tmp_path / "texts").iterdir()}
    assert back == {read(SEEDS / f"{name}.s2").ops for name in ("access_flag", "owner_ids")}
    assert "2 inputs" in s2fuzz("corpus", "check", "inputs", cwd=tmp_path).stdout
    assert not (tmp_path / "inputs.tmp").exists()


def test_what_is_wrong_is_said_and_nothing_is_changed(tmp_path: Path) -> None:
    store = a_corpus(tmp_path, 6)
    first, second, *others = store.names()
    assert others
    (store.folder / first).write_bytes(b"not any more")
    (store.folder / "stray").write_bytes(b"?")
    os.unlink(store.folder / second)
    os.symlink("/dev/zero", store.folder / second)
    result = s2fuzz("corpus", "check", store.folder, cwd=tmp_path)
    assert result.returncode == 2
    whys = {
        first: "damaged: what it holds has another",
        second: "a symbolic link",
        "stray": "not called as an input is",
    }
    assert all(f"{store.folder / name}: {why}" in result.stderr for name, why in whys.items())
    assert f"{len(others)} inputs" in result.stdout
    result = s2fuzz("corpus", "cmin", store.folder, cwd=tmp_path)
    assert result.returncode == 2
    assert "s2fuzz corpus check" in result.stderr
    assert len(list(store.folder.iterdir())) == len(others) + 3
    (tmp_path / "bad.s2").write_text("s2 1\nmap everything\n")
    assert s2fuzz("corpus", "import", store.folder, tmp_path / "bad.s2", cwd=tmp_path).returncode == 2
    assert s2fuzz("corpus", "check", store.folder, "--granule", "16k", cwd=tmp_path).returncode == 2


def test_a_campaign_s_corpora_are_its_own(tmp_path: Path) -> None:
    place = WorkDirectory(tmp_path / "campaign")
    place.root.mkdir()
    models = choose_sides(sides="model:6.12,model:6.12")
    work = [new_assignment(models, seed=1, granule=granule) for granule in ("4k", "16k")]
    configuration = CampaignSetup.of(work).save(place)
    names = ("access_flag.s2", "pages_16k.s2")
    result = s2fuzz("corpus", "import", place.root, *(SEEDS / name for name in names), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["4k: 1 input added, 0 were there", "16k: 1 input added, 0 were there"]
    stores = [configuration.open_store(number, place) for number in (0, 1)]
    assert [store.program(store.names()[0]).ops for store in stores] == [read(SEEDS / name).ops for name in names]
    result = s2fuzz("corpus", "cmin", place.root, "--linux", "6.1", cwd=tmp_path)
    assert result.returncode == 2
    assert "leave out the options" in result.stderr
    with place.locked():
        result = s2fuzz("corpus", "check", place.root, cwd=tmp_path)
        assert result.returncode == 2
        assert f"in use by process {os.getpid()}" in result.stderr
    assert s2fuzz("corpus", "export", place.root, "out", cwd=tmp_path).returncode == 0
    assert sorted(path.parent.name for path in (tmp_path / "out").rglob("*.s2")) == ["16k", "4k"]


def test_a_store_keeps_each_input_once(tmp_path: Path) -> None:
    store = a_corpus(tmp_path, 0)
    data = encode(parse("s2 1\ndestroy\n"))
    assert store.add([data, data]) == [name_of(data)]
    assert store.add([data]) == []
    (store.folder / ".tmp").write_bytes(b"x")
    assert store.names() == [name_of(data)]
    stamp_of(store.folder).unlink()
    with pytest.raises(BadInput, match=r"no .* beside it, which says what wrote them") as caught:
        Store.open(store.folder, store.scratch, DEFAULT)
    subprocess.run(["sh", "-c", str(caught.value).partition("make it: ")[2]], check=True)
    assert Store.open(store.folder, store.scratch, DEFAULT).names() == [name_of(data)], "what it says to do helps"


MODELS = ("--sides", "model:6.12,model:6.12")


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Store, dict[Path, str]]:
    """A corpus of two inputs, and everything else that may lie in its folder, with what is to be said of it."""
    dialect = dialect_for(capabilities_of(choose_sides(sides="model:6.12,model:6.12")))
    store = Store.open(tmp_path / "corpus", tmp_path / "corpus.tmp", dialect)
    store.add(encode(parse(f"s2 1\n{text}\n"), dialect) for text in ("destroy", "init", "init\ndestroy"))
    broken = store.folder / store.names()[0]
    broken.write_bytes(broken.read_bytes() + b"?")
    (store.folder / "folder").mkdir()
    (store.folder / "stray").write_bytes(b"?")
    (store.folder / "link").symlink_to("/dev/zero")
    (store.folder / "long").write_bytes(bytes(2 << 20))
    os.mkfifo(store.folder / "fifo")
    return store, {
        broken: "damaged: what it holds has another SHA-1 than its name",
        store.folder / "folder": "a folder, where only inputs are to be",
        store.folder / "stray": "not called as an input is, by the SHA-1 of what it holds",
        store.folder / "link": "a symbolic link, not a plain file",
        store.folder / "long": "too large for an input",
        store.folder / "fifo": "not a plain file",
    }


@pytest.mark.parametrize("command", ["check", "export", "cmin"])
def test_damage_is_told_in_words_and_is_2(
    command: str, damaged: tuple[Store, dict[Path, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, whys = damaged
    words = {"export": [str(store.folder), str(tmp_path / "out")]}.get(command, [str(store.folder)])
    assert status_of(["corpus", command, *words, *MODELS]) == 2
    said = capsys.readouterr()
    found = [path for path, why in whys.items() if f"{path}: {why}" in said.err]
    assert found == list(whys) if command != "cmin" else found, said.err
    if command == "export":
        assert said.out == f"corpus: 2 programs in {tmp_path / 'out'}, 6 left out\n"
        assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_damaged_input_is_not_read_but_may_be_added_again(damaged: tuple[Store, dict[Path, str]]) -> None:
    store, whys = damaged
    broken = next(iter(whys))
    with pytest.raises(BadInput, match=f"{broken}: damaged: .*; remove it"):
        store.program(broken.name)
    data = broken.read_bytes()[:-1]
    assert store.add([data]) == [broken.name]
    assert store.read(broken.name) == data


@pytest.mark.parametrize(
    ("stamp", "said"),
    [
        ("1 4k", "have the s2fuzz that wrote it `corpus export` it"),
        (f"{CODEC} 16k", "with --granule 16k"),
        (f"{CODEC} 4k no-nothing", "choose the kernels that it was made for"),
        ("\0\0\0", "the stamp is damaged"),
    ],
)
def test_a_stamp_of_others_says_what_to_do(tmp_path: Path, stamp: str, said: str) -> None:
    store = a_corpus(tmp_path, 2)
    stamp_of(store.folder).write_text(stamp)
    with pytest.raises(BadInput, match=said):
        Store.open(store.folder, store.scratch, DEFAULT)


def test_what_is_packaged_is_whole(damaged: tuple[Store, dict[Path, str]]) -> None:
    store, _ = damaged
    with pytest.raises(BadInput, match="`s2fuzz corpus check` lists all such files"):
        seed_inputs([store.folder], store.dialect)


@pytest.mark.parametrize("command", ["check", "export", "cmin"])
def test_a_file_is_no_corpus(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    words = [str(tmp_path / "file"), *([str(tmp_path / "out")] if command == "export" else [])]
    assert status_of(["corpus", command, *words, *MODELS]) == 2
    assert "is a file" in capsys.readouterr().err
