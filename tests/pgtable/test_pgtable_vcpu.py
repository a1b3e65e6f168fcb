"""Which vCPU ran last: what a load flushes, and what it is refused for."""

from __future__ import annotations

from pgtable import Cpus, Memcache, PagePool, S2Mmu, Stage2, get_vtcr
from pgtable.errnos import EBUSY, EINVAL, ENOENT


class Told:
    """Hooks that say what they were told, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def update_vmid(self, cpu: int, mmu: S2Mmu) -> None:
        self.calls.append(("update", mmu.number))

    def flush_cpu_context(self, mmu: S2Mmu) -> None:
        self.calls.append(("flush", mmu.number))


def mmu(number: int = 0) -> S2Mmu:
    table = Stage2(get_vtcr(ia_bits=40), PagePool(base=0x4000_0000, pages=16))
    assert table.init() == 0
    return S2Mmu(number, number + 1, 0, table, Memcache())


def turn(cpus: Cpus, cpu: int, vcpu: int, under: S2Mmu) -> tuple[int, bool]:
    """Who had run there last, and whether there was a flush."""
    ret, load = cpus.load(cpu, vcpu, under)
    assert ret == 0
    assert load is not None
    assert cpus.put(cpu) == 0
    return load


def test_a_cpu_is_flushed_where_another_vcpu_ran_last() -> None:
    cpus, first = Cpus(2, Told()), mmu()
    turns = [turn(cpus, 0, vcpu, first) for vcpu in (0, 1, 1, 0)]
    assert turns == [(-1, True), (0, True), (1, False), (1, True)]


def test_each_cpu_and_each_mmu_remembers_for_itself() -> None:
    told = Told()
    cpus, first, second = Cpus(2, told), mmu(), mmu(1)
    turn(cpus, 0, 0, first)
    assert turn(cpus, 1, 0, first) == (-1, True)
    assert turn(cpus, 0, 1, second) == (-1, True)
    told.calls.clear()
    assert turn(cpus, 0, 0, first) == (0, False)
    assert turn(cpus, 0, 0, second) == (1, True)
    assert told.calls == [("update", 0), ("update", 1), ("flush", 1)]


def test_what_is_taken_or_not_there_is_refused_before_anything_is_done() -> None:
    told = Told()
    cpus, first = Cpus(2, told), mmu()
    assert cpus.put(0) == -ENOENT
    assert cpus.load(0, 0, first)[0] == 0
    told.calls.clear()
    assert cpus.load(0, 1, first)[0] == -EBUSY
    assert cpus.load(1, 0, first)[0] == -EBUSY
    assert cpus.load(2, 1, first)[0] == -EINVAL
    assert cpus.put(2) == -EINVAL
    first.table.destroy()
    assert cpus.load(1, 1, first)[0] == -ENOENT
    assert not told.calls
    assert cpus.runs(first)
