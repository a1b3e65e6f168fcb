"""Who has which VMID, and what TLBs may still have of whom had it before: followed from what ops of the families `vmid`
and `vcpu` tell, by what a VMID is for (Arm ARM, D8.14: TLB entries of different VMIDs are told apart, those of one are
not)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from harness.observation.events import FLUSH_VM_CONTEXT
from harness.observation.layout import EVENT_WORDS, Observation, Record
from harness.observation.mmus import Mmus
from harness.program.definition import Op
from harness.program.kinds.small import VMID_OWNERS
from harness.program.machine import Machine
from harness.program.ops import OPS_BY_NAME
from harness.program.program import Program

_RUN: Final = ("vmid_update", "vcpu_load", "vcpu_load_first")
"""Ops by which a CPU gets to run somebody, with the results `id`, `active` and `meanwhile`."""
_PLACES: Final = {
    name: tuple(
        [one.name for one in OPS_BY_NAME[name].results].index(result) for result in ("id", "active", "meanwhile")
    )
    for name in _RUN
}


class Owner(NamedTuple):
    """Whom a VMID is for: what `vmid_new` puts in an owner's place is another one. MMUs, by their numbers in
    observations, come after the owners that ops name."""

    number: int
    life: int

    def __str__(self) -> str:
        if self.number >= VMID_OWNERS:
            return f"MMU {self.number - VMID_OWNERS}"
        return f"owner {self.number}" + (f" (its life {self.life + 1})" if self.life else "")


class Turn(NamedTuple):
    """A CPU gets to run an owner."""

    cpu: int
    owner: Owner
    before: int
    """The owner's id before, 0 if it had none."""
    id: int
    bits: int
    """Of VMID, below the generation."""
    active: int | None
    """What the CPU then has active; None where nobody told."""
    ran: bool
    """Whether the owner has run on some CPU ever since it had the id before."""
    twin: Owner | None
    """Another owner that ever had the very same id."""
    left_by: Owner | None
    """Another owner, of whose time with this VMID a TLB may still hold entries."""
    generation: int
    """The newest one that any id so far had."""

    @property
    def number(self) -> int:
        """The VMID without its generation."""
        return self.id & (1 << self.bits) - 1


def turns(program: Program, observation: Observation) -> Mapping[int, tuple[Turn, ...]]:
    """By record, in order: a CPU's that came in between comes first."""
    follower = _Follower(program.machine)
    found = {}
    mmus = Mmus(program.machine)
    for number, (op, record) in enumerate(zip(program.ops, observation.records[1:], strict=False), start=1):
        if record.ret == 0:
            made = follower.follow(op, record, mmus.loaded_by(record))
            mmus.follow(record)
            if made:
                found[number] = tuple(made)
    return found


class _Follower:
    def __init__(self, machine: Machine) -> None:
        self._bits: Final = machine.vmid_bits
        self._lives: dict[int, int] = {}
        self._ids: dict[Owner, int] = {}
        self._had: dict[int, Owner] = {}
        """Who was the first to have an id."""
        self._runs: dict[int, tuple[Owner, int]] = {}
        """By CPU, whom it runs and with which VMID."""
        self._left: dict[int, Owner] = {}
        """By VMID, of whom a TLB may hold entries."""
        self._generation = 0
        self._race = (0, 0)
        """The CPU and the owner that come in between next."""

    def follow(self, op: Op, record: Record, loaded: int | None) -> list[Turn]:
        """The turns of an op that succeeded; `loaded` is the MMU under which it has loaded a vCPU, if it has."""
        name = op.name
        if name == "vmid_new":
            number = op.value("owner")
            self._lives[number] = self._lives.get(number, 0) + 1
        elif name in ("vmid_clear_active", "vcpu_put"):
            self._runs.pop(op.value("cpu"), None)
        elif name == "vmid_race":
            self._race = op.value("cpu"), op.value("owner")
        flushes = record.events[::EVENT_WORDS].count(FLUSH_VM_CONTEXT) if record.events else 0
        if name not in _RUN:
            if flushes:
                self._flush()
            return []
        new, active, meanwhile = (record.outs[place] for place in _PLACES[name])
        found = []
        if meanwhile:
            begun = (meanwhile >> self._bits) - self._generation
            if begun > 0 and flushes:
                self._flush()
                flushes -= min(begun, flushes)
            found.append(self._turn(*self._race, meanwhile, None))
        if flushes:
            self._flush()
        if new:
            number = op.value("owner") if loaded is None else VMID_OWNERS + loaded
            found.append(self._turn(op.value("cpu"), number, new, active))
        return found

    def _flush(self) -> None:
        """TLBs hold no more than what is run goes on to leave there."""
        self._left = {number: owner for owner, number in self._runs.values()}

    def _turn(self, cpu: int, number: int, new: int, active: int | None) -> Turn:
        owner = Owner(number, self._lives.get(number, 0))
        before = self._ids.get(owner, 0)
        vmid = new & (1 << self._bits) - 1
        twin, left_by = self._had.setdefault(new, owner), self._left.get(vmid, owner)
        self._generation = max(self._generation, new >> self._bits)
        made = Turn(
            cpu,
            owner,
            before,
            new,
            self._bits,
            active,
            any(one == owner for one, _ in self._runs.values()),
            None if twin == owner else twin,
            None if left_by == owner else left_by,
            self._generation,
        )
        self._ids[owner] = new
        self._runs[cpu] = owner, vmid
        self._left[vmid] = owner
        return made
