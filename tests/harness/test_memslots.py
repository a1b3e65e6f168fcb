"""Memory slots in the model, and what judges make of their logs."""

from __future__ import annotations

import errno

import pytest
from contract_cases import program_of
from observations import with_events

from harness.model.executor import Model
from harness.observation.events import FOR_MMU, LOG_CLEARED, LOG_TOLD, TLBI_KINDS, events_of
from harness.observation.layout import Observation, Record
from harness.verdict.memslots import logs_read, pages_told, slots_after
from harness.verdict.tlb.judge import Judgement
from reference.link.executor import ByGranule, Reference

SLOT = "memslot_add slot=0 ipa=0x0 size=2M phys=0x42000000 backing=block"
WRITE = "fault ipa=0x1000 access=write\nmemslot_handle\nwrite ipa=0x1000 value=0x1\n"
OTHER = "mmu_init vmid=2\nmmu_use mmu=m1\n"


def seen(ops: str, version: str = "6.12") -> Observation:
    return Model(version).observe(program_of(f"guest = on\nia_bits = 32\n\n{ops}"))


def last(ops: str, version: str = "6.12") -> Record:
    return seen(ops, version).records[-1]


@pytest.mark.parametrize(
    ("ops", "ret"),
    [
        ("memslot_add slot=1 ipa=0x1ff000 size=4K phys=0x0", -errno.EEXIST),
        ("memslot_add slot=1 ipa=0x200000 size=4K phys=0x0", 0),
        ("memslot_add slot=1 ipa=0x200000 size=0x801 phys=0x0", -errno.EINVAL),
        ("memslot_add slot=1 ipa=0x200000 size=4K phys=0x10", -errno.EINVAL),
        ("memslot_add slot=1 ipa=0x200000 size=8K phys=0xfffffffffffff000", -errno.EINVAL),
        ("memslot_add slot=1 ipa=0xfffff000 size=8K phys=0x0", -errno.EFAULT),
        ("memslot_add slot=1 ipa=0x40000000 size=64M phys=0x0 logging=on", -errno.ENOMEM),
        (f"{SLOT} readonly=on", -errno.EINVAL),
        (SLOT, 0),
        ("memslot_add slot=0 ipa=0x0 size=0 phys=0x0", 0),
        ("memslot_add slot=1 ipa=0x0 size=0 phys=0x0", -errno.EINVAL),
        ("memslot_move slot=0 ipa=0x1000", 0),
        ("memslot_flush slot=1", -errno.EINVAL),
        ("memslot_dirty slot=0", -errno.ENOENT),
        ("memslot_mode logging=manual", 0),
        ("memslot_mode logging=manual split=on", -errno.EINVAL),
        ("destroy\nmemslot_remove slot=0", -errno.EINVAL),
        ("memslot_handle", -errno.ENOENT),
        ("fault ipa=0x80000000 access=read\nmemslot_handle", -errno.EFAULT),
    ],
)
def test_what_user_space_is_answered(ops: str, ret: int) -> None:
    assert last(f"{SLOT}\n{ops}\n").ret == ret


def test_the_host_s_own_table_has_no_slots() -> None:
    program = program_of(f"kvm_mode = pkvm_host\n\n{SLOT}\n")
    assert Model().observe(program).records[-1].ret == -errno.EOPNOTSUPP


@pytest.mark.parametrize(
    ("machine", "ret"),
    [
        ("ia_bits = 48", 0),
        ("granule = 16k\nia_bits = 44", 0),
        ("granule = 16k\nia_bits = 45", -errno.EFBIG),
        ("granule = 64k\nia_bits = 48", 0),
        ("granule = 64k\nia_bits = 49\npa_bits_52 = on", -errno.EFBIG),
    ],
)
def test_another_table_of_more_steps_than_anybody_waits_for(machine: str, ret: int) -> None:
    """By as many of Linux's largest blocks as it has; of one walk, in 6.1, there is no such bound."""
    program = program_of(f"{machine}\npool_pages = 64\n\nm1 = mmu_init vmid=2\n{SLOT.replace('2M', '0')}\n")
    expected = -errno.EINVAL if ret == 0 else ret  # there is no slot to remove
    assert Model().observe(program).records[-1].ret == expected
    assert Model("6.1").observe(program).records[-1].ret == -errno.EINVAL


def test_a_slot_s_memory_is_mapped_in_blocks_as_far_as_they_lie_in_it() -> None:
    sizes = [last(f"{SLOT}\n{WRITE.splitlines()[0]}\nmemslot_handle\n").outs[0]]
    short = SLOT.replace("2M", "1M")
    sizes.append(last(f"{short}\n{WRITE.splitlines()[0]}\nmemslot_handle\n").outs[0])
    shifted = SLOT.replace("0x42000000", "0x42001000")
    sizes.append(last(f"{shifted}\n{WRITE.splitlines()[0]}\nmemslot_handle\n").outs[0])
    assert sizes == [0x200000, 0x1000, 0x1000]


def test_what_is_written_is_marked_once_and_told_once() -> None:
    ops = f"{SLOT} logging=on\n{WRITE}"
    told = last(f"{ops}memslot_dirty slot=0\n")
    assert [(one.kind, one.a) for one in events_of(told.events) if one.kind in (LOG_CLEARED, LOG_TOLD)] == [
        (LOG_CLEARED, 0x1000),
        (LOG_TOLD, 0x1000),
    ]
    assert last(f"{ops}memslot_dirty slot=0\nmemslot_dirty slot=0\n").outs == (0,)


def test_what_may_only_be_read_is_not_marked() -> None:
    assert last(f"{SLOT} logging=on\nfault ipa=0x1000 access=read\nmemslot_handle\n").outs[-1] == 0


def test_a_log_that_user_space_clears_keeps_what_was_written_since_it_was_read() -> None:
    ops = f"memslot_mode logging=manual\n{SLOT} logging=on\nmemslot_dirty slot=0\n{WRITE}memslot_clear slot=0\n"
    assert last(ops).outs == (0,)
    assert list(pages_told(last(f"{ops}memslot_dirty slot=0\n"))) == [0x1000]


def test_clearing_protects_from_the_first_page_to_the_last_of_a_word_and_splits_if_so_asked() -> None:
    ops = f"memslot_mode logging=initially_set split=on\n{SLOT}\n{WRITE}memslot_log slot=0 logging=on\n"
    cleared = f"{ops}memslot_dirty slot=0\nmemslot_clear slot=0 first=64 pages=64\n"
    assert last(f"{cleared}get_leaf ipa=0x1000\n").outs[1] == 3
    assert last(f"{cleared}write ipa=0x1000 value=0x2\n").ret == -errno.EFAULT
    assert last(f"{ops}get_leaf ipa=0x1000\n").outs[1] == 2


def test_the_log_over_a_table_is_merged_into_a_block_again() -> None:
    """The third situation of the memcache thread: it takes no page, whatever was topped up."""
    ops = f"{SLOT} logging=on\n{WRITE}memslot_log slot=0 logging=off\nfault ipa=0x2000 access=write\nmemslot_handle\n"
    size, _, _, used, dirty = last(ops).outs
    assert (size, used, dirty) == (0x200000, 0, 0)


@pytest.mark.parametrize("version", ["6.1", "6.12"])
@pytest.mark.parametrize("op", ["memslot_remove slot=0", "memslot_flush slot=0", "memslot_move slot=0 ipa=0x400000"])
def test_no_mmu_keeps_what_a_slot_had(version: str, op: str) -> None:
    ops = f"{SLOT}\n{OTHER}map ipa=0x5000 size=4K phys=0x42000000 prot=rw mc=3\n{op}\nget_leaf ipa=0x5000\n"
    assert last(ops, version).outs[0] == 0


def test_the_log_reaches_other_tables_and_linux_flushes_the_first_mmu_alone() -> None:
    ops = f"{SLOT}\n{OTHER}map ipa=0x5000 size=4K phys=0x42000000 prot=rw mc=3\nmemslot_log slot=0 logging=on\n"
    told = {}
    for version in ("6.1", "6.12"):
        mmu, told[version] = 1, set[int]()
        for event in events_of(last(ops, version).events):
            if event.kind == FOR_MMU:
                mmu = event.a
            elif event.kind in TLBI_KINDS:
                told[version].add(mmu)
                mmu = 1
    assert told == {"6.1": {0, 1}, "6.12": {0}}


NESTED_PAGE = f"{OTHER}map ipa=0x5000 size=4K phys=0x42000000 prot=rw mc=3\nmmu_first\n"
TWO_SLOTS = (
    "memslot_add slot=0 ipa=0x0 size=2M phys=0x42000000\nmemslot_add slot=1 ipa=0x200000 size=2M phys=0x42200000\n"
    "map ipa=0x1fe000 size=16K phys=0x421fe000 prot=rw mc=4\n"
)
NOTIFIED = {
    "unmap": f"{SLOT}\n{WRITE}{NESTED_PAGE}memslot_unmap ipa=0x0 size=2M\nmmu_use mmu=m1\nget_leaf ipa=0x5000\n",
    "unmap-two-slots": f"{TWO_SLOTS}memslot_unmap ipa=0x1ff000 size=8K\n",
    "unmap-part-of-a-page": f"{TWO_SLOTS}memslot_unmap ipa=0x1ff800 size=1\n",
    "unmap-part-of-a-block": f"{SLOT}\n{WRITE}memslot_unmap ipa=0x5000 size=4K\n",
    "unmap-shared": f"{SLOT}\nmmu_share vmid=2\n{WRITE}memslot_unmap ipa=0x0 size=2M\n",
    "age": f"{SLOT}\n{WRITE}{NESTED_PAGE}memslot_age ipa=0x0 size=2M flush=on\n{WRITE}",
    "test-age": f"{SLOT}\n{WRITE}memslot_test_age ipa=0x0 size=4K\nmemslot_test_age ipa=0x200000 size=4K\n",
    "age-two-slots": f"{TWO_SLOTS}memslot_age ipa=0x0 size=4M\nmemslot_test_age ipa=0x1fe000 size=4K\n",
    "age-pages": f"{TWO_SLOTS}memslot_age ipa=0x1fe000 size=8K flush=on\nmemslot_age ipa=0x1ff000 size=4K\n",
    "refused": f"{SLOT}\ndestroy\nmemslot_unmap ipa=0x0 size=4K\nmemslot_age ipa=0x0 size=4K\n",
}
"""Programs on which the host's MMU notifier works."""


@pytest.mark.parametrize("name", NOTIFIED)
def test_the_notifier_of_the_model_is_the_kernel_s(each_kernel: Reference, linux: str, name: str) -> None:
    program = program_of(f"guest = on\nia_bits = 32\n\n{NOTIFIED[name]}")
    assert each_kernel.observe(program).words == Model(linux).observe(program).words


@pytest.mark.parametrize("op", ["memslot_unmap ipa=0x0 size=64K", "memslot_flush slot=0"])
def test_a_table_that_several_steps_reach_into_is_invalidated_as_by_the_kernel(
    every_kernel: ByGranule, linux: str, op: str
) -> None:
    program = program_of(
        "granule = 64k\nia_bits = 48\n\nmemslot_add slot=0 ipa=0x0 size=64K phys=0x42000000\n"
        f"{OTHER}map ipa=0x20010000 size=64K phys=0x42000000 prot=rw mc=4\n"
        f"map ipa=0x60010000 size=64K phys=0x42000000 prot=rw mc=4\n{op}\n"
    )
    assert every_kernel.observe(program).words == Model(linux).observe(program).words


@pytest.mark.parametrize(
    ("op", "ret"),
    [
        ("memslot_unmap ipa=0x0 size=0", -errno.EINVAL),
        ("memslot_unmap ipa=0xfffffffffffff000 size=4K", -errno.EINVAL),
        ("memslot_age ipa=0x0 size=0", -errno.EINVAL),
        ("memslot_test_age ipa=0xfffffffffffff000 size=8K", -errno.EINVAL),
        ("memslot_unmap ipa=0x800000 size=4K", 0),
        ("destroy\nmemslot_age ipa=0x0 size=4K", -errno.EINVAL),
    ],
)
def test_what_the_notifier_is_answered(op: str, ret: int) -> None:
    assert last(f"{SLOT}\n{op}\n").ret == ret


@pytest.mark.parametrize("version", ["6.1", "6.12"])
def test_memory_that_the_host_takes_away_is_in_no_table(version: str) -> None:
    ops = f"{SLOT}\n{WRITE}{NESTED_PAGE}memslot_unmap ipa=0x1000 size=4K\n"
    assert last(f"{ops}get_leaf ipa=0x1000\n", version).outs[0] == 0
    assert last(f"{ops}mmu_use mmu=m1\nget_leaf ipa=0x5000\n", version).outs[0] == 0


def test_of_two_slots_each_loses_its_share() -> None:
    ops = f"{TWO_SLOTS}memslot_unmap ipa=0x1ff000 size=8K\n"
    kept = [bool(last(f"{ops}get_leaf ipa={ipa:#x}\n").outs[0]) for ipa in (0x1FE000, 0x1FF000, 0x200000, 0x201000)]
    assert kept == [True, False, False, True]


@pytest.mark.parametrize("version", ["6.1", "6.12"])
def test_ageing_is_of_the_first_table_and_flushes_once(version: str) -> None:
    aged = "memslot_age ipa=0x1000 size=4K flush=on\n"
    ops = f"{SLOT}\n{WRITE}{NESTED_PAGE}{aged}"
    assert last(ops, version).outs == (1,)
    assert TLBI_KINDS & {event.kind for event in events_of(last(ops, version).events)}
    assert last(f"{ops}{aged}", version).outs == (0,)
    assert not last(f"{ops}{aged}", version).events
    assert last(f"{ops}mmu_use mmu=m1\nget_leaf ipa=0x5000\n", version).outs[0] & 1 << 10


def test_6_1_takes_what_it_ages_for_one_page_or_block() -> None:
    """Mended in Linux 6.5, "KVM: arm64: Correctly handle page aging notifiers for unaligned memslot"."""
    young = {version: last(f"{TWO_SLOTS}memslot_age ipa=0x0 size=2M\n", version).outs for version in ("6.1", "6.12")}
    assert young == {"6.1": (0,), "6.12": (1,)}
    warned = {
        version: len(last(f"{TWO_SLOTS}memslot_age ipa=0x1fe000 size=8K\n", version).complaints)
        for version in ("6.1", "6.12")
    }
    assert warned == {"6.1": 1, "6.12": 0}


def test_slots_as_user_space_knows_them() -> None:
    program = program_of(f"{SLOT} logging=on\nmemslot_move slot=0 ipa=0x400000\nmap ipa=0x0 size=4K phys=0x0 prot=r\n")
    _, made, moved, mapped = slots_after(program, Model().observe(program))
    assert (made.of[0].ipa, made.of[0].begun, made.logged_at(0x1000)) == (0, 1, 0)
    assert (moved.of[0].ipa, moved.of[0].begun, moved.logged_at(0x1000)) == (0x400000, 1, None)
    assert mapped.of[0].by_others
    assert not moved.of[0].by_others


@pytest.mark.parametrize(
    ("between", "missed"),
    [
        ("", [0x1000]),
        ("map ipa=0x800000 size=4K phys=0x80000000 prot=rw mc=3\n", []),
    ],
)
def test_a_write_that_the_log_misses(between: str, missed: list[int]) -> None:
    """Where tables are changed past the log, nothing is said."""
    program = program_of(f"guest = on\n\n{SLOT} logging=on\n{WRITE}{between}memslot_dirty slot=0\n")
    whole = Model().observe(program)
    written = Judgement(program, whole).written
    assert not any(logs_read(program, whole, written).values())
    number = len(whole.records) - 1
    assert logs_read(program, with_events(whole, number, []), written) == ({number: missed} if missed else {})
