"""The smoke run: deterministic, interruptible, honest about how its child ended, and sturdy against a dying QEMU."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from planted import load_all
from processes import SMOKE, await_death, await_descendant, descendants, s2fuzz, start
from thinning import first

from fuzz.engine import smoke as smoke_module
from fuzz.engine.assignment import Assignment
from fuzz.sides import choose_sides
from harness.errors import ToolFailure
from reference.build.sources import KernelChoice, prepare

QEMU = "qemu-system-aar"  # as far as /proc tells
MODELS = "model:6.12,model:6.12"


@contextlib.contextmanager
def load() -> Iterator[None]:
    """A busy process beside the test."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


@pytest.mark.slow
def test_same_seed_same_programs_under_load_and_across_a_restart(tmp_path: Path) -> None:
    """Two runs at once, with a third process busy: one of them loses its QEMU in the middle."""
    arguments = ("smoke", "--no-corpora", "--seed", "5", "--executions", "2000", "--seconds", "400", "--json")
    with load():
        runs = [start(*arguments, "--inputs", tmp_path / f"inputs{i}", cwd=tmp_path) for i in (0, 1)]
        await_inputs(tmp_path / "inputs1", runs[1])
        os.kill(await_descendant(runs[1].pid, QEMU), signal.SIGKILL)
        outputs = [run.communicate(timeout=500) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    results = [json.loads(output.splitlines()[-1]) for output, _ in outputs]
    assert [result["executions"] for result in results] == [2000, 2000], "a restart costs no input"
    assert [result["boots"] for result in results] == [1, 2], "and one boot"
    inputs = [(tmp_path / f"inputs{i}").read_text().splitlines() for i in (0, 1)]
    assert len(inputs[0]) == 2000
    assert inputs[0] == inputs[1]


def await_inputs(path: Path, run: subprocess.Popen[str]) -> None:
    """Return when the run has written some of its inputs: it is in the middle of fuzzing."""
    while run.poll() is None:
        if path.exists() and path.stat().st_size > 0:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(0.1)
    raise AssertionError(run.communicate())


@pytest.mark.parametrize("guidance", first(1, ["both", "model"]))
def test_the_model_can_steer_too(guidance: str, tmp_path: Path) -> None:
    arguments = ("--no-corpora", "--guidance", guidance, "--executions", "100", "--seed", "1", "--json")
    result = s2fuzz(*SMOKE, *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["coverage"]["features"] > 0


def test_another_seed_makes_other_programs(tmp_path: Path) -> None:
    for seed in ("1", "2"):
        arguments = ("--no-corpora", "--seed", seed, "--executions", "40", "--inputs", tmp_path / seed)
        assert s2fuzz(*SMOKE, *arguments, cwd=tmp_path).returncode == 0
    assert (tmp_path / "1").read_text() != (tmp_path / "2").read_text()


def test_json_is_the_last_and_only_line_of_stdout(tmp_path: Path) -> None:
    result = s2fuzz("smoke", "--no-compile", "--executions", "60", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    summary = json.loads(line)
    assert summary["executions"] == 60
    assert summary["findings"] == []
    assert summary["replayed"] >= 15
    kernels = summary["coverage"]["kernel"]
    assert len(kernels) == 3, "one of each granule"
    assert all(0 < kernel["reached"] < kernel["of"] for kernel in kernels)
    model = summary["coverage"]["model"]
    assert 0 < model["lines"] < model["of"]
    assert {"exec_per_s", "seconds", "ops", "median_ops", "op", "identities", "seed", "trees"} <= set(summary)
    assert list(tmp_path.iterdir()) == [], "nothing is written where nothing was found"


def test_a_planted_bug_is_reported_and_filed(tmp_path: Path) -> None:
    mutant = next(one for one in load_all() if one.name == "phys-not-advanced")
    changed = tmp_path / "pgtable.c"
    changed.write_text(mutant.apply(prepare(KernelChoice()).pgtable.read_text()))
    result = s2fuzz(*SMOKE, "--pgtable", changed, "--seed", "1", "--out", "found", "--seconds", "200", cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert "s2fuzz replay found/tables-" in result.stdout
    keep_going = ("--keep-going", "--executions", "150", "--seconds", "400", "--no-corpora", "--json", "--out", "more")
    result = s2fuzz(*SMOKE, "--pgtable", changed, "--seed", "1", *keep_going, cwd=tmp_path)
    summary = json.loads(result.stdout.splitlines()[-1])
    assert result.returncode == 1
    assert summary["executions"] == 150
    assert max(summary["buckets"].values()) > 3, "later ones of a bucket are only counted"
    assert summary["masking"] and "masks what lies behind it" in result.stderr
    kept = [finding["bucket"] for finding in summary["findings"]]
    assert max(map(kept.count, kept)) == 3


def test_workers_and_images_share_a_run(tmp_path: Path) -> None:
    """Two workers, three comparisons of which two have kernels: the second is divided among the workers, and its
    programs come before all else; what they did adds up."""
    arguments = ("--executions", "90", "--workers", "2", "--json", "--seed", "4")
    result = s2fuzz(*SMOKE, *arguments, "--also", "kernel:6.12,kernel:6.12", "--also", MODELS, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary["executions"] == 90
    assert summary["boots"] == 1 + 2 * 2, (
        "the first's; and of the second's processes, one for each worker, each has two"
    )
    assert summary["replayed"] >= 3 * 15
    assert len(summary["coverage"]["kernel"]) == 2, "the image on either side"
    assert list(tmp_path.iterdir()) == []


def test_the_first_finding_ends_all_workers(tmp_path: Path) -> None:
    changed = tmp_path / "pgtable.c"
    mutant = next(one for one in load_all() if one.name == "phys-not-advanced")
    changed.write_text(mutant.apply(prepare(KernelChoice()).pgtable.read_text()))
    arguments = ("--workers", "2", "--pgtable", changed, "--no-corpora", "--seconds", "100000", "--json")
    result = s2fuzz(*SMOKE, *arguments, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["findings"]


def test_inputs_are_one_process_s(tmp_path: Path) -> None:
    result = s2fuzz("smoke", "--workers", "2", "--inputs", "inputs", cwd=tmp_path)
    assert result.returncode == 2
    assert "--workers 1" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_in_order(number: signal.Signals, tmp_path: Path) -> None:
    run = start(*SMOKE, "--seconds", "300", "--json", cwd=tmp_path)
    qemu = await_descendant(run.pid, QEMU)
    children = [pid for pid, _ in descendants(run.pid)]
    os.kill(run.pid, number)
    stdout, stderr = run.communicate(timeout=120)
    assert run.returncode == 130, stderr
    assert json.loads(stdout.splitlines()[-1])["interrupted"]
    await_death([qemu, *children])


def test_a_killed_child_is_a_tool_failure(tmp_path: Path) -> None:
    run = start(*SMOKE, "--seconds", "300", cwd=tmp_path)
    await_descendant(run.pid, QEMU)
    children = dict(descendants(run.pid))
    fuzzer = next(pid for pid, name in children.items() if name.startswith("python"))
    os.kill(fuzzer, signal.SIGKILL)
    _, stderr = run.communicate(timeout=120)
    assert run.returncode == 3
    assert "was killed by signal 9" in stderr
    await_death(list(children))


def test_nothing_outlives_a_killed_parent(tmp_path: Path) -> None:
    run = start("smoke", "--seconds", "300", cwd=tmp_path)
    await_descendant(run.pid, QEMU)
    children = [pid for pid, _ in descendants(run.pid)]
    run.kill()
    run.communicate()
    await_death(children)


def test_a_corpus_of_another_codec_is_refused(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "input").write_bytes(b"123")
    (tmp_path / "corpus.s2fuzz-codec").write_text("999\n")
    launcher = Path(__file__).parent.parent.parent / "fuzz" / "stage2_fuzzer.py"
    result = subprocess.run(
        [sys.executable, str(launcher), "-runs=1", str(corpus)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "written by codec 999" in result.stderr


def test_an_assignment_that_is_none_is_bad_input(tmp_path: Path) -> None:
    launcher = Path(__file__).parent.parent.parent / "fuzz" / "stage2_fuzzer.py"
    env = {**os.environ, "S2FUZZ_ASSIGNMENT": "{"}
    result = subprocess.run(
        [sys.executable, str(launcher)], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr.startswith("s2fuzz: S2FUZZ_ASSIGNMENT, which s2fuzz sets for itself, is not JSON: ")


def test_the_launcher_runs_by_hand(tmp_path: Path) -> None:
    """As libFuzzer's users run a target; libFuzzer ends the process with status 0 after -runs."""
    launcher = Path(__file__).parent.parent.parent / "fuzz" / "stage2_fuzzer.py"
    result = subprocess.run(
        [sys.executable, str(launcher), "-runs=200", "corpus"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert any((tmp_path / "corpus").iterdir()), "inputs with new coverage were kept"
    assert re.search(r"MS: \d+ Custom", result.stderr), "our mutator is the one that works"


def test_a_smoke_that_ran_nothing_has_not_found_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke_module._Run, "run", lambda self, _work: self.progress)
    work = Assignment(choose_sides(sides="model:6.12,model:6.12"), tmp_path, (), 1, 1.0, None, False, None)
    with pytest.raises(ToolFailure, match="no program was run"):
        smoke_module.smoke([work], 1, lambda _: None)
