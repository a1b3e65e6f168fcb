"""The VMs' MMUs as the ops' records tell of them: which is in use, whose VM's each is, which VMID it has, which share a
table, and under which one the CPU that runs has a vCPU loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from harness.observation.layout import FIRST_MMU, UNDER_TEST, Observation, Record, Root
from harness.program.machine import Machine
from harness.program.ops import INIT, OPS_BY_NAME

MMU_INIT, MMU_SHARE, MMU_FREE = (OPS_BY_NAME[name] for name in ("mmu_init", "mmu_share", "mmu_free"))
VM_CREATE, VM_END = (OPS_BY_NAME[name] for name in ("vm_create", "vm_end"))
MAKES_TABLE: Final = (MMU_INIT, VM_CREATE)
"""Make an MMU with a table of its own."""
ENDS_MMUS: Final = (MMU_FREE, VM_END)
_USE, _FIRST, _AGAIN = (OPS_BY_NAME[name] for name in ("mmu_use", "mmu_first", "mmu_again"))
VCPU_LOAD, VCPU_LOAD_FIRST, VCPU_PUT = (OPS_BY_NAME[name] for name in ("vcpu_load", "vcpu_load_first", "vcpu_put"))
VCPU_LOADS: Final = (VCPU_LOAD, VCPU_LOAD_FIRST)
VCPU_OPS: Final = (*VCPU_LOADS, VCPU_PUT)
_OF_MMUS: Final = frozenset(
    one.number for one in (INIT, *MAKES_TABLE, MMU_SHARE, *ENDS_MMUS, _USE, _FIRST, _AGAIN, *VCPU_OPS)
)
_PLACES: Final = {
    one.number: [result.name for result in one.results].index("mmu")
    for one in (*MAKES_TABLE, MMU_SHARE, *ENDS_MMUS, _USE)
}
"""Where an op's results name the MMU; the VMID follows, of one that is made."""
_VTCR: Final = [result.name for result in INIT.results].index("vtcr")


_CPU, _VMID, _RUNS = (
    [result.name for result in VCPU_LOAD_FIRST.results].index(name) for name in ("cpu", "vmid", "runs")
)
_LOADED: Final = [result.name for result in VCPU_LOAD.results].index("mmu")


class Mmu(NamedTuple):
    """One that lives: its VMID, the number of the MMU whose its table was first, VTCR_EL2, and its VM, as the number of
    that one's first MMU."""

    vmid: int
    table: int
    vtcr: int
    vm: int


def named_by(record: Record) -> int | None:
    """The number of the MMU that the record's op has made, chosen or freed, or whose VM it has ended;
    None where it did none of that."""
    place = _PLACES.get(record.definition.number)
    if place is None or record.ret != 0 or len(record.outs) <= place:
        return None
    return record.outs[place] + 1


def vmid_made_by(record: Record) -> int:
    """The VMID of the MMU that the record's op has made."""
    return record.outs[_PLACES[record.definition.number] + 1]


def vmid_loaded_by(record: Record) -> int:
    """The VMID that the MMU has from then on."""
    return record.outs[_VMID]


class Mmus:
    """Those that live, by their numbers in observations: FIRST_MMU, and one more than the handle's."""

    __slots__ = ("_cpu", "_loaded", "_mmus", "are_the_machines", "ended_vmids", "in_use", "runs")

    def __init__(self, machine: Machine) -> None:
        self.in_use = FIRST_MMU
        vmids = (1 << machine.vmid_bits) - 1
        self._mmus = {FIRST_MMU: Mmu(machine["vmid"] & vmids, FIRST_MMU, 0, FIRST_MMU)}
        self.ended_vmids: set[int] = set()
        """Those that MMUs had when they ended."""
        self.are_the_machines = True
        """Whether there is no other one than the first, and that as the machine's knobs have it."""
        self._cpu = 0
        """The CPU that runs."""
        self._loaded: dict[int, tuple[int, bool]] = {}
        """By CPU, the MMU under which it has a vCPU, and whether TLB functions find that running."""
        self.runs: bool | None = None
        """Whether TLB functions find a vCPU running; None where the machine's knob says it."""

    def follow(self, record: Record) -> None:
        """Take in what an op has done."""
        definition = record.definition
        if definition.number not in _OF_MMUS or record.ret != 0:
            return
        mmu = named_by(record)
        if definition is _FIRST:
            self.in_use = self.first
        elif definition in VCPU_OPS:
            self._is_scheduled(record)
        elif definition in (INIT, _AGAIN):
            self._is_initialised(record)
        elif mmu is None:
            return  # a kernel with a bug tells none
        elif definition is _USE:
            self.in_use = mmu if mmu in self._mmus else self.in_use
        elif definition in ENDS_MMUS:
            self._end(self.ended_by(record))
        elif definition in MAKES_TABLE:
            vm = mmu if definition is VM_CREATE else self.vm
            self._mmus[mmu] = Mmu(vmid_made_by(record), mmu, record.outs[_VTCR], vm)
        else:
            self._mmus[mmu] = self._mmus[self.in_use]._replace(vmid=vmid_made_by(record))
        self.are_the_machines = self.runs is None and len(self._mmus) == 1

    def _end(self, ended: list[int]) -> None:
        """MMUs live no more. What was in use, if it was one of them, is left for its VM's first MMU or, with all of its
        VM, for the very first."""
        vm = self.vm
        for mmu in ended:
            self.ended_vmids.add(self._mmus.pop(mmu).vmid)
        if self.in_use not in self._mmus:
            self.in_use = vm if vm in self._mmus else FIRST_MMU

    def _is_scheduled(self, record: Record) -> None:
        """A CPU has got a vCPU to run, or runs none any more."""
        mmu = self.loaded_by(record)
        if len(record.outs) < len(record.definition.results):
            return  # a kernel with a bug
        self._cpu = record.outs[_CPU]
        self._loaded.pop(self._cpu, None)
        if mmu is not None:
            self._loaded[self._cpu] = mmu, bool(record.outs[_RUNS])
            if mmu in self._mmus:
                self._mmus[mmu] = self._mmus[mmu]._replace(vmid=vmid_loaded_by(record))
        self.runs = self._loaded.get(self._cpu, (FIRST_MMU, False))[1]

    @property
    def running(self) -> int:
        """The MMU whose vCPU runs, where one of this stage 2 does: that in use, or the one under which the CPU has
        loaded its vCPU."""
        return self._loaded.get(self._cpu, (self.in_use, False))[0]

    def _is_initialised(self, record: Record) -> None:
        if record.outs:
            one = self._mmus[self.in_use]
            self._mmus[self.in_use] = one._replace(vtcr=record.outs[_VTCR])

    def loaded_by(self, record: Record) -> int | None:
        """The number of the MMU under which a record's op has loaded a vCPU, the next that is to be followed; None
        where it did not."""
        if record.definition not in VCPU_LOADS or record.ret != 0 or len(record.outs) < len(record.definition.results):
            return None
        return record.outs[_LOADED] + 1 if record.definition is VCPU_LOAD else self.first

    def ended_by(self, record: Record) -> list[int]:
        """The numbers of the MMUs that a record's op has ended, the next that is to be followed: one that was freed, or
        all of a VM, the very first one apart."""
        mmu = named_by(record) if record.definition in ENDS_MMUS else None
        if mmu not in self._mmus or mmu is None:
            return []
        if record.definition is MMU_FREE:
            return [mmu]
        vm = self._mmus[mmu].vm
        return self.of(vm) if vm != FIRST_MMU else []

    def __iter__(self) -> Iterator[int]:
        """Their numbers, in order."""
        return iter(sorted(self._mmus))

    @property
    def are_several(self) -> bool:
        """Whether there is another one than the first."""
        return len(self._mmus) > 1

    @property
    def vm(self) -> int:
        """The VM in use."""
        return self._mmus[self.in_use].vm

    @property
    def first(self) -> int:
        """The first MMU of the VM in use, whose number is the VM's."""
        return self.vm

    def vm_of(self, mmu: int) -> int | None:
        """The VM of an MMU; None where it does not live."""
        one = self._mmus.get(mmu)
        return None if one is None else one.vm

    def vm_of_table(self, table: int) -> int | None:
        """The VM whose MMUs have a table; None where no MMU has it."""
        return next((one.vm for one in self._mmus.values() if one.table == table), None)

    def of(self, vm: int) -> list[int]:
        """The MMUs of a VM, by number."""
        return [number for number in self if self._mmus[number].vm == vm]

    @property
    def table(self) -> int:
        """The number of the table in use."""
        return self._mmus[self.in_use].table

    @property
    def vtcr(self) -> int:
        """VTCR_EL2 of the one in use; 0 before it has a table."""
        return self._mmus[self.in_use].vtcr

    def vmid(self, mmu: int | None = None) -> int:
        """The VMID of an MMU, None for the one in use; of one that does not live as well, which a kernel with a bug may
        name."""
        return self._mmus.get(self.in_use if mmu is None else mmu, self._mmus[self.in_use]).vmid

    def table_of(self, mmu: int) -> int | None:
        """The number of an MMU's table; None where it does not live."""
        one = self._mmus.get(mmu)
        return None if one is None else one.table

    def sharing(self, table: int) -> list[int]:
        """The MMUs that share a table, by number."""
        return [number for number in self if self._mmus[number].table == table]


def mmus_at_end(observation: Observation) -> Mmus:
    """Those that live when the program is over."""
    mmus = Mmus(observation.machine)
    for record in observation.records:
        mmus.follow(record)
    return mmus


def root_in_use(observation: Observation) -> Root | None:
    """Of the table of the MMU in use when the program is over, if there is one."""
    return observation.held(UNDER_TEST).get(mmus_at_end(observation).in_use)
