"""Repositories of a kernel for tests: as much of the packaged tree as is built, and commits on top."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from planted import HERE, load
from processes import s2fuzz

from harness.program.text import format_program, parse
from reference.build.hosted import PGTABLE
from reference.build.sources import KernelChoice, prepare

PROGRAM = parse("""
# Two pages, then a block over both.
s2 1
ia_bits = 44
map ipa=0x40200000 size=8K phys=0x80200000 prot=rwx mc=4
get_leaf ipa=0x40200000
map ipa=0x40200000 size=2M phys=0x80200000 prot=rwx mc=4
unmap ipa=0x0 size=4G
destroy
""")


def finding_in(folder: Path, mutant: str = "merge-leaks-table", program: str = format_program(PROGRAM)) -> Path:
    """The directory of a finding: a planted bug, shown by that program."""
    pgtable = folder / "pgtable.c"
    pgtable.write_text(load(HERE / f"{mutant}.toml").apply(prepare(KernelChoice()).pgtable.read_text()))
    directory = found_on(folder, "--pgtable", pgtable, program=program)
    pgtable.unlink()
    return directory


def found_on(folder: Path, *kernel: str | Path, program: str) -> Path:
    """The directory of a finding: what that program shows on that kernel."""
    text = folder / "program.s2"
    text.write_text(program)
    result = s2fuzz("run", text, *kernel, "--out", folder / "out", cwd=folder)
    assert result.returncode == 1, result.stdout + result.stderr
    (directory,) = (folder / "out").iterdir()
    return directory


def git(repository: Path, *arguments: str) -> str:
    """Commits have the same ids in every run, so that the cache keeps no more than one set of their trees."""
    date = "2024-12-01T12:00:00Z"
    identity = ["-c", "user.name=A U Thor", "-c", "user.email=author@example.org", "-c", "gc.auto=0"]
    command = ["git", "-C", str(repository), *identity, *arguments]
    env = {**os.environ, "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout.strip()


def begin(path: Path) -> str:
    """Begin a repository with the packaged tree; the first commit."""
    tree = prepare(KernelChoice()).root
    for needed in ("arch", *(f"include/{name}" for name in ("asm-generic", "linux", "uapi", "vdso"))):
        shutil.copytree(tree / needed, path / needed, symlinks=True)
    shutil.copy(tree / "Makefile", path)
    git(path, "init", "-q")
    return commit(path, "everything", path / PGTABLE)


def commit(path: Path, subject: str, file: Path, text: str | None = None) -> str:
    """Commit a file with that text, or with a comment at its end that it had not before; the commit."""
    file.write_text(file.read_text() + f"/* {subject} */\n" if text is None else text)
    git(path, "add", "-A")
    git(path, "commit", "-q", "-m", subject)
    return git(path, "rev-parse", "HEAD")
