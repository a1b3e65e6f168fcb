"""What the emulated hardware makes of tables: translations, accesses at EL1, and what a TLB still held."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from difflib import unified_diff
from pathlib import Path
from typing import Final

import pytest
from altered_tree import IN_MAP, before

from harness.model.executor import Model
from harness.observation.events import WALKER_AF, events_of
from harness.observation.layout import Observation, Witness
from harness.observation.tlbi import OPERATIONS, Target
from harness.program.definition import Op
from harness.program.granule import GRANULES, Granule
from harness.program.guest import DATA, PIECE, STUB, WINDOW
from harness.program.machine import Machine
from harness.program.ops import op_of
from harness.program.program import Program
from harness.program.syndromes import DATA_ABORT, INSTRUCTION_ABORT, SAME_LEVEL, esr, hpfar, par, par_of_fault
from harness.program.text import parse
from reference.build.hosted import PGTABLE
from reference.build.image import Image, build
from reference.build.own_files import OURS
from reference.build.sources import KernelChoice, prepare
from reference.link.executor import ByGranule, Reference

MODEL = Model()
SUCCESS = (0, 0, 0)
TRANSLATION, ACCESS_FLAG, PERMISSION = 0b000100, 0b001000, 0b001100
EFAULT, ENODEV, ENXIO = -errno.EFAULT, -errno.ENODEV, -errno.ENXIO
NORMAL, INNER_SHAREABLE = 0xFF, 3

AF, READ, WRITE = 1 << 10, 1 << 6, 1 << 7
NORMAL_INNER = 0xF << 2 | 3 << 8
NO_EXEC = 1 << 54


def agreed(kernel: Reference | ByGranule, program: Program | str) -> Observation:
    """What the kernel observes, which is what the model does."""
    program = parse(f"s2 1\n{program}") if isinstance(program, str) else program
    seen = kernel.observe(program)
    assert seen.words == MODEL.observe(program).words
    return seen


def outcomes(seen: Observation) -> list[tuple[int | None, Sequence[int]]]:
    """Of every op that has the hardware do something: its result and what it tells."""
    guests = {"probe", "read", "write", "exec", "fault"}
    return [(record.ret, record.outs) for record in seen.records if record.definition.name in guests]


def flags_set(seen: Observation) -> list[int]:
    return [event.b for record in seen.records for event in events_of(record.events) if event.kind == WALKER_AF]


# Aborts


def planted(granule: Granule, root: int, level: int, ipa: int, entry: int) -> list[Op]:
    """Ops that have the walk of `ipa` end at that level, at that entry."""
    tables = [op_of("plant", ipa=ipa, level=above, pte=3) for above in range(root, level)]
    return [*tables, op_of("plant", ipa=ipa, level=level, pte=entry)]


@pytest.mark.parametrize("granule", GRANULES, ids=lambda granule: granule.name)
def test_every_class_of_abort_at_every_level(kernels: ByGranule, granule: Granule) -> None:
    root = 1 if granule.name != "4k" else 0
    machine = Machine.of(guest=1, granule=GRANULES.index(granule), ia_bits=48, pool_pages=64)
    first_block = 2 if granule.name != "4k" else 1
    ops: list[Op] = []
    expected: list[tuple[int, Sequence[int]]] = []
    place = 1

    def case(level: int, entry: int, access: str, status: int) -> None:
        nonlocal place
        # An entry of the root of its own; page by page below.
        ipa = (place << granule.level_shift(root)) + (place << granule.shift)
        place += 1
        ops.extend(planted(granule, root, level, ipa, entry))
        ops.append(op_of(access, ipa=ipa, **({"value": 1} if access == "write" else {})))
        address = ipa & -PIECE | (0 if access == "exec" else DATA)
        kind = INSTRUCTION_ABORT if access == "exec" else DATA_ABORT
        told = hpfar(address) if status & 0x3C != PERMISSION else 0
        expected.append((EFAULT, (esr(kind, status, access == "write"), told, 0)))

    for level in range(root, 4):
        case(level, 0, "read", TRANSLATION | level)
        case(level, 0, "exec", TRANSLATION | level)
    case(3, AF | READ | 1, "write", TRANSLATION | 3)  # no page at level 3
    for level in range(first_block, 4):
        leaf = NORMAL_INNER | (3 if level == 3 else 1)
        case(level, leaf | READ | WRITE, "write", ACCESS_FLAG | level)
        case(level, leaf | READ | WRITE, "exec", ACCESS_FLAG | level)
        case(level, leaf | AF | READ, "write", PERMISSION | level)
        case(level, leaf | AF | WRITE, "read", PERMISSION | level)
        case(level, leaf | AF | READ | WRITE | NO_EXEC, "exec", PERMISSION | level)
    assert outcomes(agreed(kernels, Program(tuple(ops), machine))) == expected


@pytest.mark.parametrize("granule", GRANULES, ids=lambda granule: granule.name)
def test_addresses_beyond_the_machines(kernels: ByGranule, granule: Granule) -> None:
    """Of the output: no more than 40 bits. Of the input: stage 2's level 0, and 52 bits, which EL1 itself refuses."""
    machine = Machine.of(guest=1, granule=GRANULES.index(granule), ia_bits=40, parange=2, pool_pages=64)
    root = 1 if granule.name == "4k" else 2
    leaf = NORMAL_INNER | AF | READ | WRITE | 1 << 41
    ops: list[Op] = []
    expected: list[tuple[int, Sequence[int]]] = []
    for level in range(2, 4):
        ipa = 4 * level + 1 << granule.level_shift(root)
        ops += [*planted(granule, root, level, ipa, leaf | (3 if level == 3 else 1)), op_of("read", ipa=ipa)]
        expected.append((EFAULT, (esr(DATA_ABORT, level, write=False), hpfar(ipa), 0)))
    beyond = 1 << 40
    ops.append(op_of("read", ipa=beyond))
    expected.append((EFAULT, (esr(DATA_ABORT, TRANSLATION, write=False), hpfar(beyond), 0)))
    ops += [op_of("write", ipa=1 << 52, value=1), op_of("exec", ipa=1 << 60), op_of("probe", ipa=1 << 52)]
    expected += [
        (EFAULT, (esr(DATA_ABORT + SAME_LEVEL, 0, write=True), 0, 0)),
        (EFAULT, (esr(INSTRUCTION_ABORT + SAME_LEVEL, 0, write=False), 0, 0)),
        (0, (par_of_fault(0, 1),) * 2),
    ]
    assert outcomes(agreed(kernels, Program(tuple(ops), machine))) == expected


# What succeeds


@pytest.mark.parametrize("granule", GRANULES, ids=lambda granule: granule.name)
def test_what_is_written_is_read_and_code_returns(kernels: ByGranule, granule: Granule) -> None:
    text = f"""\
guest = on
granule = {granule.name}

map ipa=0x0 size=2M phys={WINDOW:#x} prot=rwx mc=4
read ipa=0x3abc
write ipa=0x3000 value=0x12345678
read ipa=0x3fff
exec ipa=0x3abc
probe ipa=0x3abc
"""
    seen = agreed(kernels, text)
    translation = par(WINDOW + 0x3000, NORMAL, INNER_SHAREABLE)
    assert outcomes(seen) == [
        (0, (0, 0, WINDOW + 0x3000 + DATA)),
        (0, SUCCESS),
        (0, (0, 0, 0x12345678)),
        (0, SUCCESS),
        (0, (translation, translation)),
    ]
    assert not seen.witnesses
    again = agreed(kernels, text.replace("write ", "# write "))
    assert outcomes(again)[1] == (0, (0, 0, WINDOW + 0x3000 + DATA)), "nothing survives a program"


def test_the_walker_sets_access_flags_where_it_may(kernel: Reference) -> None:
    text = f"""\
guest = on
ha = on

map ipa=0x0 size=4K phys={WINDOW:#x} prot=rw mc=4
test_clear_young ipa=0x0 size=4K mkold=on
probe ipa=0x0
test_clear_young ipa=0x0 size=4K mkold=on
test_clear_young ipa={STUB:#x} size=4K mkold=on
read ipa=0x0
"""
    seen = agreed(kernel, text)
    assert [ret for ret, _ in outcomes(seen)] == [0, 0]
    assert [value & AF for value in flags_set(seen)] == [AF] * 3
    for knob in ("ha = off", "ha = on\nhw_af = off"):
        without = agreed(kernel, text.replace("ha = on", knob))
        assert [ret for ret, _ in outcomes(without)] == [0, EFAULT] and not flags_set(without)
        probed = outcomes(without)[0][1]
        assert probed == (par_of_fault(ACCESS_FLAG | 3, 2),) * 2


def test_an_access_flag_that_a_tlb_spared_the_walker_is_set_all_the_same(kernel: Reference) -> None:
    """mkold invalidates nothing, so the next access may find the old translation; afresh it would set the flag."""
    seen = agreed(
        kernel,
        f"""\
guest = on
ha = on

map ipa=0x0 size=4K phys={WINDOW:#x} prot=rw mc=4
read ipa=0x0
test_clear_young ipa=0x0 size=4K mkold=on
read ipa=0x0
""",
    )
    assert len(flags_set(seen)) == 1 and not seen.witnesses


def test_an_access_flag_that_a_stale_translation_has_set_is_taken_back(kernel: Reference) -> None:
    """The guest's code runs where a TLB alone still has it; what it reaches then, the table does not lead it to."""
    seen = agreed(
        kernel,
        """\
guest = on
ha = on

fault ipa=0x0 access=read
walk ipa=0x40000000 size=4K flags=table_pre visitor=clear
map ipa=0x40000000 size=4K phys=0x42000000 prot=r mc=2
test_clear_young ipa=0x40000000 size=4K mkold=on
fault ipa=0x40000000 access=read
""",
    )
    assert not flags_set(seen)
    assert [one.record for one in seen.witnesses] == [5]


# What a guest cannot reach


def test_no_access_leaves_the_window(kernel: Reference) -> None:
    for phys in (WINDOW - 0x1000, WINDOW + (2 << 20), STUB, 0x4020_0000, 0x4400_0000, 0x900_0000, 1 << 40):
        seen = agreed(
            kernel,
            f"guest = on\nmap ipa=0x0 size=4K phys={phys:#x} prot=rwx mc=4\n"
            "read ipa=0x0\nwrite ipa=0x0 value=0\nexec ipa=0x0\nfault ipa=0x0 access=write\n",
        )
        assert outcomes(seen) == [(ENXIO, ())] * 4


def test_no_access_where_the_emulator_sees_memory_behind_a_fault(kernel: Reference) -> None:
    """There are no blocks of 512G without LPA2, but QEMU 7.2 takes one for it: of memory that may only be executed."""
    seen = kernel.observe(
        parse("s2 1\nguest = on\nia_bits = 44\nplant ipa=0x0 level=0 pte=0x8000000f01\nread ipa=0x0\nexec ipa=0x0\n")
    )
    assert {ret for ret, _ in outcomes(seen)} <= {ENXIO, EFAULT}


def test_no_access_by_code_of_elsewhere(kernel: Reference) -> None:
    seen = agreed(
        kernel,
        f"guest = on\nunmap ipa={STUB:#x} size=4K\nmap ipa={STUB:#x} size=4K phys={WINDOW:#x} prot=rwx mc=4\n"
        f"map ipa=0x0 size=4K phys={WINDOW:#x} prot=rwx mc=4\nread ipa=0x0\nprobe ipa=0x0\n",
    )
    assert [ret for ret, _ in outcomes(seen)] == [ENXIO, 0]


def test_without_its_code_the_guest_cannot_even_try(kernel: Reference) -> None:
    seen = agreed(kernel, f"guest = on\nread ipa=0x0\nunmap ipa={STUB:#x} size=4K\nread ipa=0x0\n")
    read = esr(DATA_ABORT, TRANSLATION | 1, write=False), hpfar(0), 0
    fetch = esr(INSTRUCTION_ABORT, TRANSLATION | 1, write=False), hpfar(STUB), 0
    assert outcomes(seen) == [(EFAULT, read), (EFAULT, fetch)]


@pytest.mark.parametrize(
    "knobs",
    ["", "guest = on\npool_base = 0x80000000", "guest = on\nparange = 36", "guest = on\nia_bits = 50"],
    ids=["no guest", "elsewhere", "more than KVM gives", "more than the architecture has"],
)
def test_what_the_hardware_cannot_look_at(kernel: Reference, knobs: str) -> None:
    seen = agreed(kernel, f"{knobs}\nread ipa=0x0\nprobe ipa=0x0\n")
    assert outcomes(seen)[0] == (ENODEV, ())
    assert outcomes(seen)[1][0] == (ENODEV if knobs else 0)


# What a TLB still held

MAPPED: Final = f"guest = on\nmap ipa=0x0 size=2M phys={WINDOW:#x} prot=rwx mc=4\n"
GONE: Final = "plant ipa=0x0 level=2 pte=0x0\n"
ELSEWHERE: Final = f"plant ipa=0x0 level=3 pte={WINDOW + PIECE | NORMAL_INNER | AF | READ | WRITE | 3:#x}\n"
ONE_PAGE: Final = f"guest = on\nmap ipa=0x0 size=4K phys={WINDOW:#x} prot=rwx mc=4\n"


def test_a_forgotten_invalidation_is_witnessed(kernel: Reference) -> None:
    for _ in range(3):
        seen = agreed(kernel, MAPPED + "read ipa=0x1000\n" + GONE + "read ipa=0x1000\n")
        assert outcomes(seen)[1][0] == EFAULT, "what is recorded is afresh"
        assert seen.witnesses == (Witness(4, 0, WINDOW + PIECE + DATA),)
        kernel.start(parse("s2 1\n" + MAPPED + "read ipa=0x1000\n" + GONE + "read ipa=0x1000\n"))
        assert kernel.finish().witnessed == 1
    seen = agreed(kernel, MAPPED + "read ipa=0x1000\n" + GONE + "tlb_flush_vmid\nread ipa=0x1000\n")
    assert not seen.witnesses


def test_a_stale_write_is_undone(kernel: Reference) -> None:
    """The word where it went is as it was, and the word where it should have gone is written."""
    text = ONE_PAGE + "write ipa=0x0 value=1\n" + ELSEWHERE + "write ipa=0x0 value=2\n"
    look = f"map ipa=0x200000 size=8K phys={WINDOW:#x} prot=rw mc=4\nread ipa=0x200000\nread ipa=0x201000\n"
    seen = agreed(kernel, text + look)
    assert [outs for _, outs in outcomes(seen)] == [SUCCESS, SUCCESS, (0, 0, 1), (0, 0, 2)]
    assert seen.witnesses == (Witness(4, 0, WINDOW),)


def test_where_stale_code_ran(kernel: Reference) -> None:
    seen = agreed(kernel, ONE_PAGE + "exec ipa=0x0\n" + ELSEWHERE + "exec ipa=0x0\n")
    assert outcomes(seen) == [(0, SUCCESS)] * 2
    assert seen.witnesses == (Witness(4, 0, WINDOW),)


def test_the_code_itself_may_be_stale(kernel: Reference) -> None:
    seen = agreed(kernel, ONE_PAGE + f"read ipa=0x0\nplant ipa={STUB:#x} level=3 pte=0x0\nread ipa=0x0\n")
    assert outcomes(seen)[1][1][0] == esr(INSTRUCTION_ABORT, TRANSLATION | 3, write=False)
    assert seen.witnesses == (Witness(4, 0, WINDOW + DATA),)


NVHE: Final = "arch/arm64/kvm/hyp/nvhe/tlb.c"
VHE: Final = "arch/arm64/kvm/hyp/vhe/tlb.c"
ASTRAY: Final = 0x1000


def patched(folder: Path, bugs: Mapping[str, Mapping[str, str]]) -> Image:
    """The default kernel with changes by file: each line that is a key becomes its value, wherever it stands."""
    plain, patch = prepare(KernelChoice()), []
    for file, changes in bugs.items():
        lines = (plain.root / file).read_text().split("\n")
        assert set(changes) <= set(lines)
        changed = [changes.get(line, line) for line in lines]
        patch += unified_diff(lines, changed, f"a/{file}", f"b/{file}", lineterm="")
    (folder / "bugs.patch").write_text("\n".join(patch) + "\n")
    return build(prepare(KernelChoice("6.12", (folder / "bugs.patch",))))


def every_tlbi() -> dict[str, str]:
    """The change that makes an invalidation of a range of n pages the operation n - 1 of OPERATIONS, of address 0."""
    cases = " ".join(
        f'case {number}: asm volatile("tlbi {one.name}{", %0" if one.takes_operand else ""}" :: "r"(0ul)); break;'
        for number, one in enumerate(OPERATIONS, 1)
    )
    text = (prepare(KernelChoice()).root / NVHE).read_text()
    found = re.search(
        r"^(\t__flush_s2_tlb_range_op\(ipas2e1is,.*)\n(.*)\n\n\tdsb\(ish\);\n(\t__tlbi\(vmalle1is\);)",
        text,
        re.MULTILINE,
    )
    assert found is not None
    return {found[1]: f"\tswitch (pages) {{ {cases} }}", found[2]: "", found[3]: ""}


@pytest.fixture(scope="module")
def with_bugs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    """A kernel that invalidates nothing by VMID after it did by IPA, and any other thing by range; with VHE, nothing of
    EL1's regime. A map of ASTRAY has an entry of the root lead out of the pool."""
    astray = before(IN_MAP, f"if (phys == {ASTRAY:#x}) ((u64 *)pgt->pgd)[2] = 0x50000003; ")
    bugs = {NVHE: every_tlbi(), VHE: {"\tval &= ~HCR_TGE;": ""}, str(PGTABLE): astray}
    image = patched(tmp_path_factory.mktemp("bugs"), bugs)
    with closing(Reference(image, "kernel:bugs")) as kernel:
        yield kernel


def unmapped(knobs: str) -> Program:
    """A page is unmapped, which invalidates it by IPA."""
    page = f"map ipa=0x1000 size=4K phys={WINDOW:#x} prot=rw mc=4\nread ipa=0x1000\n"
    return parse(f"s2 1\n{knobs}\ntlb_range = off\nguest = on\n{page}unmap ipa=0x1000 size=4K\nread ipa=0x1000\n")


STALE_PAGE: Final = (Witness(4, 0, WINDOW + DATA),)
VHE_RUNS: Final = "kvm_mode = vhe"


@pytest.mark.parametrize("knobs", ["", VHE_RUNS], ids=["combined entries left", "TGE kept"])
def test_bugs_of_tlb_maintenance_are_seen_by_el1(kernel: Reference, with_bugs: Reference, knobs: str) -> None:
    assert not agreed(kernel, unmapped(knobs)).witnesses
    assert with_bugs.observe(unmapped(knobs)).witnesses == STALE_PAGE


@pytest.mark.slow
def test_vmids_that_are_not_switched_are_seen_by_el1(tmp_path: Path) -> None:
    bugs = {
        NVHE: {"\t\t__load_stage2(mmu, kern_hyp_va(mmu->arch));": ";"},
        VHE: {"\t__load_stage2(mmu, mmu->arch);": ""},
    }
    with closing(Reference(patched(tmp_path, bugs), "kernel:bugs")) as kernel:
        for knobs in ("", VHE_RUNS, "kvm_mode = pkvm_guest"):
            assert kernel.observe(unmapped(knobs)).witnesses == STALE_PAGE
            # Where the vCPU of that stage 2 runs, there is nothing to switch; a VHE host switches all the same.
            own = kernel.observe(unmapped(f"{knobs}\nvcpu = own"))
            assert not own.witnesses


def test_which_tlbis_reach_what_an_access_has_left(with_bugs: Reference) -> None:
    """Those by IPA, range or not, reach no combined entries, and those of EL2 none of EL1; all others hit this one."""
    left = {}
    for pages, one in enumerate(OPERATIONS, 1):
        flush = f"tlb_flush_vmid_range ipa=0x0 size={pages << 12:#x}\n"
        seen = with_bugs.observe(parse("s2 1\n" + MAPPED + "read ipa=0x1000\n" + GONE + flush + "read ipa=0x1000\n"))
        left[one.name] = len(seen.witnesses)
    expected = {one.name: int(one.target is Target.STAGE_2 or one.regime == 2) for one in OPERATIONS}
    assert left == expected


def test_a_table_outside_the_pool_is_not_walked(with_bugs: Reference) -> None:
    """Nor is it left to the hardware."""
    asked = "read ipa=0x80000000\nprobe ipa=0x80000000\nprobe ipa=0x0\n"
    seen = with_bugs.observe(parse(f"s2 1\nguest = on\nmap ipa=0x0 size=4K phys={ASTRAY:#x} prot=r mc=4\n{asked}"))
    assert [ret for ret, _ in outcomes(seen)] == [ENXIO, ENXIO, 0]


def test_a_tlbi_before_the_guest_was_looked_at_changes_nothing(kernel: Reference) -> None:
    assert not agreed(
        kernel, "guest = on\ntlb_flush_vmid\n" + MAPPED[len("guest = on\n") :] + "read ipa=0x0\n"
    ).witnesses


# Hyp's stage 1


def test_hyp_tables_are_looked_at_by_el3(image: Image) -> None:
    text = """\
stage = 1
{knobs}
hyp_map va=0x200000 size=2M phys=0x80000000 prot=rw
hyp_map va=0x1000 size=4K phys=0x90000000 prot=r
probe ipa=0x212345
probe ipa=0x1000
probe ipa=0x40000000
probe ipa=0x7000000000000000
"""
    normal = par(0x8001_2000, NORMAL, INNER_SHAREABLE)
    expected = [
        (0, (normal, normal)),
        (0, (par(0x9000_0000, NORMAL, INNER_SHAREABLE), par_of_fault(PERMISSION | 3, 1))),
        (0, (par_of_fault(TRANSLATION | 1, 1),) * 2),
        (0, (par_of_fault(TRANSLATION, 1),) * 2),
    ]
    with closing(Reference(image, "kernel:6.12")) as kernel:
        agreed(kernel, MAPPED)
        assert not kernel.link.has_monitor
        for knobs in ("", "hvhe = on", "lpa2 = on", "pool_base = 0x80000000"):
            seen = agreed(kernel, text.format(knobs=knobs))
            assert outcomes(seen) == ([(ENODEV, ())] * 4 if "pool" in knobs else expected)
        assert kernel.link.has_monitor
        assert outcomes(agreed(kernel, MAPPED + "read ipa=0x0\n")) == [(0, (0, 0, WINDOW + DATA))]
        assert kernel.boots == 1, "that is no restart"


# Where all that lies


def test_the_image_ends_before_the_window() -> None:
    script = (OURS / "link.ld").read_text()
    assert re.findall(r"ASSERT\(emergency_stack_end <= (0x\w+), \"there the guest's window", script) == [hex(WINDOW)]
