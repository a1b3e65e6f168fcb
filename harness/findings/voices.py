"""Three voices on a translation that differs: what the one side's table says, what the other's says, both read by the
Arm ARM (`pgtable.translate`), and what the hardware saw. Two that agree tell who is at odds with them."""

from __future__ import annotations

from typing import Final

from harness.model.guest import Registers, par_of, registers_on
from harness.model.machine_features import machine_features
from harness.observation.layout import Observation
from harness.observation.mmus import mmus_at_end, root_in_use
from harness.program.definition import Op
from harness.program.guest import DATA, PIECE
from harness.program.probing import PROBE
from harness.program.program import Program
from harness.program.syndromes import describe_par, describe_status
from harness.verdict.tiers import Tier
from harness.verdict.verdicts import Verdict
from pgtable import Access, Fault, translate

_STATUS: Final = 0x3F
"""Of ESR_ELx."""
_ENTRY: Final = 8
"""Bytes."""


def voices(program: Program, verdict: Verdict, names: tuple[str, str]) -> list[str]:
    """Lines on the translation in which the sides differ; none where they do not differ in one, or either side has
    nothing that the hardware walks."""
    found, left, right = verdict.difference, verdict.left, verdict.right
    if found is None or found.tier is not Tier.TRANSLATION or left is None or right is None or not verdict.record:
        return []
    op = program.ops[verdict.record - 1]
    access = _access(op, found.what)
    sides = (left, right)
    said = [_said(op, access, side) for side in sides]
    seen = [_seen(op, access, side, verdict.record) for side in sides]
    if None in said or None in seen:
        return []
    own = {name: f"{name}'s table" for name in names}
    width = max(map(len, own.values()))
    lines = ["", f"  What each table says of a {access.value} there, read by the Arm ARM, and what the hardware did:"]
    lines += [f"    {own[name]:<{width}}  {text}" for name, text in zip(names, said, strict=True)]
    by_hardware = [(name, text) for name, text in zip(names, seen, strict=True) if not name.startswith("model")]
    lines += [f"    {f'MMU of {name}':<{width}}  {text}" for name, text in by_hardware]
    if len(by_hardware) == 1:
        lines.append(f"  {_agreement(names, said, by_hardware[0])}")
    return lines


def _access(op: Op, what: str) -> Access:
    """The access that a difference is in."""
    if op.definition is PROBE:
        return Access.WRITE if what.startswith("write") else Access.READ
    by_name = {"read": Access.READ, "write": Access.WRITE, "exec": Access.EXEC, "vcpu_read": Access.READ}
    return by_name[op.name] if op.name in by_name else (Access.READ, Access.WRITE, Access.EXEC)[op.value("access")]


def _said(op: Op, access: Access, side: Observation) -> str | None:
    """What the side's table says; None where nothing walks it."""
    registers = _registers(side)
    if registers is None:
        return None
    address = op.value("ipa")
    if op.definition is not PROBE:
        address = address & -PIECE | (0 if access is Access.EXEC else DATA)
    found = translate(registers, lambda pa: _entry(side, pa), address, access)
    if op.definition is PROBE:
        return describe_par(par_of(found))
    return describe_status(found.status) if isinstance(found, Fault) else f"pa={found.pa:#x}"


def _registers(side: Observation) -> Registers | None:
    root, vtcr = root_in_use(side), mmus_at_end(side).vtcr
    if root is None:
        return None
    return registers_on(side.machine, machine_features(side.machine).vtcr, vtcr, root.level, root.pa)


def _entry(side: Observation, pa: int) -> int | None:
    size = side.machine.granule.page
    page = side.pages.get(pa & -size)
    return None if page is None else page.entries[pa % size // _ENTRY]


def _seen(op: Op, access: Access, side: Observation, record: int) -> str | None:
    """What the side got; None where it was not answered."""
    outs = side.records[record].outs
    if not outs:
        return None
    if op.definition is PROBE:
        return describe_par(outs[access is Access.WRITE])
    return describe_status(outs[0] & _STATUS) if outs[0] else "no abort"


def _agreement(names: tuple[str, str], said: list[str | None], hardware: tuple[str, str | None]) -> str:
    name, seen = hardware
    own = names.index(name)
    kernels, models = said[own], said[1 - own]
    if seen is not None and seen.startswith("no abort"):
        return "The access went through." if kernels == models else "The tables differ; the access went through."
    if kernels == models:
        return "Both tables say the same: the hardware is at odds with them, or with the reading."
    if seen == kernels:
        return f"The hardware and {name}'s table agree: the table is another one."
    if seen == models:
        return f"The hardware and {names[1 - own]}'s table agree, against the reading of {name}'s table."
    return "No two of them agree."
