"""The model as others use it: the README's example, text, documentation."""

from __future__ import annotations

import inspect
import itertools
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pgtable
from pgtable import Memcache, PagePool, Prot, Stage2, get_vtcr

ROOT = Path(__file__).parents[2]


def readme_blocks() -> list[str]:
    """The indented blocks of the README, without their indentation."""
    lines = (ROOT / "README.md").read_text().splitlines()
    groups = itertools.groupby(lines, key=lambda line: not line or line.startswith("    "))
    return [textwrap.dedent("\n".join(group)).strip("\n") + "\n" for indented, group in groups if indented]


def example() -> tuple[str, str]:
    """The README's program, and what the README says it prints."""
    blocks = [block for block in readme_blocks() if block.strip()]
    at = next(number for number, block in enumerate(blocks) if block.startswith("from pgtable import"))
    return blocks[at], blocks[at + 1]


def test_readme_example_prints_what_it_says(tmp_path: Path) -> None:
    """With nothing but the package itself and the standard library."""
    program, printed = example()
    shutil.copytree(ROOT / "pgtable", tmp_path / "pgtable", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-S", "-E", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, printed), done.stderr


def test_readme_example_is_five_lines_and_typed(tmp_path: Path) -> None:
    program, _ = example()
    assert sum(1 for line in program.splitlines() if line and not line.startswith("from ")) == 5
    file = tmp_path / "example.py"
    file.write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(file)]
    environment = {"PATH": "", "MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def small() -> tuple[Stage2, PagePool, Memcache]:
    pool, cache = PagePool(base=0x4000_0000, pages=16), Memcache()
    s2 = Stage2(get_vtcr(ia_bits=40), pool)
    assert (s2.init(), cache.topup(pool, 4)) == (0, 0)
    return s2, pool, cache


def test_text_follows_the_table() -> None:
    s2, _, cache = small()
    empty = [
        "40 bits of ipa",
        "level 1 table 0x40000000 from ipa 0x0",
        "level 1 table 0x40001000 from ipa 0x8000000000",
    ]
    assert str(s2).splitlines() == empty
    assert s2.map(0x1000, 0x2000, 0x8000_1000, Prot.R, cache) == 0
    assert s2.set_owner(0x3000, 0x2000, cache, 1) == 0
    assert [line.strip() for line in str(s2).splitlines()[-4:-1]] == [
        "level 3 table 0x40004000 from ipa 0x0",
        "0x000000001000 page  pa=0x80001000 R-- normal AF  x2",
        "0x000000003000 owner 1  x2",
    ]
    assert s2.unmap(0, 1 << 40) == 0
    assert str(s2).splitlines() == empty
    s2.destroy()
    assert str(s2) == "no table"


def test_text_survives_garbage() -> None:
    """A table that points outside memory is named, and not followed."""
    s2, pool, _ = small()
    assert s2.root is not None
    pool.table(s2.root)[1] = 0x7000_0003
    assert "  0x000040000000 table -> 0x70000000" in str(s2).splitlines()


def test_text_is_no_act() -> None:
    s2, pool, cache = small()
    assert s2.map(0x1000, 0x2000, 0x8000_1000, Prot.R, cache) == 0
    complaints: list[str] = []
    pool.complain = lambda what, pa: complaints.append(what)
    before = (list(pool.refcounts), pool.allocs, pool.frees)
    str(s2)
    pool.check_poison()
    assert (list(pool.refcounts), pool.allocs, pool.frees) == before
    assert complaints == []


def test_a_visitor_need_not_return_anything() -> None:
    s2, _, _ = small()
    seen: list[int] = []
    assert s2.walk(0, 4096, pgtable.WalkFlags.LEAF, lambda _visit, _level, ipa, _pte: seen.append(ipa)) == 0
    assert s2.walk(0, 4096, pgtable.WalkFlags.LEAF, lambda *_: -5) == -5
    assert seen == [0]


def test_everything_public_is_documented() -> None:
    undocumented = []
    for name in pgtable.__all__:
        thing = getattr(pgtable, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        undocumented += [] if inspect.getdoc(thing) else [name]
        if thing is pgtable.NullHooks or not inspect.isclass(thing):  # its methods are documented in Hooks
            continue
        members = {**vars(thing)}
        undocumented += [
            f"{name}.{method}"
            for method, value in members.items()
            if inspect.isfunction(value) and not method.startswith("_") and not inspect.getdoc(value)
        ]
    assert undocumented == []
