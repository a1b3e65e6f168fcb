"""Sensible programs from nothing: what happens to the table of a virtual machine, or to hyp's own, step by step. Depth
then does not depend on luck. The steps are those of `fuzz/generate/scenarios`; the machines are chosen here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from random import Random
from typing import Final

from fuzz.generate.place import RW, RWX, Place, map_op, place_in
from fuzz.generate.scenarios import STEPS
from fuzz.generate.step import Step
from harness.program.capabilities import Capabilities
from harness.program.codec import FULL, Dialect, encode
from harness.program.definition import Op
from harness.program.granule import GRANULE_4K, GRANULES
from harness.program.guest import WINDOW
from harness.program.kinds.flags import PROT_BITS
from harness.program.kinds.small import SPLIT_CACHE_CAPACITY
from harness.program.machine import DEFAULTS, MAX_BUDGET, MAX_POOL_PAGES, MOST_CPUS, VMID_BITS, Machine, most_cpus
from harness.program.ops import op_of
from harness.program.program import Program
from harness.program.space import MEMORY, Space, space_of

_DEAR: Final = 0.05
"""How many steps are dear ones, with 4K pages."""
_WIDE: Final = 0.1
"""How many scenarios are those of machines with 52 bits of address."""
_ELSEWHERE: Final = 0.2
"""How many have their memory where its addresses have more bits."""
_GUESTS: Final = 0.2
"""How many virtual machines have a guest that runs, and how many of these one whose walker sets access flags."""
_WITH_HA: Final = 0.15
_OTHER_RULES: Final = 0.4
"""How many of them have their memcache topped up by any rule."""
_GUEST_REGION: Final = 1 << 30
"""A guest's memory lines up with its addresses in blocks of this size."""
_BESIDE_VMIDS: Final = 0.1
"""Where VMIDs are allocated, how many steps are others."""
_OF_FEW_BITS: Final = 12
"""How often VMIDs have 2 or 3 bits, against 1 for any other number."""
_SCARCE: Final = 0.1
"""How often there may be as few VMIDs as CPUs."""
_ROOTS_PAGES: Final = 64
"""Of a pool that has room for several roots, of up to 16 pages each."""
_DESTROYED: Final = 0.3
"""How many end with the table's end."""
_LPA_SHIFT: Final = 16
"""log2 of the pages that 52 bits need no LPA2 for."""
_HYP_BITS: Final = {12: (32, 39, 40, 47, 49, 52, 57), 14: (36, 37, 47, 48, 52, 58), 16: (29, 42, 43, 48, 52, 55)}
"""Of virtual address, by log2 of the page: on either side of where a level is added."""


def vm_scenario(choice: Random, dialect: Dialect = FULL) -> bytes:
    """A virtual machine's: memory is mapped, handed over and back, logged, split ahead of need, aged, merged again,
    looked at, and torn down; as far as the dialect can say it."""
    granule = dialect.granule
    knobs = _vm_knobs(choice, dialect)
    cheap, dear = _steps(dialect.capabilities, 2, bool(knobs.get("guest")))
    space = space_of(Machine.of(**knobs))
    block, large = space.block, space.steps[0][1]
    if knobs.get("guest"):
        at = _guest_place(choice, space)
    else:
        at = _place(choice, space, (0, block, 3 * block, large, 2 * large))
    ops: list[Op] = STEPS["boot"].play(at, choice)
    dear_share = _DEAR * GRANULE_4K.entries / granule.entries
    for _ in range(choice.randint(4, 11)):
        near = at.next(choice.choice((0, 0, 0, block, large)))
        if choice.random() >= dear_share or not dear.steps:
            ops += cheap.play(near, choice)
            continue
        ops += dear.play(near, choice)
        knobs["budget"] = DEFAULTS["budget"] * granule.entries // GRANULE_4K.entries
    if choice.random() < _DESTROYED:
        ops.append(op_of("destroy"))
    if choice.random() < 0.05:
        knobs["idmap"] = 1
        ops = [_to_itself(op) for op in ops]
    if choice.random() < 0.25:
        knobs |= {"kvm_mode": choice.randrange(4), "vcpu": choice.randrange(3)}
    if any(op.name in ("mmu_init", "vm_create") for op in ops):
        knobs["pool_pages"] = _ROOTS_PAGES
    return _encoded(ops, knobs, dialect)


def hyp_scenario(choice: Random, dialect: Dialect = FULL) -> bytes:
    """Hyp's: text, data, devices and pages of guests are mapped, change their state, and go, mostly as wholes."""
    steps, _ = _steps(dialect.capabilities, 1, is_guest=False)
    knobs = _hyp_knobs(choice, dialect)
    space = space_of(Machine.of(**knobs))
    block, large = space.block, space.steps[0][1]
    at = _place(choice, space, (0, block, large, 2 * large))
    ops: list[Op] = []
    for _ in range(choice.randint(5, 14)):
        ops += steps.play(at.next(choice.choice((0, 0, 0, block, large))), choice)
    if choice.random() < _DESTROYED:
        ops.append(op_of("destroy"))
    return _encoded(ops, knobs, dialect)


def whole_block_scenario(choice: Random, dialect: Dialect = FULL) -> bytes:
    """A block of level 1 is split page by page, with all its tables in the split cache at once, on a machine that has
    room for them; then something happens at either end of it."""
    cheap, _ = _steps(dialect.capabilities, 2, is_guest=False)
    knobs = _vm_knobs(choice, dialect) | {
        **{"budget": MAX_BUDGET, "pool_pages": MAX_POOL_PAGES, "force_pte": 0, "guest": 0}
    }
    space = space_of(Machine.of(**knobs))
    block, large = space.block, space.large
    base = choice.choice((0, large, 3 * large))
    at = place_in(space, base, MEMORY, large)
    ops = [
        map_op(at, base, large, choice.choice((RWX, RW, PROT_BITS["r"])), choice),
        op_of("split", ipa=base, size=large, mc=SPLIT_CACHE_CAPACITY),
    ]
    for _ in range(choice.randint(1, 3)):
        ops += cheap.play(at.next(choice.choice((0, large - block, large - block))), choice)
    return _encoded(ops, knobs, dialect)


def vmid_scenario(choice: Random, dialect: Dialect = FULL) -> bytes:
    """That of VMs which take turns on a few CPUs, until their VMIDs run out; now and then the table of one changes."""
    knobs = {"granule": GRANULES.index(dialect.granule)} | _vmid_knobs(choice)
    machine = Machine.of(**knobs)
    steps, (others, _) = _vmid_steps(dialect.capabilities), _steps(dialect.capabilities, 2, is_guest=False)
    at = replace(_place(choice, space_of(machine), (0,)), cpus=machine["cpus"])
    ops = [op_of("vmid_init")]
    for _ in range(choice.randint(5, 16)):
        ops += (others if choice.random() < _BESIDE_VMIDS else steps).play(at, choice)
    return _encoded(ops, knobs, dialect)


@dataclass(frozen=True, slots=True)
class _Steps:
    """Steps to choose from, and the sums of their weights up to each."""

    steps: tuple[Step, ...]
    sums: tuple[int, ...]

    def play(self, at: Place, choice: Random) -> list[Op]:
        """The ops of one of them; none where a side lacks what they are made of."""
        if not self.steps:
            return []
        return choice.choices(self.steps, cum_weights=self.sums)[0].play(at, choice)


@cache
def _steps(capabilities: Capabilities, stage: int, is_guest: bool) -> tuple[_Steps, _Steps]:
    """The steps of that stage that can be played with what the sides can do: the cheap ones and the dear ones."""
    playable = [
        one
        for one in STEPS.values()
        if stage in one.stages and capabilities.has(*one.uses) and (is_guest or not one.guest) and not one.vmids
    ]
    cheap, dear = ([one for one in playable if one.dear == is_dear] for is_dear in (False, True))
    return _weighed(cheap), _weighed(dear)


@cache
def _vmid_steps(capabilities: Capabilities) -> _Steps:
    """The steps that can be played where VMIDs are allocated, and nowhere else."""
    return _weighed([one for one in STEPS.values() if one.vmids and capabilities.has(*one.uses)])


def _weighed(steps: Sequence[Step]) -> _Steps:
    return _Steps(tuple(steps), tuple(accumulate(one.weight for one in steps)))


def _place(choice: Random, space: Space, bases: Sequence[int]) -> Place:
    """Where a scenario begins."""
    base = choice.choice(bases)
    memory = choice.choice(space.deltas[2:]) if choice.random() < _ELSEWHERE else MEMORY
    return place_in(space, base, memory, space.steps[0][1])


def _guest_place(choice: Random, space: Space) -> Place:
    """Where a guest's scenario begins: at the block whose memory has the window in it, so that large blocks line up."""
    base = choice.choice((0, 1, 3)) * _GUEST_REGION
    memory = WINDOW - WINDOW % _GUEST_REGION - base
    ipa = WINDOW - memory
    at = place_in(space, ipa - ipa % space.block, memory, space.steps[0][1])
    return replace(at, pages=ipa % space.block)


def _vm_knobs(choice: Random, dialect: Dialect) -> dict[str, int]:
    """Those of a virtual machine's machine."""
    knobs = {"granule": GRANULES.index(dialect.granule)}
    if choice.random() < 0.4:
        knobs |= {name: choice.getrandbits(1) for name in ("fwb", "tlb_range")}
    if choice.random() < 0.1:
        knobs["nofwb"] = 1
    if choice.random() < _GUESTS and dialect.capabilities.has("guest"):
        knobs |= {"guest": 1, "ha": int(choice.random() < _WITH_HA)}
        if choice.random() < _OTHER_RULES:
            knobs |= {"topup_rule": choice.randrange(3), "empty_cache": choice.getrandbits(1)}
    if choice.random() < 0.04:
        knobs["force_pte"] = choice.randint(1, 2)
    if wide := _wide(choice, dialect):
        knobs[wide] = 1
        knobs["ia_bits"] = choice.choice((40, 48, 51, 52))
    return knobs


def _vmid_knobs(choice: Random) -> dict[str, int]:
    """Mostly VMIDs of so few bits that they run out, on a few CPUs."""
    bits = choice.choices(range(len(VMID_BITS)), [1 if many > 3 else _OF_FEW_BITS for many in VMID_BITS])[0]
    if choice.random() < _SCARCE:
        cpus = min(MOST_CPUS, (1 << VMID_BITS[bits]) - choice.choice((0, 1, 1, 2)))
        return {"vmid_bits": bits, "scarce_vmids": 1, "cpus": cpus}
    return {"vmid_bits": bits, "cpus": choice.randint(1, most_cpus({"vmid_bits": bits, "scarce_vmids": 0}))}


def _hyp_knobs(choice: Random, dialect: Dialect) -> dict[str, int]:
    """Those of hyp's machine."""
    granule, capabilities = dialect.granule, dialect.capabilities
    knobs = {"granule": GRANULES.index(granule), "stage": 1}
    if choice.random() < 0.4:
        switches = {name: choice.getrandbits(1) for name in ("ttl", "bti", "hvhe", "repeat_tlbi")}
        knobs |= {name: on for name, on in switches.items() if capabilities.has(name)}
    if choice.random() < 0.2:
        knobs["va_bits"] = choice.choice(_HYP_BITS[granule.shift])
    if wide := _wide(choice, dialect):
        knobs[wide] = 1
    return knobs


def _wide(choice: Random, dialect: Dialect) -> str | None:
    """Now and then, the knob that gives 52 bits of address, where it is on offer."""
    knob = "lpa2" if dialect.granule.shift < _LPA_SHIFT else "pa_bits_52"
    return knob if choice.random() < _WIDE and dialect.capabilities.has(knob) else None


def _to_itself(op: Op) -> Op:
    """A map of the same addresses to themselves; any other op as it is."""
    if op.name != "map":
        return op
    values = {arg.name: value for arg, value in zip(op.definition.args, op.args, strict=True)}
    return op_of("map", **{**values, "phys": values["ipa"]})


def _encoded(ops: list[Op], knobs: dict[str, int], dialect: Dialect) -> bytes:
    """The program of those ops that are on offer."""
    known = tuple(op for op in ops if dialect.capabilities.has(op.name))
    return encode(Program(known, Machine.of(**knobs)), dialect)
