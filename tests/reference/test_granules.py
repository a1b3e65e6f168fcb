"""Linux compiled for every granule, and the model: the same words; and a kernel refuses what is not for it."""

from __future__ import annotations

import pytest
from sample_programs import random_programs
from seeds import refusal

from harness.errors import BadInput, ToolFailure
from harness.model.executor import Model
from harness.program.codec import dialect_for
from harness.program.granule import GRANULES, Granule
from harness.program.machine import MAX_POOL_PAGES, Machine
from harness.program.ops import op_of
from harness.program.program import Program
from harness.program.text import format_program
from harness.verdict.judge import Judge
from reference.link.executor import ByGranule, Reference
from reference.protocol import encode_program

RW = 6
OTHERS = [granule for granule in GRANULES if granule.name != "4k"]
every_granule = pytest.mark.parametrize("granule", GRANULES, ids=[granule.name for granule in GRANULES])


def disagreements(kernels: ByGranule, programs: list[Program]) -> list[str]:
    """Of those that the kernel can run."""
    judge = Judge(Model(kernels.name.partition(":")[2]), kernels)
    runnable = [program for program in programs if refusal(judge.left, program) is None]
    assert len(runnable) >= len(programs) / 2
    return [format_program(program) for program in runnable if not judge.agree(program)]


def shape(kernels: ByGranule, machine: Machine) -> tuple[int, ...]:
    """vtcr, ia_bits, start_level and root_pages."""
    return kernels.observe(Program((), machine)).records[0].outs


@pytest.mark.parametrize("granule", OTHERS, ids=[granule.name for granule in OTHERS])
def test_random_programs(every_kernel: ByGranule, granule: Granule) -> None:
    dialect = dialect_for(every_kernel.capabilities, granule)
    assert disagreements(every_kernel, random_programs(seed=9, count=120, dialect=dialect)) == []


@every_granule
def test_every_size_of_guest(every_kernel: ByGranule, granule: Granule) -> None:
    """The shape of the root, its last page, and one beyond; with 48 and with 52 bits of physical address."""
    programs = []
    for bits in range(32, 53):
        last = (1 << bits) - granule.page
        ops = [
            op_of("map", ipa=last, size=granule.page, phys=(1 << 52) - granule.page, prot=RW, mc=6),
            op_of("map", ipa=0, size=granule.block, phys=granule.block, prot=RW, mc=6),
            op_of("walk", ipa=last, size=granule.page, flags=7),
            op_of("get_leaf", ipa=1 << bits),
            op_of("unmap", ipa=last, size=granule.page),
        ]
        for knobs in ({}, {"lpa2": 1}, {"pa_bits_52": 1}, {"lpa2": 1, "parange": 3, "vmid_bits": 0}):
            number = GRANULES.index(granule)
            programs.append(Program(tuple(ops), Machine.of(granule=number, ia_bits=bits, **knobs)))
    assert disagreements(every_kernel, programs) == []


@every_granule
def test_every_bit_of_an_address(kernels: ByGranule, granule: Granule) -> None:
    """Of a page, and of a table, whose pool lies there."""
    number = GRANULES.index(granule)
    programs = []
    for knobs in ({"lpa2": 1}, {"pa_bits_52": 1}, {}):
        wide = Machine.of(granule=number, **knobs)
        ops = tuple(
            op_of("map", ipa=bit * granule.page, size=granule.page, phys=1 << bit, prot=RW, mc=4)
            for bit in range(granule.shift, 52)
        )
        programs.append(Program((*ops, op_of("walk", ipa=0, size=64 * granule.page, flags=7)), wide))
        programs += [Program(ops[:3], wide.replace("pool_base", 1 << bit)) for bit in range(26, wide.phys_bits)]
    assert disagreements(kernels, programs) == []


def test_pa_bits_52_matters_with_64k_pages_only(kernels: ByGranule) -> None:
    """The one thing that Linux decides when it is compiled, and we when a program runs."""
    sizes = []
    for number in range(len(GRANULES)):
        for wide in (0, 1):
            vtcr, *_ = shape(kernels, Machine.of(granule=number, pa_bits_52=wide))
            sizes.append(vtcr >> 16 & 7)
    assert sizes == [5, 5, 5, 5, 5, 6]


def test_the_cpu_is_the_machine_s(kernels: ByGranule) -> None:
    seen = {shape(kernels, Machine.of(parange=parange, lpa2=1))[0] >> 16 & 7 for parange in range(7)}
    assert seen == set(range(7))
    assert [shape(kernels, Machine.of(vmid_bits=bits))[0] >> 19 & 1 for bits in (0, 1)] == [0, 1]


def test_a_program_for_another_granule_is_refused(kernel: Reference) -> None:
    program = Program((), Machine.of(granule=1))
    with pytest.raises(BadInput, match="built for pages of 4k, cannot run this program: its granule is 16k"):
        kernel.observe(program)
    kernel._begin("D", encode_program(program))  # past the check, as a driver with a bug would
    with pytest.raises(ToolFailure, match="malformed program"):
        kernel._complete("D")
    assert kernel.observe(Program(())).root is not None


def test_each_granule_has_an_image_of_its_own(kernels: ByGranule) -> None:
    images = {kernels.of(granule).image.sha256 for granule in GRANULES}
    assert len(images) == len(GRANULES)
    for granule in GRANULES:
        assert kernels.of(granule).image.identity["granule"] == granule.name
        assert kernels.identity["granule"] == granule.name


def test_the_guest_s_own_tables_keep_to_the_pool(kernels: ByGranule) -> None:
    """What lies beyond the pages that a machine has is not mapped, whatever machine came before."""
    for number, granule in enumerate(GRANULES):
        for pages in (256, 3, MAX_POOL_PAGES, 40, 1, MAX_POOL_PAGES, 256):
            machine = Machine.of(granule=number, pool_pages=pages)
            ops = tuple(op_of("map", ipa=at << 40, size=1, phys=0, prot=RW, mc=40) for at in range(4))
            assert disagreements(kernels, [Program(ops, machine)]) == [], granule
