"""The user's choice of kernel becomes a tree; small invented trees, real git, tar and awk."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.full_disk import DiskFull
from reference.build.cache import cache_dir
from reference.build.errors import BadKernelChoice, MissingSource
from reference.build.hosted import PGTABLE
from reference.build.packages import whole_tree
from reference.build.progress import HowFar
from reference.build.sources import KernelChoice, prepare
from reference.build.tree import KernelTree
from reference.build.versions import version_of
from reference.tools import find_toolchain

REAL_CACHE = cache_dir()
HEADER = "include/linux/small.h"
FILES = {
    "Makefile": "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 7\nEXTRAVERSION = -rc1\nNAME = x\n",
    "include/asm-generic/Kbuild": ("# mandatory-y += no.h\nmandatory-y += bug.h \\\n\tmmu.h made.h pci.h\n"),
    "include/uapi/asm-generic/Kbuild": "mandatory-y += types.h\nmandatory-y += mmu.h stat.h\n",
    HEADER: "one\ntwo\nthree\n",
    "arch/arm64/include/asm/Kbuild": (
        "generic-y += user.h\ngenerated-y += sysreg-defs.h made.h\ngeneric-$(X) += not.h\ngeneric-y += ../../escape.h\n"
    ),
    "arch/arm64/include/asm/mmu.h": "own\n",
    "arch/arm64/include/uapi/asm/Kbuild": "generic-y += kvm_para.h\n",
    "arch/arm64/include/uapi/asm/stat.h": "own\n",
    "arch/arm64/kvm/hyp/pgtable.c": "int walk;\nint visit;\n",
    "arch/arm64/tools/gen-sysreg.awk": '{ print "#define " $1 " " NR }\n',
    "arch/arm64/tools/sysreg": "FAR\nESR\n",
    "Documentation/small.rst": "words\n",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("S2FUZZ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write(tmp_path / "tree", FILES)


def git(repository: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(repository), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(repository: Path, files: dict[str, str], subject: str = "change") -> str:
    write(repository, files)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", subject)
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture
def repository(tree: Path) -> Path:
    git(tree, "init", "-q")
    commit(tree, {}, "start")
    return tree


@pytest.fixture
def tarballs(tmp_path: Path) -> Path:
    folder = tmp_path / "tarballs"
    write(folder / "linux-source-6.12", FILES)
    command = ["tar", "-cJf", "linux-source-6.12.tar.xz", "linux-source-6.12"]
    subprocess.run(command, cwd=folder, check=True)
    return folder


def diff(path: str, old: str, new: str, context: str = "") -> str:
    """A patch of the only line of a file, or of the line before `context`."""
    count = 2 if context else 1
    return (
        f"diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n@@ -1,{count} +1,{count} @@\n"
        f"-{old}\n+{new}\n" + (f" {context}\n" if context else "")
    )


FIX = diff(HEADER, "one", "ONE", "two")
DOCUMENTATION = diff("Documentation/small.rst", "words", "other words")


def patched(tmp_path: Path, base: Path | str, *contents: str | bytes) -> KernelTree:
    patches = []
    for number, content in enumerate(contents):
        patch = tmp_path / f"fix{number}.patch"
        patch.write_bytes(content if isinstance(content, bytes) else content.encode())
        patches.append(patch)
    return prepare(KernelChoice(str(base), tuple(patches)))


def snapshot(root: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@contextmanager
def unprivileged() -> Iterator[None]:
    """Without root's right to read everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


# The cache's place


def test_cache_dir_prefers_the_own_variable_then_xdg_then_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("S2FUZZ_CACHE")
    assert cache_dir() == tmp_path / "xdg/s2fuzz"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_dir() == tmp_path / "home/.cache/s2fuzz"


def test_a_cache_that_cannot_be_written_is_missing(tree: Path, cache: Path) -> None:
    cache.write_text("a file in the way")
    with pytest.raises(MissingSource, match="S2FUZZ_CACHE"):
        prepare(KernelChoice(str(tree)))


def test_the_version_of_a_choice_is_known_without_preparing_it(tree: Path, repository: Path) -> None:
    assert version_of(str(tree)) == version_of(f"{repository}@HEAD") == "6.12.7-rc1"
    assert [version_of(linux) for linux in ("6.1", "5.4")] == ["6.1", "5.4"]
    for linux in ("", "nonsense", "/nowhere", "/nowhere@HEAD", f"{repository}@nothing", f"{repository}@--help"):
        assert version_of(linux) is None


# Choices


@pytest.mark.parametrize(
    ("linux", "message"),
    [
        ("5.4", "5.4 is not supported; use 6.12"),
        ("6.12.5", "not supported"),
        ("nonsense", "no such folder"),
        ("", "no such folder"),
        ("@", "no such folder"),
        ("/no/such/tree", "no such folder"),
        ("/no/such@HEAD", "no such folder"),
        ("x" * 5000, "no such folder"),
    ],
)
def test_a_choice_that_names_nothing(linux: str, message: str) -> None:
    with pytest.raises(BadKernelChoice, match=message):
        prepare(KernelChoice(linux))


def test_a_version_is_a_version_whatever_the_current_folder_holds(
    tarballs: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree.parent)
    tree.rename("6.12")
    assert "Debian" in prepare(KernelChoice("6.12"), tarballs=tarballs).description
    assert "Debian" not in prepare(KernelChoice("./6.12")).description


# Debian's tarball


def test_only_what_is_needed_is_unpacked(tarballs: Path, cache: Path) -> None:
    said: list[str] = []
    found = prepare(KernelChoice(), said.append, tarballs)
    assert found.root.is_relative_to(cache)
    assert (found.root / HEADER).read_text() == FILES[HEADER]
    assert not (found.root / "Documentation").exists()
    assert found.version == "6.12.7-rc1"
    assert found.description == "6.12 (Debian linux-source-6.12)"
    assert said[0].startswith("unpacking linux-source-6.12.tar.xz")
    said.clear()
    assert prepare(KernelChoice(), said.append, tarballs) == found
    assert said == []


def test_a_whole_tree_lacks_only_what_never_reaches_kvm(tarballs: Path, cache: Path) -> None:
    whole = {
        "arch/arm64/kernel/vdso.c": True,
        "arch/mips/Kconfig": True,
        "arch/mips/kernel/setup.c": False,
        "drivers/net/Kconfig": True,
        "drivers/net/tun.c": False,
        "Documentation/Kconfig": True,
        "Documentation/index.rst": False,
        "fs/Makefile": True,
        "fs/ext4/ext4.h": False,
        "include/net/sock.h": True,
        "include/linux/fs/stack.h": True,
    }
    write(tarballs / "linux-source-6.12", dict.fromkeys(whole, "text"))
    subprocess.run(["tar", "-cJf", "linux-source-6.12.tar.xz", "linux-source-6.12"], cwd=tarballs, check=True)
    said: list[str] = []
    root = whole_tree("6.12", said.append, tarballs)
    assert root.is_relative_to(cache)
    assert {name: (root / name).exists() for name in whole} == whole
    assert (root / HEADER).read_text() == FILES[HEADER]
    assert whole_tree("6.12", said.append, tarballs) == root
    assert len([line for line in said if not isinstance(line, HowFar)]) == 1
    with pytest.raises(BadKernelChoice, match=r"6\.13 is not supported"):
        whole_tree("6.13", said.append, tarballs)


def test_another_tarball_of_the_same_name_is_unpacked_anew(tarballs: Path) -> None:
    first = prepare(KernelChoice(), tarballs=tarballs)
    os.utime(tarballs / "linux-source-6.12.tar.xz", (1, 1))
    assert prepare(KernelChoice(), tarballs=tarballs).root != first.root


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingSource, match=r"linux-source-6\.12.*make setup.*s2fuzz doctor"):
        prepare(KernelChoice(), tarballs=tmp_path)


def test_a_damaged_tarball_leaves_nothing_behind(tarballs: Path, cache: Path) -> None:
    tarball = tarballs / "linux-source-6.12.tar.xz"
    tarball.write_bytes(tarball.read_bytes()[:-200])
    with pytest.raises(MissingSource, match="cannot be unpacked"):
        prepare(KernelChoice(), tarballs=tarballs)
    assert list((cache / "sources").iterdir()) == []


@pytest.mark.parametrize("room", [0, 20 << 10], ids=["none", "too little"])
@pytest.mark.parametrize("what", ["package", "commit", "patch", "headers"])
def test_a_full_disk_is_no_fault_of_the_kernel_s(
    what: str,
    room: int,
    tarballs: Path,
    repository: Path,
    tmp_path: Path,
    full_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "fix.patch").write_text(FIX)
    os.truncate(full_disk / "ballast", (full_disk / "ballast").stat().st_size - room)
    choice = {
        "package": KernelChoice(),
        "commit": KernelChoice(f"{repository}@HEAD"),
        "patch": KernelChoice(str(repository), (tmp_path / "fix.patch",)),
        "headers": KernelChoice(str(repository)),
    }[what]
    monkeypatch.setenv("S2FUZZ_CACHE", str(full_disk / "cache"))
    with pytest.raises(DiskFull) as caught:
        prepare(choice, tarballs=tarballs)
    assert str(caught.value).startswith(f"the disk is full: {full_disk / 'cache'}: make room there")
    assert "S2FUZZ_CACHE" in str(caught.value)
    (full_disk / "ballast").unlink()
    assert prepare(choice, tarballs=tarballs).version == "6.12.7-rc1"


def test_missing_tools_are_named(tarballs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingSource, match=r"tar is not installed: it is in Debian's tar; run `make setup`"):
        prepare(KernelChoice(), tarballs=tarballs)


def test_leftovers_of_a_crash_are_not_believed(tarballs: Path, cache: Path) -> None:
    leftover = cache / "sources/.part-crashed"
    write(leftover, {"Makefile": "VERSION = 1\n"})
    found = prepare(KernelChoice(), tarballs=tarballs)
    assert found.version == "6.12.7-rc1"
    assert not leftover.exists()


def test_a_second_process_waits_for_the_first(tarballs: Path, cache: Path) -> None:
    cache.mkdir()
    said: list[str] = []
    with (cache / "sources.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=prepare, args=(KernelChoice(), said.append, tarballs))
        second.start()
        deadline = time.monotonic() + 10
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        assert said == [f"waiting for another s2fuzz that is preparing what goes to {cache / 'sources'}"]
        assert not (cache / "sources").exists() or not list((cache / "sources").iterdir())
    second.join(timeout=10)
    assert any("unpacking" in message for message in said)


def test_the_real_package_resolves_its_generated_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("S2FUZZ_CACHE", str(REAL_CACHE))  # unpacking takes seconds
    found = prepare(KernelChoice())
    assert found.version.startswith("6.12.")
    assert b"kvm_pgtable_walk" in found.pgtable.read_bytes()
    program = tmp_path / "program.c"
    program.write_text("#include <asm/sysreg.h>\nSYS_VTCR_EL2 SYS_ID_AA64MMFR0_EL1 ARM64_NCAPS\n")
    roots = [
        found.root / "arch/arm64/include",
        found.generated,
        found.root / "include",
        found.root / "arch/arm64/include/uapi",
        found.root / "include/uapi",
    ]
    configuration = tmp_path / "generated/autoconf.h"
    write(tmp_path, {"generated/autoconf.h": "#define CONFIG_64BIT 1\n"})
    command = [find_toolchain().clang, "--target=aarch64-none-elf", "-nostdinc", "-D__KERNEL__", "-E", "-H"]
    command += ["-include", str(configuration), f"-I{tmp_path}", *(f"-I{root}" for root in roots)]
    command += ["-include", str(found.root / "include/linux/kconfig.h"), str(program)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for header in ("sysreg-defs.h", "cpucap-defs.h", "types.h"):
        assert str(found.generated / "asm" / header) in result.stderr
    for name in ("SYS_ID_AA64MMFR0_EL1", "ARM64_NCAPS"):
        assert name not in result.stdout.splitlines()[-1]


# Folders


def test_a_tree_is_used_in_place_and_not_written_to(tree: Path) -> None:
    before = snapshot(tree)
    found = prepare(KernelChoice(str(tree)))
    assert found.root == tree
    assert found.pgtable == tree / PGTABLE
    assert found.pgtable_sha256 == hashlib.sha256(found.pgtable.read_bytes()).hexdigest()
    assert found.version == "6.12.7-rc1"
    assert found.description == str(tree)
    assert snapshot(tree) == before


@pytest.mark.parametrize("path", ["Makefile", "arch/arm64/kvm/hyp/pgtable.c", "include/asm-generic/Kbuild"])
def test_a_tree_that_lacks_a_file(tree: Path, path: str) -> None:
    (tree / path).unlink()
    with pytest.raises(BadKernelChoice, match=path):
        prepare(KernelChoice(str(tree)))


def test_a_makefile_without_a_version(tree: Path) -> None:
    (tree / "Makefile").write_bytes(b"all:\n\xff\xfe\n")
    with pytest.raises(BadKernelChoice, match="VERSION"):
        prepare(KernelChoice(str(tree)))


def test_files_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        monkeypatch.setenv("S2FUZZ_CACHE", str(folder / "cache"))
        (folder / "cache").mkdir()
        (folder / "cache").chmod(0o777)
        folder.chmod(0o755)
        tree, patch = write(folder / "tree", FILES), folder / "fix.patch"
        patch.write_text(FIX)
        for target, choice in (
            (tree / "Makefile", KernelChoice(str(tree))),
            (tree / PGTABLE, KernelChoice(str(tree))),
            (tree / HEADER, KernelChoice(str(tree), (patch,))),
            (tree / "include/linux", KernelChoice(str(tree), (patch,))),
            (patch, KernelChoice(str(tree), (patch,))),
            (patch, KernelChoice(str(tree), pgtable=patch)),
            (tree, KernelChoice(str(tree))),
        ):
            mode = target.stat().st_mode
            target.chmod(0)
            with unprivileged(), pytest.raises(BadKernelChoice, match=str(target)):
                prepare(choice)
            target.chmod(mode)
        with unprivileged():
            assert prepare(KernelChoice(str(tree), (patch,), patch)).pgtable == patch


# Commits


def test_a_commit_is_taken_from_a_repository(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    commit(repository, {HEADER: "new\n"})
    before = prepare(KernelChoice(f"{repository}@{first[:10]}"))
    assert before.description == f"{repository}@{first[:12]}"
    assert (before.root / HEADER).read_text() == FILES[HEADER]
    assert not (before.root / "Documentation").exists()
    assert (prepare(KernelChoice(f"{repository}@HEAD")).root / HEADER).read_text() == "new\n"
    # Revisions may contain an @ themselves.
    assert prepare(KernelChoice(f"{repository}@HEAD@{{1}}")) == before


def test_the_working_tree_does_not_matter_to_a_commit(repository: Path) -> None:
    (repository / HEADER).write_text("uncommitted\n")
    found = prepare(KernelChoice(f"{repository}@HEAD"))
    assert (found.root / HEADER).read_text() == FILES[HEADER]


def test_a_folder_may_contain_an_at_sign(repository: Path) -> None:
    odd = repository.rename(repository.parent / "tree@home")
    repository.mkdir()  # a folder by the name before the @
    assert prepare(KernelChoice(str(odd))).root == odd
    assert prepare(KernelChoice(f"{odd}@HEAD")).description.startswith(f"{odd}@")


def test_a_subfolder_and_a_bare_repository_stand_for_the_whole(repository: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(bare))
    for place in (repository / "include/linux", bare, repository / ".git"):
        assert (prepare(KernelChoice(f"{place}@HEAD")).root / HEADER).is_file()


def test_a_git_hook_s_environment_does_not_mislead(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert (prepare(KernelChoice(f"{repository}@HEAD")).root / HEADER).is_file()


@pytest.mark.parametrize("rev", ["nosuch", "", "-x", "HEAD:Makefile"])
def test_a_bad_revision(repository: Path, rev: str) -> None:
    with pytest.raises(BadKernelChoice, match=f"@{rev}: .*no revision"):
        prepare(KernelChoice(f"{repository}@{rev}"))


def test_a_folder_without_a_repository_carries_git_s_message(tree: Path) -> None:
    with pytest.raises(BadKernelChoice, match="not a git repository"):
        prepare(KernelChoice(f"{tree}@HEAD"))


@pytest.mark.parametrize("path", ["Makefile", "arch/arm64/kvm/hyp/pgtable.c"])
def test_a_commit_that_is_no_linux_tree(repository: Path, path: str) -> None:
    git(repository, "rm", "-q", path)
    commit(repository, {})
    with pytest.raises(BadKernelChoice, match=f"{path} is missing"):
        prepare(KernelChoice(f"{repository}@HEAD"))


def test_a_commit_with_nothing_of_linux(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "other")
    commit(tmp_path / "other", {"README": "x\n"})
    with pytest.raises(BadKernelChoice, match="nothing of Linux"):
        prepare(KernelChoice(f"{tmp_path / 'other'}@HEAD"))


# Patches


def test_a_diff_is_applied_to_a_copy(tree: Path, tmp_path: Path, cache: Path) -> None:
    before = snapshot(tree)
    found = patched(tmp_path, tree, FIX)
    assert (found.root / HEADER).read_text() == "ONE\ntwo\nthree\n"
    assert found.root.is_relative_to(cache)
    assert found.description == f"{tree} + fix0.patch"
    assert snapshot(tree) == before
    assert patched(tmp_path, tree, FIX) == found


def test_a_changed_tree_or_patch_gives_another_copy(tree: Path, tmp_path: Path) -> None:
    first = patched(tmp_path, tree, FIX)
    other = patched(tmp_path, tree, FIX.replace("ONE", "EIN"))
    write(tree, {HEADER: "one\ntwo\nfour\n"})
    third = patched(tmp_path, tree, FIX)
    assert len({first.root, other.root, third.root}) == 3
    assert (other.root / HEADER).read_text().startswith("EIN")
    assert (third.root / HEADER).read_text() == "ONE\ntwo\nfour\n"


def test_a_tree_that_changes_while_it_is_copied(tree: Path, tmp_path: Path, cache: Path) -> None:
    def edit(_message: str) -> None:  # told between reading the tree and copying it
        (tree / HEADER).write_text("one\ntwo\nfour\n")

    patch = tmp_path / "fix.patch"
    patch.write_text(FIX)
    with pytest.raises(BadKernelChoice, match="changed while it was being copied"):
        prepare(KernelChoice(str(tree), (patch,)), edit)
    assert list((cache / "sources").iterdir()) == []


def test_patches_are_applied_in_order(tree: Path, tmp_path: Path) -> None:
    second = diff(HEADER, "ONE", "1", "two")
    found = patched(tmp_path, tree, FIX, second)
    assert (found.root / HEADER).read_text() == "1\ntwo\nthree\n"
    assert found.description.endswith(" + fix0.patch + fix1.patch")
    with pytest.raises(BadKernelChoice, match=r"fix0\.patch: does not apply"):
        patched(tmp_path, tree, second, FIX)


@pytest.mark.parametrize("encoding", ["8bit", "base64"])
def test_a_series_of_mails(repository: Path, tmp_path: Path, encoding: str) -> None:
    start = git(repository, "rev-parse", "HEAD")
    commit(repository, {"Documentation/small.rst": "x\n"}, "doc: words")
    commit(repository, {HEADER: "ONE\ntwo\nthree\n"}, "small: one")
    commit(repository, {HEADER: "ONE\ntwö\nthree\n", "drivers/x.c": "x\n"}, "small: two")
    series = git(repository, "format-patch", "--cover-letter", "--stdout", f"{start}..") + "\n"
    if encoding == "base64":
        series = as_base64(series)
        assert "diff --git" not in series
    found = patched(tmp_path, f"{repository}@{start}", series)
    assert (found.root / HEADER).read_text() == "ONE\ntwö\nthree\n"
    assert not (found.root / "drivers").exists()


def as_base64(series: str) -> str:
    """Each mail as some list servers deliver it."""
    result = ""
    for mail in re.split(r"(?m)^(?=From [0-9a-f]{40} )", series):
        if mail:
            head, body = mail.split("\n\n", 1)
            head = re.sub(r"(?mi)^(mime-|content-).*\n?", "", head).rstrip("\n")
            head += "\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8"
            head += "\nContent-Transfer-Encoding: base64\n\n"
            result += head + base64.encodebytes(body.encode()).decode() + "\n"
    return result


def test_a_mail_without_a_from_line(tree: Path, tmp_path: Path) -> None:
    mail = f"From: A <a@example.org>\nSubject: [PATCH] one\n\nBecause.\n---\n\n{FIX}-- \n2.39\n"
    found = patched(tmp_path, tree, mail)
    assert (found.root / HEADER).read_text().startswith("ONE")


def test_mails_without_a_diff(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(BadKernelChoice, match="no mail in it holds a diff"):
        patched(tmp_path, tree, "From: A <a@example.org>\nSubject: Re: one\n\n> diff --git\nNo.\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (diff(HEADER, "uno", "ONE", "two"), "does not apply.*small.h"),
        (diff(HEADER, "one", "ONE", "deux"), "does not apply.*small.h"),
        (DOCUMENTATION, "touches nothing that is used here"),
        (FIX.replace("a/", "").replace("b/", ""), "touches nothing that is used here"),
        ("", "is empty"),
        (" \n", "is empty"),
        (b"\x00\xff\x80" * 100, "no diff that can be read"),
        (b"From \x00\xff\x80 12:00:00 2024\n" * 3, "fix0.patch: "),
        (FIX[:-20], "no diff that can be read.*corrupt patch"),
        (diff("include/../../../x", "a", "b"), "does not apply"),
    ],
)
def test_a_patch_that_misses(tree: Path, tmp_path: Path, cache: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(BadKernelChoice, match=message) as caught:
        patched(tmp_path, tree, content)
    assert "fix0.patch" in str(caught.value)
    assert not (cache / "sources").exists() or list((cache / "sources").iterdir()) == []


def test_parts_outside_the_needed_folders_are_left_out(tree: Path, tmp_path: Path) -> None:
    found = patched(tmp_path, tree, DOCUMENTATION + FIX)
    assert (found.root / HEADER).read_text().startswith("ONE")
    assert not (found.root / "Documentation").exists()


def test_a_patch_that_is_no_file(tree: Path, tmp_path: Path) -> None:
    for patch in (tmp_path, tmp_path / "nosuch"):
        with pytest.raises(BadKernelChoice, match=f"--patch {patch}: "):
            prepare(KernelChoice(str(tree), (patch,)))


def test_a_patch_that_removes_pgtable(tree: Path, tmp_path: Path) -> None:
    path = PGTABLE
    removal = (
        f"diff --git a/{path} b/{path}\ndeleted file mode 100644\n--- a/{path}\n+++ /dev/null\n"
        "@@ -1,2 +0,0 @@\n-int walk;\n-int visit;\n"
    )
    with pytest.raises(BadKernelChoice, match=f"{path} is missing"):
        patched(tmp_path, tree, removal)


def test_patching_inside_another_repository(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")  # the cache is below: git apply would skip everything
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    assert (patched(tmp_path, tree, FIX).root / HEADER).read_text().startswith("ONE")


def test_patching_never_writes_through_a_link(repository: Path, tmp_path: Path, cache: Path) -> None:
    base = prepare(KernelChoice(f"{repository}@HEAD"))
    before = snapshot(base.root)
    mode = f"diff --git a/{PGTABLE} b/{PGTABLE}\nold mode 100644\nnew mode 100755\n"
    found = patched(tmp_path, f"{repository}@HEAD", FIX + mode)
    assert (found.root / HEADER).read_text().startswith("ONE")
    assert os.access(found.pgtable, os.X_OK)
    assert snapshot(base.root) == before
    assert not base.pgtable.stat().st_mode & 0o111
    # What was not patched is linked: this test would prove nothing of copies.
    assert os.path.samefile(base.root / "Makefile", found.root / "Makefile")
    assert not os.path.samefile(base.root / HEADER, found.root / HEADER)


def test_a_user_s_files_are_copied_not_linked(tree: Path, tmp_path: Path) -> None:
    found = patched(tmp_path, tree, FIX)
    assert not os.path.samefile(tree / "Makefile", found.root / "Makefile")


def test_results_of_a_build_are_neither_copied_nor_part_of_the_key(tree: Path, tmp_path: Path) -> None:
    first = patched(tmp_path, tree, FIX)
    write(tree, {"include/generated/autoconf.h": "x\n", "arch/arm64/kvm/hyp/pgtable.o": "x\n"})
    (tree / "include/.#lock").symlink_to("nowhere")
    assert patched(tmp_path, tree, FIX) == first


def test_without_links_files_are_copied(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    found = patched(tmp_path, f"{repository}@HEAD", FIX)
    assert (found.root / "Makefile").read_text() == FILES["Makefile"]


# Another pgtable.c


def test_pgtable_replaces_only_that_file(tree: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.c"
    own.write_text("int mine;\n")
    found = prepare(KernelChoice(str(tree), pgtable=own))
    assert (found.root, found.pgtable) == (tree, own)
    assert found.pgtable_sha256 == hashlib.sha256(b"int mine;\n").hexdigest()
    assert found.description == f"{tree}, pgtable.c from {own}"
    patch = tmp_path / "fix.patch"
    patch.write_text(FIX)
    both = prepare(KernelChoice(str(tree), (patch,), own))
    assert both.pgtable == own
    assert (both.root / HEADER).read_text().startswith("ONE")


def test_pgtable_must_be_a_file(tree: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path / "nosuch", tmp_path, fifo):
        with pytest.raises(BadKernelChoice, match=f"pgtable.c {path}: "):
            prepare(KernelChoice(str(tree), pgtable=path))


# Generated headers


def test_wrappers_stand_where_the_architecture_has_no_header(tree: Path) -> None:
    generated = prepare(KernelChoice(str(tree))).generated
    present = {str(path.relative_to(generated)) for path in generated.rglob("*.h")}
    assert present == {
        # user.h: generic-y; bug.h, pci.h: mandatory-y; not the architecture's mmu.h, nor made.h
        *(f"asm/{name}" for name in ("user.h", "bug.h", "pci.h", "sysreg-defs.h")),
        # the user's: stat.h is the architecture's, mmu.h only there
        *(f"uapi/asm/{name}" for name in ("types.h", "mmu.h", "kvm_para.h")),
        # and reachable as <asm/...> where the kernel has none of its own
        *(f"asm/{name}" for name in ("types.h", "kvm_para.h")),
    }
    assert (generated / "asm/bug.h").read_text() == "#include <asm-generic/bug.h>\n"
    assert (generated / "asm/sysreg-defs.h").read_text() == "#define FAR 1\n#define ESR 2\n"


def test_6_1_names_the_capabilities_differently(tree: Path) -> None:
    write(
        tree,
        {
            "arch/arm64/include/asm/Kbuild": "generated-y += cpucaps.h\n",
            "arch/arm64/tools/gen-cpucaps.awk": '{ print "#define " $1 }\n',
            "arch/arm64/tools/cpucaps": "BTI\n",
        },
    )
    generated = prepare(KernelChoice(str(tree))).generated
    assert (generated / "asm/cpucaps.h").read_text() == "#define BTI\n"
    assert not (generated / "asm/sysreg-defs.h").exists()


@pytest.mark.parametrize(
    "path",
    ["arch/arm64/tools/sysreg", "arch/arm64/tools/gen-sysreg.awk", "include/asm-generic/Kbuild"],
)
def test_generated_headers_follow_their_inputs(tree: Path, path: str) -> None:
    first = prepare(KernelChoice(str(tree))).generated
    assert prepare(KernelChoice(str(tree))).generated == first
    with (tree / path).open("a") as file:
        file.write("mandatory-y = new.h\n" if "Kbuild" in path else "# more\n")
    assert prepare(KernelChoice(str(tree))).generated != first


def test_a_header_of_the_architecture_s_own_displaces_its_wrapper(tree: Path) -> None:
    assert (prepare(KernelChoice(str(tree))).generated / "asm/bug.h").exists()
    write(tree, {"arch/arm64/include/asm/bug.h": "own\n"})
    assert not (prepare(KernelChoice(str(tree))).generated / "asm/bug.h").exists()


def test_a_failing_generator_is_the_tree_s_fault(tree: Path, cache: Path) -> None:
    write(tree, {"arch/arm64/tools/gen-sysreg.awk": "{ nonsense(\n"})
    with pytest.raises(BadKernelChoice, match=r"gen-sysreg\.awk fails"):
        prepare(KernelChoice(str(tree)))
    assert list((cache / "generated").iterdir()) == []


def test_a_patch_may_not_change_what_the_build_runs(tree: Path, tmp_path: Path) -> None:
    """A stranger's patch is data until the user says otherwise."""
    old = '{ print "#define " $1 " " NR }'
    evil = diff("arch/arm64/tools/gen-sysreg.awk", old, f'BEGIN {{ system("touch {tmp_path}/ran") }} {old}')
    with pytest.raises(BadKernelChoice, match="a script that the build runs on this machine"):
        patched(tmp_path, tree, evil)
    assert not (tmp_path / "ran").exists()
