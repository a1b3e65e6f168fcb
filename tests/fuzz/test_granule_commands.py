"""Granules on the command line: each program on a kernel for it, none left out without a word."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from planted import load_all
from processes import COMMAND, s2fuzz

from fuzz.engine.assignment import Assignment
from fuzz.engine.plan import plan
from fuzz.engine.worker import Worker
from fuzz.sides import choose_sides
from harness.errors import BadInput
from harness.findings.finding import load
from harness.program.granule import GRANULES, granule_named
from harness.program.text import parse, read
from reference.build.sources import KernelChoice, prepare

SEEDS = Path(__file__).parents[2] / "corpora" / "seeds"
MIXED = [SEEDS / f"{name}.s2" for name in ("pages_16k", "block_split", "pages_64k", "lpa2_16k", "lpa2")]
MODELS = "model:6.12,model:6.12"


def test_run_takes_the_kernel_that_a_program_is_for(tmp_path: Path) -> None:
    result = s2fuzz("run", *MIXED, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("the sides agree") == len(MIXED)


@pytest.mark.parametrize("side", ["left", "right"])
def test_show_decodes_the_granule_s_entries(tmp_path: Path, side: str) -> None:
    result = s2fuzz("show", SEEDS / "pages_64k_52_bits.s2", "--on", side, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "root_pages=0x1" in result.stdout
    assert "block pa=0xa000080000000 RWX normal AF" not in result.stdout, "it was unmapped"
    assert "0xffffffffe0000 page  pa=0x5000090000000 RW- normal AF  x2" in result.stdout


@pytest.mark.slow
def test_smoke_rotates_granules_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    arguments = ("smoke", "--no-compile", "--executions", "120", "--seed", "4", "--json")
    both = s2fuzz(*arguments, "--granule", "16k,64k", cwd=tmp_path)
    assert both.returncode == 0, both.stderr
    stats = json.loads(both.stdout)
    assert set(stats["granules"]) == {"16k", "64k"}
    assert stats["executions"] == 120
    assert stats["other_granules"] == ["4k"]
    assert {identity["granule"] for identity in stats["identities"] if "granule" in identity} == {"16k", "64k"}
    assert "corpora: programs for 4k were not run; --granule 16k,64k,4k runs them" in both.stderr
    assert "pages of 16k, 64k" in both.stderr


def test_a_smoke_fuzzes_every_granule_and_mostly_4k(tmp_path: Path) -> None:
    result = s2fuzz("smoke", "--no-compile", "--executions", "200", "--seed", "4", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    stats = json.loads(result.stdout)
    seeds = Counter(read(path).machine.granule.name for path in SEEDS.parent.rglob("*.s2"))
    run = {name: count - seeds[name] for name, count in stats["granules"].items()}
    assert {name: run[name] for name in ("16k", "64k")} == {"16k": 30, "64k": 30}
    assert stats["executions"] == 200
    assert stats["replayed"] + stats["skipped"] == sum(seeds.values())
    assert stats["other_granules"] == []
    assert "pages of 4k, 16k, 64k, seed 4" in result.stderr


def test_a_seed_of_another_granule_is_found_before_anything_is_generated(tmp_path: Path) -> None:
    """Which the kernel has wrong for 16K pages only."""
    mutant = next(one for one in load_all() if one.name == "granule-index-of-4k")
    broken = tmp_path / "pgtable.c"
    broken.write_text(mutant.apply(prepare(KernelChoice()).pgtable.read_text()))
    corpora = tmp_path / "corpora"
    corpora.mkdir()
    shutil.copy(SEEDS / "pages_16k.s2", corpora)
    smoke = ("smoke", "--no-compile", "--corpora", corpora, "--pgtable", broken, "--seconds", "600", "--json")
    found = s2fuzz(*smoke, cwd=tmp_path)
    assert found.returncode == 1, found.stderr
    stats = json.loads(found.stdout)
    assert (stats["executions"], len(stats["findings"])) == (0, 1)


def test_every_granule_has_its_time() -> None:
    work = [Assignment((), Path(), (), 1, 60.0, None, False, None, granule=one.name) for one in GRANULES]
    assert [[one.granule for one in lane] for lane in plan(work, 2)] == [["4k", "16k"], ["16k", "64k"]]
    assert [[one.seconds for one in lane] for lane in plan(work, 2)] == [
        [pytest.approx(40.0), pytest.approx(20.0)],
        [pytest.approx(20.0), pytest.approx(40.0)],
    ]
    assert [Assignment.from_json(one.to_json()).granule for one in with_models(work)] == ["4k", "16k", "64k"]


def with_models(work: list[Assignment]) -> list[Assignment]:
    return [replace(one, sides=choose_sides(sides=MODELS)) for one in work]


@pytest.mark.slow
def test_a_finding_replays_on_its_granule(tmp_path: Path) -> None:
    mutant = next(one for one in load_all() if one.name == "granule-index-of-4k")
    broken = tmp_path / "pgtable.c"
    broken.write_text(mutant.apply(prepare(KernelChoice()).pgtable.read_text()))
    smoke = (
        "smoke",
        "--no-compile",
        "--granule",
        "16k",
        "--no-corpora",
        "--seed",
        "1",
        "--executions",
        "3000",
        "--out",
        "found",
    )
    found = s2fuzz(*smoke, "--pgtable", broken, "--json", cwd=tmp_path)
    assert found.returncode == 1, found.stderr
    directory = Path(json.loads(found.stdout)["findings"][0]["directory"])
    assert load(directory).program.machine.granule.name == "16k"
    again = s2fuzz("replay", directory, cwd=tmp_path)
    assert again.returncode == 1, again.stderr
    assert again.stdout.startswith("still there")
    assert s2fuzz("replay", directory, "--linux", "6.12", cwd=tmp_path).returncode == 0, "the fixed kernel"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("smoke", "--granule", "8k"), "`8k` is not a granule: expected 4k, 16k, 64k"),
        (("smoke", "--granule", "4k,"), "`` is not a granule"),
        (("smoke", "--granule", "4k,16k", "--inputs", "x"), "one --granule"),
        (("build", "--granule", "4K"), "'4K' is not one of '4k', '16k', '64k'"),
    ],
)
def test_bad_granules(tmp_path: Path, arguments: tuple[str, ...], problem: str) -> None:
    result = s2fuzz(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert problem in result.stderr


def test_shell_for_another_granule(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("map ipa=0 size=32M phys=0x80000000 prot=rw mc=1\nget_leaf ipa=0x4000\nreset granule=4k\n")
    run = subprocess.run(
        [COMMAND, "shell", "--granule", "16k"],
        stdin=lines.open(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 2
    assert "level=0x2" in run.stdout
    assert "this kernel was built for pages of 16k, not of 4k" in run.stderr


def test_a_worker_refuses_what_is_not_for_it(tmp_path: Path) -> None:
    worker = Worker(Assignment(choose_sides(), tmp_path, (), 0, None, None, True, None, granule="16k"))
    try:
        kernel = worker.executors[1]
        with pytest.raises(BadInput, match="built for pages of 16k, cannot run this program: its granule is 64k"):
            kernel.start(parse("s2 1\ngranule = 64k\n"))
        assert worker.granule is granule_named("16k")
    finally:
        for side in worker.executors:
            side.close()
