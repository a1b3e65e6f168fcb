"""Our build of pgtable.c, with the shim headers, does what the kernel's own build of it does (docs/fidelity.md)."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Container, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from altered_tree import with_changes
from sample_programs import SPECIAL, map_op, random_programs, unmap_op
from seeds import missing

from fuzz.generate.fresh import fresh
from fuzz.sides import choose_sides
from harness.errors import BadInput
from harness.model.executor import Model
from harness.observation.executor import Executor, TargetDied
from harness.observation.layout import Digest
from harness.program.codec import decode, dialect_for
from harness.program.granule import GRANULE_4K, GRANULES, Granule, granule_named
from harness.program.program import Program
from harness.program.text import format_program, read
from reference.build import image as build_module
from reference.build.image import build
from reference.build.kbuild import Configuration
from reference.build.make_build import build_by_make, patches_of
from reference.build.naming import SUPPORTED
from reference.build.own_files import SHIM
from reference.build.sources import KernelChoice, prepare
from reference.build.tree import KernelTree
from reference.link.executor import ByGranule, Reference
from reference.link.ram import RamLink
from reference.memory_map import RAM_BASE

pytestmark = [pytest.mark.fidelity, pytest.mark.xdist_group("fidelity")]

CORPORA: Final = Path(__file__).parents[2] / "corpora"


def generated(linux: str, seed: int, count: int, stage: int = 2, granule: Granule = GRANULE_4K) -> list[Program]:
    """What the fuzzer starts from."""
    choice, dialect = random.Random(seed), dialect_for(Model(linux).capabilities, granule)
    return [decode(fresh(choice, dialect, (stage,)), dialect) for _ in range(count)]


@cache
def programs_for(linux: str) -> list[Program]:
    """Of all granules and both stages, what a version can run."""
    capabilities = Model(linux).capabilities
    written = [*SPECIAL.values(), *map(read, sorted(CORPORA.rglob("*.s2")))]
    return [
        *(one for one in written if not missing(capabilities, one)),
        *random_programs(seed=12, count=2000, dialect=dialect_for(capabilities, GRANULE_4K)),
        *generated(linux, seed=12, count=3000),
        *generated(linux, seed=12, count=1000, stage=1),
        *(
            program
            for granule in GRANULES
            if granule is not GRANULE_4K
            for stage, count in ((1, 300), (2, 1200))
            for program in generated(linux, 12, count, stage, granule)
        ),
    ]


def digest(executor: Executor, program: Program) -> Digest:
    executor.start(program)
    return executor.finish().digest


def first_difference(
    linux: str, left: Executor, right: Executor, granules: Container[Granule] = GRANULES
) -> str | None:
    """The first program on which the two differ, as text; one that only one of them survives is such a program."""
    for program in programs_for(linux):
        if program.machine.granule not in granules:
            continue
        try:
            if digest(left, program) != digest(right, program):
                return format_program(program)
        except TargetDied as death:
            return f"# {death}\n{format_program(program)}"
    return None


def test_the_same_word_for_word(linux: str, every_kernel: ByGranule, made: Executor) -> None:
    """Results, tables, accounting, and every event in order, the inline stores and barriers among them."""
    assert first_difference(linux, every_kernel, made) is None


@pytest.mark.parametrize("granule", GRANULES, ids=lambda granule: granule.name)
def test_the_programs_switch_every_knob(linux: str, granule: Granule) -> None:
    wide = "pa_bits_52" if granule.name == "64k" else "lpa2"
    programs = [program for program in programs_for(linux) if program.machine.granule == granule]
    for knob in ("fwb", "tlb_range", "hw_af", "ac03_cpu_38", "nofwb", "ttl", "bti", "hvhe", wide):
        values = {0, 1} if Model(linux).capabilities.has(knob) else {0}
        assert {program.machine[knob] for program in programs} == values, knob


@pytest.mark.parametrize("granule", GRANULES, ids=lambda granule: granule.name)
def test_the_model_agrees_with_the_kernels_own_build(linux: str, made: Executor, granule: Granule) -> None:
    model = Model(linux)
    for program in generated(linux, 13, 200, granule=granule) + generated(linux, 13, 100, 1, granule):
        assert digest(model, program) == digest(made, program), format_program(program)


NEVER_REACHED: Final[Mapping[str, Mapping[tuple[str, str], str]]] = {
    "6.12": {
        ("cas", "stage2_age_walker"): "test_clear_young's walk is never shared",
        ("cas", "stage2_map_walker_try_leaf"): "it comes after a test that the walk is not shared",
    },
    "6.1": {},
}
"""Recorded instructions that no program runs, by version: class, function, and why."""


def configurations(linux: str) -> list[Configuration]:
    """Those in which the object is looked at; the last has few programs."""
    return [
        *(Configuration(linux, granule) for granule in GRANULES),
        Configuration(linux, granule_named("64k"), has_52_bits=True),
    ]


CONFIGURATIONS: Final = [one for linux in SUPPORTED for one in configurations(linux)]


def name_of(configuration: Configuration) -> str:
    return f"{configuration.linux}-{configuration.granule.name}" + "-52" * configuration.has_52_bits


def tree_of(configuration: Configuration) -> KernelTree:
    return prepare(KernelChoice(configuration.linux))


@pytest.mark.parametrize("configuration", [one for one in CONFIGURATIONS if not one.has_52_bits], ids=name_of)
def test_every_recorded_instruction_runs(configuration: Configuration) -> None:
    """So that the agreement above says something about each of them."""
    linux, tree = configuration.linux, tree_of(configuration)
    patches = patches_of(tree, configuration)
    with closing(Reference(build_by_make(tree, configuration), f"kernel-make:{linux}")) as made:
        for program in programs_for(linux):
            if Configuration.of(linux, program.machine) == configuration:
                digest(made, program)
        assert isinstance(made.link, RamLink)
        start = made.symbols.address("sites_hit") - RAM_BASE
        *hit, window = made.link.ram.memory[start : start + len(patches.sites) + 1]
    assert window, "vmid.c's only one, behind those of pgtable.c"
    missed = [site for site, ran in zip(patches.sites, hit, strict=True) if not ran]
    assert {(site.what, site.function) for site in missed} == NEVER_REACHED[linux].keys()


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=name_of)
def test_what_is_not_recorded(configuration: Configuration) -> None:
    """Instructions that order, invalidate or leave EL2 are recorded, or their class and reason are among these."""
    call = {
        ("hvc", "how a host at EL1 calls hyp; this one is at EL2 (ARM64_HAS_VIRT_HOST_EXTN)"),
        ("isb", "after a call of a hyp function, a VHE host synchronises; it is no part of the file"),
    }
    swap = {
        ("dmb", "the end of that compare-and-swap"),
        ("exclusive", "the compare-and-swap of CPUs without LSE atomics; this one has them"),
    }
    unrecorded = {(site.what, reason) for site, reason in patches_of(tree_of(configuration), configuration).unrecorded}
    assert unrecorded == (call if configuration.linux == "6.1" else call | swap)


CAPABILITIES: Final = {
    "ALWAYS_SYSTEM": "always",
    "HAS_ARMv8_4_TTL": "the knob ttl",
    "HAS_STAGE2_FWB": "the knob fwb",
    "HAS_VIRT_HOST_EXTN": "always: a VHE host",
    "WORKAROUND_AMPERE_AC03_CPU_38": "the knob ac03_cpu_38",
    "WORKAROUND_REPEAT_TLBI": "the knob repeat_tlbi",
}
"""What every object's alternatives ask for, and when kernel/alternatives.c says that it is there."""

LATER_CAPABILITIES: Final = {
    "ALWAYS_BOOT": "always",
    "BTI": "the knob bti",
    "HAS_LPA2": "the knob lpa2",
    "HAS_LSE_ATOMICS": "always: the emulated CPU has them",
    "HAS_TLB_RANGE": "the knob tlb_range",
    "KVM_HVHE": "the knob hvhe",
}
"""What is not asked for in 6.1."""


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=name_of)
def test_what_the_alternatives_ask_for(configuration: Configuration) -> None:
    tree = tree_of(configuration)
    (header,) = (tree.generated / "asm").glob("cpucap*.h")
    names = {int(number): name for name, number in re.findall(r"#define ARM64_(\w+)\s+(\d+)", header.read_text())}
    asked = {names[one.capability] for one in patches_of(tree, configuration).alternatives}
    later = set() if configuration.linux == "6.1" else LATER_CAPABILITIES.keys()
    assert asked == CAPABILITIES.keys() | later


_ALREADY: Final = "\t\t__already = 1;\t\t\t\t\\\n\t\ts2fuzz_warn(__func__, S2FUZZ_HERE);\t\t\\\n"
"""WARN_ON_ONCE's; WARN_ONCE's is followed by a message."""
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
    "per-CPU variables of the first CPU alone": ("linux/percpu.h", "__per_cpu_offset[cpu]", "__per_cpu_offset[0]"),
    "WARN_ON_ONCE warns again": ("asm/bug.h", _ALREADY, _ALREADY.replace("= 1", "= 0")),
}
"""Planted in a copy of the shim headers: file, text that occurs once, what it becomes."""


@pytest.mark.parametrize("what", SHIM_BUGS)
def test_a_mistake_in_the_shim_is_found(
    what: str, linux: str, made: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if linux == "6.1" and "cmpxchg" in what:
        pytest.skip("6.1 stores no entry so")
    name, old, new = SHIM_BUGS[what]
    shim = tmp_path / "shim"
    shutil.copytree(SHIM, shim)
    text = (shim / name).read_text()
    assert text.count(old) == 1
    (shim / name).write_text(text.replace(old, new))
    monkeypatch.setattr(build_module, "SHIM", shim)
    with closing(Reference(build(prepare(KernelChoice(linux))), "kernel:wrong-shim")) as wrong:
        assert first_difference(linux, wrong, made, {GRANULE_4K}) is not None


def test_a_changed_file_is_built_with_the_kernels_flags(linux: str, made: Executor, tmp_path: Path) -> None:
    """A planted bug in pgtable.c shows in the kernel's own build of it as well."""
    changes = {"	WRITE_ONCE(*ptep, 0);": "	WRITE_ONCE(*ptep, 4);"}
    tree = with_changes(prepare(KernelChoice(linux)), tmp_path / "changed.c", changes)
    program = Program((map_op(0x1000), unmap_op(0x1000)))
    with (
        closing(Reference(build_by_make(tree, Configuration(linux)), "kernel-make:changed")) as changed,
        closing(Reference(build(tree), "kernel:changed")) as ours,
    ):
        assert digest(changed, program) == digest(ours, program) != digest(made, program)


def test_a_patch_is_refused() -> None:
    side = choose_sides(sides="model:6.12,kernel-make:6.12", patches=(Path("some.patch"),))[1]
    with pytest.raises(BadInput, match="built as it is packaged"):
        side.image(lambda _: None)
