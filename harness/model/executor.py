"""The model as an executor: runs programs on `pgtable`, under the same budget and bookkeeping as the reference.

Only this module (and `trees`, for its descriptions of entries) imports `pgtable`.
"""

from __future__ import annotations

import errno
import traceback
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import chain
from typing import Final, NamedTuple, NoReturn

from harness.errors import BadInput
from harness.files import VERIFIED_FILES
from harness.observation.events import (
    ALLOC,
    ALLOC_EXACT,
    COUNTED,
    DCACHE,
    DSB,
    DSB_DOMAINS,
    FLUSH_CPU_CONTEXT,
    FLUSH_VM_CONTEXT,
    FREE_EXACT,
    FREE_UNLINKED,
    GET,
    IC,
    IC_OPERATIONS,
    ICACHE,
    IN_CALL,
    ISB,
    MOST_UNCOUNTED,
    MSR,
    PLANTED,
    PUT,
    READ_LOCK,
    READ_UNLOCK,
    STORES,
    SYSREGS,
    TLBI,
    TLBI_VMID,
    TLBI_VMID_IPA,
    TLBI_VMID_IPA_NSH,
    TLBI_VMID_RANGE,
    WARNED,
    events_of,
)
from harness.observation.executor import CrashReport, TargetDied
from harness.observation.layout import (
    EVENT_WORDS,
    MAX_COMPLAINTS,
    NO_PAGE,
    POOL_MISUSE,
    POOL_MISUSES,
    WARN,
    Digest,
    Note,
    Observation,
    decode,
)
from harness.observation.tlbi import BY_NAME as TLBI_OPERATIONS
from harness.program.capabilities import Capabilities, flag_word
from harness.program.definition import Op
from harness.program.granule import GRANULES
from harness.program.kinds import MAP_FLAGS, PROT, VISIT_FLAGS
from harness.program.kinds.entries import PLANTED_NAMES, VISITOR_BITS, VISITORS
from harness.program.kinds.flags import PROT_BITS
from harness.program.kinds.small import SPLIT_CACHE_CAPACITY
from harness.program.machine import KNOBS, Machine
from harness.program.ops import INIT
from harness.program.program import Program
from harness.program.space import U64_MAX
from harness.verdict.invalidation import Call, group
from pgtable import (
    HOST,
    OBJECTS,
    OWNERSHIPS,
    VERSIONS,
    Features,
    ForcePages,
    Geometry,
    HypStage1,
    KernelObject,
    LeafRun,
    LinuxVersion,
    Memcache,
    Ownership,
    OwnershipStage2,
    PagePool,
    PageTable,
    Stage2,
    Stage2Flags,
    Walk,
    WildAccess,
    get_vtcr,
    hyp_leaf_prot,
    leaf_prot,
    root_size,
    vtcr_for,
)
from pgtable.geometry import ENTRY_SIZE, LAST_LEVEL
from pgtable.memory import CacheMaintenance
from pgtable.pte import LOCKED, address_format, is_counted, is_table, is_valid, table_pte
from pgtable.tlb import NO_MMU, Context, HostTlbMaintenance, Instruction, Issue, Mmu, TlbMaintenance, vttbr

MODELLED: Final = tuple(VERSIONS)
"""The versions that the model knows."""

_INIT: Final = Op(INIT, ())
_RWX: Final = sum(PROT_BITS[name] for name in "rwx")
_FORCE_PAGES: Final[tuple[ForcePages | None, ...]] = (
    None,
    lambda _addr, _end, _prot: True,
    lambda _addr, _end, prot: prot != _RWX,
)
"""Values of the knob `force_pte`."""
_VISITOR_ENTRIES: Final = {"clear": 0, "lock": PLANTED_NAMES["locked"], "table": PLANTED_NAMES["table"]}
_VISITOR_ERRORS: Final = {
    "eagain": errno.EAGAIN,
    "enomem": errno.ENOMEM,
    "einval": errno.EINVAL,
    "e2big": errno.E2BIG,
}
_KEPT_POOLS: Final = 16
_NONE: Final = (NO_PAGE, 0)
"""Nothing was broken yet: address and former value of the entry above level 3 that was last."""
_NOFWB, _IDMAP = int(Stage2Flags.NOFWB), int(Stage2Flags.IDMAP)
_GEOMETRIES: Final = tuple(Geometry(granule.shift) for granule in GRANULES)
"""By values of the knob `granule`."""
_KEPT_CONTEXTS: Final = 256
_KEPT_CALLS: Final = 4096
"""Of TLB calls the instructions are kept: so many calls each of so many contexts."""
_VHE, _PKVM_GUEST, _PKVM_HOST = range(1, 4)
"""Values of the knob `kvm_mode`."""
_VCPU_NONE, _VCPU_OWN = range(2)
"""Values of the knob `vcpu`."""
_HOST_ROOT: Final = 0x1000
_FOREIGN_ROOT: Final = 0x2000
"""Of the MMUs that are not under test, as in reference/kernel/context.c."""
_MISUSE_CODES: Final = {name: code for code, name in POOL_MISUSES.items()}


class Piece(NamedTuple):
    """A part of what a TLB function does: events' words, for how many the budget counts, and the function in which a
    WARN fires after them, if one does."""

    words: tuple[int, ...]
    counted: int
    warns: str | None


Pieces = tuple[Piece, ...]
"""What a TLB function does."""


_WITH_DCACHE, _WITH_ICACHE = (0, 1), (0, 2)
"""Values of the knob `cmos`."""
_FEATURES: Final = (
    *("fwb", "tlb_range", "hw_af", "ac03_cpu_38", "ttl", "cnp", "repeat_tlbi", "lpa2", "pa_bits_52", "bti", "hvhe"),
)
"""The knobs that are `Features` of the same name, on or off."""


class BudgetSpent(Exception):
    """The program has caused as many boundary events as it may."""


class Endless(Exception):
    """What the budget does not count has happened more often than any program makes it happen."""


@dataclass(slots=True)
class Shape:
    """What a program did to the tree, counted while it ran: tables by level (0 to 3, then -1), blocks, and how often a
    block became a table (split) or a table a block (merge)."""

    tables: list[int] = field(default_factory=lambda: [0] * 5)
    blocks: int = 0
    splits: int = 0
    merges: int = 0


class Model:
    """Runs programs in Python, as Linux `version` (a key of `pgtable.VERSIONS`) would.

    `6.12+flag` is that version with another way to record owners (a key of `pgtable.OWNERSHIPS`). With `calls_only` TLB
    functions are known by their calls alone, as in a kernel of that flavour; `kernel_object` (a key of
    `pgtable.OBJECTS`) is what the code is built as. Raises BadInput for what is not modelled.
    """

    def __init__(self, version: str = "6.12", calls_only: bool = False, kernel_object: str = HOST.name) -> None:
        number, plus, ownership = version.partition("+")
        if number not in VERSIONS:
            raise BadInput(f"model:{version}: the model knows {', '.join(sorted(VERSIONS))}")
        if plus and ownership not in OWNERSHIPS:
            raise BadInput(f"model:{version}: the ways to record owners are {', '.join(OWNERSHIPS)}")
        self.version: LinuxVersion = VERSIONS[number]
        if plus and not self.version.locks_entries:
            raise BadInput(f"model:{version}: ways to record owners are not modelled for {number}")
        self.capabilities = _capabilities(self.version)
        self.ownership = OWNERSHIPS[ownership] if plus else None
        """None for Linux's own, at full speed."""
        self._calls_only = calls_only
        self.kernel_object: KernelObject = OBJECTS[kernel_object]
        self.shape = Shape()
        """Of the last program, as are the next two."""
        self.returns: list[int | None] = []
        """Each record's result, None for one that ran over budget."""
        self.levels: list[int] = []
        """The levels at which each record's op wrote entries: bit n + 1 for level n."""
        self.kinds: list[frozenset[int]] = []
        """The kinds of each record's events."""
        self._program: Program | None = None
        self._platform = lru_cache(maxsize=1024)(_platform)
        self._pools: dict[tuple[int, int, int], PagePool] = {}
        self._calls: Calls = {}
        self._fresh: list[tuple[int, Sequence[int]]] = []

    @property
    def name(self) -> str:
        way = f"+{self.ownership.name}" if self.ownership else ""
        built = "" if self.kernel_object is HOST else f"+{self.kernel_object.name}"
        return f"model:{self.version.name}{way}{built}"

    @property
    def identity(self) -> Mapping[str, str]:
        return {
            "object": self.kernel_object.name,
            VERIFIED_FILES: self.version.files,
            "version": self.version.name,
        }

    def start(self, program: Program) -> None:
        self.capabilities.check(program, self.name)
        self._program = program

    def finish(self) -> Digest:
        pieces, _ = self._run()
        crc = 0
        for piece in pieces:
            crc = zlib.crc32(piece, crc)
        return Digest(sum(map(len, pieces)), crc)

    def observe(self, program: Program) -> Observation:
        self.start(program)
        pieces, notes = self._run()
        return decode(array("Q", b"".join(pieces)), notes, program.machine)

    def new_calls(self) -> Sequence[Call] | None:
        return [call for record, events in self._fresh for call in group(record, events_of(events))]

    def refresh(self) -> None:
        self._program = None

    def close(self) -> None:
        self.refresh()

    def _pool(self, machine: Machine) -> PagePool:
        """A pool for the machine; made once, for that costs as much as running a small program."""
        key = machine["pool_base"], machine["pool_pages"], machine["granule"]
        if key not in self._pools:
            if len(self._pools) == _KEPT_POOLS:
                self._pools.clear()
            self._pools[key] = PagePool(*key[:2], page_size=machine.granule.page)
        return self._pools[key]

    def _run(self) -> tuple[list[memoryview], list[Note]]:
        assert self._program is not None, "start a program first"
        if len(self._calls) > _KEPT_CONTEXTS:
            self._calls.clear()
        pool = self._pool(self._program.machine)
        calls = None if self._calls_only else self._calls
        variant = Variant(self.version, self.kernel_object, self.ownership)
        world = ProgramRun(self._program, variant, self._platform(self._program.machine), pool, calls)
        self._fresh = world.fresh_calls
        self.shape, self.returns, self.levels, self.kinds = world.shape, world.returns, world.levels, world.kinds
        try:
            return world.run()
        except (WildAccess, RecursionError, Endless) as error:
            raise TargetDied(_death(error), self) from error
        finally:
            world.end()


def _capabilities(version: LinuxVersion) -> Capabilities:
    bits = {PROT: version.prots, MAP_FLAGS: version.walk_flags, VISIT_FLAGS: version.walk_flags}
    flags = {
        flag_word(kind, name) for kind, known in bits.items() for name, bit in kind.bits.items() if not bit & known
    }
    settings = {"lpa2": version.lpa2, "vcpu": version.tlb_asks_who_runs, "hvhe": version.hyp_modes}
    knobs = {name for name, met in settings.items() if not met}
    return Capabilities(version.lacks | flags | knobs)


def _death(error: Exception) -> CrashReport:
    where = traceback.extract_tb(error.__traceback__)[-1].name
    details = "".join(traceback.format_exception(error))
    kind = "hang" if isinstance(error, Endless) else "crash"
    return CrashReport(kind, f"{type(error).__name__} in {where}", where, details)


_CONTEXT_KNOB_NAMES: Final = frozenset(
    [*_FEATURES, "granule", "ia_bits", "kvm_mode", "parange", "vcpu", "vmid", "vmid_bits"]
)
_CONTEXT_KNOBS: Final = tuple(index for index, knob in enumerate(KNOBS) if knob.name in _CONTEXT_KNOB_NAMES)
"""Places of the knobs that decide what a TLB function does."""
_WHATS: Final[Mapping[str, tuple[int, Callable[[str], int]]]] = {
    "dsb": (DSB, DSB_DOMAINS.__getitem__),
    "isb": (ISB, lambda _: 0),
    "tlbi": (TLBI, lambda name: TLBI_OPERATIONS[name].number),
    "msr": (MSR, SYSREGS.__getitem__),
    "ic": (IC, IC_OPERATIONS.__getitem__),
}


class _Flushes:
    """What TLB functions do in one context, kept by call (its event): the same ones come again and again."""

    __slots__ = ("_frames", "_functions", "kept", "told")

    def __init__(self, tlb: TlbMaintenance) -> None:
        self.kept: dict[tuple[int, int, int], Pieces] = {}
        self.told: set[tuple[int, int]] = set()
        """Kind and second argument of the calls that `Model.new_calls` told."""
        self._frames: dict[int, tuple[Pieces, Piece, Piece]] = {}
        """By kind, what every call of it does: before the first piece that is the call's own, and around that."""
        self._functions: dict[int, Callable[[int, int], Issue]] = {
            TLBI_VMID: lambda _a, _b: tlb.flush_vmid(),
            TLBI_VMID_IPA: tlb.flush_vmid_ipa,
            TLBI_VMID_IPA_NSH: tlb.flush_vmid_ipa_nsh,
            TLBI_VMID_RANGE: tlb.flush_vmid_range,
            FLUSH_CPU_CONTEXT: lambda _a, _b: tlb.flush_cpu_context(),
            FLUSH_VM_CONTEXT: lambda _a, _b: tlb.flush_vm_context(),
        }

    def keep(self, kind: int, a: int, b: int) -> Pieces:
        """What a call does that is not among `kept` yet."""
        issue = self._functions[kind](a, b)
        frame = self._frames.get(kind)
        if frame is None:
            *warned, before = _pieces(issue.before)
            (after,) = _pieces(issue.after)
            frame = self._frames[kind] = tuple(warned), before, after
        warned_before, head, tail = frame
        (own,) = _pieces(issue.own)
        words, counted = head.words + own.words + tail.words, head.counted + own.counted + tail.counted
        pieces = self.kept[kind, a, b] = (*warned_before, Piece(words, counted, None))
        return pieces


Calls = dict[tuple[int, ...], _Flushes]
"""By context: the machine and the root."""


def _pieces(instructions: Sequence[Instruction]) -> Pieces:
    pieces: list[Piece] = []
    words: list[int] = []
    counted = 0
    for name, what, operand in instructions:
        if name == "warn":
            pieces.append(Piece(tuple(words), counted, what))
            words, counted = [], 0
            continue
        kind, number = _WHATS[name]
        words += (kind | IN_CALL, number(what), operand)
        counted += kind in COUNTED
    return (*pieces, Piece(tuple(words), counted, None))


_NO_FLUSHES: Final = _Flushes(TlbMaintenance(Features(), _GEOMETRIES[0], Context(NO_MMU)))
"""Until there is a table."""


Platform = tuple[Features, Geometry, int]


def _platform(machine: Machine) -> Platform:
    """What a machine's knobs say to the page table: features, geometry and VTCR_EL2."""
    features = Features(
        **{name: bool(machine[name]) for name in _FEATURES},
        parange=machine["parange"],
        vmid16=bool(machine["vmid_bits"]),
    )
    geometry = _GEOMETRIES[machine["granule"]]
    return features, geometry, get_vtcr(machine["ia_bits"], features, geometry)


class Variant(NamedTuple):
    """Which code the model is: of a version, built as an object, with a way to record owners (None: Linux's own)."""

    version: LinuxVersion
    kernel_object: KernelObject
    ownership: Ownership | None


class ProgramRun:
    """One program's world: the page table under test, and the boundary around it.

    It is both `MmOps` and `Hooks` to the page table. What the budget counts (`harness.observation.events.COUNTED`) is
    counted before it is carried out, as in reference/kernel/boundary.c: by `_spend` or, where there are so many that
    the call would tell, in line.
    """

    __deletable__ = ("pgt", "stage2", "hyp")

    def __init__(
        self,
        program: Program,
        variant: Variant,
        platform: Platform,
        pool: PagePool,
        calls: Calls | None,
    ) -> None:
        machine = program.machine
        features, geometry, vtcr = platform
        self.program = program
        self._features = features
        self._version = variant.version
        self._maintenance = TlbMaintenance if variant.version.tlb_asks_who_runs else HostTlbMaintenance
        self._geometry = geometry
        self._cmos = machine["cmos"]
        self._calls = calls
        self.pool = pool
        pool.reset()
        pool.complain = self._misuse
        self.table = self.pool.table
        self.address = address_format(geometry.page_shift, features.lpa2)
        self.vtcr = 0
        self.pgt: PageTable
        """The table under test; with the operations of its stage, one of those below, which is the only one."""
        self.stage2: Stage2
        self._make_table(vtcr, variant)
        self.cache = Memcache()
        self.split_cache = Memcache(SPLIT_CACHE_CAPACITY)
        self.unlinked: dict[int, tuple[int, int]] = {}
        """Address and level of the unlinked tables that were not freed, by number."""
        self.unlinked_made = 0
        self.race = (0, 0)
        """The compare-and-exchange before which an entry changes, counted as that, and what the entry becomes."""
        self.allocs_to_failure = 0
        """The allocation that fails, counted from the next one; 0 for none."""
        self.left, self._uncounted_left = machine["budget"], MOST_UNCOUNTED
        self.shape = Shape()
        self.returns: list[int | None] = []
        self.levels: list[int] = []
        self.kinds: list[frozenset[int]] = []
        self.words: list[int] = []
        self.notes: list[Note] = []
        self._outs: list[int] = []
        self._complaints: list[int] = []
        self._events: list[int] = []
        self._pieces: list[array[int]] = []
        """The words before `words`, and the events of this op before `_events`: runs of many come as arrays."""
        self._event_pieces: list[array[int]] = []
        self._broken = _NONE
        self._visitor = (0, 0, 0)
        """What the visitor of the walk under way does, at which of its visits (0: at every one), and visits so far."""
        self._kinds: set[int] = set()
        """Of the events in them."""
        self._levels = 0
        self._flushes = _NO_FLUSHES
        self.fresh_calls: list[tuple[int, Sequence[int]]] = []
        """Record and events of each call of which nothing like it was told in its context."""

    def _make_table(self, vtcr: int, variant: Variant) -> None:
        machine, features, geometry = self.program.machine, self._features, self._geometry
        if machine["stage"] == 1:
            self.pgt = self.hyp = HypStage1(
                machine["va_bits"],
                self,
                self,
                features,
                geometry,
                variant.version,
                variant.kernel_object,
                counts_pages=bool(machine["page_count"]),
            )
            return
        self.vtcr = vtcr
        flags = machine["nofwb"] * _NOFWB | machine["idmap"] * _IDMAP
        force_pages = _FORCE_PAGES[machine["force_pte"]]
        version, kernel_object, ownership = variant
        make = Stage2 if ownership is None else partial(OwnershipStage2, ownership=ownership)
        self.stage2 = make(
            *(vtcr, self, self, features, version, geometry),
            flags=flags,
            force_pages=force_pages,
            kernel_object=kernel_object,
        )
        self.pgt = self.stage2

    def run(self) -> tuple[list[memoryview], list[Note]]:
        """The observation's words in pieces, good until the pool is used again, and its notes."""
        for op in (_INIT, *self.program.ops):
            if not self._observe_op(op):
                break
        self._observe_state()
        # From a list, for what an array is extended by one by one costs several times as much.
        self._pieces.append(array("Q", self.words))
        return [*(memoryview(piece) for piece in self._pieces), *self._observe_pages()], self.notes

    def end(self) -> None:
        """Let go of the table, which holds on to its world, so that both are freed now: the garbage collector would
        look through all that they did first."""
        for name in ("pgt", "stage2", "hyp"):
            if hasattr(self, name):
                delattr(self, name)

    def _observe_op(self, op: Op) -> bool:
        outs = self._outs
        outs.clear()
        self._complaints.clear()
        self._events.clear()
        self._event_pieces.clear()
        self._levels = 0
        self._broken = _NONE
        over_budget, ret = 0, 0
        try:
            ret = _RUNNERS[op.definition.name](self, *op.args)
        except BudgetSpent:
            over_budget = 1
        self.words += (op.definition.number, over_budget, ret & U64_MAX, len(outs))
        self.words += outs
        self._observe_complaints()
        self._observe_events()
        self.returns.append(None if over_budget else ret)
        self.levels.append(self._levels)
        return not over_budget and not (op.definition is INIT and ret)

    def _observe_complaints(self) -> None:
        self.words.append(len(self._complaints) // 3)
        self.words += self._complaints
        self._complaints.clear()

    def _observe_events(self) -> None:
        many = self._event_pieces
        self.words.append((sum(map(len, many)) + len(self._events)) // EVENT_WORDS)
        if many:
            self._pieces += (array("Q", self.words), *many)
            self.words.clear()
        self.words += self._events
        kinds = frozenset(self._events[::EVENT_WORDS])
        if many:
            kinds |= self._kinds
            self._kinds.clear()
        self.kinds.append(kinds)

    def _observe_state(self) -> None:
        pool, words = self.pool, self.words
        words.append(0)
        self._complaints.clear()
        pool.check_poison()
        self._observe_complaints()
        root = self.pgt.root
        words.append(NO_PAGE if root is None else root)
        words.append(0 if root is None else self.pgt.root_pages)
        words.extend((pool.allocs, pool.frees, len(self.cache.pages), *self.cache.pages))
        words.extend((len(self.split_cache.pages), *self.split_cache.pages, len(self.unlinked)))
        for number, (table, level) in self.unlinked.items():
            words.extend((number, table, level))
        words.append(pool.pages_in_use())

    def _observe_pages(self) -> Iterator[memoryview]:
        # In place, for copies of all pages would cost more than a small program.
        pool, page = self.pool, self.program.machine.granule.page
        for index in range(pool.high_water):
            if pool.refcounts[index]:
                pa = pool.base + index * page
                yield memoryview(array("Q", (pa, pool.refcounts[index])))
                yield pool.table(pa)

    # The operations, one method each.

    def op_init(self) -> int:
        table = self.pgt
        ret = table.init()
        if ret == 0:
            if table.root is not None and self.vtcr:
                self._load_root(table.root)
            self._outs += (self.vtcr, table.ia_bits, table.start_level & U64_MAX, table.root_pages)
            if table.start_level <= LAST_LEVEL:
                self.shape.tables[table.start_level] += 1
        return ret

    def op_map(self, ipa: int, size: int, phys: int, prot: int, mc: int, flags: int) -> int:
        return self._fill_cache(mc) or self.stage2.map(ipa, size, phys, prot, self._cache(mc), flags)

    def op_unmap(self, ipa: int, size: int) -> int:
        return self.stage2.unmap(ipa, size)

    def op_set_owner(self, ipa: int, size: int, mc: int, owner: int) -> int:
        return self._fill_cache(mc) or self.stage2.set_owner(ipa, size, self._cache(mc), owner)

    def op_get_leaf(self, ipa: int) -> int:
        ret, entry, level = self.pgt.get_leaf(ipa)
        if ret == 0:
            self._outs += (entry, level & U64_MAX)
        return ret

    def op_walk(self, ipa: int, size: int, flags: int, visitor: int) -> int:
        action, nth = visitor & (1 << VISITOR_BITS) - 1, visitor >> VISITOR_BITS
        if not action:
            return self.pgt.walk(ipa, size, flags, self._record)
        self._visitor = action, nth, 0
        return self.pgt.visit(ipa, size, flags, self._record_and_act)

    def op_destroy(self) -> int:
        self.pgt.destroy()
        return 0

    def op_wrprotect(self, ipa: int, size: int) -> int:
        return self.stage2.wrprotect(ipa, size)

    def op_mkyoung(self, ipa: int) -> int:
        self._outs.append(self.stage2.mkyoung(ipa))
        return 0

    def op_mkold(self, ipa: int) -> int:
        self._outs.append(self.stage2.mkold(ipa))
        return 0

    def op_is_young(self, ipa: int) -> int:
        self._outs.append(self.stage2.is_young(ipa))
        return 0

    def op_test_clear_young(self, ipa: int, size: int, mkold: int) -> int:
        self._outs.append(self.stage2.test_clear_young(ipa, size, bool(mkold)))
        return 0

    def op_relax_perms(self, ipa: int, prot: int) -> int:
        return self.stage2.relax_perms(ipa, prot)

    def op_split(self, ipa: int, size: int, mc: int) -> int:
        return self.split_cache.topup(self.pool, mc) or self.stage2.split(ipa, size, self.split_cache)

    def op_create_unlinked(self, phys: int, level: int, prot: int, mc: int, force_pte: int) -> int:
        number = self.unlinked_made
        self.unlinked_made += 1
        ret = self._fill_cache(mc)
        if ret:
            return ret
        table = self.stage2.create_unlinked(phys, level, prot, self._cache(mc), bool(force_pte))
        if table < 0:
            return table
        self.unlinked[number] = table, level
        self._outs.append(number)
        return 0

    def op_free_unlinked(self, table: int) -> int:
        if table not in self.unlinked:
            return -errno.EBADF
        self.stage2.free_unlinked(*self.unlinked.pop(table))
        return 0

    def op_fail_alloc(self, nth: int) -> int:
        self.allocs_to_failure = nth
        return 0

    def op_plant(self, ipa: int, level: int, pte: int) -> int:
        ret, pa = self.pgt.locate(ipa, level)
        return ret or self._plant(pa, level, pte)

    def op_race(self, nth: int, pte: int) -> int:
        self.race = nth, pte
        return 0

    def op_link(self, ipa: int, table: int) -> int:
        if table not in self.unlinked:
            return -errno.EBADF
        child, level = self.unlinked[table]
        ret, pa = self.pgt.locate(ipa, level)
        if ret:
            return ret
        self._write(pa, table_pte(self.address.to_pte(child)))
        del self.unlinked[table]
        return 0

    def op_flush(self, ipa: int, size: int) -> int:
        return self.stage2.flush(ipa, size)

    def op_tlb_flush_vmid_range(self, ipa: int, size: int) -> int:
        self.stage2.tlb_flush_range(ipa, size)
        return 0

    def op_flush_cpu_context(self) -> int:
        self._call(FLUSH_CPU_CONTEXT, 0, 0)
        return 0

    def op_flush_vm_context(self) -> int:
        self._call(FLUSH_VM_CONTEXT, 0, 0)
        return 0

    def op_pte_prot(self, pte: int) -> int:
        self._outs.append(leaf_prot(pte))
        return 0

    def op_hyp_map(self, va: int, size: int, phys: int, prot: int) -> int:
        return self.hyp.map(va, size, phys, prot)

    def op_hyp_unmap(self, va: int, size: int) -> int:
        self._outs.append(self.hyp.unmap(va, size))
        return 0

    def op_hyp_pte_prot(self, pte: int) -> int:
        self._outs.append(hyp_leaf_prot(pte, self._features.hvhe))
        return 0

    def op_get_vtcr(self, mmfr0: int, mmfr1: int, phys_shift: int) -> int:
        self._outs.append(vtcr_for(mmfr0, mmfr1, phys_shift, self._features, self._geometry, self._version))
        return 0

    def op_pgd_size(self, vtcr: int) -> int:
        size = root_size(vtcr, self._geometry)
        if size is None:
            return -errno.EINVAL
        self._outs.append(size)
        return 0

    def _cache(self, mc: int) -> Memcache | None:
        return self.cache if mc else None

    def _fill_cache(self, mc: int) -> int:
        """Top the memcache up to `mc` - 1 pages, outside the budget, as a fault handler does before it maps."""
        return self.cache.topup(self.pool, mc - 1) if mc else 0

    # What others do to the table.

    def _race(self, pa: int, level: int) -> None:
        """A compare-and-exchange of the entry is about to be: in the n-th, somebody else is faster."""
        nth, pte = self.race
        if nth > 1:
            self.race = nth - 1, pte
            return
        self.race = 0, 0
        self._plant(pa, level, pte)

    def _record(self, visit: int, level: int, addr: int, entry: int) -> int:
        """A visitor that only looks."""
        self._spend()
        self._outs.extend((visit, level & U64_MAX, addr, entry))
        return 0

    def _record_and_act(self, walk: Walk, visit: int) -> int:
        """A visitor that acts at its n-th visit, or at every one."""
        self._record(visit, walk.level, walk.addr, walk.old)
        action, nth, visits = self._visitor
        self._visitor = action, nth, visits + 1
        return 0 if nth and nth != visits + 1 else self._act(action, walk.level, walk.pa)

    def _act(self, action: int, level: int, pa: int) -> int:
        """What a visitor does, standing on the entry of that level for addr; and what it returns."""
        name = VISITORS[action]
        if name in _VISITOR_ERRORS:
            return -_VISITOR_ERRORS[name]
        if name != "table" or level != LAST_LEVEL:
            self._plant(pa, level, _VISITOR_ENTRIES[name])
        return 0

    def _plant(self, pa: int, level: int, new: int) -> int:
        """Write the entry at `pa`. A table must have no address: it gets a fresh page's, for any other could make the
        kernel read what is no table. -EFAULT, -ENOMEM."""
        if is_table(new, level):
            if self.address.to_phys(new):
                return -errno.EFAULT
            self._spend()
            child = self.pool.zalloc_page(None)
            self._events.extend((ALLOC, NO_PAGE if child is None else child, 0))
            if child is None:
                return -errno.ENOMEM
            new |= self.address.to_pte(child)
        self._write(pa, new)
        return 0

    def _write(self, pa: int, new: int) -> None:
        """Write the entry at `pa`, and keep the references of its page by the rule for counted entries."""
        self._spend()
        self._events.extend((PLANTED, pa, new))
        entries = self.pool.table(pa)
        index = pa // ENTRY_SIZE % len(entries)
        counted = is_counted(entries[index])
        if counted and not is_counted(new):
            self.pool.put_page(pa)
        elif not counted and is_counted(new):
            self.pool.get_page(pa)
        entries[index] = new

    # The boundary.

    def _spend(self) -> None:
        if not self.left:
            raise BudgetSpent
        self.left -= 1

    def _complain(self, kind: int, code: int, value: int, what: str) -> None:
        if len(self._complaints) < 3 * MAX_COMPLAINTS:
            self._complaints += (kind, code, value)
            if kind == WARN:
                self._events.extend((WARNED, code, 0))
        self.notes.append(Note(len(self.returns), what))

    def _misuse(self, what: str, pa: int) -> None:
        self._complain(POOL_MISUSE, _MISUSE_CODES[what], pa, f"pool {what}")

    def warn(self, where: str) -> None:
        self._complain(WARN, zlib.crc32(where.encode()), 0, f"WARN at {where}")

    def _fails(self) -> bool:
        """Whether this allocation is the one that the program lets fail."""
        if not self.allocs_to_failure:
            return False
        self.allocs_to_failure -= 1
        return not self.allocs_to_failure

    def zalloc_page(self, cache: Memcache | None) -> int | None:
        self._spend()
        pa = None if self._fails() else self.pool.zalloc_page(cache)
        self._events.extend((ALLOC, NO_PAGE if pa is None else pa, 0))
        return pa

    def zalloc_pages_exact(self, size: int) -> int | None:
        self._spend()
        pa = None if self._fails() else self.pool.zalloc_pages_exact(size)
        self._events.extend((ALLOC_EXACT, NO_PAGE if pa is None else pa, size))
        return pa

    def free_pages_exact(self, pa: int | None, size: int) -> None:
        self._spend()
        self._events.extend((FREE_EXACT, NO_PAGE if pa is None else pa, size))
        self.pool.free_pages_exact(pa, size)

    def free_unlinked_table(self, pa: int, level: int) -> None:
        self._spend()
        self._events.extend((FREE_UNLINKED, pa, level & U64_MAX))
        self.stage2.free_unlinked(pa, level)

    def get_page(self, pa: int) -> None:
        if not self.left:
            raise BudgetSpent
        self.left -= 1
        self._events.extend((GET, pa, 0))
        self.pool.get_page(pa)

    def put_page(self, pa: int) -> None:
        if not self.left:
            raise BudgetSpent
        self.left -= 1
        self._events.extend((PUT, pa, 0))
        self.pool.put_page(pa)

    def page_count(self, pa: int) -> int:
        self.follow(pa)
        return self.pool.page_count(pa)

    def follow(self, pa: int) -> None:
        if not self._uncounted_left:
            raise Endless
        self._uncounted_left -= 1

    @property
    def dcache_clean_inval_poc(self) -> CacheMaintenance | None:
        return self._dcache if self._cmos in _WITH_DCACHE else None

    @property
    def icache_inval_pou(self) -> CacheMaintenance | None:
        return self._icache if self._cmos in _WITH_ICACHE else None

    def _dcache(self, pa: int, size: int) -> None:
        if not self.left:
            raise BudgetSpent
        self.left -= 1
        self._events.extend((DCACHE, pa, size))

    def _icache(self, pa: int, size: int) -> None:
        if not self.left:
            raise BudgetSpent
        self.left -= 1
        self._events.extend((ICACHE, pa, size))

    def pte_store(self, pa: int, level: int, old: int, new: int, kind: str) -> None:
        if not self.left:
            raise BudgetSpent
        self.left -= 1
        self._events.extend((STORES[kind], pa, new))
        self._levels |= 1 << level + 1
        if level < 3:
            if kind == "release":
                self._count_shape(pa, level, old, new)
            else:
                self._broken = pa, old
        if self.race[0] and kind == "cmpxchg":
            self._race(pa, level)

    def fill(self, run: LeafRun) -> int:
        """As many of the run as the budget allows for, with the events of each. A fresh page may hold hundreds. None
        while a race may come in between."""
        lock = [] if run.lock is None else [STORES[run.lock], 0, LOCKED]
        maintenance = [kind for kind, wanted in ((DCACHE, run.dcache), (ICACHE, run.icache)) if wanted]
        spent_each = 2 + bool(lock) + len(maintenance)
        count = min(run.length, self.left // spent_each)
        if not count or (self.race[0] and run.lock == "cmpxchg") or not self.pool.page_count(run.pa):
            return 0
        self.left -= count * spent_each
        self.pool.get_page(run.pa, count)
        leaf = lock.copy()
        for kind in maintenance:
            leaf += (kind, 0, run.size)
        leaf += (GET, 0, 0, STORES["release"], 0, 0) if run.counts_first else (STORES["release"], 0, 0, GET, 0, 0)
        events = array("Q", leaf) * count
        where = array("Q", range(run.pa, run.pa + count * ENTRY_SIZE, ENTRY_SIZE))
        stride = len(leaf)
        if lock:
            events[1::stride] = where
        events[stride - 5 :: stride] = events[stride - 2 :: stride] = where
        events[stride - (1 if run.counts_first else 4) :: stride] = run.leaves(count)
        for index in range(len(maintenance)):
            at = len(lock) + EVENT_WORDS * index + 1
            events[at::stride] = array("Q", range(run.phys, run.phys + count * run.size, run.size))
        self._event_pieces += (array("Q", self._events), events)
        self._kinds.update(self._events[::EVENT_WORDS], leaf[::EVENT_WORDS])
        self._events.clear()
        self._levels |= 1 << run.level + 1
        if run.level < LAST_LEVEL:
            self.shape.blocks += count
        return count

    def _count_shape(self, pa: int, level: int, old: int, new: int) -> None:
        broken_at, broken = self._broken
        replaced = broken if broken_at == pa else old
        if is_table(new, level):
            self.shape.tables[level + 1] += 1
            self.shape.splits += is_valid(replaced) and not is_table(replaced, level)
        elif is_valid(new):
            self.shape.blocks += 1
            self.shape.merges += is_table(replaced, level)

    def tlbi_vmid(self) -> None:
        self._call(TLBI_VMID, 0, 0)

    def tlbi_vmid_ipa(self, ipa: int, level: int) -> None:
        self._call(TLBI_VMID_IPA, ipa, level)

    def tlbi_vmid_ipa_nsh(self, ipa: int, level: int) -> None:
        self._call(TLBI_VMID_IPA_NSH, ipa, level)

    def tlbi_vmid_range(self, ipa: int, pages: int) -> None:
        self._call(TLBI_VMID_RANGE, ipa, pages)

    def _call(self, kind: int, a: int, b: int) -> None:
        """A TLB function is called, and does what it does."""
        if not self.left:
            raise BudgetSpent
        self.left -= 1
        self._events.extend((kind, a, b & U64_MAX))
        if self._calls is None:
            return
        flushes = self._flushes
        pieces = flushes.kept.get((kind, a, b))
        if pieces is None:
            pieces = flushes.keep(kind, a, b)
            if (kind, b) not in flushes.told:
                flushes.told.add((kind, b))
                events = [kind, a, b & U64_MAX, *chain.from_iterable(piece.words for piece in pieces)]
                self.fresh_calls.append((len(self.returns), events))
        for words, counted, where in pieces:
            if counted > self.left:
                self._cut(words)
            self.left -= counted
            self._events.extend(words)
            if where is not None:
                self.warn(where)

    def _cut(self, words: Sequence[int]) -> NoReturn:
        """What of these events there is when the budget is spent among them."""
        for at in range(0, len(words), EVENT_WORDS):
            if words[at] & ~IN_CALL in COUNTED:
                self._spend()
            self._events.extend(words[at : at + EVENT_WORDS])
        raise AssertionError("the budget sufficed")

    def _context(self, root: int) -> Context:
        machine = self.program.machine
        mode, running, vmid, features = machine["kvm_mode"], machine["vcpu"], machine["vmid"], self._features
        mmu = Mmu(self.vtcr, vttbr(root, vmid, features))
        foreign = Mmu(0, vttbr(_FOREIGN_ROOT, vmid + 1, features))
        host = {_PKVM_GUEST: Mmu(0, vttbr(_HOST_ROOT, 0, features)), _PKVM_HOST: mmu}.get(mode)
        return Context(mmu, mode == _VHE, {_VCPU_NONE: None, _VCPU_OWN: mmu}.get(running, foreign), host)

    def _load_root(self, root: int) -> None:
        """TLB functions find the table that init made last, even after it was destroyed."""
        if self._calls is None:
            return
        values = self.program.machine.values
        key = (root, *[values[index] for index in _CONTEXT_KNOBS])
        flushes = self._calls.get(key)
        if flushes is None or len(flushes.kept) > _KEPT_CALLS:
            flushes = self._calls[key] = _Flushes(
                self._maintenance(self._features, self._geometry, self._context(root))
            )
        self._flushes = flushes

    def dsb(self, domain: str) -> None:
        self._spend()
        self._events.extend((DSB, DSB_DOMAINS[domain], 0))

    def rcu_read_lock(self) -> None:
        self._events.extend((READ_LOCK, 0, 0))

    def rcu_read_unlock(self) -> None:
        self._events.extend((READ_UNLOCK, 0, 0))

    def instruction(self, instruction: Instruction) -> None:
        name, what, operand = instruction
        kind, number = _WHATS[name]
        assert kind in COUNTED, "hyp's own invalidations write no register"
        self._spend()
        self._events.extend((kind, number(what), operand))


_RUNNERS: Final[Mapping[str, Callable[..., int]]] = {
    name.removeprefix("op_"): method for name, method in vars(ProgramRun).items() if name.startswith("op_")
}
