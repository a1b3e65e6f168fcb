"""A trace for casemate, which checks break-before-make on logs of pKVM's page-table accesses.

Written from that project's description of its trace format, and from what its offline checker reads: an event is a
record in brackets, with a number, a thread and a place. casemate knows pages of 4K, 48 bits of address, one page as
root, and no invalidation of ranges; it finds tables by the VTTBR_EL2 that it sees written, and lets who holds a table's
lock write to it.

What the program's code under test does is told as it is, but for what the format has no words for:

- A compare-and-exchange is a read and a plain write, under the table's lock.
- Each op holds the lock from its begin to its end. Locks have addresses that are no memory's.
- Pages come as `mem-init` when they are first used, and as `mem-set` when they are used again.
- VTCR_EL2 is told once: the checker reads any table by the value that was written last.
- Maintenance of caches, references, and registers of EL1 are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.errors import BadInput
from harness.observation.descriptors import root_field
from harness.observation.events import (
    ALLOC,
    ALLOC_EXACT,
    DOMAIN_NAMES,
    DSB,
    FREE_EXACT,
    ISB,
    MSR,
    PLANTED,
    STORE_CMPXCHG,
    STORE_KINDS,
    STORE_PLAIN,
    SYSREGS,
    TLB_CALLS,
    TLBI,
    Event,
    each_event,
)
from harness.observation.layout import NO_PAGE, Observation, Record
from harness.observation.tlbi import BY_NUMBER as TLBI_OPERATIONS
from harness.program.definition import OpDef
from harness.program.granule import GRANULE_4K
from harness.program.machine import Machine
from harness.program.ops import INIT
from harness.program.program import Program

_IA_BITS: Final = 48
_PAGE: Final = GRANULE_4K.page
_WITHOUT_OPERAND: Final = frozenset(
    ("vmalls12e1", "vmalls12e1is", "vmalle1", "vmalle1is", "alle1", "alle1is", "alle2", "alle2is")
)
_WITH_OPERAND: Final = frozenset(("ipas2e1is", "vae2is", "vale2is"))
"""The invalidations that the checker knows."""
_DOMAINS: Final = frozenset(("nsh", "ish", "ishst"))
_LOCKS: Final = 1 << 60
"""Added to a root's address, it is that of the root's lock."""
_VTTBR, _HCR = SYSREGS["vttbr_el2"], SYSREGS["hcr_el2"]


class _NoWords(Exception):
    """The format cannot tell this."""


def casemate_trace(program: Program, observation: Observation, place: str) -> str:
    """The trace, a record a line; `place` is what the program is called there (a record's line number is its op's, 0
    the implicit init's). Raises BadInput for a program that casemate has no words for: it says which."""
    if ":" in place or '"' in place:
        raise BadInput(f"{place}: casemate cannot tell names with a colon or a quotation mark")
    problem = _problem(program.machine)
    if problem is not None:
        raise BadInput(f"{place}: casemate cannot follow this program: {problem}")
    trace = _Trace(program.machine, place)
    for number, record in enumerate(observation.records):
        trace.place = f"{place}:{number}"
        try:
            trace.tell(record)
        except _NoWords as error:
            raise BadInput(f"{place}: casemate cannot follow op {number}, {record.definition.name}: {error}") from None
    return "".join(f"{line}\n" for line in trace.lines)


def _problem(machine: Machine) -> str | None:
    """Why programs of a machine cannot be told at all."""
    if machine.granule is not GRANULE_4K:
        return f"its pages are of {machine.granule.name}, and casemate knows 4K"
    if machine["stage"] != 2:
        return "it is for stage 1, whose tables no register write announces"
    if machine["lpa2"]:
        return "its entries are those of LPA2"
    if machine["ia_bits"] != _IA_BITS:
        return f"ia_bits is {machine['ia_bits']}, and casemate takes a root of one page at level 0: {_IA_BITS}"
    if machine["tlb_range"]:
        return "casemate knows no invalidation of ranges: tlb_range must be off"
    return None


class _Trace:
    """The records so far, and what the checker must have been told before others."""

    def __init__(self, machine: Machine, place: str) -> None:
        self.lines: list[str] = []
        self.place = place
        self._field = root_field(machine)
        self._memory: dict[int, int] = {}
        """Entries that were written since their page was last cleared, by address."""
        self._pages: set[int] = set()
        self._ids: dict[int, int] = {}
        """The VMID of each root that a register held."""
        self._under_test: int | None = None
        self._is_locked = False
        self._vttbr: int | None = None
        self._vmid = machine["vmid"]

    def tell(self, record: Record) -> None:
        """An op's events. Raises _NoWords."""
        if self._under_test is not None:
            self._lock()
        calls = 0
        for event in each_event(record.events):
            calls += event.kind in TLB_CALLS
            self._event(event, record.definition)
        if calls and not any(event.is_in_call for event in each_event(record.events)):
            raise _NoWords("its TLB invalidations are known by their calls alone (--flavour calls)")
        if record.definition is INIT and record.outs and self._under_test is not None:
            self._announce(record.outs[0])
        self._unlock()

    def _event(self, event: Event, definition: OpDef) -> None:
        kind = event.instruction
        if kind == PLANTED:
            raise _NoWords("somebody else writes an entry (plant, race, link, or a walk's visitor)")
        if kind == ALLOC_EXACT and event.a != NO_PAGE:
            self._new_root(event, definition)
        elif kind == ALLOC and event.a != NO_PAGE:
            self._fresh(event.a)
            if self._under_test is not None:
                self._hint("set_owner_root", event.a, self._under_test)
        elif kind == FREE_EXACT and event.a == self._under_test:
            self._release(event.a)
        elif kind in STORE_KINDS:
            self._store(event)
        elif kind == DSB:
            self._barrier(event)
        elif kind == ISB:
            self._record("barrier", "isb")
        elif kind == TLBI:
            self._tlbi(event)
        elif kind == MSR:
            self._register(event)

    def _new_root(self, event: Event, definition: OpDef) -> None:
        if event.b > _PAGE:
            raise _NoWords(f"its root has {event.b // _PAGE} pages, and casemate knows one")
        if definition is not INIT:
            raise _NoWords("it allocates a root")
        if self._under_test is not None:
            raise _NoWords("there is a table already")
        self._fresh(event.a)
        self._under_test = event.a
        self._hint("set_root_lock", event.a, event.a + _LOCKS)
        self._lock()

    def _announce(self, vtcr: int) -> None:
        """The table under test begins to be one for the checker when a register has held it."""
        assert self._under_test is not None
        self._record("sysreg-write", "(sysreg vtcr_el2)", f"(value {vtcr:#x})")
        self._write_vttbr(self._vmid << 48 | self._under_test)

    def _release(self, root: int) -> None:
        """The root goes: no register may hold it any more, which takes another one there."""
        if self._vttbr is not None and self._field.address(self._vttbr) == root:
            self._write_vttbr(next((one for one in self._others(root)), self._nobodys()))
        self._unlock()
        self._hint("release_table", root, 0)
        self._ids.pop(root, None)
        self._under_test = None

    def _others(self, root: int) -> Iterator[int]:
        return (vmid << 48 | other for other, vmid in self._ids.items() if other != root)

    def _nobodys(self) -> int:
        """A value of VTTBR_EL2 for no table of the program, such as the host's."""
        vmid = next(one for one in range(len(self._ids) + 1) if one not in self._ids.values())
        return vmid << 48 | max((*self._pages, _PAGE)) + 2 * _PAGE

    def _store(self, event: Event) -> None:
        if event.a & -_PAGE not in self._pages:
            raise _NoWords(f"it writes to {event.a:#x}, which is no page of its tables")
        if event.kind == STORE_CMPXCHG:
            self._record("mem-read", f"(address {event.a:#x})", f"(value {self._memory.get(event.a, 0):#x})")
        order = "plain" if event.kind in (STORE_PLAIN, STORE_CMPXCHG) else "release"
        self._record("mem-write", f"(mem-order {order})", f"(address {event.a:#x})", f"(value {event.b:#x})")
        self._memory[event.a] = event.b

    def _barrier(self, event: Event) -> None:
        domain = DOMAIN_NAMES.get(event.a, f"{event.a:#x}")
        if domain not in _DOMAINS:
            raise _NoWords(f"casemate knows no DSB {domain}")
        self._record("barrier", "dsb", f"(kind {domain})")

    def _tlbi(self, event: Event) -> None:
        operation = TLBI_OPERATIONS.get(event.a)
        name = f"{event.a:#x}" if operation is None else operation.name
        if name in _WITHOUT_OPERAND:
            self._record("tlbi", name)
        elif name in _WITH_OPERAND:
            self._record("tlbi", name, f"(value {event.b:#x})")
        else:
            raise _NoWords(f"casemate knows no TLBI {name}")

    def _register(self, event: Event) -> None:
        if event.a == _VTTBR:
            self._write_vttbr(event.b)
        elif event.a == _HCR:
            self._record("sysreg-write", "(sysreg hcr_el2)", f"(value {event.b:#x})")

    def _write_vttbr(self, value: int) -> None:
        root, vmid = self._field.address(value), value >> 48
        if self._ids.get(root, vmid) != vmid:
            raise _NoWords(f"the root {root:#x} has two VMIDs, {self._ids[root]} and {vmid}")
        if any(other == vmid for known, other in self._ids.items() if known != root):
            raise _NoWords(f"two roots have the VMID {vmid}")
        if root not in self._pages:  # another guest's, or the host's: empty, for all that is known here
            self._fresh(root)
            self._hint("set_root_lock", root, root + _LOCKS)
        self._ids[root] = vmid
        self._vttbr = value
        self._record("sysreg-write", "(sysreg vttbr_el2)", f"(value {value:#x})")

    def _fresh(self, page: int) -> None:
        if page in self._pages:
            self._record("mem-set", f"(address {page:#x})", f"(size {_PAGE:#x})", "(value 0x0)")
            for pa in range(page, page + _PAGE, 8):
                self._memory.pop(pa, None)
        else:
            self._pages.add(page)
            self._record("mem-init", f"(address {page:#x})", f"(size {_PAGE:#x})")

    def _lock(self) -> None:
        assert self._under_test is not None
        self._is_locked = True
        self._record("lock", f"(address {self._under_test + _LOCKS:#x})")

    def _unlock(self) -> None:
        if self._is_locked and self._under_test is not None:
            self._is_locked = False
            self._record("unlock", f"(address {self._under_test + _LOCKS:#x})")

    def _hint(self, kind: str, location: int, value: int) -> None:
        self._record("hint", f"(kind {kind})", f"(location {location:#x})", f"(value {value:#x})")

    def _record(self, name: str, *fields: str) -> None:
        words = (name, f"(id {len(self.lines)})", "(tid 0)", *fields, f'(src "{self.place}")')
        self.lines.append(f"({' '.join(words)})")
