"""What a kernel says that it was made of, and whether that is what the model was verified against."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from thinning import every

from harness.files import HOSTED_FILES, file_lines, parse_files, same_code, unlike_verified
from harness.findings.verified import verified_against
from harness.model.executor import Model
from harness.program.granule import GRANULES, Granule
from reference.build.generated import GENERATED, GENERATORS
from reference.build.hosted import PGTABLE
from reference.build.image import Image, build
from reference.build.sources import KernelChoice, prepare
from reference.build.tree import NEEDED


@pytest.fixture
def own_tree(image: Image, tmp_path: Path) -> Path:
    """A copy of the packaged tree that may be changed."""
    root = tmp_path / "tree"
    root.mkdir()
    for part in NEEDED:
        source = image.tree.root / part
        if source.is_dir():
            shutil.copytree(source, root / part, symlinks=True)
        else:
            shutil.copy(source, root / part)
    return root


def test_a_kernel_says_what_it_was_made_of(image: Image) -> None:
    files = image.files
    for name in (
        "arch/arm64/kvm/hyp/pgtable.c",
        "arch/arm64/kvm/hyp/nvhe/tlb.c",
        "arch/arm64/kvm/hyp/vhe/tlb.c",
        "arch/arm64/include/asm/kvm_pgtable.h",
        "arch/arm64/include/asm/stage2_pgtable.h",
        "arch/arm64/include/asm/tlbflush.h",
        "arch/arm64/include/asm/kvm_arm.h",
        "arch/arm64/include/asm/pgtable-hwdef.h",
        "include/linux/align.h",
    ):
        assert files[name] == hashlib.sha256((image.tree.root / name).read_bytes()).hexdigest(), name
    assert any(name.startswith(GENERATED) for name in files)
    assert not any("shim" in name or name.startswith("/") for name in files), "those are ours"
    assert {*(name for name in files if not name.startswith(GENERATED)), *GENERATORS} <= image.read
    assert parse_files(image.identity[HOSTED_FILES]) == {name: digest[:12] for name, digest in files.items()}


@pytest.mark.parametrize("granule", GRANULES, ids=[granule.name for granule in GRANULES])
@pytest.mark.parametrize("kernel_object", ["host", "hyp"])
def test_the_model_was_verified_against_the_packaged_kernel(linux: str, granule: Granule, kernel_object: str) -> None:
    """If this fails because the package is a newer one, or because more of the tree is read: `s2fuzz build --files`
    for every granule and both objects says what belongs into pgtable/verified.py, once the tests of both sides pass."""
    packaged = build(prepare(KernelChoice(linux)), granule=granule, kernel_object=kernel_object)
    assert verified_against([Model(linux).identity, packaged.identity]) == []


@pytest.mark.parametrize(
    "name",
    every(
        3,
        [
            "arch/arm64/kvm/hyp/nvhe/tlb.c",
            "arch/arm64/kvm/hyp/vhe/tlb.c",
            "arch/arm64/include/asm/tlbflush.h",
            "arch/arm64/include/asm/kvm_pgtable.h",
            "include/linux/align.h",
            str(PGTABLE),
        ],
    ),
)
def test_a_change_to_any_hosted_file_is_noted(own_tree: Path, name: str, tmp_path: Path) -> None:
    file = own_tree / name
    file.write_text(file.read_text() + "/* changed */\n")
    changed = build(prepare(KernelChoice(str(own_tree))))
    _, tree, file_and_hashes = verified_against([Model("6.12").identity, changed.identity])
    assert tree == f"  {own_tree}:" and file_and_hashes.startswith(f"    {name}  ")


def test_a_change_to_what_is_not_read_is_none(own_tree: Path) -> None:
    file = own_tree / "include/linux/usb.h"
    file.write_text(file.read_text() + "/* changed */\n")
    changed = build(prepare(KernelChoice(str(own_tree))))
    assert verified_against([Model("6.12").identity, changed.identity]) == []


def test_comparing_files() -> None:
    one = {"arch/arm64/a.c": "1" * 12, "include/b.h": "2" * 12}
    assert unlike_verified(one, {**one, "include/c.h": "3" * 12}) == []
    assert unlike_verified(one, {**one, "arch/arm64/c.h": "3" * 12}) == ["arch/arm64/c.h"]
    assert same_code(one, {"arch/arm64/a.c": "1" * 12}) is True
    assert same_code(one, {"arch/arm64/a.c": "4" * 12}) is False
    assert same_code(one, {}) is None
    lines = file_lines({name: digits * 5 for name, digits in one.items()})
    assert parse_files("\n".join(lines)) == parse_files(", ".join(lines)) == one
    assert parse_files("nonsense\n\n /* */ 12") == {}
