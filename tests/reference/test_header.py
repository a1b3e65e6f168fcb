"""The C header made from the definitions: what is defined once in Python is known in C."""

from __future__ import annotations

import re

from harness.observation.layout import LOCKING_REPORTS, POOL_MISUSES, UBSAN_HANDLERS, UBSAN_REPORTS
from harness.observation.tlbi import BY_NAME, OPERATIONS
from harness.program import guest
from harness.program.granule import GRANULES
from harness.program.machine import KNOBS
from harness.program.ops import OPS
from reference.build.header import generated_header, generated_rules
from reference.memory_map import POOL_MEMORY


def entries(header: str, name: str) -> list[tuple[str, ...]]:
    """The entries of a list that C walks."""
    found = re.search(rf"^#define S2FUZZ_{name}\(X\) (.*)$", header, re.MULTILINE)
    assert found is not None
    return [tuple(entry.split(", ")) for entry in re.findall(r"X\(([^)]*)\)", found[1])]


HEADER = generated_header()


def test_every_op_with_its_arguments_and_stages() -> None:
    masks = {(2,): 0b100, (1,): 0b010, (1, 2): 0b110}
    wanted = [(str(op.number), op.name, str(len(op.args)), str(masks[op.stages])) for op in OPS]
    assert entries(HEADER, "OPS") == wanted
    for op in OPS:
        assert f"struct args_{op.name} {{ {' '.join(f'u64 {arg.name};' for arg in op.args)} }};" in HEADER


def test_every_knob_with_its_range_and_the_names_of_its_values() -> None:
    own = ("S2FUZZ_GRANULE",) * 3
    wanted = [
        (knob.name, *(own if knob.name == "granule" else (f"{n:#x}ul" for n in (knob.default, knob.low, knob.high))))
        for knob in KNOBS
    ]
    assert entries(HEADER, "KNOBS") == wanted
    assert ("kvm_mode", "pkvm_host", "3") in entries(HEADER, "CHOICES")


def test_which_ops_make_handles_and_which_arguments_are_some() -> None:
    assert entries(HEADER, "HANDLE_KINDS") == [("UNLINKED_TABLE", "2"), ("MMU", "3")]
    assert entries(HEADER, "HANDLE_MAKERS") == [("16", "UNLINKED_TABLE"), ("44", "MMU"), ("49", "MMU"), ("95", "MMU")]
    users = [("17", "0", "UNLINKED_TABLE"), ("20", "1", "UNLINKED_TABLE"), ("45", "0", "MMU"), ("48", "0", "MMU")]
    users += [("90", "2", "MMU"), ("96", "0", "MMU")]
    assert entries(HEADER, "HANDLE_USERS") == users


def test_complaints_have_the_numbers_that_reports_read() -> None:
    assert {int(number): name.lower().replace("_", "-") for name, number in entries(HEADER, "MISUSES")} == POOL_MISUSES
    handlers = {int(number): UBSAN_HANDLERS[name] for name, number in entries(HEADER, "UBSAN_HANDLERS")}
    assert handlers == UBSAN_REPORTS
    rules = {int(number): name.lower().replace("_", "-") for name, number in entries(generated_rules(), "RULES")}
    assert rules == LOCKING_REPORTS


def test_every_tlbi_of_the_guests_regime_and_whom_it_hits() -> None:
    """SYS #op1, C8, CRm, #op2: those of the Arm ARM's C5.5, some by hand."""
    listed = {entry[0]: entry[1:] for entry in entries(HEADER, "TLBI_OPERATIONS")}
    assert len(listed) == sum(one.regime == 1 for one in OPERATIONS)
    by_hand = {
        "ipas2e1is": ("4", "0", "1", "OPERAND", "ITS_VMID"),
        "vmalls12e1": ("4", "7", "6", "ALONE", "ITS_VMID"),
        "alle1is": ("4", "3", "4", "ALONE", "EVERY_VMID"),
        "vmalle1is": ("0", "3", "0", "ALONE", "ITS_REGIME"),
        "rvale1osnxs": ("0", "5", "5", "OPERAND", "ITS_REGIME"),
        "aside1": ("0", "7", "2", "OPERAND", "ITS_REGIME"),
    }
    assert {name: listed[str(BY_NAME[name].number)] for name in by_hand} == by_hand


def test_where_the_guests_memory_lies() -> None:
    for name in ("WINDOW", "WINDOW_SIZE", "STUB", "PIECE", "DATA"):
        assert f"#define GUEST_{name} {getattr(guest, name):#x}ul" in HEADER
    assert guest.STUB + max(one.page for one in GRANULES) <= POOL_MEMORY
