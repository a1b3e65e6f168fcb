"""The allocator of VMIDs by itself; tests/harness/test_vmids.py has it beside Linux's."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from pgtable.vmids import VmidAllocator, VmidOwner


class Around:
    """What an allocator has around it: flushes and warnings are counted, and something may happen in a window."""

    def __init__(self) -> None:
        self.flushes = 0
        self.warned: list[str] = []
        self.in_window: Callable[[], None] | None = None

    def flush(self) -> None:
        self.flushes += 1

    def window(self) -> None:
        happening, self.in_window = self.in_window, None
        if happening is not None:
            happening()

    def warn(self, where: str) -> None:
        self.warned.append(where)


def numbers(allocator: VmidAllocator, owners: list[VmidOwner]) -> list[int]:
    return [owner.id % (1 << allocator.bits) for owner in owners]


def test_vmids_count_from_one_and_are_kept() -> None:
    around = Around()
    allocator, owners = VmidAllocator(3, 2, around), [VmidOwner() for _ in range(3)]
    for cpu, owner in ((0, 0), (1, 1), (0, 2), (1, 0)):
        allocator.update(cpu, owners[owner])
    assert numbers(allocator, owners) == [1, 2, 3]
    assert allocator.active == [owners[2].id, owners[0].id]
    assert not around.flushes


def test_a_rollover_keeps_what_runs() -> None:
    around = Around()
    allocator, owners = VmidAllocator(2, 2, around), [VmidOwner() for _ in range(4)]
    for cpu, owner in ((0, 0), (1, 1), (1, 2), (0, 3)):
        allocator.update(cpu, owners[owner])
    assert around.flushes == 1
    assert allocator.reserved == [owners[0].id, owners[2].id]
    assert numbers(allocator, owners) == [1, 2, 3, 2]
    before = owners[2].id
    allocator.update(1, owners[2])
    assert owners[2].id == before + 4 == allocator.reserved[1]


def test_what_is_scheduled_out_is_not_kept() -> None:
    allocator, owners = VmidAllocator(2, 2, Around()), [VmidOwner() for _ in range(4)]
    for cpu, owner in ((0, 0), (1, 1), (1, 2)):
        allocator.update(cpu, owners[owner])
    allocator.schedule_out(0)
    allocator.update(0, owners[3])
    assert numbers(allocator, owners)[3] == 1


def test_a_rollover_in_the_window_is_noticed() -> None:
    around = Around()
    allocator, owners = VmidAllocator(3, 2, around), [VmidOwner() for _ in range(8)]
    for owner in owners[:-1]:
        allocator.update(0, owner)
    around.in_window = lambda: allocator.update(1, owners[-1])
    allocator.update(0, owners[0])
    assert around.flushes == 1
    assert allocator.active == [owners[0].id, owners[-1].id]
    assert owners[0].id != owners[-1].id
    assert {owner.id >> 3 for owner in (owners[0], owners[-1])} == {2}


def test_no_vmid_has_two_owners_of_a_generation() -> None:
    """And none is 0, whatever happens in whichever order, as long as there are more of them than CPUs."""
    choice = Random(1)
    for _ in range(200):
        around, cpus = Around(), choice.randint(1, 5)
        allocator, owners = VmidAllocator(3, cpus, around), [VmidOwner() for _ in range(8)]
        for _ in range(60):
            if choice.random() < 0.2:
                allocator.schedule_out(choice.randrange(cpus))
                continue
            cpu, owner = choice.randrange(cpus), choice.choice(owners)
            allocator.update(cpu, owner)
            assert owner.id % 8
            assert owner.id == allocator.active[cpu]
            good = [one.id for one in owners if one.id >> 3 == allocator.generation >> 3]
            assert len(good) == len(set(good))
        assert not around.warned


def test_too_few_vmids_are_warned_of() -> None:
    for cpus, warned in ((2, False), (3, True)):
        around = Around()
        VmidAllocator(2, cpus, around)
        assert bool(around.warned) is warned
