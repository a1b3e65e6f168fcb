"""Kernel trees that no model follows: made of the packaged 6.12, with another version and other functions."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from processes import SMOKE, s2fuzz

from fuzz.sides import Side, capabilities_of, choose_sides, switched_off, why_unmodelled
from fuzz.triage.recorded import with_kernel
from harness.findings.finding import load
from harness.program.codec import decode, dialect_for
from harness.program.ops import FAMILIES
from harness.verdict.verdicts import BOTH_SIDES
from reference.build.hosted import PGTABLE, VMID
from reference.build.sources import KernelChoice, prepare

HEADER: Final = Path("arch/arm64/include/asm/kvm_pgtable.h")
QUICK: Final = (*SMOKE, "--executions", "400", "--seconds", "120", "--seed", "1", "--json")
SEEDS: Final = Path(__file__).parents[2] / "corpora" / "seeds"

NEXT: Final = "6.19.0-rc2"
RELAX: Final = (r"(int kvm_pgtable_stage2_relax_perms\([^)]*)\)", r"\1, enum kvm_pgtable_walk_flags flags)")
"""The walk's flags become the caller's."""
AGE: Final = (r"\bkvm_pgtable_stage2_test_clear_young\b", "kvm_pgtable_stage2_age")


def make_tree(root: Path, version: str = NEXT, *changes: tuple[str, str]) -> Path:
    """A tree of that version; the changes are made to pgtable.c and its header."""
    packaged = prepare(KernelChoice("6.12")).root
    for part in ("arch/arm64/include", "arch/arm64/kvm"):
        shutil.copytree(packaged / part, root / part)
    for part in ("include", "arch/arm64/tools"):
        (root / part).symlink_to(packaged / part)
    numbers = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)(.*)", version)
    assert numbers
    names = ("VERSION", "PATCHLEVEL", "SUBLEVEL", "EXTRAVERSION")
    lines = [f"{name} = {value}\n" for name, value in zip(names, numbers.groups(), strict=True)]
    (root / "Makefile").write_text("".join(lines))
    for path in (root / HEADER, root / PGTABLE):
        text = path.read_text()
        for pattern, replacement in changes:
            text, count = re.subn(pattern, replacement, text)
            assert count, pattern
        path.write_text(text)
    return root


def changed_pgtable(tree: Path, path: Path, line: str, replacement: str) -> Path:
    text = (tree / PGTABLE).read_text()
    assert text.count(line) == 1
    path.write_text(text.replace(line, replacement))
    return path


def generated_ops(tree: Path, inputs: Path) -> Counter[str]:
    """How often each operation was asked for in a run on that tree."""
    dialect = dialect_for(capabilities_of(choose_sides(str(tree))))
    programs = [decode(bytes.fromhex(line), dialect) for line in inputs.read_text().split()]
    return Counter(op.name for program in programs for op in program.ops)


def names(*arguments: object, **keywords: object) -> list[str]:
    return [side.full_name for side in choose_sides(*arguments, **keywords)]  # type: ignore[arg-type]


def test_an_unknown_version_is_compared_with_the_default_kernel(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "linux")
    assert names(str(tree)) == ["kernel:6.12", f"kernel:{tree}"]
    assert names(str(tree), flavour="ubsan") == ["kernel:6.12+ubsan", f"kernel:{tree}+ubsan"]
    assert names(str(tree), sides=f"model:6.12,kernel:{tree}") == ["model:6.12", f"kernel:{tree}"]
    why = why_unmodelled(Side("kernel", str(tree)))
    assert why == f"Linux {NEXT} is none of the versions that are modelled (6.1, 6.12)"


def test_a_change_to_an_unknown_version_is_compared_with_what_it_changes(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "linux")
    assert names(str(tree), (Path("a.patch"),)) == [f"kernel:{tree}", f"kernel:{tree}+a.patch"]
    assert names(str(tree), (), Path("own.c")) == [f"kernel:{tree}", f"kernel:{tree}+own.c"]


def test_a_known_version_with_the_code_of_another_is_unknown(tmp_path: Path) -> None:
    """As some vendors' kernels have it: the number of 6.1, the page-table code of a later one."""
    tree = make_tree(tmp_path / "linux", "6.1.99")
    why = why_unmodelled(Side("kernel", str(tree)))
    assert why and "Linux 6.1.99 with create_unlinked, " in why and "split, test_clear_young" in why
    assert names(str(tree)) == ["kernel:6.12", f"kernel:{tree}"]


def test_a_known_version_that_lacks_something_is_known(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "linux", "6.12.0-mine", AGE)
    assert why_unmodelled(Side("kernel", str(tree))) is None
    assert names(str(tree)) == ["model:6.12", f"kernel:{tree}"]


def test_what_is_no_kernel_is_for_opening_to_say() -> None:
    for linux in ("/nowhere", "/nowhere@HEAD", "nonsense"):
        assert why_unmodelled(Side("kernel", linux)) is None


def test_a_stored_model_stays_where_no_model_follows(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "linux")
    sides = with_kernel(choose_sides("6.1"), str(tree), (), None)
    assert [side.name for side in sides] == ["model:6.1", f"kernel:{tree}"]


def test_what_is_switched_off_gets_a_line_each(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "linux", NEXT, RELAX, AGE)
    before, after = choose_sides(str(tree), (), tree / PGTABLE)
    prots = "struct kvm_pgtable *, u64, enum kvm_pgtable_prot"
    no_age = "there is no kvm_pgtable_stage2_test_clear_young"
    other = f"kvm_pgtable_stage2_relax_perms is `int ({prots}, enum kvm_pgtable_walk_flags)`, not `int ({prots})`"
    assert switched_off([before, after]) == [
        f"kernel:{tree}: test_clear_young is switched off: {no_age}",
        f"kernel:{tree}: relax_perms is switched off: {other}",
        *(f"kernel:{tree}: {op} is switched off: {no_age}" for op in ("memslot_age", "memslot_test_age")),
        *(f"kernel:{tree}: {op} is switched off: {other}" for op in ("handle", "memslot_handle")),
    ]
    assert switched_off(choose_sides("6.12")) == switched_off(choose_sides("6.1")) == []


@pytest.mark.slow
def test_another_allocator_of_vmids_leaves_the_rest(tmp_path: Path) -> None:
    """One whose update tells something: the tree's vmid.c compiles, and what cannot call it is switched off."""
    tree = make_tree(tmp_path / "linux")
    path = tree / VMID
    text = path.read_text()
    for old, new in (
        ("void kvm_arm_vmid_update(", "bool kvm_arm_vmid_update("),
        ("old_active_vmid, vmid))\n\t\treturn;", "old_active_vmid, vmid))\n\t\treturn false;"),
        ("unlock_irqrestore(&cpu_vmid_lock, flags);", "unlock_irqrestore(&cpu_vmid_lock, flags);\n\treturn true;"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    path.write_text(text)
    result = s2fuzz("run", "--linux", tree, SEEDS / "block_split.s2", SEEDS / "vmid_rollover.s2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "vmid_update is switched off: kvm_arm_vmid_update is `bool (struct kvm_vmid *)`" in result.stderr
    assert "ran 1 of 2 programs" in result.stderr + result.stdout


@pytest.mark.slow
def test_fuzzing_an_unknown_tree(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "linux", NEXT, RELAX, AGE)
    result = s2fuzz(*QUICK, "--linux", tree, "--inputs", "inputs", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"comparing kernel:6.12 with kernel:{tree} instead" in result.stderr
    off = re.findall(r": (\w+) is switched off: ", result.stderr)
    ages = ["memslot_age", "memslot_test_age"]
    assert off == ["test_clear_young", "relax_perms", *ages, "handle", "memslot_handle"]
    summary = json.loads(result.stdout)
    assert summary["executions"] >= 400
    assert summary["skipped"] > 5, "seeds that ask for them"
    counted = generated_ops(tree, tmp_path / "inputs")
    assert counted["map"] > 100
    assert not counted.keys() & {"relax_perms", "test_clear_young"}
    refused = s2fuzz("run", "--linux", tree, SEEDS / "relax_permissions.s2", cwd=tmp_path)
    assert refused.returncode == 2
    assert "lacks relax_perms, test_clear_young" in refused.stderr


def test_a_change_for_the_worse_in_an_unknown_tree(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "linux", NEXT, RELAX)
    worse = changed_pgtable(tree, tmp_path / "own.c", "\tstage2_unmap_put_pte(ctx, mmu, mm_ops);", "")
    result = s2fuzz(*QUICK[:-1], "--linux", tree, "--pgtable", worse, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert f"comparing kernel:{tree} with kernel:{tree}+own.c instead" in result.stderr
    # What both trees break is kept as well, and is not gone without the change.
    (finding,) = (one for one in (tmp_path / "s2fuzz-out").iterdir() if BOTH_SIDES not in load(one).blamed)
    assert s2fuzz("replay", finding, cwd=tmp_path).returncode == 1
    assert s2fuzz("replay", finding, "--linux", tree, cwd=tmp_path).returncode == 0


RENAMED: Final[Mapping[str, str]] = {
    "map": "kvm_pgtable_stage2_map",
    "unmap": "kvm_pgtable_stage2_unmap",
    "set_owner": "kvm_pgtable_stage2_set_owner",
    "get_leaf": "kvm_pgtable_get_leaf",
    "destroy": "kvm_pgtable_stage2_destroy",
    "wrprotect": "kvm_pgtable_stage2_wrprotect",
    "mkyoung": "kvm_pgtable_stage2_mkyoung",
    "test_clear_young": "kvm_pgtable_stage2_test_clear_young",
    "relax_perms": "kvm_pgtable_stage2_relax_perms",
    "flush": "kvm_pgtable_stage2_flush",
    "pte_prot": "kvm_pgtable_stage2_pte_prot",
    "split": "kvm_pgtable_stage2_split",
    "create_unlinked": "kvm_pgtable_stage2_create_unlinked",
    "tlb_flush_vmid_range": "kvm_tlb_flush_vmid_range",
    "hyp_map": "kvm_pgtable_hyp_map",
    "hyp_unmap": "kvm_pgtable_hyp_unmap",
    "hyp_pte_prot": "kvm_pgtable_hyp_pte_prot",
}


@pytest.mark.slow
def test_a_tree_without_most_operations_runs(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "linux", NEXT, *((rf"\b{name}\b", f"{name}_anew") for name in RENAMED.values()))
    result = s2fuzz(*QUICK, "--linux", tree, "--inputs", "inputs", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    off = re.findall(r": (\w+) is switched off: there is no (\w+)", result.stderr)
    others = {"link": RENAMED["create_unlinked"], "handle": RENAMED["mkyoung"], "guest": RENAMED["map"]}
    others |= dict.fromkeys(("mmu_init", "mmu_free", "mmu_share", "vm_create", "vm_end"), RENAMED["destroy"])
    others |= dict.fromkeys((op.name for op in FAMILIES["memslot"]), RENAMED["wrprotect"])
    others["memslot_handle"] = RENAMED["mkyoung"]
    others |= dict.fromkeys(("memslot_age", "memslot_test_age"), RENAMED["test_clear_young"])
    assert dict(off) == {**RENAMED, **others}
    counted = generated_ops(tree, tmp_path / "inputs")
    assert counted.keys() >= {"walk", "plant", "get_vtcr"}
    assert not counted.keys() & RENAMED.keys()
