"""The boundary events of an operation: each kind defined once, here.

What the code under test does at its boundary, in the order in which it does it: stores to page-table entries,
barriers, TLB invalidations, cache maintenance, references and table pages, RCU's lock, WARNs. What the kernel's TLB
functions do in turn, instruction by instruction, follows the event of their call. In the observation an event is three
words: its kind's number and two arguments, 0 where the kind has fewer. `reference/protocol.py` hands the numbers to the
test kernel, which records events in `reference/kernel/boundary.c`; the model does so in `harness/model/boundary.py`.

What the program itself does to an entry (`plant`, `link`, `race`, the visitor of `walk`) is recorded as `planted`,
after the allocation of a fresh table where it takes one.

A TLB function is called for the MMU in use. Where it is called for another one, `for_mmu` comes before the call, with
that one's number (0 is the VM's first).

Of a memslot's dirty log, `log_cleared` is a page that is dirty no more, and `log_told` one that user space is told of.

The budget counts the kinds of `COUNTED`, and the visits of the program's own `walk`, which are no events. An event of
such a kind is recorded when it has been counted: one that the budget forbids is not there. Nothing else is counted, for
how often the code under test converts an address or reads a page's count is its own affair: two versions of it that do
the same must be cut at the same event. What is not counted has a bound of its own (`MOST_UNCOUNTED`); code that
reaches it hangs. Filling the memcache before an operation is no event, for the code under test has no part in it. A
WARN that comes when no more complaints of its op are kept is not recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from harness.observation.layout import EVENT_WORDS, NO_PAGE
from harness.observation.tlbi import BY_NUMBER as TLBI_OPERATIONS
from harness.program.machine import MAX_BUDGET
from harness.program.results import signed

TLBI_TTL_UNKNOWN: Final = 0x7FFF_FFFF
"""The level of a TLBI that hints none (asm/tlbflush.h: INT_MAX)."""

# Plain ints, for the model records some hundred events per program.
STORE_PLAIN: Final = 1
STORE_RELEASE: Final = 2
STORE_CMPXCHG: Final = 3
DSB: Final = 4
ISB: Final = 5
TLBI_VMID: Final = 6
TLBI_VMID_IPA: Final = 7
TLBI_VMID_IPA_NSH: Final = 8
TLBI_VMID_RANGE: Final = 9
DCACHE: Final = 10
ICACHE: Final = 11
GET: Final = 12
PUT: Final = 13
ALLOC: Final = 14
ALLOC_EXACT: Final = 15
FREE_EXACT: Final = 16
FREE_UNLINKED: Final = 17
WARNED: Final = 18
PLANTED: Final = 19
TLBI: Final = 20
MSR: Final = 21
IC: Final = 22
FLUSH_CPU_CONTEXT: Final = 23
FLUSH_VM_CONTEXT: Final = 24
READ_LOCK: Final = 25
READ_UNLOCK: Final = 26
WALKER_AF: Final = 27
FOR_MMU: Final = 30
LOG_CLEARED: Final = 31
LOG_TOLD: Final = 32

IN_CALL: Final = 256
"""Added to the kind of an instruction that a TLB function issues, whose call is the latest without it."""


@dataclass(frozen=True, slots=True)
class EventDef:
    """One kind of event. `table_address` says that its first argument lies in a table page, so that another address
    of the same page is as good."""

    number: int
    name: str
    args: tuple[str, ...]
    table_address: bool = False


EVENTS: Final = (
    EventDef(STORE_PLAIN, "store_plain", ("pa", "value"), table_address=True),
    EventDef(STORE_RELEASE, "store_release", ("pa", "value"), table_address=True),
    EventDef(STORE_CMPXCHG, "store_cmpxchg", ("pa", "value"), table_address=True),
    EventDef(DSB, "dsb", ("domain",)),
    EventDef(ISB, "isb", ()),
    EventDef(TLBI_VMID, "tlbi_vmid", ()),
    EventDef(TLBI_VMID_IPA, "tlbi_vmid_ipa", ("ipa", "level")),
    EventDef(TLBI_VMID_IPA_NSH, "tlbi_vmid_ipa_nsh", ("ipa", "level")),
    EventDef(TLBI_VMID_RANGE, "tlbi_vmid_range", ("ipa", "pages")),
    EventDef(DCACHE, "dcache_clean_inval_poc", ("pa", "size")),
    EventDef(ICACHE, "icache_inval_pou", ("pa", "size")),
    EventDef(GET, "get_page", ("pa",), table_address=True),
    EventDef(PUT, "put_page", ("pa",), table_address=True),
    EventDef(ALLOC, "zalloc_page", ("pa",), table_address=True),
    EventDef(ALLOC_EXACT, "zalloc_pages_exact", ("pa", "size"), table_address=True),
    EventDef(FREE_EXACT, "free_pages_exact", ("pa", "size"), table_address=True),
    EventDef(FREE_UNLINKED, "free_unlinked_table", ("pa", "level"), table_address=True),
    EventDef(WARNED, "WARN", ("code",)),
    EventDef(PLANTED, "planted", ("pa", "value"), table_address=True),
    EventDef(TLBI, "tlbi", ("operation", "operand")),
    EventDef(MSR, "msr", ("register", "value")),
    EventDef(IC, "ic", ("operation", "operand")),
    EventDef(FLUSH_CPU_CONTEXT, "flush_cpu_context", ()),
    EventDef(FLUSH_VM_CONTEXT, "flush_vm_context", ()),
    EventDef(READ_LOCK, "rcu_read_lock", ()),
    EventDef(READ_UNLOCK, "rcu_read_unlock", ()),
    EventDef(WALKER_AF, "walker_af", ("pa", "value"), table_address=True),
    EventDef(FOR_MMU, "for_mmu", ("mmu",)),
    EventDef(LOG_CLEARED, "log_cleared", ("ipa",)),
    EventDef(LOG_TOLD, "log_told", ("ipa",)),
)
EVENTS_BY_NUMBER: Final[Mapping[int, EventDef]] = {one.number: one for one in EVENTS}
STORES: Final[Mapping[str, int]] = {"plain": STORE_PLAIN, "release": STORE_RELEASE, "cmpxchg": STORE_CMPXCHG}
"""By the kinds of `pgtable.Hooks.pte_store`."""
STORE_KINDS: Final = frozenset({*STORES.values(), PLANTED})
"""Events whose arguments are the address of an entry and what it becomes."""
COUNTED: Final = frozenset(
    (
        *(STORE_PLAIN, STORE_RELEASE, STORE_CMPXCHG, PLANTED),
        *(DSB, ISB),
        *(TLBI, TLBI_VMID, TLBI_VMID_IPA, TLBI_VMID_IPA_NSH, TLBI_VMID_RANGE, FLUSH_CPU_CONTEXT, FLUSH_VM_CONTEXT),
        *(DCACHE, ICACHE, IC),
        *(GET, PUT),
        *(ALLOC, ALLOC_EXACT, FREE_EXACT, FREE_UNLINKED),
        *(LOG_CLEARED, LOG_TOLD),
    )
)
"""Kinds that the budget counts: stores, barriers, TLB invalidations, cache maintenance, references, allocations, pages
of the dirty log."""
MOST_UNCOUNTED: Final = 1 << 24
"""How often a program may convert an address, read a page's count or record an event that the budget does not count.
Programs of `MAX_OPS` operations stay far below."""
MAX_EVENTS: Final = 2 * MAX_BUDGET
"""Of one op, without WARNs. A TLB function writes fewer registers than it does of what is counted, and a walk takes
RCU's lock but once; code that takes it on and on is taken to hang."""

_INSTRUCTIONS: Final = frozenset((DSB, ISB, TLBI, MSR, IC))
TLBI_KINDS: Final = frozenset({TLBI_VMID, TLBI_VMID_IPA, TLBI_VMID_IPA_NSH, TLBI_VMID_RANGE})
TLB_CALLS: Final = TLBI_KINDS | {FLUSH_CPU_CONTEXT, FLUSH_VM_CONTEXT}
"""Calls of the kernel's TLB functions."""

DSB_DOMAINS: Final[Mapping[str, int]] = {
    "oshld": 0b0001,
    "oshst": 0b0010,
    "osh": 0b0011,
    "nshld": 0b0101,
    "nshst": 0b0110,
    "nsh": 0b0111,
    "ishld": 0b1001,
    "ishst": 0b1010,
    "ish": 0b1011,
    "ld": 0b1101,
    "st": 0b1110,
    "sy": 0b1111,
}
"""As CRm encodes them (Arm ARM, DSB)."""
DOMAIN_NAMES: Final = {number: name for name, number in DSB_DOMAINS.items()}

SYSREGS: Final[Mapping[str, int]] = {
    "sctlr_el1": 0xC080,
    "tcr_el1": 0xC102,
    "hcr_el2": 0xE088,
    "vttbr_el2": 0xE108,
    "vtcr_el2": 0xE10A,
}
"""Registers that TLB functions write: op0:op1:CRn:CRm:op2, 16 bits (Arm ARM, each register's page)."""
_SYSREG_NAMES: Final = {number: name for name, number in SYSREGS.items()}
VTTBR_ADDRESS: Final = (1 << 48) - 2
"""The bits of VTTBR_EL2 that hold the root's address; above it stands the VMID (Arm ARM, VTTBR_EL2)."""
IC_OPERATIONS: Final[Mapping[str, int]] = {"ialluis": 0x388, "iallu": 0x3A8}
"""op1:CRn:CRm:op2 of the SYS instruction."""
_IC_NAMES: Final = {number: name for name, number in IC_OPERATIONS.items()}


class Event(NamedTuple):
    """One event. A kernel with a bug may record any words, so nothing here is known to be sensible."""

    kind: int
    a: int
    b: int

    @property
    def is_in_call(self) -> bool:
        """Whether it is an instruction of the TLB function called last."""
        return bool(self.kind & IN_CALL)

    @property
    def instruction(self) -> int:
        """The kind, whether or not in a call."""
        return self.kind & ~IN_CALL

    @property
    def is_counted(self) -> bool:
        """Whether the budget counts it."""
        return self.instruction in COUNTED

    @property
    def name(self) -> str:
        definition = EVENTS_BY_NUMBER.get(self.instruction)
        return definition.name if definition else f"event_{self.kind}"

    @property
    def level(self) -> int | None:
        """The table level that the event names, if it names one."""
        definition = EVENTS_BY_NUMBER.get(self.kind)
        has_level = definition is not None and definition.args[1:] == ("level",)
        return signed(self.b) if has_level and self.b != TLBI_TTL_UNKNOWN else None

    def __str__(self) -> str:
        """`tlbi_vmid_ipa ipa=0x1000 level=3`, `store release 0x44001008 = 0x44002003`, `tlbi vale2is, 0x1000`.

        What a TLB function issues is indented."""
        definition = EVENTS_BY_NUMBER.get(self.instruction)
        if self.instruction in _INSTRUCTIONS:
            return "  " * self.is_in_call + self._instruction_text()
        if self.kind in STORE_KINDS:
            return f"{self.name.replace('_', ' ')} {self.a:#x} = {self.b:#x}"
        args: tuple[str, ...] = ("a", "b") if definition is None else definition.args
        texts = [f"{name}={_describe_arg(name, value)}" for name, value in zip(args, (self.a, self.b), strict=False)]
        return " ".join([self.name, *texts])

    def _instruction_text(self) -> str:
        kind = self.instruction
        if kind in (DSB, ISB):
            return f"{self.name} {DOMAIN_NAMES.get(self.a, self.a)}" if kind == DSB else "isb"
        names = {MSR: _SYSREG_NAMES, IC: _IC_NAMES}.get(kind)
        if names is None:
            operation = TLBI_OPERATIONS.get(self.a)
            name, takes_operand = (operation.name, operation.takes_operand) if operation else (f"{self.a:#x}", True)
        else:
            name, takes_operand = names.get(self.a, f"{self.a:#x}"), kind == MSR
        return f"{self.name} {name}" + (f", {self.b:#x}" if takes_operand or self.b else "")


def events_of(words: Sequence[int]) -> list[Event]:
    """A record's events, from its words."""
    return [*each_event(words)]


def each_event(words: Sequence[int], first: int = 0) -> Iterator[Event]:
    """The same one after the other, from the `first` on: there may be a million."""
    for at in range(EVENT_WORDS * first, len(words), EVENT_WORDS):
        yield Event(words[at], words[at + 1], words[at + 2])


def common_events(mine: Sequence[int], theirs: Sequence[int]) -> int:
    """How many events two records begin with that are the same word by word."""
    same, most = 0, min(len(mine), len(theirs)) // EVENT_WORDS
    while most:
        half = (most + 1) // 2
        start, end = EVENT_WORDS * same, EVENT_WORDS * (same + half)
        if mine[start:end] == theirs[start:end]:
            same, most = same + half, most - half
        else:
            most = half - 1
    return same


def _describe_arg(name: str, value: int) -> str:
    if name == "level":
        return "unknown" if value == TLBI_TTL_UNKNOWN else str(signed(value))
    if name == "pages":
        return str(value)
    return "none" if name == "pa" and value == NO_PAGE else f"{value:#x}"
