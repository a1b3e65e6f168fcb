"""The build: what it says of itself, what it compiles anew, whom it blames, and what it would not let pass."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from altered_tree import MAP_SIGNATURE, with_changes, with_pgtable
from elftools.elf.constants import P_FLAGS
from elftools.elf.elffile import ELFFile
from sample_programs import ONE_PAGE, SPECIAL
from thinning import every

from harness.errors import BadInput, ToolFailure
from harness.model.executor import Model
from harness.observation.events import STORE_PLAIN, WARNED, events_of
from harness.program.granule import GRANULE_4K, GRANULES, Granule
from harness.program.ops import OPS
from harness.program.program import Program
from harness.program.text import parse
from reference.build import image as build_module
from reference.build.flags import FLAVOURS
from reference.build.image import Image, build
from reference.build.own_files import OURS, SHIM, bridge_files, name_of
from reference.build.progress import HowFar
from reference.build.sources import KernelChoice, prepare
from reference.link.executor import Reference
from reference.tools import find_toolchain

HEADER = "arch/arm64/include/asm/kvm_pgtable.h"


@pytest.fixture
def user_tree(image: Image, tmp_path: Path) -> Path:
    """A kernel tree that its user may edit: what tests edit is copied, the rest is linked."""
    root = tmp_path / "linux"
    for part in ("arch/arm64/include", "arch/arm64/kvm"):
        shutil.copytree(image.tree.root / part, root / part)
    for part in ("Makefile", "include", "arch/arm64/tools"):
        (root / part).symlink_to(image.tree.root / part)
    return root


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_identity_says_what_runs(kernel: Reference) -> None:
    image, identity = kernel.image, kernel.identity
    assert identity["flavour"] == "plain"
    assert identity["image_sha256"] == hashlib.sha256(image.elf.read_bytes()).hexdigest()
    assert identity["pgtable_sha256"] == hashlib.sha256(image.tree.pgtable.read_bytes()).hexdigest()
    assert identity["linux"].startswith("6.12.")
    assert "linux-source-6.12" in identity["source"]
    assert "clang version" in identity["compiler"]
    assert identity["qemu"].startswith("QEMU emulator version")
    assert set(identity) == {
        "compiler",
        "flavour",
        "granule",
        "hosted_files",
        "image_sha256",
        "linux",
        "object",
        "pgtable_sha256",
        "qemu",
        "source",
    }


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_nothing_is_compiled_twice(image: Image, flavour: str) -> None:
    steps: list[str] = []
    first = build(image.tree, flavour)
    assert build(image.tree, flavour, steps.append) == first
    assert steps == []
    assert first.identity["flavour"] == flavour


def test_flavours_are_different_kernels(image: Image) -> None:
    assert build(image.tree, "ubsan").sha256 != image.sha256


@pytest.mark.slow
def test_the_same_kernel_in_another_cache_is_the_same(image: Image, scratch_cache: Path) -> None:
    """Findings name the image's hash: it must not depend on the folder that it was built in."""
    again = build(image.tree)
    assert again.elf != image.elf
    assert loaded(again) == loaded(image)


def loaded(image: Image) -> list[bytes]:
    """What of an image gets into memory."""
    with image.elf.open("rb") as stream:
        return [segment.data() for segment in ELFFile(stream).iter_segments("PT_LOAD")]


def said(steps: list[str]) -> list[str]:
    """But for how far they were."""
    return [line for line in steps if not isinstance(line, HowFar)]


def test_a_changed_pgtable_costs_one_compilation(image: Image, scratch_cache: Path, tmp_path: Path) -> None:
    before = build(image.tree)
    steps: list[str] = []
    tree = with_changes(image.tree, tmp_path / "pgtable.c", {MAP_SIGNATURE: f"int s2fuzz_new; {MAP_SIGNATURE}"})
    after = build(tree, progress=steps.append)
    assert said(steps) == ["compiling pgtable.c", "linking kernel.elf"]
    assert after.sha256 != before.sha256


def test_a_pgtable_edited_in_place_is_noticed(image: Image, scratch_cache: Path, tmp_path: Path) -> None:
    path, text = tmp_path / "pgtable.c", image.tree.pgtable.read_text()
    first = build(with_pgtable(image.tree, path, text))
    edited = build(with_pgtable(image.tree, path, f"{text}\nint s2fuzz_new;\n"))
    steps: list[str] = []
    undone = build(with_pgtable(image.tree, path, text), progress=steps.append)
    assert edited.sha256 != first.sha256
    assert (undone.sha256, steps) == (first.sha256, [])


def test_a_changed_header_is_noticed(user_tree: Path, scratch_cache: Path) -> None:
    first = build(prepare(KernelChoice(str(user_tree))))
    edit(
        user_tree / HEADER,
        "static inline bool kvm_pte_valid(",
        "int s2fuzz_new __weak;\nstatic inline bool kvm_pte_valid(",
    )
    steps: list[str] = []
    changed = build(prepare(KernelChoice(str(user_tree))), progress=steps.append)
    bridge = [name_of(path) for path in bridge_files() if name_of(path) != "alternatives.c"]  # it reads no such header
    hosted = ("pgtable.c", "nvhe/tlb.c", "vhe/tlb.c", "vmid.c", "kvm/mmu.c")
    compiling = f"compiling {len(bridge) + len(hosted)} files of the test kernel"
    assert said(steps) == [compiling, "linking ours.o", "linking kernel.elf"]
    assert changed.sha256 != first.sha256
    assert str(user_tree) in changed.identity["source"]


def test_stores_are_recorded_where_they_are_to_ptes(image: Image, user_tree: Path, scratch_cache: Path) -> None:
    """Those of TLB maintenance are not."""
    maintenance = user_tree / "arch/arm64/kvm/hyp/nvhe/tlb.c"
    edit(maintenance, "\texit_vmid_context(&cxt);", "\tWRITE_ONCE(s2fuzz_new, 1); exit_vmid_context(&cxt);")
    edit(maintenance, "#include <nvhe/mem_protect.h>", "#include <nvhe/mem_protect.h>\nstatic u64 s2fuzz_new;")
    program = parse("s2 1\nmap ipa=0x1000 size=4K phys=0x80001000 prot=rw mc=4\nunmap ipa=0x1000 size=4K\n")
    changed = build(prepare(KernelChoice(str(user_tree))))
    with closing(Reference(changed, "kernel:changed")) as kernel, closing(Reference(image, "kernel:plain")) as plain:
        observation = kernel.observe(program)
        assert observation.words == plain.observe(program).words
    assert STORE_PLAIN in {event.kind for event in events_of(observation.records[2].events)}


def test_a_pgtable_that_does_not_compile(image: Image, scratch_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "mistaken.c"
    with pytest.raises(BadInput) as caught:
        build(with_pgtable(image.tree, path, "int here = there;\n"))
    assert str(path) in str(caught.value)
    assert "mistaken.c:1:12: error: use of undeclared identifier 'there'" in str(caught.value)


def test_a_failed_build_leaves_the_next_alone(image: Image, scratch_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "pgtable.c"
    with pytest.raises(BadInput):
        build(with_pgtable(image.tree, path, "#error no\n"))
    assert not list((scratch_cache / "kernels").glob("tmp-*"))
    good = build(with_pgtable(image.tree, path, image.tree.pgtable.read_text()))
    with closing(Reference(good, "kernel:good")) as kernel:
        assert kernel.observe(ONE_PAGE).records[1].ret == 0


def test_a_call_of_an_undeclared_function_is_named(image: Image, scratch_cache: Path, tmp_path: Path) -> None:
    text = image.tree.pgtable.read_text() + "\nint s2fuzz_caller(void) { return s2fuzz_undeclared(); }\n"
    with pytest.raises(BadInput, match="call to undeclared function 's2fuzz_undeclared'"):
        build(with_pgtable(image.tree, tmp_path / "pgtable.c", text))


def test_a_call_of_an_undefined_function_is_named(image: Image, scratch_cache: Path, tmp_path: Path) -> None:
    text = image.tree.pgtable.read_text()
    text += "\nint s2fuzz_absent(void);\nint s2fuzz_caller(void) { return s2fuzz_absent(); }\n"
    with pytest.raises(BadInput, match=r"does not fit the test kernel \(missing: s2fuzz_absent\)"):
        build(with_pgtable(image.tree, tmp_path / "pgtable.c", text))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    every(
        2,
        [
            ("kvm_pgtable_hyp_init(", "kvm_pgtable_el2_init(", "missing: kvm_pgtable_hyp_init"),
            ("KVM_PGTABLE_S2_IDMAP", "KVM_PGTABLE_S2_IDENTITY", "missing: KVM_PGTABLE_S2_IDMAP"),
            ("u64 mmfr1, u32 phys_shift", "u64 mmfr1, u64 mmfr2, u32 phys_shift", "moved: kvm_get_vtcr"),
            ("struct kvm_pgtable_visit_ctx *ctx,", "struct new *ctx,", "moved: kvm_pgtable_visitor_fn_t"),
        ],
    ),
)
def test_what_does_not_fit_the_shim_is_named(
    user_tree: Path, scratch_cache: Path, old: str, new: str, named: str
) -> None:
    edit(user_tree / HEADER, old, new)
    with pytest.raises(BadInput) as caught:
        build(prepare(KernelChoice(str(user_tree))))
    assert f"{user_tree} does not fit the test kernel ({named})" in str(caught.value)


def test_every_operation_can_be_switched_off() -> None:
    ours = {"fail_alloc", "plant", "probe", "read", "write", "exec", "fault", "mmu_use", "mmu_first", "mmu_again"}
    assert {op.name for op in OPS if not op.functions and not op.needs} == {"init", *ours}


def test_no_toolchain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolFailure, match="no clang"):
        find_toolchain()


# The static assertions of checks.c guard the shim: mistakes that would compile.


def compile_checks(image: Image, granule: Granule = GRANULE_4K) -> None:
    """Compile checks.c alone. Raises BadInput."""
    builder = build_module.Builder(image.tree, "plain", find_toolchain(), lambda _: None, granule)
    builder._objects.made([builder._bridge(OURS / "checks.c")])


@pytest.mark.parametrize("granule", GRANULES, ids=[granule.name for granule in GRANULES])
def test_the_checks_hold(image: Image, scratch_cache: Path, granule: Granule) -> None:
    compile_checks(image, granule)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("#define CONFIG_PHYS_ADDR_T_64BIT 1", "CONFIG_PHYS_ADDR_T_64BIT is missing"),
        ("#define CONFIG_ARM64_HW_AFDBM 1", "hw_af decides about VTCR_EL2.HA"),
        ("#define CONFIG_ARM64_4K_PAGES 1", "granule and configuration agree"),
        ("#define CONFIG_ARM64_PA_BITS_52_MODULE s2fuzz_switch", "the program's machine says it"),
    ],
)
def test_a_missing_option_does_not_compile(
    image: Image, scratch_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, message: str
) -> None:
    shim = tmp_path / "shim"
    shutil.copytree(SHIM, shim)
    edit(shim / "generated/autoconf.h", f"{line}\n", "\n")
    monkeypatch.setattr(build_module, "SHIM", shim)
    with pytest.raises(BadInput, match=f"static assertion failed.*{message}"):
        compile_checks(image)


def test_an_unknown_granule_does_not_compile(image: Image, scratch_cache: Path) -> None:
    with pytest.raises(BadInput, match="there are three granules"):
        compile_checks(image, Granule("32k", 15))


TLB = "arch/arm64/kvm/hyp/nvhe/tlb.c"
MEM_PROTECT = "arch/arm64/kvm/hyp/include/nvhe/mem_protect.h"
FOREIGN = 2
"""A value of the knob `vcpu`."""


@pytest.mark.parametrize(
    ("path", "old", "new", "missing"),
    every(
        6,
        [
            (TLB, "\t__tlbi(vmalls12e1is);", "\t__tlbi(vmalls12e1is); s2fuzz_absent(mmu);", "s2fuzz_absent"),
            (TLB, "\t__tlbi(vmalls12e1is);", "\t__tlbi(vmalls12e9is);", "tlbi vmalls12e9is"),
            (TLB, "\t__tlbi(vmalls12e1is);", "\twrite_sysreg(0, tpidr_el2);", "msr tpidr_el2"),
            (TLB, "\t__tlbi(vmalls12e1is);", "\tmmu->vtcr = read_sysreg(vtcr_el2);", "s2fuzz_sysreg_vtcr_el2"),
            (TLB, "\t__tlbi(vmalls12e1is);", "\tmmu->s2fuzz_new = 0;", "s2fuzz_new"),
            (MEM_PROTECT, "struct host_mmu {", "struct host_mmu {\ns2fuzz_new_t new;", "s2fuzz_new_t"),
        ],
    ),
)
def test_tlb_maintenance_that_does_not_fit(
    user_tree: Path, scratch_cache: Path, path: str, old: str, new: str, missing: str
) -> None:
    """What there is not is named; without the tree's TLB maintenance the rest can be tested all the same."""
    edit(user_tree / path, old, new)
    tree = prepare(KernelChoice(str(user_tree)))
    with pytest.raises(BadInput) as caught:
        build(tree)
    assert f"does not fit the test kernel (missing: {missing})" in str(caught.value)
    number = (user_tree / path).read_text()[: (user_tree / path).read_text().index(new)].count("\n") + 1
    if missing.startswith(("tlbi", "msr")):  # the assembler knows its own lines alone
        assert f"{user_tree / path}:{number}: error: " in str(caught.value)
    assert "--flavour calls" in str(caught.value)
    image = build(tree, "calls")
    with closing(Reference(image, "kernel:calls")) as kernel:
        seen, expected = kernel.observe(ONE_PAGE), Model(calls_only=True).observe(ONE_PAGE)
    assert seen.words == expected.words


def test_calls_alone(image: Image) -> None:
    """Both sides without what TLB functions do; in all else they are the same as with it."""
    programs = [Program(one.ops, one.machine.replace("budget", 65536)) for one in SPECIAL.values()]
    with closing(Reference(build(image.tree, "calls"), "kernel:calls")) as kernel:
        for program in programs:
            seen, full = kernel.observe(program), Model().observe(program)
            assert seen.words == Model(calls_only=True).observe(program).words
            for mine, theirs in zip(seen.records, full.records, strict=False):
                if theirs.ret is None:  # the budget lasts longer where instructions do not count
                    break
                # An MMU that must not be invalidated for is not known then, either.
                events = [event for event in events_of(theirs.events) if not event.is_in_call]
                warns = program.machine["vcpu"] != FOREIGN
                assert events_of(mine.events) == [one for one in events if one.kind != WARNED or warns]


def test_a_callback_that_we_do_not_know(user_tree: Path, scratch_cache: Path) -> None:
    edit(
        user_tree / HEADER,
        "int		(*page_count)(void *addr);",
        "int (*page_count)(void *addr); int (*s2fuzz_new)(void);",
    )
    with pytest.raises(BadInput, match=r"boundary\.c fills in every callback"):
        build(prepare(KernelChoice(str(user_tree))))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_no_segment_is_writable_and_executable(image: Image, flavour: str) -> None:
    with build(image.tree, flavour).elf.open("rb") as stream:
        elf = ELFFile(stream)
        segments = list(elf.iter_segments("PT_LOAD"))
        symbols = elf.get_section_by_name(".symtab")
        text_start, text_end, stack = (
            symbols.get_symbol_by_name(name)[0]["st_value"] for name in ("text_start", "text_end", "stack_start")
        )
    writable_and_executable = P_FLAGS.PF_W | P_FLAGS.PF_X
    assert all(segment["p_flags"] & writable_and_executable != writable_and_executable for segment in segments)
    executable = [segment for segment in segments if segment["p_flags"] & P_FLAGS.PF_X]
    assert [segment["p_vaddr"] for segment in executable] == [text_start]
    assert text_start % 4096 == text_end % 4096 == stack % 4096 == 0
    ends = [segment["p_vaddr"] + segment["p_memsz"] for segment in segments]
    assert executable[0]["p_vaddr"] + executable[0]["p_memsz"] <= text_end
    assert min(segment["p_vaddr"] for segment in segments) >= 4096, "the first page holds nothing"
    assert max(ends) <= stack - 4096, "below the stack is a page that holds nothing"
