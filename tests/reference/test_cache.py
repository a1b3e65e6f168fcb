"""The cache keeps to its size, and nothing goes that a process uses: tried with real processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness.errors import BadInput
from reference.build.cache import added, cached, claimed, scratch
from reference.build.progress import silent
from reference.build.pruning import parse_size, prune, readable, size_of, survey

KIB = 1024

USER = """
import sys
from pathlib import Path
from reference.build.cache import claimed
print(claimed("sources", sys.argv[1]).is_dir(), flush=True)
sys.stdin.read()
"""
"""Uses an entry until its input ends."""

BUSY = """
from pathlib import Path
from reference.build.cache import cached
from reference.build.progress import silent

def fill(part):
    for number in range(5):
        (part / str(number)).write_text("whole")

for number in range(400):
    folder = cached(Path("sources", f"tree-{number % 8}-{number // 40}"), "", fill, silent)
    for name in ("0", "4", "2"):
        assert (folder / name).read_text() == "whole"
"""
"""Makes entries, and reads them at once."""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("S2FUZZ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entry(root: Path, name: str, kib: int, age: int) -> Path:
    """An entry of a process that is gone: of that size, and last used `age` seconds ago."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(os.urandom(kib * KIB))
    used = folder.stat().st_mtime - age
    os.utime(folder, (used, used))
    return folder


@contextmanager
def process(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of its own, which is gone in the end."""
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def test_what_was_not_used_for_longest_goes_first(root: Path) -> None:
    old, new, newer = (entry(root, f"sources/{age}", 100, age) for age in (300, 200, 100))
    limit = size_of(survey(root).entries) - KIB
    assert prune(root, limit) >= 100 * KIB
    assert [path.exists() for path in (old, new, newer)] == [False, True, True]
    used = claimed("sources", new.name).stat().st_mtime
    assert used > newer.stat().st_mtime, "using it counts, not making it"


def test_of_what_is_shared_by_links_the_last_one_frees(root: Path) -> None:
    base, other = entry(root, "sources/base", 400, 300), entry(root, "sources/patched", 1, 200)
    used = other.stat().st_mtime
    os.link(base / "file", other / "linked")
    os.utime(other, (used, used))
    alone = entry(root, "kernels/alone", 100, 100)
    found = survey(root)
    assert size_of(found.entries) < 600 * KIB
    assert [one.name.name for one in found.superfluous(450 * KIB)] == ["base", "patched"], "the first freed nothing"
    prune(root, 450 * KIB)
    assert [path.exists() for path in (base, other, alone)] == [False, False, True]


@pytest.mark.parametrize("end", ["in order", "killed"])
def test_what_a_process_uses_stays_until_it_ends(root: Path, end: str) -> None:
    mine, other = entry(root, "sources/mine", 1, 100), entry(root, "sources/other", 1, 50)
    with process(USER, "mine") as user:
        assert user.stdout is not None
        assert user.stdin is not None
        assert user.stdout.readline() == "True\n"
        prune(root, 0)
        assert (mine.exists(), other.exists()) == (True, False)
        assert [path.name for path in survey(root).taken] == ["mine"]
        if end == "killed":
            user.kill()
        else:
            user.stdin.close()
        user.wait(timeout=60)
    assert not survey(root).taken
    prune(root, 0)
    assert not mine.exists()


def test_what_a_process_forked_uses_it_too(root: Path) -> None:
    mine = entry(root, "sources/mine", 1, 100)
    script = USER.replace("sys.stdin.read()", "import os; os.fork() and os._exit(0); sys.stdin.read()")
    with process(script, "mine") as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        parent.wait(timeout=60)
        prune(root, 0)
        assert mine.exists()


def test_nothing_goes_between_being_found_and_being_used(root: Path) -> None:
    with ExitStack() as stack:
        users = [stack.enter_context(process(BUSY)) for _ in range(2)]
        pruned = 0
        while any(user.poll() is None for user in users):
            pruned += prune(root, 0)
        assert [user.wait() for user in users] == [0, 0]
    assert pruned + prune(root, 0) > 0
    assert not survey(root).entries


def test_adding_prunes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = [entry(root, f"sources/{age}", 300, age) for age in (400, 300, 200, 100)]
    monkeypatch.setenv("S2FUZZ_CACHE_SIZE", "1M")
    said: list[str] = []

    def fill(part: Path) -> None:
        (part / "file").write_bytes(os.urandom(200 * KIB))

    cached(Path("sources/new"), "making it", fill, said.append)
    assert [path.exists() for path in old] == [False, False, True, True], "nobody had counted them before"
    assert said[0] == "making it"
    assert re.match(r"removed 6\d\d.* KiB of the cache that were not used for longest: it may hold 1 MiB$", said[1])
    cached(Path("sources/newer"), "making it", fill, said.append)
    assert old[2].exists(), "there is room"
    cached(Path("sources/newest"), "making it", fill, said.append)
    assert [path.exists() for path in old] == [False, False, False, True]
    assert size_of(survey(root).entries) <= KIB * KIB


def test_what_is_in_use_may_be_more_than_there_is_room_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2FUZZ_CACHE_SIZE", "10K")
    paths = [cached(Path("sources", name), "", lambda part: (part / "file").touch(), silent) for name in "abcdef"]
    assert all(path.is_dir() for path in paths)


def test_leftovers_go_but_not_what_is_being_made(root: Path) -> None:
    leftover = entry(root, "kernels/tmp-1-crashed", 1, 0)
    with scratch("kernels") as mine:
        prune(root, 1 << 30)
        assert (leftover.exists(), mine.exists()) == (False, True)
    assert not mine.exists()


def test_what_else_lies_in_the_folder_is_not_ours(root: Path) -> None:
    for name in ("thesis", "shell-history.d"):
        entry(root, f"{name}/file", 1, 1000)
    prune(root, 0)
    assert all((root / name / "file").is_dir() for name in ("thesis", "shell-history.d"))


def test_a_cache_that_may_only_be_read_serves(root: Path) -> None:
    entry(root, "sources/there", 1, 100)
    (root / "sources").chmod(0o555)
    root.chmod(0o555)
    as_nobody = "import os; os.getuid() or os.setuid(65534)\n" + USER
    try:
        for folder in (root.parent, *list(root.parents)[1:4]):  # pytest's are closed to others
            if folder.stat().st_uid == os.getuid():
                folder.chmod(folder.stat().st_mode | 0o055)
        with process(as_nobody, "there") as user:
            assert user.stdout is not None
            assert user.stdout.readline() == "True\n"
    finally:
        root.chmod(0o755)
        (root / "sources").chmod(0o755)


def test_pruning_that_fails_does_no_harm(root: Path) -> None:
    said: list[str] = []
    made = claimed("kernels", "object-1")
    made.mkdir(parents=True)
    (root / "cleaning.lock").mkdir()
    added(made, said.append)
    assert len(said) == 1
    assert "cannot be pruned" in said[0]


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("700", 700), ("2k", 2048), ("1.5M", 3 << 19), ("1 GiB", 1 << 30), ("2TB", 2 << 40)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, "S2FUZZ_CACHE_SIZE") == size


@pytest.mark.parametrize("text", ["much", "-1", "1X", "1G2", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(BadInput, match=r"S2FUZZ_CACHE_SIZE: .* is no size"):
        parse_size(text, "S2FUZZ_CACHE_SIZE")


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (1 << 30, "1 GiB"), (3 << 41, "6 TiB")]
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert readable(size) == text
