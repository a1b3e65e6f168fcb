"""The C header made from the definitions: what is defined once in Python is known in C."""

from __future__ import annotations

import re

from harness.observation.layout import LOCKING_REPORTS, POOL_MISUSES, UBSAN_HANDLERS, UBSAN_REPORTS
from harness.program.machine import KNOBS
from harness.program.ops import OPS
from reference.build.header import generated_header, generated_rules


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
    assert entries(HEADER, "HANDLE_KINDS") == [("UNLINKED_TABLE", "2")]
    assert entries(HEADER, "HANDLE_MAKERS") == [("16", "UNLINKED_TABLE")]
    assert entries(HEADER, "HANDLE_USERS") == [("17", "0", "UNLINKED_TABLE"), ("20", "1", "UNLINKED_TABLE")]


def test_complaints_have_the_numbers_that_reports_read() -> None:
    assert {int(number): name.lower().replace("_", "-") for name, number in entries(HEADER, "MISUSES")} == POOL_MISUSES
    handlers = {int(number): UBSAN_HANDLERS[name] for name, number in entries(HEADER, "UBSAN_HANDLERS")}
    assert handlers == UBSAN_REPORTS
    rules = {int(number): name.lower().replace("_", "-") for name, number in entries(generated_rules(), "RULES")}
    assert rules == LOCKING_REPORTS
