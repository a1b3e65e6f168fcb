"""Our build of pgtable.c, with the shim headers, does what the kernel's own build of it does (docs/fidelity.md)."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Container
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from altered_tree import with_changes
from sample_programs import SPECIAL, map_op, random_programs, unmap_op
from seeds import missing

from fuzz.mutation import fresh
from fuzz.sides import choose_sides
from harness.codec import decode, dialect_for
from harness.errors import BadInput
from harness.executor import Executor, TargetDied
from harness.granule import GRANULE_4K, GRANULES, Granule, granule_named
from harness.model import Model
from harness.observation import Digest
from harness.program import Program
from harness.program_text import format_program, read
from reference import build as build_module
from reference.build import SHIM, Image, build
from reference.executor import ByGranule, Reference
from reference.kbuild import Configuration
from reference.make_build import build_by_make, patches_of
from reference.memory_map import RAM_BASE
from reference.ram import RamLink

pytestmark = [pytest.mark.fidelity, pytest.mark.xdist_group("fidelity")]

CORPORA: Final = Path(__file__).parents[2] / "corpora"


OFFER: Final = Model("6.12").offer
"""What programs may ask for."""


def lives(seed: int, count: int, stage: int = 2, granule: Granule = GRANULE_4K) -> list[Program]:
    """What the fuzzer starts from."""
    choice, dialect = random.Random(seed), dialect_for(OFFER, granule)
    return [decode(fresh(choice, dialect, (stage,)), dialect) for _ in range(count)]


PROGRAMS: Final = [
    *SPECIAL.values(),
    *(one for one in map(read, sorted(CORPORA.rglob("*.s2"))) if not missing(OFFER, one)),
    *random_programs(seed=12, count=2000, dialect=dialect_for(OFFER, GRANULE_4K)),
    *lives(seed=12, count=3000),
    *lives(seed=12, count=1000, stage=1),
    *(
        program
        for granule in GRANULES
        if granule is not GRANULE_4K
        for stage, count in ((1, 300), (2, 1000))
        for program in lives(12, count, stage, granule)
    ),
]


def digest(executor: Executor, program: Program) -> Digest:
    executor.start(program)
    return executor.finish()


def first_difference(left: Executor, right: Executor, granules: Container[Granule] = GRANULES) -> str | None:
    """The first program on which the two differ, as text; one that only one of them survives is such a program."""
    for program in PROGRAMS:
        if program.machine.granule not in granules:
            continue
        try:
            if digest(left, program) != digest(right, program):
                return format_program(program)
        except TargetDied as death:
            return f"# {death}\n{format_program(program)}"
    return None


def test_the_same_word_for_word(kernels: ByGranule, made: Executor) -> None:
    """Results, tables, accounting, and every event in order, the inline stores and barriers among them."""
    assert first_difference(kernels, made) is None


@pytest.mark.parametrize("granule", GRANULES, ids=lambda granule: granule.name)
def test_the_programs_switch_every_knob(granule: Granule) -> None:
    wide = "pa_bits_52" if granule.name == "64k" else "lpa2"
    for knob in ("fwb", "tlb_range", "hw_af", "ac03_cpu_38", "nofwb", "ttl", "bti", "hvhe", wide):
        values = {program.machine[knob] for program in PROGRAMS if program.machine.granule == granule}
        assert values == {0, 1}, knob


@pytest.mark.parametrize("granule", GRANULES, ids=lambda granule: granule.name)
def test_the_model_agrees_with_the_kernels_own_build(made: Executor, granule: Granule) -> None:
    model = Model()
    for program in lives(13, 200, granule=granule) + lives(13, 100, 1, granule):
        assert digest(model, program) == digest(made, program), format_program(program)


NEVER_REACHED: Final = {
    ("cas", "stage2_age_walker"): "test_clear_young's walk is never shared",
    ("cas", "stage2_map_walker_try_leaf"): "it comes after a test that the walk is not shared",
}
"""Recorded instructions that no program runs: class, function, and why."""


CONFIGURATIONS: Final = (
    *(Configuration("6.12", granule) for granule in GRANULES),
    Configuration("6.12", granule_named("64k"), has_52_bits=True),
)


def name_of(configuration: Configuration) -> str:
    return configuration.granule.name + "-52" * configuration.has_52_bits


@pytest.mark.parametrize("configuration", CONFIGURATIONS[:-1], ids=name_of)
def test_every_recorded_instruction_runs(image: Image, configuration: Configuration) -> None:
    """So that the agreement above says something about each of them. (The last configuration has few programs.)"""
    patches = patches_of(image.tree, configuration)
    with closing(Reference(build_by_make(image.tree, configuration), "kernel-make:6.12")) as made:
        for program in PROGRAMS:
            if Configuration.of("6.12", program.machine) == configuration:
                digest(made, program)
        assert isinstance(made.link, RamLink)
        start = made.symbols.address("sites_hit") - RAM_BASE
        hit = made.link.ram.memory[start : start + len(patches.sites)]
    missed = [site for site, ran in zip(patches.sites, hit, strict=True) if not ran]
    assert {(site.what, site.function) for site in missed} == NEVER_REACHED.keys()


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=name_of)
def test_what_is_not_recorded(image: Image, configuration: Configuration) -> None:
    """Instructions that order, invalidate or leave EL2 are recorded, or their class and reason are among these."""
    assert {(site.what, reason) for site, reason in patches_of(image.tree, configuration).unrecorded} == {
        ("dmb", "the end of that compare-and-swap"),
        ("exclusive", "the compare-and-swap of CPUs without LSE atomics; this one has them"),
        ("hvc", "how a host at EL1 calls hyp; this one is at EL2 (ARM64_HAS_VIRT_HOST_EXTN)"),
        ("isb", "after a call of a hyp function, a VHE host synchronises; it is no part of the file"),
    }


CAPABILITIES: Final = {
    "ALWAYS_BOOT": "always",
    "ALWAYS_SYSTEM": "always",
    "BTI": "the knob bti",
    "HAS_ARMv8_4_TTL": "the knob ttl",
    "HAS_LPA2": "the knob lpa2",
    "HAS_LSE_ATOMICS": "always: the emulated CPU has them",
    "HAS_STAGE2_FWB": "the knob fwb",
    "HAS_TLB_RANGE": "the knob tlb_range",
    "HAS_VIRT_HOST_EXTN": "always: a VHE host",
    "KVM_HVHE": "the knob hvhe",
    "WORKAROUND_AMPERE_AC03_CPU_38": "the knob ac03_cpu_38",
    "WORKAROUND_REPEAT_TLBI": "the knob repeat_tlbi",
}
"""What the object's alternatives ask for, and when kernel/patching.c says that it is there."""


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=name_of)
def test_what_the_alternatives_ask_for(image: Image, configuration: Configuration) -> None:
    text = (image.tree.generated / "asm/cpucap-defs.h").read_text()
    names = {int(number): name for name, number in re.findall(r"#define ARM64_(\w+)\s+(\d+)", text)}
    assert {names[one.capability] for one in patches_of(image.tree, configuration).alternatives} == CAPABILITIES.keys()


SHIM_BUGS: Final = {
    "a release store recorded as a plain one": (
        "linux/kvm_host.h",
        "(u64)(v), S2FUZZ_STORE_RELEASE)",
        "(u64)(v), S2FUZZ_STORE_PLAIN)",
    ),
    "cmpxchg returns the new value": ("linux/kvm_host.h", "	__expected;	", "	(new);	"),
    "a TLBI twice": ("linux/kvm_host.h", "f(__VA_ARGS__)\n", "(f(__VA_ARGS__), f(__VA_ARGS__))\n"),
    "VMIDs always of 8 bits": ("asm/cpufeature.h", "== 2 ? 16 : 8", "== 3 ? 16 : 8"),
    "PAGE_ALIGN rounds down": ("linux/pgtable.h", "ALIGN(addr, PAGE_SIZE)", "ALIGN_DOWN(addr, PAGE_SIZE)"),
    "WARN_ON_ONCE warns again": ("asm/bug.h", "		__already = 1;	", "		__already = 0;	"),
}
"""Planted in a copy of the shim headers: file, text that occurs once, what it becomes."""


@pytest.mark.parametrize("what", SHIM_BUGS)
def test_a_mistake_in_the_shim_is_found(
    what: str, image: Image, made: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, old, new = SHIM_BUGS[what]
    shim = tmp_path / "shim"
    shutil.copytree(SHIM, shim)
    text = (shim / name).read_text()
    assert text.count(old) == 1
    (shim / name).write_text(text.replace(old, new))
    monkeypatch.setattr(build_module, "SHIM", shim)
    with closing(Reference(build(image.tree), "kernel:wrong-shim")) as wrong:
        assert first_difference(wrong, made, {GRANULE_4K}) is not None


def test_a_changed_file_is_built_with_the_kernels_flags(image: Image, made: Executor, tmp_path: Path) -> None:
    """A planted bug in pgtable.c shows in the kernel's own build of it as well."""
    changes = {"	WRITE_ONCE(*ptep, 0);": "	WRITE_ONCE(*ptep, 4);"}
    tree = with_changes(image.tree, tmp_path / "changed.c", changes)
    program = Program((map_op(0x1000), unmap_op(0x1000)))
    with (
        closing(Reference(build_by_make(tree, CONFIGURATIONS[0]), "kernel-make:changed")) as changed,
        closing(Reference(build(tree), "kernel:changed")) as ours,
    ):
        assert digest(changed, program) == digest(ours, program) != digest(made, program)


def test_a_patch_is_refused() -> None:
    side = choose_sides(sides="model:6.12,kernel-make:6.12", patches=(Path("some.patch"),))[1]
    with pytest.raises(BadInput, match="built as it is packaged"):
        side.image(lambda _: None)
