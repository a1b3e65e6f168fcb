"""The table of hosted files is true of every packaged kernel, and all that it says is made use of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.files import parse_files
from pgtable import VERSIONS
from reference.build import declared as declared_module
from reference.build.declared import declared
from reference.build.hosted import HOSTED, PGTABLE, HostedFile
from reference.build.own_files import OURS, SHIM, bridge_files, hot_files, meets_tree, own_files
from reference.build.sources import KernelChoice, prepare
from reference.build.tree import NEEDED


def test_what_the_table_names_is_in_every_tree(linux: str) -> None:
    root = prepare(KernelChoice(linux)).root
    for row in HOSTED:
        for path in (row.path, *row.declares, *row.shapes):
            assert (root / path).is_file(), f"{row.name}: {path}"
            assert any(path.is_relative_to(needed) for needed in NEEDED), f"{path} is not taken from the tree"


def test_rows_do_not_get_into_each_others_way() -> None:
    assert len({row.name for row in HOSTED}) == len(HOSTED)
    forms = [name for row in HOSTED for name in row.forms]
    assert len(set(forms)) == len(forms)
    for row in HOSTED:
        assert bool(row.prefix) == bool(row.functions)
    assert HOSTED[0].path == PGTABLE
    assert HOSTED[0].is_under_test


def test_the_model_was_verified_against_every_hosted_file() -> None:
    for version in VERSIONS.values():
        missing = {str(row.path) for row in HOSTED} - parse_files(version.files).keys()
        assert not missing, f"pgtable/verified.py, {version.name}"


def test_every_form_is_asked_for() -> None:
    text = "".join(path.read_text() for folder in (OURS, SHIM) for path in folder.rglob("*.[ch]"))
    asked = set(re.findall(r"S2FUZZ_HAS_(\w+)", text))
    assert {name for row in HOSTED for name in row.forms} <= asked


def test_what_a_file_needs_of_ours_meets_the_tree() -> None:
    needs = {path for row in HOSTED for path in row.needs}
    assert needs
    assert needs <= set(bridge_files())


def test_hot_files_are_there() -> None:
    assert set(hot_files()) <= set(own_files())
    assert [path.name for path in hot_files() if not meets_tree(path)], "or the list by name can go"


def test_a_further_row_is_asked_for_its_forms(monkeypatch: pytest.MonkeyPatch, linux: str) -> None:
    vmid = HostedFile(
        Path("arch/arm64/kvm/vmid.c"),
        "vmid",
        declares=(Path("arch/arm64/include/asm/kvm_host.h"),),
        forms={"VMID_UPDATE": r"\bkvm_arm_vmid_update\(", "VMID_NEW": r"\bkvm_arm_vmid_of_tomorrow\("},
    )
    monkeypatch.setattr(declared_module, "HOSTED", (*HOSTED, vmid))
    found = declared(prepare(KernelChoice(linux)).root)
    assert (found.forms["VMID_UPDATE"], found.forms["VMID_NEW"]) == (True, False)
    assert "#define S2FUZZ_HAS_VMID_UPDATE 1\n#define S2FUZZ_HAS_VMID_NEW 0\n" in found.header
