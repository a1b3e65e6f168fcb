"""The emulator as a suspect: where both tables are the same, bit by bit, and the hardware makes of them something else
than the model does, the code under test has no part in it. Either QEMU's walker is wrong, or what the model takes from
the Arm ARM is.

What is known to be wrong in a version of QEMU is listed, each as narrow as it is known, and no finding.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from harness.amounts import counted
from harness.observation.descriptors import address_field, is_table_entry
from harness.observation.events import WALKER_AF
from harness.observation.layout import EVENT_WORDS, Observation, Record
from harness.observation.mmus import root_in_use
from harness.observation.tables import sane_level
from harness.program.definition import Op
from harness.program.granule import LAST_LEVEL
from harness.program.guest import STUB
from harness.program.machine import Machine
from harness.program.probing import PROBE

_ANSWERS: Final = (0, -errno.EFAULT)
"""Results of an op that the hardware has answered; others come from walks of the two sides' own."""
_VALID: Final = 1
_TRANSLATION_FAULT: Final = 0b000100
_ADDRESS_SIZE_FAULT: Final = 0b000000
_LEVEL: Final = 0b11
_ABOVE: Final = {_TRANSLATION_FAULT: 0b101011, _ADDRESS_SIZE_FAULT: 0b101001}
"""Fault status codes, with the level below them; at level -1 they are others (Arm ARM, ESR_EL2, DFSC)."""
_STATUS: Final = 0x3F


@dataclass(frozen=True, slots=True)
class Sight:
    """What the sides saw of the last op of a program, which asks the hardware, with the same tables: out-values of the
    side without an emulator, and the other side's `observation`. They differ in the value `at`."""

    machine: Machine
    op: Op
    at: int
    outs: tuple[int, ...]
    observation: Observation

    @property
    def told(self) -> int:
        """What the side without an emulator says: PAR_EL1, or a syndrome."""
        return self.outs[self.at] if self.outs else 0

    @property
    def seen(self) -> int:
        """What the emulator did."""
        outs = self.observation.records[-1].outs
        return outs[self.at] if outs else 0

    def faults(self, status: int, level: int) -> bool:
        """Whether the other side told of a fault with that status code at that level."""
        code = _ABOVE[status] if level < 0 else status | level
        if self.op.definition is PROBE:
            return bool(self.told & 1) and self.told >> 1 & _STATUS == code
        return self.told != 0 and self.told & _STATUS == code

    def walks(self) -> Iterator[tuple[int, int]]:
        """Level and entry of each step of what the op makes the hardware walk."""
        yield from walked(self.observation, self.op.value("ipa"))
        if self.op.definition is not PROBE:
            yield from walked(self.observation, STUB)


def walked(side: Observation, address: int) -> Iterator[tuple[int, int]]:
    """Level and entry of each step of a walk of the table under test."""
    root, granule = root_in_use(side), side.machine.granule
    if root is None:
        return
    level = sane_level(root)
    at = root.pa + (address >> granule.level_shift(level)) * _ENTRY
    while (page := side.pages.get(at & -granule.page)) is not None:
        entry = page.entries[at % granule.page // _ENTRY]
        yield level, entry
        if not is_table_entry(entry, level):
            return
        level += 1
        index = address >> granule.level_shift(level) & granule.entries - 1
        at = address_field(side.machine).address(entry) + index * _ENTRY


_ENTRY: Final = 8
"""Bytes."""


def _is_reserved_block(sight: Sight) -> bool:
    """A block at a level that has none (Arm ARM, AArch64.BlockDescSupported): 4T ones are 64K pages' and need 52 bits;
    those one level below need LPA2's descriptors."""
    lpa2 = sight.machine["lpa2"]
    first = {12: 0 if lpa2 else 1, 14: 1 if lpa2 else 2, 16: 1}[sight.machine.granule.shift]
    return any(
        level < first and entry & 0b11 == _VALID and sight.faults(_TRANSLATION_FAULT, level)
        for level, entry in sight.walks()
    )


def _has_bits_beyond(sight: Sight) -> bool:
    """An output address of more bits than the walk is configured for, by those that the entry keeps apart."""
    machine = sight.machine
    apart = 0b11 << 8 if machine["lpa2"] else 0xF << 12 if machine.granule.shift == _SHIFT_64K else 0
    return any(
        entry & _VALID and entry & apart and sight.faults(_ADDRESS_SIZE_FAULT, level)
        for level, entry in sight.walks()
        if level <= LAST_LEVEL
    )


_SHIFT_64K: Final = 16


def _is_larger_than_all_memory(sight: Sight) -> bool:
    """A block of more bytes than the walk may put out: an address in it may be beyond that."""
    largest = _PA_RANGES[sight.machine["parange"]]
    return any(
        entry & 0b11 == _VALID
        and sight.machine.granule.level_shift(level) > largest
        and sight.faults(_ADDRESS_SIZE_FAULT, level)
        for level, entry in sight.walks()
        if level < LAST_LEVEL
    )


_PA_RANGES: Final = (32, 36, 40, 42, 44, 48, 52)
"""Bits, by the knob `parange`."""


def _tells_sh_of_the_entry(sight: Sight) -> bool:
    """SH of Device memory, or of what is not cached at all, by stage 1 alone: outer shareable, whatever the entry has
    (Arm ARM, PAR_EL1.SH)."""
    if sight.machine["stage"] != 1 or sight.op.definition is not PROBE:
        return False
    par, memory = sight.told, sight.told >> 56
    is_outer = not par & 1 and par & _PAR_SH == _OUTER and (memory < _NORMAL or memory == _NON_CACHEABLE)
    return is_outer and not (par ^ sight.seen) & ~_PAR_SH


_PAR_SH: Final = 0b11 << 7
_OUTER: Final = 0b10 << 7
_NORMAL: Final = 0x10
_NON_CACHEABLE: Final = 0x44
"""Memory types as in MAIR_ELx: from the first on they are Normal."""


def _tells_level_of_stage1(sight: Sight) -> bool:
    """The level at which the walk of a vCPU's stage 1 was, which is 1, for that of the fault on the way there."""
    if sight.op.name != "vcpu_read" or not sight.told & _S1PTW:
        return False
    status = sight.told & _STATUS
    kind = next((kind for kind, above in _ABOVE.items() if status == above), status & ~3)
    return sight.seen == (sight.told & ~_STATUS | kind | 1)


_S1PTW: Final = 1 << 7


@dataclass(frozen=True, slots=True)
class KnownDefect:
    """One defect of some versions of QEMU, by the beginnings of their numbers. `what` is short and stable, `shows`
    whether a sight is of it; `reason` says what is wrong, `section` of the Arm ARM (DDI 0487) what would be right."""

    versions: tuple[str, ...]
    what: str
    shows: Callable[[Sight], bool]
    reason: str
    section: str
    by_values: bool = False
    """Whether it shows by what the sides say alone, whatever their tables hold: else these must be the same."""

    @property
    def key(self) -> str:
        """In counts: `QEMU reserved-block`."""
        return f"QEMU {self.what}"

    def mention(self, count: int) -> str:
        """A line about so many executions in which it showed."""
        where = f"{self.what} in {counted(count, 'execution')}"
        versions = ", ".join(version.rstrip(".") for version in self.versions)
        return f"known of QEMU {versions}, no finding: {where}: {self.reason} ({self.section})"


DEFECTS: Final[tuple[KnownDefect, ...]] = (
    KnownDefect(
        ("7.2.",),
        "reserved-block",
        _is_reserved_block,
        "a block at a level where the granule has none translates, instead of a translation fault",
        'Arm ARM D8.3, "Translation table descriptor formats", AArch64.BlockDescSupported',
    ),
    KnownDefect(
        ("7.2.",),
        "bits-beyond-ps",
        _has_bits_beyond,
        "output address bits that a descriptor keeps apart (51:48, with LPA2 51:50) are ignored where PS is below 52 "
        "bits, instead of an address size fault",
        'Arm ARM D8.3, "Translation table descriptor formats", AArch64.OAOutOfRange',
    ),
    KnownDefect(
        ("7.2.",),
        "block-beyond-ps",
        _is_larger_than_all_memory,
        "of a block that is larger than PS allows for, the entry's bits are looked at, not the address that is put out",
        "Arm ARM D8.2, AArch64.OAOutOfRange of the final output address",
    ),
    KnownDefect(
        ("7.2.",),
        "stage1-walk-level",
        _tells_level_of_stage1,
        "of a fault of stage 2 on the walk of stage 1, the level is that of the walk of stage 1",
        "Arm ARM, ESR_EL2: ISS of instruction and data aborts, fault status code",
        by_values=True,
    ),
    KnownDefect(
        ("7.2.",),
        "stage1-shareability",
        _tells_sh_of_the_entry,
        "AT tells the entry's shareability of Device and non-cacheable memory, by stage 1 alone, which is outer "
        "shareable",
        "Arm ARM, PAR_EL1, SH",
        by_values=True,
    ),
)


def emulator_of(identity: Mapping[str, str]) -> str:
    """The version of QEMU that a side's identity tells of; empty for one without."""
    words = identity.get("qemu", "").split()
    return next((word for word in words if word[:1].isdigit()), "")


def the_emulator(left: Mapping[str, str], right: Mapping[str, str]) -> tuple[int, str] | None:
    """Which of two sides runs in an emulator (0: left, 1: right), by their identities, and its version; None where it
    is both or neither, and so no suspect."""
    versions = emulator_of(left), emulator_of(right)
    return None if bool(versions[0]) == bool(versions[1]) else (int(bool(versions[1])), max(versions))


def known_defect(
    op: Op, what: str, left: Observation, right: Observation, emulator: tuple[int, str]
) -> KnownDefect | None:
    """What it is known as that the sides differ in the last op of a program, `op`, in `what` a difference says;
    `emulator` is as `the_emulator` says."""
    side, version = emulator
    is_same = _same_but_for_the_answer(left, right)
    seen, other = (left, right) if side == 0 else (right, left)
    at = int(op.definition is PROBE and what.startswith(_SECOND))
    sight = Sight(seen.machine, op, at, other.records[-1].outs, seen)
    defects = (one for one in DEFECTS if version.startswith(one.versions) and (is_same or one.by_values))
    return next((one for one in defects if one.shows(sight)), None)


_SECOND: Final = PROBE.results[1].name


def differs_by_hardware_alone(left: Observation, right: Observation) -> bool:
    """Whether all that two observations of a program differ in is what the hardware has answered, at last to its last
    op: everything else is the same, bit by bit, the tables too."""
    answered = all(side.records[-1].ret in _ANSWERS for side in (left, right))
    return answered and _same_but_for_the_answer(left, right)


def _same_but_for_the_answer(left: Observation, right: Observation) -> bool:
    asks = left.records[-1].definition.asks_hardware
    return asks and _asked(left) == _asked(right) and _state(left) == _state(right)


def _asked(side: Observation) -> list[Record]:
    """The records without the hardware's answers: results, and access flags that its walker has set."""
    return [_without_answer(one) if one.definition.asks_hardware else one for one in side.records]


def _without_answer(record: Record) -> Record:
    events = record.events
    rest = [events[at : at + EVENT_WORDS] for at in range(0, len(events), EVENT_WORDS) if events[at] != WALKER_AF]
    return replace(record, ret=0, outs=(), events=tuple(word for event in rest for word in event))


def _state(side: Observation) -> tuple[object, ...]:
    return side.final_complaints, side.roots, side.allocs, side.frees, side.caches, side.pages
