"""Kernels of several versions on the command line: each with its own model, and against each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from processes import SMOKE, s2fuzz

from fuzz.corpus.store import check_codec
from fuzz.sides import capabilities_of, choose_sides, model_of
from fuzz.triage.recorded import with_kernel
from harness.errors import BadInput
from harness.model.executor import MODELLED
from harness.program.codec import CODEC, dialect_for
from pgtable import LINUX_6_1, OWNERSHIPS, OwnershipStage2, PagePool, get_vtcr
from reference.build.naming import SUPPORTED
from reference.build.sources import KernelChoice, prepare

SEEDS = Path(__file__).parents[2] / "corpora" / "seeds"
DIFFER = SEEDS / "kernels_differ.s2"
AGING = SEEDS / "aging_by_page.s2"


def names(linux: str) -> list[str]:
    return [side.name for side in choose_sides(linux)]


def test_every_packaged_kernel_has_a_model() -> None:
    assert set(SUPPORTED) == set(MODELLED)


@pytest.mark.parametrize("linux", SUPPORTED)
def test_a_kernel_is_compared_with_its_own_model(linux: str, tmp_path: Path) -> None:
    assert names(linux) == [f"model:{linux}", f"kernel:{linux}"]
    tree = tmp_path / "linux@work"
    tree.mkdir()
    shutil.copy(prepare(KernelChoice(linux)).root / "Makefile", tree)
    assert names(str(tree))[0] == f"model:{linux}"


@pytest.mark.parametrize("linux", ["5.4", "/nowhere", "/nowhere@HEAD", "nonsense"])
def test_other_kernels_are_compared_with_the_default_model(linux: str) -> None:
    assert names(linux)[0] == "model:6.12"


def test_the_model_of_a_run_without_one_follows_the_last_kernel() -> None:
    assert model_of(choose_sides(sides="kernel:6.12,kernel:6.1")) == "6.1"
    assert model_of(choose_sides(sides="model:6.12,kernel:6.1")) == "6.12"


def test_what_two_kernels_offer_is_what_both_have() -> None:
    both = capabilities_of(choose_sides(sides="kernel:6.12,kernel:6.1"))
    assert both == capabilities_of(choose_sides(sides="model:6.1,model:6.12"))
    assert not both.has("mkold")
    assert not both.has("split")


def test_another_kernel_brings_its_model() -> None:
    stored = choose_sides("6.12")
    assert with_kernel(stored, "6.1", (), None) == choose_sides("6.1")
    assert with_kernel(stored, None, (), Path("pgtable.c"))[0] == stored[0]


def test_ways_to_record_owners_stay_with_their_model() -> None:
    (model, _) = with_kernel(choose_sides(sides="model:6.12+flag,kernel:6.1"), "6.12", (), None)
    assert model.name == "model:6.12+flag"
    with pytest.raises(BadInput, match="not modelled"):
        choose_sides(sides="model:6.1+flag,kernel:6.1")[0].open()
    with pytest.raises(ValueError, match="its own way"):
        OwnershipStage2(get_vtcr(40), PagePool(0, 4), version=LINUX_6_1, ownership=OWNERSHIPS["flag"])


def test_a_corpus_belongs_to_its_dialect(tmp_path: Path) -> None:
    old, new = (dialect_for(capabilities_of(choose_sides(linux))) for linux in ("6.1", "6.12"))
    check_codec(tmp_path / "corpus", old)
    (tmp_path / "corpus" / "input").write_bytes(b"\0")
    check_codec(tmp_path / "corpus", old)
    with pytest.raises(BadInput, match=f"written by codec {CODEC} 4k no-create_unlinked"):
        check_codec(tmp_path / "corpus", new)


def test_run_and_show(tmp_path: Path) -> None:
    run = s2fuzz("run", "--linux", "6.1", AGING, DIFFER, cwd=tmp_path)
    assert run.returncode == 0
    assert run.stdout.count("known of Linux 6.1, no finding: walks-under-way in ") == 1
    shown = s2fuzz("show", "--linux", "6.1", DIFFER, cwd=tmp_path)
    assert "map ipa=0x0 size=8K phys=0x80000000 prot=rwx mc=3  => -EAGAIN" in shown.stdout


@pytest.mark.parametrize("command", ["run", "show", "debug"])
def test_a_program_that_asks_for_too_much_is_refused(command: str, tmp_path: Path) -> None:
    result = s2fuzz(command, AGING, cwd=tmp_path)
    assert result.returncode == 2
    assert "6.12 lacks mkold, is_young" in result.stderr
    (tmp_path / "nc.s2").write_text(
        "s2 1\n\nmap ipa=0x0 size=4K phys=0x0 prot=r+nc flags=shared\nsplit ipa=0x0 size=0 mc=0\n"
    )
    result = s2fuzz(command, "nc.s2", "--linux", "6.1", cwd=tmp_path)
    assert result.returncode == 2
    assert "6.1 lacks prot nc, map flags shared, split" in result.stderr


def test_different_kernels_diverge(tmp_path: Path) -> None:
    """In what they really do: nothing hides it."""
    result = s2fuzz("run", "--sides", "model:6.1,kernel:6.12", "--tiers", "results", DIFFER, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert "results-map" in result.stdout
    (finding,) = (tmp_path / "s2fuzz-out").iterdir()
    assert s2fuzz("replay", finding, cwd=tmp_path).returncode == 1
    gone = s2fuzz("replay", finding, "--linux", "6.1", cwd=tmp_path)
    assert (gone.returncode, gone.stdout.split(":")[0]) == (0, "gone on model")
    assert s2fuzz("run", "--sides", "model:6.1,kernel:6.12", AGING, cwd=tmp_path).returncode == 2


def test_a_finding_of_ops_that_another_kernel_lacks(tmp_path: Path) -> None:
    """Replaying it there is refused, and not taken for a fix."""
    pgtable = tmp_path / "pgtable.c"
    text = prepare(KernelChoice("6.1")).pgtable.read_text()
    young = "	return pte & KVM_PTE_LEAF_ATTR_LO_S2_AF;"
    assert text.count(young) == 1
    pgtable.write_text(text.replace(young, "	return true;"))
    found = s2fuzz("run", "--linux", "6.1", "--pgtable", pgtable, AGING, cwd=tmp_path)
    assert (found.returncode, "results-is_young" in found.stdout) == (1, True), found.stderr
    (finding,) = (tmp_path / "s2fuzz-out").iterdir()
    assert s2fuzz("replay", finding, cwd=tmp_path).returncode == 1
    assert s2fuzz("replay", finding, "--linux", "6.12", cwd=tmp_path).returncode == 2


@pytest.mark.slow
def test_smoke_rotates_kernels_of_different_versions(tmp_path: Path) -> None:
    arguments = (*SMOKE, "--executions", "300", "--seconds", "120", "--seed", "1", "--no-corpora", "--json")
    result = s2fuzz(*arguments, "--also", "model:6.1,kernel:6.1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert {one["linux"].rpartition(".")[0] for one in summary["identities"] if "linux" in one} == set(SUPPORTED)
    assert {"split", "test_clear_young", "mkold", "is_young"} <= summary["op"].keys()
    assert summary["coverage"]["model"]["lines"] > 300
    assert summary["skipped"] == 0


@pytest.mark.slow
def test_smoke_of_two_kernels_generates_what_both_can_run(tmp_path: Path) -> None:
    arguments = (*SMOKE, "--executions", "200", "--seconds", "120", "--seed", "1", "--keep-going", "--json")
    result = s2fuzz(*arguments, "--sides", "model:6.1,kernel:6.12", "--tiers", "accounting", cwd=tmp_path)
    assert result.returncode in (0, 1), result.stderr
    summary = json.loads(result.stdout)
    assert summary["op"].keys() <= {op.name for op in capabilities_of(choose_sides(sides="model:6.1,kernel:6.12")).ops}
    assert summary["skipped"] >= 5, "seeds that only one of them can run"


def test_build_names_the_version(tmp_path: Path) -> None:
    result = s2fuzz("build", "--linux", "6.1", cwd=tmp_path)
    assert "source: 6.1 (Debian linux-source-6.1)" in result.stdout
