"""Sides that are meant to differ, weighed; and docs/ownership.md, whose figures are checked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
from hypothesis import given
from seeds import runnable
from strategies import lively_programs
from thinning import every

from fuzz.sides import ownership_sides
from harness.model.executor import Model
from harness.observation.executor import Executor
from harness.program.program import Program
from harness.program.text import parse, read
from harness.verdict.judge import Judge
from harness.verdict.tiers import Tier
from harness.verdict.weighing import Part, weigh, weight_table
from pgtable import OWNERSHIPS
from reference.link.executor import ByGranule, Reference

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "ownership.md"
COMMAND = "    $ s2fuzz weigh "


def weight(text: str, side: str = "6.12"):
    return weigh(Model(side), parse(f"s2 1\nbudget = 20000\n{text}"))


# What weigh sees


def test_pages_and_a_block_are_the_same_memory() -> None:
    block = weight("map ipa=0x200000 size=2M phys=0x80200000 prot=rw mc=2")
    pages = weight(
        "map ipa=0x200000 size=1M phys=0x80200000 prot=rw mc=3\nmap ipa=0x300000 size=1M phys=0x80300000 prot=rw"
    )
    assert block.parts == pages.parts
    assert [(one.start, one.end, one.owned, one.offset) for one in block.parts] == [(2 << 20, 4 << 20, False, 2 << 30)]
    assert (block.size(owned=False), block.size(owned=True)) == (2 << 20, 0)
    assert (block.tables, pages.tables) == (3, 4)


@pytest.mark.parametrize("change", ["phys=0x80005000 prot=rw", "phys=0x80001000 prot=r", "phys=0x80001000 prot=rw+nc"])
def test_other_memory_and_other_attributes_are_not(change: str) -> None:
    one = weight(f"map ipa=0x0 size=4K phys=0x80000000 prot=rw mc=3\nmap ipa=0x1000 size=4K {change}")
    assert [(part.start, part.end) for part in one.parts] == [(0, 0x1000), (0x1000, 0x2000)]


def test_owners_are_parts_of_their_own() -> None:
    one = weight("map ipa=0x0 size=16K phys=0x80000000 prot=rw mc=3\nset_owner ipa=0x1000 size=8K owner=1")
    assert [(part.start, part.end, part.owned) for part in one.parts] == [
        (0, 0x1000, False),
        (0x1000, 0x3000, True),
        (0x3000, 0x4000, False),
    ]
    assert one.parts[2].continues(Part(0, 0x3000, owned=False, offset=1 << 31, attributes=one.parts[0].attributes))


def test_events_are_counted_and_failures_named() -> None:
    one = weight("map ipa=0x0 size=4K phys=0x80000000 prot=rwx mc=3\nunmap ipa=0x0 size=4K\nget_leaf ipa=0x10000000000")
    # Two tables and a page, each locked and made, then a leaf and two tables cleared.
    assert (one.stores, one.tlbis, one.cache_maintenance, one.complaints) == (9, 3, 2, 0)
    assert one.failed == ((3, "-ERANGE"),)
    assert weight("test_clear_young ipa=0x10000000000 size=4K").complaints == 1


def test_what_a_budget_cut_off_is_a_failure() -> None:
    assert weigh(Model(), parse("s2 1\nbudget = 2\n\nunmap ipa=0x0 size=4K\n")).failed == ((1, "budget"),)


def test_table_is_aligned_and_compares_with_the_first() -> None:
    sides = [weight("set_owner ipa=0x200000 size=2M mc=3 owner=1", f"6.12+{way}") for way in ("linux", "minus-one")]
    sides.append(weight("map ipa=0x0 size=4K phys=0x0 prot=- mc=1"))
    assert weight_table(["a", "long name", "c"], sides) == [
        "side       as first  mapped  owned  tables  stores  TLBIs  CMOs  WARNs  failed ops",
        "a          yes            0     2M       4   1,028      0     0      0  -",
        "long name  yes            0     2M       3       4      0     0      0  -",
        "c          no             0      0       3       2      0     0      0  1 -ENOMEM",
    ]


# Ways to record owners, as sides


@given(lively_programs)
def test_linux_as_a_way_is_the_model(program: Program) -> None:
    assert Model("6.12+linux").observe(program).words == Model().observe(program).words


@pytest.mark.parametrize(("seed", "linux"), every(3, runnable("6.12")), indirect=["linux"])
def test_linux_as_a_way_is_the_kernel(seed: Path, linux: str, every_kernel: ByGranule) -> None:
    assert Judge(Model(f"{linux}+linux"), every_kernel).agree(read(seed))


@pytest.mark.parametrize("way", every(12, sorted(set(OWNERSHIPS) - {"linux"})))
def test_every_other_way_parts_from_the_kernel(way: str, every_kernel: ByGranule) -> None:
    """In a seed, and first of all in what is asked of it: results, tables, accounting or events."""
    judge = Judge(Model(f"6.12+{way}"), every_kernel)
    programs = [read(seed) for seed in sorted((ROOT / "corpora" / "seeds").glob("owner_*.s2"))]
    found = [judge.verdict(program) for program in programs]
    assert any(verdict and verdict.difference and verdict.difference.tier in Tier for verdict in found)


# The page


def tables() -> Iterator[tuple[str, str | None, list[str]]]:
    """Every command that the page gives: its program, its ways, and the lines that are said to follow."""
    lines = PAGE.read_text().splitlines()
    for at, line in enumerate(lines):
        if line.startswith(COMMAND):
            match = re.fullmatch(r"corpora/seeds/(\w+)\.s2(?: --ways (\S+))?", line.removeprefix(COMMAND))
            assert match, line
            quoted = [one[4:] for one in takewhile(lambda one: one.startswith("    "), lines[at + 1 :])]
            yield match[1], match[2], quoted


@pytest.mark.parametrize(("name", "ways", "quoted"), [pytest.param(*one, id=one[0]) for one in tables()])
def test_figures_are_those_of_the_page(name: str, ways: str | None, quoted: list[str], kernel: Reference) -> None:
    sides = ownership_sides(ways)
    executors: list[Executor] = [kernel if side.kind == "kernel" else Model(side.what) for side in sides]
    program = read(ROOT / "corpora" / "seeds" / f"{name}.s2")
    assert weight_table([side.name for side in sides], [weigh(one, program) for one in executors]) == quoted
    kernels_row, linux_row = (re.sub(r"^\S+ +", "", row) for row in quoted[1:3])
    assert kernels_row == linux_row


def test_page_describes_every_way_and_shows_it() -> None:
    described = re.findall(r"^\| `([\w-]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert described == list(OWNERSHIPS)
    shown = [row for _, _, quoted in tables() for row in quoted]
    assert all(any(row.startswith(f"model:6.12+{way} ") for row in shown) for way in OWNERSHIPS)
    assert len(list(tables())) >= 8
