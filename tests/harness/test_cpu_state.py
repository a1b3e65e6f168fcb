"""What TLB functions find on the CPU is state of the run, which begins as the machine's knobs."""

from __future__ import annotations

import pytest

from harness.model.boundary import Boundary
from harness.model.machine_features import machine_features
from harness.model.tlb_calls import CpuState, TlbCalls
from harness.observation.events import TLBI_VMID
from harness.program.machine import KNOBS_BY_NAME, Machine
from pgtable import LINUX_6_12, PagePool

ROOT = 0x4400_0000


def invalidation(machine: Machine, calls: TlbCalls, **changes: int) -> list[int]:
    """The events of an invalidation by VMID, when the state has changed since the run began."""
    cpu = CpuState(machine)
    boundary = Boundary(machine, machine_features(machine), cpu, PagePool(ROOT, 1), calls)
    boundary.load(ROOT)
    for name, value in changes.items():
        setattr(cpu, name, value)
    boundary.load(ROOT)
    boundary.call(TLBI_VMID, 0, 0)
    return boundary.events


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vmid", 7),
        *(("kvm_mode", value) for value in range(1, len(KNOBS_BY_NAME["kvm_mode"].names))),
        ("vcpu", KNOBS_BY_NAME["vcpu"].names.index("foreign")),
    ],
)
def test_a_change_is_as_good_as_the_knob(name: str, value: int) -> None:
    own, calls = Machine.of(), TlbCalls(LINUX_6_12)
    before, after = invalidation(own, calls), invalidation(own, calls, **{name: value})
    assert after != before
    assert after == invalidation(Machine.of(**{name: value}), TlbCalls(LINUX_6_12))
    assert invalidation(own, calls) == before
