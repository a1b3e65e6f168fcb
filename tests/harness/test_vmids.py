"""VMIDs beside Linux's own allocator: seeds show what they say, and a machine has CPUs enough for none too many."""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random

import pytest

from fuzz.generate.scenario import vmid_scenario
from harness.errors import BadInput
from harness.model.executor import Model
from harness.observation.events import FLUSH_VM_CONTEXT
from harness.observation.layout import EVENT_WORDS, WARN, Record
from harness.program.codec import decode, dialect_for, encode, fitting
from harness.program.machine import DEFAULT_MACHINE, MOST_CPUS, VMID_BITS, Machine, most_cpus
from harness.program.program import Program
from harness.program.text import parse, read
from harness.verdict.judge import Judge
from reference.link.executor import Reference

SEEDS = Path(__file__).parents[2] / "corpora" / "seeds"
ROLLOVER = read(SEEDS / "vmid_rollover.s2")


def records(name: str) -> tuple[Record, ...]:
    """Those of a seed's ops."""
    return Model().observe(read(SEEDS / f"{name}.s2")).records[1:]


def flushes(record: Record) -> int:
    return record.events[::EVENT_WORDS].count(FLUSH_VM_CONTEXT)


def test_first_come_first_numbered() -> None:
    updates = [one for one in records("vmid_first") if one.definition.name == "vmid_update"]
    assert [one.ret for one in updates] == [-errno.ENODEV, 0, 0, 0, -errno.EINVAL, -errno.ENODEV]
    assert [one.outs[0] for one in updates[1:4]] == [0x101, 0x102, 0x101]
    assert [one.ret for one in records("vmid_first") if one.definition.name == "vmid_init"] == [0, -16, -16]


def test_a_rollover_flushes_once() -> None:
    seen = records("vmid_rollover")
    assert [flushes(one) for one in seen] == [0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert seen[4].outs[:3] == (0xA, 0xA, 0x5)
    assert seen[6].outs[0] == 0xB


def test_a_vmid_is_taken_again_where_it_is_free() -> None:
    assert [one.outs[0] for one in records("vmid_reclaimed")[-3:]] == [0x11, 0x13, 0x12]


def test_a_reserved_vmid_outlives_rollovers() -> None:
    seen = records("vmid_reserved")
    looks = [one.outs for one in seen if one.definition.name == "vmid_look"]
    assert sum(map(flushes, seen)) == 2
    assert looks[:2] == [(0x9, 0, 0x9), (0x9, 0, 0x9)]
    assert looks[-1] == (0x11, 0, 0x8)


def test_a_rollover_in_the_window_is_seen() -> None:
    updates = [one for one in records("vmid_race") if one.definition.name == "vmid_update"]
    raced = [one.outs for one in updates if one.outs[3]]
    assert [(outs[0], outs[3]) for outs in raced] == [(0xF, 0x9), (0x12, 0x12)]
    assert updates[-1].outs[3] == 0


def test_as_many_cpus_as_vmids_are_warned_of() -> None:
    seen = records("vmid_scarce")
    assert [one.kind for one in seen[0].complaints] == [WARN]
    assert [outs[0] for outs in (one.outs for one in seen[1:5])] == [5, 6, 7, 8]
    assert not any(one.complaints for one in records("vmid_most_cpus"))


def test_memory_for_the_map_may_lack() -> None:
    assert [one.ret for one in records("vmid_without_memory")] == [0, -errno.ENOMEM, -errno.ENODEV, 0, 0]


def test_cpus_are_fewer_than_vmids() -> None:
    for value, bits in enumerate(VMID_BITS):
        most = min(MOST_CPUS, 2**bits - 2)
        assert Machine.of(vmid_bits=value, cpus=most).vmid_bits == bits
        if most < MOST_CPUS:
            with pytest.raises(ValueError, match=rf"cpus: expected 1 to {most}.*scarce_vmids"):
                Machine.of(vmid_bits=value, cpus=most + 1)
            assert Machine.of(vmid_bits=value, cpus=most + 1, scarce_vmids=1)["cpus"] == most + 1


def test_too_many_cpus_are_bad_input() -> None:
    with pytest.raises(BadInput, match=r"x\.s2:.*cpus: expected 1 to 2, for VMIDs of 2 bits"):
        parse("s2 1\nvmid_bits = 2\ncpus = 3\n\nvmid_init\n", "x.s2")


def test_bytes_choose_no_machine_that_is_refused() -> None:
    """Where there are more CPUs than its VMIDs allow, some are left out; all that may be said can be said in bytes."""
    for value in range(len(VMID_BITS)):
        most = most_cpus({"vmid_bits": value, "scarce_vmids": 0})
        machine = fitting(DEFAULT_MACHINE, {"vmid_bits": value, "cpus": MOST_CPUS})
        assert machine["cpus"] == most
        assert decode(encode(Program((), machine))).machine == machine


def test_what_an_allocator_keeps_ends_with_its_program(each_kernel: Reference, linux: str) -> None:
    """Statics and per-CPU variables are as the image has them when the next program begins."""
    before = each_kernel.observe(ROLLOVER)
    for name in ("vmid_most_cpus", "vmid_scarce", "vmid_race"):
        each_kernel.observe(read(SEEDS / f"{name}.s2"))
        assert each_kernel.observe(ROLLOVER).words == before.words, f"{linux}: after {name}"


def test_the_sides_agree(each_kernel: Reference, linux: str) -> None:
    judge, choice = Judge(Model(linux), each_kernel), Random(5)
    dialect = dialect_for(judge.left.capabilities)
    for _ in range(150):
        assert judge.check(decode(vmid_scenario(choice, dialect), dialect)) is None
