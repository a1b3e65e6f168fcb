"""Tables as text, for people: a line per table and per run of alike entries, decoded."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from pgtable import pte
from pgtable.geometry import Geometry


class TablePage(NamedTuple):
    """A table page as far as it is shown: its entries, and what to say of it after its address."""

    entries: Iterable[int]
    remark: str = ""


ReadTable = Callable[[int], TablePage | None]
"""The table page at a physical address, or None where there is none: the line of its entry then stands alone."""

DescribeEntry = Callable[[int, int], str]
"""An entry and its level, in words."""


class _Run(NamedTuple):
    """Entries that follow each other and say the same about adjacent memory; shown as one line."""

    ipa: int
    entry: int
    length: int


def table_lines(
    pa: int,
    level: int,
    ipa: int,
    read: ReadTable,
    geometry: Geometry,
    address: pte.AddressFormat,
    describe: DescribeEntry,
    depth: int = 0,
) -> Iterator[str]:
    """The table of this level at pa, whose first entry translates ipa, and all below it, indented by depth.

    Entries that are 0 are left out. A garbage entry may point anywhere: what `read` knows nothing of is not followed.
    """
    page = read(pa)
    if page is None:
        return
    indent = "  " * depth
    yield f"{indent}level {level} table {pa:#x} from ipa {ipa:#x}{page.remark}"
    for run in _runs(page.entries, ipa, level, geometry.level_size(level), address):
        times = f"  x{run.length}" if run.length > 1 else ""
        yield f"{indent}  {run.ipa:#014x} {describe(run.entry, level)}{times}"
        if pte.is_table(run.entry, level):
            child = address.to_phys(run.entry)
            yield from table_lines(child, level + 1, run.ipa, read, geometry, address, describe, depth + 2)


def _runs(entries: Iterable[int], ipa: int, level: int, size: int, address: pte.AddressFormat) -> Iterator[_Run]:
    run: _Run | None = None
    for index, entry in enumerate(entries):
        if run and entry and not pte.is_table(entry, level) and entry == _continued(run, size, address):
            run = run._replace(length=run.length + 1)
            continue
        if run:
            yield run
        run = _Run(ipa + index * size, entry, 1) if entry else None
    if run:
        yield run


def _continued(run: _Run, size: int, address: pte.AddressFormat) -> int:
    """What the entry after a run must be to belong to it: the adjacent address, or for an invalid entry the same."""
    if not pte.is_valid(run.entry):
        return run.entry
    return run.entry & ~address.mask | address.to_pte(address.to_phys(run.entry) + run.length * size)
