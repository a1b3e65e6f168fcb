"""One program's run in the model: its table and caches, what its ops do in order, and what that shows."""

from __future__ import annotations

import contextlib
import errno
from array import array
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final, NamedTuple

from harness.model.abort import Abort
from harness.model.boundary import Boundary, BudgetSpent
from harness.model.guest import Window
from harness.model.handles import Handles, Tree
from harness.model.machine_features import MachineFeatures
from harness.model.memslots import Memslots
from harness.model.ops import RUNNERS
from harness.model.tlb_calls import CpuState, Shown, TlbCalls
from harness.model.vmids import Vmids
from harness.observation.events import FLUSH_CPU_CONTEXT
from harness.observation.layout import EVENT_WORDS, FIRST_MMU, MEMCACHE, SPLIT_CACHE, UNDER_TEST, Note
from harness.program.definition import Op
from harness.program.kinds import Handle
from harness.program.kinds.flags import PROT_BITS
from harness.program.kinds.handles import MAX_MMUS
from harness.program.kinds.small import SPLIT_CACHE_CAPACITY
from harness.program.machine import KNOBS_BY_NAME, Machine
from harness.program.ops import INIT
from harness.program.program import Program
from harness.program.space import U64_MAX
from pgtable import (
    Cpus,
    ForcePages,
    HypStage1,
    KernelObject,
    LinuxVersion,
    Memcache,
    Ownership,
    OwnershipStage2,
    PagePool,
    PageTable,
    S2Mmu,
    Stage2,
    Stage2Flags,
    Vms,
)

_INIT: Final = Op(INIT, ())
_RWX: Final = sum(PROT_BITS[name] for name in "rwx")
_FORCE_PAGES: Final[Mapping[str, ForcePages | None]] = {
    "never": None,
    "always": lambda _addr, _end, _prot: True,
    "unless_rwx": lambda _addr, _end, prot: prot != _RWX,
}
_FORCE_PAGES_NAMES: Final = KNOBS_BY_NAME["force_pte"].names
_FOREIGN: Final = KNOBS_BY_NAME["vcpu"].names.index("foreign")
_NOFWB, _IDMAP = int(Stage2Flags.NOFWB), int(Stage2Flags.IDMAP)


class Variant(NamedTuple):
    """Which code the model is: of a version, built as an object, with a way to record owners (None: Linux's own)."""

    version: LinuxVersion
    kernel_object: KernelObject
    ownership: Ownership | None


def _shown(vm: Vms, mmu: S2Mmu) -> Shown:
    return Shown(mmu.root or 0, vm.effective(mmu.vmid), mmu.vtcr, mmu.number)


class ProgramRun:
    """A program's run, for one call of `run`, and `end` after it.

    Ops work on the tables, the caches and the boundary, and append the values that they yield to `outs`.
    """

    def __init__(
        self,
        program: Program,
        variant: Variant,
        fixed: MachineFeatures,
        pool: PagePool,
        calls: TlbCalls | None,
    ) -> None:
        machine = program.machine
        self.program = program
        self.version = variant.version
        self._variant = variant
        self.fixed = fixed
        self.cpu = CpuState(machine)
        self.boundary = Boundary(machine, fixed, self.cpu, pool, calls)
        self.pool = pool
        self.vtcr = 0
        """Of the table under test; 0 in stage 1."""
        self.pgt: PageTable
        """The table under test; with the operations of its stage, one of the next two, which is the only one."""
        self.stage2: Stage2
        self.hyp: HypStage1
        if machine["stage"] == 1:
            self.pgt = self.hyp = self._make_hyp(machine, variant)
        else:
            self.pgt = self.stage2 = self._make_stage2(machine, variant, fixed.vtcr)
            self.boundary.free_table = self.stage2.free_unlinked
            self.vtcr = fixed.vtcr
        self.cache = Memcache()
        self.split_cache = Memcache(SPLIT_CACHE_CAPACITY)
        """Of the MMU in use."""
        self.handles = Handles()
        self.vm: Vms | None = None
        """The VMs, once an op has to do with several MMUs."""
        self._memslots: dict[int, Memslots] = {}
        """By VM."""
        self._root: int | None = None
        """That TLB functions find before, also after the table was destroyed."""
        self.abort: Abort | None = None
        """That the vCPU keeps, of the last `fault`."""
        self.running: S2Mmu | None = None
        """Under which the CPU that runs has a vCPU loaded."""
        self.cpus: Cpus | None = None
        """The CPUs, once an op has to do with what they run."""
        self.vmids: Vmids | None = None
        """Since `vmid_init`."""
        self.window = Window()
        self.outs: list[int] = []
        """The values that the op under way yields."""
        self.returns: list[int | None] = []
        self.levels: list[int] = []
        self.kinds: list[frozenset[int]] = []
        self.notes: list[Note] = []
        """Of the observation, when it is over."""
        self._words: list[int] = []
        self._pieces: list[array[int]] = []
        """The words before those in `_words`."""

    def run(self) -> list[memoryview]:
        """The observation's words in pieces, good until the pool is used again."""
        for op in (_INIT, *self.program.ops):
            if not self._observe_op(op):
                break
        self._observe_state()
        # From a list, for what an array is extended by one by one costs several times as much.
        self._pieces.append(array("Q", self._words))
        pieces = [*(memoryview(piece) for piece in self._pieces), *self._observe_pages()]
        self.notes = self.boundary.notes
        if self.handles:
            # What ends them writes to pages that are observed in place.
            pieces = [memoryview(b"".join(pieces)).cast("Q")]
            self._end_handles()
        return pieces

    def end(self) -> None:
        """Let go of the table, which holds on to its boundary, so that both are freed now: the garbage collector would
        look through all that they did first."""
        self.boundary.free_table = None

    def memcache(self, mc: int) -> Memcache | None:
        """The memcache, as an op's argument `mc` chooses."""
        return self.cache if mc else None

    def fill_memcache(self, mc: int) -> int:
        """Top the memcache up to `mc` - 1 pages, outside the budget, as a fault handler does before it maps. 0 or
        -ENOMEM."""
        return self.cache.topup(self.pool, mc - 1) if mc else 0

    def several_mmus(self) -> Vms:
        """The VMs: from now on the MMU in use, with its table and caches, may be another one."""
        if self.vm is None:
            first = S2Mmu(FIRST_MMU, self.cpu.vmid, self.vtcr, self.stage2, self.split_cache)
            first.root = self._root
            self.vm = Vms(first, self.fixed.features.vmid_bits, MAX_MMUS, self.version)
            if self.cpu.vcpu == _FOREIGN:
                self.vm.take(self.cpu.vmid + 1)
        return self.vm

    def use(self, mmu: S2Mmu) -> None:
        """From now on ops work on that MMU, whose vCPU it is that runs, if any of this stage 2 does."""
        vm = self.several_mmus()
        vm.in_use = mmu
        self.pgt = self.stage2 = mmu.table
        self.vtcr, self.split_cache = mmu.vtcr, mmu.split_cache
        self.boundary.free_table = mmu.table.free_unlinked
        self.pool.owner = mmu.table_number
        self._load(vm)

    def memslots(self) -> Memslots:
        """Those of the VM in use."""
        vm = self.several_mmus().in_use.vm
        if vm not in self._memslots:
            self._memslots[vm] = Memslots(self, vm)
        return self._memslots[vm]

    def forget_memslots(self, vm: int) -> None:
        """A VM has ended."""
        self._memslots.pop(vm, None)

    def work_on(self, mmu: S2Mmu | None) -> None:
        """What follows of the op under way is done to that MMU's table, which need not be the one in use; None: the op
        is done with it."""
        vm = self.several_mmus()
        target = vm.in_use if mmu is None else mmu
        self.boundary.free_table = target.table.free_unlinked
        self.pool.owner = target.table_number
        self._show(vm, target)

    def rooted(self, root: int) -> None:
        """The table in use has a new root."""
        if self.vm is None:
            self._root = root
            self.boundary.load(root)
        else:
            self.vm.rooted()
            self._load(self.vm)

    def _load(self, vm: Vms) -> None:
        self._show(vm, vm.in_use)

    def _show(self, vm: Vms, target: S2Mmu) -> None:
        """TLB functions are to be called for that MMU's table."""
        running = vm.in_use if self.running is None else self.running
        shown = [_shown(vm, one) for one in vm.sharing(target)]
        self.boundary.load_several(vm.in_use.number, shown, _shown(vm, running))

    def schedule(self, running: S2Mmu | None, runs: bool) -> None:
        """The CPU has a vCPU of that MMU, or none; TLB functions find it running, or none does."""
        self.running = running
        self.cpu.run(runs)
        self._load(self.several_mmus())

    def flush_cpu_context(self, mmu: S2Mmu) -> None:
        """TLB maintenance for an MMU on this CPU."""
        self.boundary.call_for(_shown(self.several_mmus(), mmu), FLUSH_CPU_CONTEXT)

    def make_stage2(self, vtcr: int) -> Stage2:
        """Another table of the same kind, which is not initialised."""
        made = self._make_stage2(self.program.machine, self._variant, vtcr)
        made.warned = self.stage2.warned
        return made

    def _make_hyp(self, machine: Machine, variant: Variant) -> HypStage1:
        return HypStage1(
            machine["va_bits"],
            self.boundary,
            self.boundary,
            self.fixed.features,
            self.fixed.geometry,
            variant.version,
            variant.kernel_object,
            counts_pages=bool(machine["page_count"]),
        )

    def _make_stage2(self, machine: Machine, variant: Variant, vtcr: int) -> Stage2:
        version, kernel_object, ownership = variant
        features, geometry, _ = self.fixed
        make = Stage2 if ownership is None else partial(OwnershipStage2, ownership=ownership)
        return make(
            *(vtcr, self.boundary, self.boundary, features, version, geometry),
            flags=machine["nofwb"] * _NOFWB | machine["idmap"] * _IDMAP,
            force_pages=_FORCE_PAGES[_FORCE_PAGES_NAMES[machine["force_pte"]]],
            kernel_object=kernel_object,
        )

    def _observe_op(self, op: Op) -> bool:
        boundary, outs, words = self.boundary, self.outs, self._words
        outs.clear()
        boundary.begin_op()
        over_budget, ret = 0, 0
        try:
            if op.definition.makes is None and not op.definition.handles:
                ret = RUNNERS[op.definition.name](self, *op.args)
            else:
                ret = self._run_with_handles(op)
        except BudgetSpent:
            over_budget = 1
        words += (op.definition.number, over_budget, ret & U64_MAX, len(outs))
        words += outs
        self._observe_complaints()
        self._observe_events()
        self.returns.append(None if over_budget else ret)
        self.levels.append(boundary.levels)
        boundary.record += 1
        return not over_budget and not (op.definition is INIT and ret)

    def _run_with_handles(self, op: Op) -> int:
        """The result of an op that makes or uses what has a handle: it gets the objects themselves. -EBADF where one of
        them does not live."""
        definition = op.definition
        if definition.makes is not None:
            self.handles.begin(definition.makes)
        arguments: list[object] = list(op.args)
        for place in definition.handles:
            kind = definition.args[place].kind
            assert isinstance(kind, Handle)
            arguments[place] = made = self.handles.get(kind, op.args[place])
            if made is None:
                return -errno.EBADF
        return RUNNERS[definition.name](self, *arguments)

    def _end_handles(self) -> None:
        """End what no op ended, as far as a fresh budget goes; nobody observes it."""
        self.boundary.renew()
        with contextlib.suppress(BudgetSpent):
            self.handles.end_all()

    def _observe_complaints(self) -> None:
        complaints = self.boundary.complaints
        self._words.append(len(complaints) // 3)
        self._words += complaints

    def _observe_events(self) -> None:
        boundary, words = self.boundary, self._words
        many, events = boundary.event_pieces, boundary.events
        words.append((sum(map(len, many)) + len(events)) // EVENT_WORDS)
        if many:
            self._pieces += (array("Q", words), *many)
            words.clear()
        words += events
        kinds = frozenset(events[::EVENT_WORDS])
        if many:
            kinds |= boundary.piece_kinds
            boundary.piece_kinds.clear()
        self.kinds.append(kinds)

    def _observe_state(self) -> None:
        pool, words = self.pool, self._words
        words.append(0)
        self.boundary.complaints.clear()
        pool.check_poison()
        self._observe_complaints()
        self._observe_roots()
        mmus = (
            [(FIRST_MMU, self.split_cache)] if self.vm is None else [(one.number, one.split_cache) for one in self.vm]
        )
        words += (pool.allocs, pool.frees, 1 + len(mmus), MEMCACHE, 0, len(self.cache.pages))
        words += self.cache.pages
        for number, split_cache in mmus:
            words += (SPLIT_CACHE, number, len(split_cache.pages), *split_cache.pages)
        words.append(pool.pages_in_use())

    def _observe_roots(self) -> None:
        """Each tree once, and what holds it: MMUs by number, then handles by kind and number."""
        words = self._words
        tables = [(FIRST_MMU, self.pgt)] if self.vm is None else [(mmu.number, mmu.table) for mmu in self.vm]
        holders: dict[Tree, list[int]] = {}
        for number, table in tables:
            if table.root is not None:
                tree = table.root, table.root_pages, table.start_level & U64_MAX, table.ia_bits
                holders.setdefault(tree, []).extend((UNDER_TEST, number))
        if self.handles:
            for made in self.handles.live():
                made_tree = made.tree()
                if made_tree is not None:
                    holders.setdefault(made_tree, []).extend((made.kind.number, made.number))
        words.append(len(holders))
        for tree, held in holders.items():
            words.extend((*tree, len(held) // 2, *held))

    def _observe_pages(self) -> Iterator[memoryview]:
        # In place, for copies of all pages would cost more than a small program.
        pool, page = self.pool, self.program.machine.granule.page
        for index in range(pool.high_water):
            if pool.refcounts[index]:
                pa = pool.base + index * page
                yield memoryview(array("Q", (pa, pool.refcounts[index], pool.owners[index])))
                yield pool.table(pa)
