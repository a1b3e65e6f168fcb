"""Campaigns: kept, resumed, shared among workers and comparisons, and what their exit status says."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from campaigns import MODELS, PLAIN, await_that, begin, fuzzers, has_found, qemus, recorded, select, stop
from dialects import DEFAULT
from planted import load_all
from processes import await_death, s2fuzz

from fuzz.campaign.setup import CampaignSetup, new_assignment
from fuzz.campaign.state import CampaignState
from fuzz.campaign.supervisor import Campaign
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.corpus.store import name_of
from fuzz.engine import compiling
from fuzz.engine.background import Compiling
from fuzz.engine.process import FuzzingProcess
from fuzz.sides import choose_sides
from harness.errors import BadInput
from harness.findings.finding import load
from harness.program.codec import encode
from harness.program.text import format_program, read
from reference.build.sources import KernelChoice, prepare

SEEDS = Path(__file__).parent.parent.parent / "corpora" / "seeds"


def test_it_is_watched_stopped_and_resumed(tmp_path: Path) -> None:
    place = tmp_path / "campaign"
    run = begin(place, "--workers", "2")
    await_that(has_found(place, 20), run)
    watched = json.loads(s2fuzz("status", place, "--json", cwd=tmp_path).stdout)
    assert watched["running"] == run.pid
    second = s2fuzz("campaign", place, "--hours", "0.001", cwd=tmp_path)
    assert second.returncode == 2
    assert f"in use by process {run.pid}" in second.stderr
    processes = [*fuzzers(run), *qemus(run)]
    assert len(processes) == 4
    stdout, _ = stop(run)
    await_death(processes)
    assert "ended by interrupted" in stdout
    assert "nothing found" in stdout
    before = recorded(place)
    inputs = select(place, "SELECT slot, count(*) FROM inputs GROUP BY slot")
    assert {slot for slot, _ in inputs} == {None, 0, 1}, "both workers found some"
    assert sum(int(str(count)) for _, count in inputs) == len(before)
    assert not list((place / "spool").iterdir())

    again = s2fuzz("campaign", place, *PLAIN, "--workers", "1", "--hours", "0.0003", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert recorded(place) >= before
    status = json.loads(s2fuzz("status", place, "--json", cwd=tmp_path).stdout)
    assert status["running"] is None
    assert [one["ended"] for one in status["runs"]] == ["interrupted", "time"]
    assert status["tally"]["executions"] > watched["tally"]["executions"]
    assert status["tally"]["executions"] == sum(
        int(str(n)) for (n,) in select(place, "SELECT executions FROM processes")
    )
    (kernel,) = status["comparisons"][0]["edges"]
    assert 0 < kernel["reached"] < kernel["of"]
    assert 0 < status["model"]["lines"] < status["model"]["of"]
    seeds = select(place, "SELECT DISTINCT seed FROM processes")
    assert len(seeds) == 3, "no process repeats what another did"
    at = [float(str(at)) for (at,) in select(place, "SELECT at FROM samples ORDER BY at")]
    assert at[-1] >= sum(one["seconds"] for one in status["runs"]) - 0.1


@pytest.mark.slow
def test_other_options_are_another_campaign(tmp_path: Path) -> None:
    place = tmp_path / "campaign"
    assert s2fuzz("campaign", place, *MODELS, "--hours", "0.0001", *PLAIN, cwd=tmp_path).returncode == 0
    result = s2fuzz("campaign", place, "--linux", "6.1", "--hours", "0.0001", cwd=tmp_path)
    assert result.returncode == 2
    assert "is another campaign (model:6.12 against model:6.12, pages of 4k)" in result.stderr
    result = s2fuzz("campaign", place, *MODELS, "--hours", "0.0001", *PLAIN, cwd=tmp_path)
    assert result.returncode == 0, "the same ones may be repeated"


def test_somebody_else_s_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("...")
    result = s2fuzz("campaign", tmp_path, "--hours", "0.0001", cwd=tmp_path)
    assert result.returncode == 2
    assert "thesis.tex" in result.stderr
    assert not (tmp_path / "campaign.json").exists()


def test_findings_are_kept_once_and_known_ones_do_not_count(tmp_path: Path) -> None:
    place = tmp_path / "campaign"
    mutant = next(one for one in load_all() if one.name == "phys-not-advanced")
    changed = tmp_path / "pgtable.c"
    changed.write_text(mutant.apply(prepare(KernelChoice()).pgtable.read_text()))
    arguments = ("--hours", "0.0008", "--workers", "2", *PLAIN)
    result = s2fuzz("campaign", place, "--pgtable", changed, *arguments, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    findings = sorted((place / "findings").iterdir())
    buckets = [str(bucket) for (bucket,) in select(place, "SELECT bucket FROM findings")]
    noted = {str(name) for (name,) in select(place, "SELECT directory FROM findings WHERE NOT flaky")}
    assert {path.name for path in findings} <= noted
    assert max(map(buckets.count, buckets)) <= 3, "of both workers together"
    record = json.loads((findings[0] / "finding.json").read_text())
    assert record["replay"] == "s2fuzz replay ."
    assert any(load(path).minimised for path in findings), result.stderr
    changed.unlink()
    replayed = s2fuzz("replay", findings[0], cwd=tmp_path)
    assert replayed.returncode == 1, "with the finding's own copy"
    (place / "known").write_text("".join(f"{bucket}  # we know\n" for bucket in set(buckets)))
    again = s2fuzz("campaign", place, *arguments[:1], "0.0002", *arguments[2:], cwd=tmp_path)
    known = {one["bucket"] for one in json.loads(s2fuzz("status", place, "--json", cwd=tmp_path).stdout)["findings"]}
    assert again.returncode == (1 if known - set(buckets) else 0), again.stderr
    assert "known)" in again.stdout
    kept = [load(path) for path in (place / "findings").iterdir()]
    for bucket in {one.bucket for one in kept}:
        of_bucket = [one for one in kept if one.bucket == bucket]
        assert len(of_bucket) <= 3, "of both runs together"
        assert sum(one.minimised for one in of_bucket) <= 1
        assert len({format_program(one.program) for one in of_bucket}) == len(of_bucket)


@pytest.mark.slow
def test_comparisons_take_turns(tmp_path: Path) -> None:
    """One worker, three comparisons in two dialects."""
    place = tmp_path / "campaign"
    also = ("--also", "model:6.12+hyp,model:6.12+hyp", "--granule", "4k,16k", "--slice", "0.01")
    run = begin(place, *MODELS, *also, "--workers", "1")
    await_that(lambda: len(select(place, "SELECT 1 FROM processes WHERE ended = 'done'")) >= 5, run)
    stop(run)
    order = [comparison for (comparison,) in select(place, "SELECT comparison FROM processes ORDER BY id")]
    assert order[:5] == [0, 1, 2, 3, 0]
    assert sorted(path.name for path in (place / "corpus").glob("*/")) == ["16k", "4k"]
    assert all(any(path.parent.name == granule for path in recorded(place)) for granule in ("16k", "4k"))
    samples = select(place, "SELECT comparison, max(executions) FROM samples GROUP BY comparison")
    assert [comparison for comparison, _ in samples] == [0, 1, 2, 3]


def test_inputs_that_others_found_are_run(tmp_path: Path) -> None:
    """Whatever of them is something new, libFuzzer keeps, under the name of its content."""
    work = new_assignment(choose_sides(sides="model:6.12,model:6.12"), seed=1)
    work = CampaignSetup.of([work]).work[0]
    spool = tmp_path / "spool"
    spool.mkdir()
    start_from = tmp_path / "start"
    given = [encode(program) for path in sorted(SEEDS.glob("root_*.s2")) if (program := read(path))]
    process = FuzzingProcess(work, spool, start_from)
    try:
        for data in given:
            process.give(data)
        names = {name_of(data) for data in given}
        deadline = time.monotonic() + 60
        while not names & {path.name for path in process.corpus.iterdir()}:
            assert time.monotonic() < deadline
            process.watch()
            for source in process.sources:
                process.hear(source)
    finally:
        process.close()


def test_a_campaign_s_directory_says_what_it_is(tmp_path: Path) -> None:
    place = WorkDirectory(tmp_path)
    patch = tmp_path.parent / "pgtable.c"
    patch.write_text("int x;\n")
    sides = choose_sides("6.1", pgtable=patch)
    work = [new_assignment(sides, seed=7, granule=granule, stages=(2,)) for granule in ("4k", "16k")]
    saved = CampaignSetup.of(work).save(place)
    assert saved.stores == ("4k", "16k")
    patch.write_text("int y;\n")
    loaded = CampaignSetup.load(place)
    assert loaded == saved
    assert loaded.work[0].sides[1].pgtable is not None
    assert loaded.work[0].sides[1].pgtable.read_text() == "int x;\n", "a copy is kept"
    assert not CampaignSetup.of(work).same_as(loaded), "the file has changed since"
    patch.write_text("int x;\n")
    assert CampaignSetup.of(work).same_as(loaded)
    text = place.setup.read_text()
    for old, new in (('"codec": ', '"codec": 1'), ('"sides"', '"sites"'), ("{", "{{"), ('"4k"', '"../4k"')):
        place.setup.write_text(text.replace(old, new))
        with pytest.raises(BadInput, match=r"campaign\.json|granule"):
            CampaignSetup.load(place)


def test_the_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    place = tmp_path / "campaign"
    run = begin(place, "--workers", "1")
    await_that(has_found(place, 1), run)
    fuzzer = fuzzers(run)[0]
    run.send_signal(signal.SIGTERM)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode == 130
    await_death([fuzzer])
    assert DEFAULT.granule.name == "4k"
    assert recorded(place)


class Later(Compiling):
    """The compiled modules, there as soon as `when` holds."""

    def __init__(self, when: Callable[[], bool]) -> None:
        super().__init__()
        self._there, self.folder = self.folder, None
        self._when = when

    def attend(self) -> list[str]:
        if self.folder is None and self._when():
            self.folder = self._there
        return super().attend()


def test_its_processes_go_over_to_compiled_modules(tmp_path: Path) -> None:
    compiling.compiled(print)
    place = WorkDirectory(tmp_path / "campaign")
    said: list[str] = []

    def until_it_is_said(_state: CampaignState) -> None:
        if any("went over" in line for line in said):
            os.kill(os.getpid(), signal.SIGINT)

    with place.locked() as lock:
        setup = CampaignSetup.of([new_assignment(choose_sides(sides="model:6.12,model:6.12"), seed=1)]).save(place)
        later = Later(has_found(place.root, 5))
        run = Campaign(place, setup, lock, 1, 120.0, 600.0, 0, (), said.append, until_it_is_said, compiling=later)
        assert run.run().ended == "interrupted", said
    (over,) = [line for line in said if "went over" in line]
    assert over.startswith("worker 0 went over to compiled modules after ")
    assert int(over.split()[-2]) > 0
