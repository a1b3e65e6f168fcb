"""The guest's ops in the model: when it can be asked, what an access does, and what it says."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest

from harness.model.executor import Model
from harness.model.guest import Mmu, leaves_pool
from harness.observation.events import WALKER_AF, events_of
from harness.observation.layout import Observation, Record
from harness.program import syndromes
from harness.program.guest import DATA, STUB, WINDOW, WINDOW_SIZE
from harness.program.machine import POOL_BASE
from harness.program.text import parse
from pgtable import Access, PagePool, Stage2Registers, get_vtcr

MODEL = Model()
GUEST = "s2 1\nguest = on\nia_bits = 40\n"
HA = GUEST + "ha = on\n"
NONE = (0, 0, 0)
DATA_READ, DATA_WRITE, FETCH = 0x24 << 26, 0x24 << 26 | 1 << 6, 0x20 << 26
EFAULT, ENODEV, ENXIO, ENOMEM = -errno.EFAULT, -errno.ENODEV, -errno.ENXIO, -errno.ENOMEM


def seen(text: str) -> Observation:
    return MODEL.observe(parse(text))


def outcome(record: Record) -> tuple[int | None, Sequence[int]]:
    return record.ret, record.outs


def last(text: str) -> tuple[int | None, Sequence[int]]:
    """What the last op comes to."""
    return outcome(seen(text).records[-1])


def flags_set(record: Record) -> list[int]:
    """What the walker has written."""
    return [event.b for event in events_of(record.events) if event.kind == WALKER_AF]


# Probes


def test_probe_tells_where_it_leads_and_how() -> None:
    normal = "map ipa=0x201000 size=4K phys=0x80000000 prot=r mc=4\nprobe ipa=0x201abc\n"
    address = syndromes.par(0x8000_0000, 0xFF, 3)
    assert last("s2 1\nia_bits = 40\n" + normal) == (0, (address, syndromes.par_of_fault(0x0F, 2)))
    device = "map ipa=0x201000 size=4K phys=0x80000000 prot=rw+device mc=4\nprobe ipa=0x201000\n"
    ret, outs = last("s2 1\nia_bits = 40\n" + device)
    assert (ret, set(outs)) == (0, {0x04 << 56 | 0x8000_0000 | 2 << 7})
    assert last("s2 1\nia_bits = 40\nprobe ipa=0x1000\n")[1] == (0x0001 | 0x05 << 1 | 1 << 9,) * 2
    assert last("s2 1\nia_bits = 40\nprobe ipa=0x10000000000000\n")[1] == (1, 1), "address size, level 0, of stage 1"


@pytest.mark.parametrize(
    ("machine", "ret"),
    [
        ("", 0),
        ("pool_base = 0x80000000\n", ENODEV),
        ("ia_bits = 49\n", ENODEV),
        ("ia_bits = 52\nlpa2 = on\n", 0),
        ("ia_bits = 52\nlpa2 = on\ngranule = 16k\n", ENODEV),
        ("ia_bits = 51\nlpa2 = on\ngranule = 16k\n", 0),
        ("lpa2 = on\ngranule = 64k\n", ENODEV),
        ("ia_bits = 52\npa_bits_52 = on\ngranule = 64k\n", 0),
        ("ia_bits = 52\ngranule = 64k\n", ENODEV),
        ("ia_bits = 48\ngranule = 64k\n", 0),
        ("ia_bits = 44\nparange = 44\n", 0),
        ("ia_bits = 45\nparange = 44\n", ENODEV),
        ("stage = 1\nva_bits = 48\n", 0),
        ("stage = 1\nva_bits = 49\n", ENODEV),
        ("stage = 1\nva_bits = 52\nlpa2 = on\n", 0),
        ("stage = 1\nva_bits = 52\ngranule = 64k\n", 0),
        ("stage = 1\nva_bits = 48\nlpa2 = on\ngranule = 64k\n", ENODEV),
        ("stage = 1\nva_bits = 16\n", 0),
        ("stage = 1\nva_bits = 15\n", ENODEV),
        ("stage = 1\nva_bits = 17\ngranule = 64k\n", 0),
        ("stage = 1\nhvhe = on\n", 0),
    ],
)
def test_what_can_be_walked(machine: str, ret: int) -> None:
    record = seen(f"s2 1\n{machine}probe ipa=0\n").records[-1]
    assert record.ret == ret
    assert len(record.outs) == (0 if ret else 2)


def test_a_destroyed_table_cannot() -> None:
    observed = seen("s2 1\ndestroy\nprobe ipa=0\ninit\nprobe ipa=0\n")
    assert [record.ret for record in observed.records[2:]] == [ENODEV, 0, 0]


@pytest.mark.parametrize("machine", ["", "hvhe = on", "lpa2 = on", "hvhe = on\nlpa2 = on"])
def test_hyp_stage_1(machine: str) -> None:
    text = f"""s2 1
    stage = 1
    {machine}
    hyp_map va=0x1000 size=4K phys=0x80001000 prot=rw
    hyp_map va=0x2000 size=4K phys=0x80002000 prot=rx
    hyp_map va=0x3000 size=4K phys=0x9000000 prot=rw+device
    probe ipa=0x1008
    probe ipa=0x2000
    probe ipa=0x3000
    probe ipa=0x1000000000000
    """
    writable, executable, device, beyond = [outcome(record) for record in seen(text).records[4:]]
    assert writable == (0, (syndromes.par(0x8000_1000, 0xFF, 3),) * 2)
    assert executable == (0, (syndromes.par(0x8000_2000, 0xFF, 3), syndromes.par_of_fault(0x0F, 1)))
    assert device == (0, (syndromes.par(0x900_0000, 0x04, 2),) * 2)
    assert beyond == (0, (syndromes.par_of_fault(0x04, 1),) * 2)


# The page of the guest's code


def test_init_maps_the_page_of_the_guests_code() -> None:
    for machine in ("", "granule = 16k\n", "granule = 64k\n", "ia_bits = 32\n", "ia_bits = 48\nidmap = on\n"):
        observed = seen(f"s2 1\nguest = on\n{machine}get_leaf ipa={STUB:#x}\nprobe ipa={STUB:#x}\n")
        leaf, probe = observed.records[1:]
        assert leaf.outs[1] == 3
        assert probe.outs == (syndromes.par(STUB, 0xFF, 3), syndromes.par_of_fault(0x0F, 2))
        assert observed.memcache == ()


def test_where_it_has_no_memory_is_where_the_program_ends() -> None:
    observed = seen(GUEST + "pool_pages = 3\nprobe ipa=0\n")
    assert [outcome(record) for record in observed.records] == [(ENOMEM, ())]
    assert seen(GUEST + "pool_pages = 4\nprobe ipa=0\n").records[-1].ret == 0


# Accesses

WINDOW_MAPPED = f"map ipa=0x8000000 size=2M phys={WINDOW:#x} prot=rwx mc=4\n"


def test_accesses_to_the_window() -> None:
    text = GUEST + WINDOW_MAPPED + "read ipa=0x8001234\nwrite ipa=0x8001000 value=0xabc\nread ipa=0x8001fff\n"
    text += "read ipa=0x8002000\nexec ipa=0x8001fff\nfault ipa=0x8001000 access=write\nread ipa=0x8001000\n"
    first, written, again, other, executed, faulted, after = [outcome(one) for one in seen(text).records[2:]]
    assert first == (0, (0, 0, WINDOW + 0x1000 + DATA))
    assert written == executed == faulted == (0, NONE)
    assert again == (0, (0, 0, 0xABC))
    assert other == (0, (0, 0, WINDOW + 0x2000 + DATA))
    assert after == (0, NONE), "fault writes 0"


def test_what_is_written_stays_for_the_program() -> None:
    text = GUEST + WINDOW_MAPPED + "write ipa=0x8000000 value=1\ninit\n" + WINDOW_MAPPED + "read ipa=0x8000000\n"
    assert last(text) == (0, (0, 0, 1))
    assert last(GUEST + WINDOW_MAPPED + "read ipa=0x8000000\n") == (0, (0, 0, WINDOW + DATA))


@pytest.mark.parametrize(
    ("ops", "result"),
    [
        ("read ipa=0x8000000\n", (EFAULT, (DATA_READ | 0x05, 0x80000, 0))),
        ("write ipa=0x8000000 value=0\n", (EFAULT, (DATA_WRITE | 0x05, 0x80000, 0))),
        ("exec ipa=0x8003000\n", (EFAULT, (FETCH | 0x05, 0x80030, 0))),
        ("read ipa=0xff00000000\n", (EFAULT, (DATA_READ | 0x05, 0xFF00000 << 4, 0))),
        ("read ipa=0xf000000000000\n", (EFAULT, (DATA_READ | 0x04, 0xF000000000 << 4, 0))),
        ("read ipa=0x10000000000000\n", (EFAULT, (DATA_READ | 1 << 26, 0, 0))),
        ("write ipa=0x10000000000000 value=0\n", (EFAULT, (DATA_WRITE | 1 << 26, 0, 0))),
        ("exec ipa=0x10000000000000\n", (EFAULT, (FETCH | 1 << 26, 0, 0))),
    ],
)
def test_faults_where_nothing_is_mapped(ops: str, result: object) -> None:
    assert last(GUEST + ops) == result


@pytest.mark.parametrize(
    ("prot", "op", "status"),
    [
        ("r", "write ipa=0x8000000 value=5", DATA_WRITE | 0x0E),
        ("w", "read ipa=0x8000000", DATA_READ | 0x0E),
        ("rw", "exec ipa=0x8000000", FETCH | 0x0E),
        ("-", "read ipa=0x8000000", DATA_READ | 0x0E),
    ],
)
def test_permission_faults_have_no_ipa(prot: str, op: str, status: int) -> None:
    mapped = WINDOW_MAPPED.replace("rwx", prot)
    assert last(GUEST + mapped + op + "\n") == (EFAULT, (status, 0, 0))
    assert last(GUEST + mapped + op + f"\nrelax_perms ipa=0x8000000 prot=rwx\n{op}\n")[0] == 0


def test_nothing_outside_the_window_is_reached() -> None:
    for phys in (WINDOW - 0x1000, WINDOW + WINDOW_SIZE, STUB, 0x4400_0000, 0x900_0000, 0):
        mapped = GUEST + f"map ipa=0x8000000 size=4K phys={phys:#x} prot=rwx mc=4\n"
        for op in ("read ipa=0x8000000", "write ipa=0x8000000 value=1", "exec ipa=0x8000000"):
            assert last(f"{mapped}{op}\n") == (ENXIO, ()), phys
    assert last(GUEST + f"map ipa=0x8000000 size=4K phys={WINDOW - 0x1000:#x} prot=r mc=4\nexec ipa=0x8000000\n")[
        0
    ] == (EFAULT), "a fault is allowed, wherever it would have led"


def test_a_walk_that_leaves_the_pool_ends_there() -> None:
    """No program leads it there, but for a kernel with a bug."""
    pool = PagePool(POOL_BASE, 4)
    root = pool.zalloc_pages_exact(4 * 4096)
    assert root is not None
    walker = Mmu(Stage2Registers(get_vtcr(39), root, fwb=True), pool, [])
    for table, left in ((POOL_BASE + 3 * 4096, False), (POOL_BASE + 4 * 4096, True), (POOL_BASE - 4096, True)):
        pool.table(root)[0] = table | 3
        assert leaves_pool(walker.walk(0, Access.READ)) == left
        assert not leaves_pool(walker.walk(1 << 30, Access.READ))


def test_without_the_knob_there_is_no_guest() -> None:
    for op in ("read ipa=0", "write ipa=0 value=0", "exec ipa=0", "fault ipa=0 access=exec"):
        assert last(f"s2 1\n{op}\n") == (ENODEV, ())
    assert last("s2 1\nprobe ipa=0\n")[0] == 0


def test_if_the_code_is_gone_its_fetch_is_what_aborts() -> None:
    gone = GUEST + WINDOW_MAPPED + f"unmap ipa={STUB:#x} size=4K\n"
    assert last(gone + "read ipa=0x8000000\n") == (EFAULT, (FETCH | 0x05, STUB >> 8, 0))
    assert last(gone + f"map ipa={STUB:#x} size=4K phys={WINDOW:#x} prot=rx mc=4\nread ipa=0x8000000\n") == (ENXIO, ())
    no_exec = f"map ipa={STUB:#x} size=4K phys={STUB:#x} prot=r mc=4\nwrite ipa=0x8000000 value=1\n"
    assert last(gone + no_exec) == (EFAULT, (FETCH | 0x0F, 0, 0))
    assert last(gone + "map ipa=0x9000000 size=4K phys=0 prot=r mc=4\nread ipa=0x9000000\n") == (ENXIO, ())


# Access flags


def test_without_ha_a_clear_access_flag_is_a_fault() -> None:
    for machine in (GUEST, HA + "hw_af = off\n", HA + "ac03_cpu_38 = on\n"):
        old = machine + WINDOW_MAPPED + "test_clear_young ipa=0x8000000 size=2M mkold=on\nread ipa=0x8000000\n"
        assert last(old) == (EFAULT, (DATA_READ | 0x0A, 0x80000, 0))


def test_with_ha_the_walker_sets_them_once() -> None:
    text = (
        HA
        + WINDOW_MAPPED
        + f"test_clear_young ipa=0x8000000 size=2M mkold=on\ntest_clear_young ipa={STUB:#x} size=4K mkold=on\n"
    )
    text += "probe ipa=0x8001000\nread ipa=0x8001000\nread ipa=0x8001000\nget_leaf ipa=0x8000000\n"
    observed = seen(text)
    probe, first, second, leaf = observed.records[-4:]
    assert flags_set(probe) == [leaf.outs[0]]
    assert leaf.outs[0] & 1 << 10
    assert len(flags_set(first)) == 1, "the code's own page"
    assert flags_set(second) == []


def test_code_and_data_of_one_block_share_its_flag() -> None:
    """A block that translates both, the window and the page behind it."""
    text = (
        HA.replace("ia_bits = 40", "ia_bits = 40\ngranule = 16k")
        + f"map ipa=0x42000000 size=32M phys={WINDOW:#x} prot=rwx mc=4\n"
    )
    text += "test_clear_young ipa=0x42000000 size=32M mkold=on\nread ipa=0x42001000\n"
    record = seen(text).records[-1]
    assert outcome(record) == (0, (0, 0, WINDOW + 0x1000 + DATA))
    assert len(flags_set(record)) == 1


def test_what_is_not_permitted_sets_none() -> None:
    text = HA + WINDOW_MAPPED.replace("rwx", "r") + "test_clear_young ipa=0x8000000 size=2M mkold=on\n"
    record = seen(text + "write ipa=0x8000000 value=0\n").records[-1]
    assert (outcome(record), flags_set(record)) == ((EFAULT, (DATA_WRITE | 0x0E, 0, 0)), [])


# For people


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (syndromes.par(0x8000_1000, 0xFF, 3), "pa=0x80001000 normal-wb inner-shareable"),
        (syndromes.par(0xF_FFFF_FFFF_F000, 0x44, 2), "pa=0xffffffffff000 normal-nc outer-shareable"),
        (syndromes.par(0, 0x04, 2), "pa=0x0 device-nGnRE outer-shareable"),
        (syndromes.par(0x1000, 0x4F, 0), "pa=0x1000 normal-outer-nc-inner-wb non-shareable"),
        (syndromes.par_of_fault(0x06, 2), "stage 2 translation fault, level 2"),
        (syndromes.par_of_fault(0x2B, 2), "stage 2 translation fault, level -1"),
        (syndromes.par_of_fault(0x0D, 1), "stage 1 permission fault, level 1"),
        (syndromes.par_of_fault(0x3F, 1), "stage 1 status 0x3f"),
    ],
)
def test_par_in_words(value: int, words: str) -> None:
    assert syndromes.describe_par(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "none"),
        (DATA_WRITE | 0x07, "data abort, write, translation fault, level 3"),
        (DATA_READ | 0x0A, "data abort, read, access flag fault, level 2"),
        (FETCH | 0x0F, "instruction abort, permission fault, level 3"),
        (FETCH | 1 << 26, "instruction abort at EL1, address size fault, level 0"),
        (DATA_READ | 1 << 7 | 0x05, "data abort, read, translation fault, level 1, on the walk of stage 1"),
        (0x17 << 26, "exception class 0x17, address size fault, level 0"),
    ],
)
def test_esr_in_words(value: int, words: str) -> None:
    assert syndromes.describe_esr(value) == words


def test_results_are_told_in_words() -> None:
    record = seen(GUEST + "read ipa=0x8000000\n").records[-1]
    told = [result.describe(value) for result, value in zip(record.definition.results, record.outs, strict=True)]
    assert told == ["esr=(data abort, read, translation fault, level 1)", "hpfar=0x80000", "value=0x0"]
