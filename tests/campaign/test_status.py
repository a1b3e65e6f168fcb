"""What `status` and the live view say: of campaigns that were never run, from a ledger that the test writes."""

from __future__ import annotations

import io
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from executors import AnyOwner
from rich.console import Console

from fuzz.campaign.growth import Grown, Sample
from fuzz.campaign.ledger import Ledger
from fuzz.campaign.setup import CampaignSetup, new_assignment
from fuzz.campaign.state import CampaignState, SlotState
from fuzz.campaign.status import status_lines, status_of
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.cli.campaign_display import describe, table
from fuzz.cli.status import status
from fuzz.engine.messages import ProcessState
from fuzz.engine.stats import Stats
from fuzz.sides import choose_sides
from fuzz.triage.filing import Filer
from harness.errors import ToolFailure
from harness.model.executor import Model
from harness.program.text import parse
from harness.verdict.judge import Judge

BUCKET = "results-set_owner-return"
SIDES = choose_sides(sides="model:6.12,model:6.12")


@pytest.fixture
def place(tmp_path: Path) -> WorkDirectory:
    """A campaign of two granules, with a finding of the same bucket at each."""
    found = WorkDirectory(tmp_path)
    CampaignSetup.of([new_assignment(SIDES, seed=1, granule=one) for one in ("4k", "16k")]).save(found)
    return found


@pytest.fixture
def ledger(place: WorkDirectory) -> Iterator[Ledger]:
    with closing(Ledger(place.ledger)) as opened:
        yield opened


def run_in(place: WorkDirectory, ledger: Ledger) -> int:
    """An hour's run, as far as the ledger has it; its number. The granules' coverage is flat from 600 s on."""
    left, right = Model(), AnyOwner()
    run = ledger.begin_run(2)
    for number, granule in enumerate(("4k", "16k")):
        program = parse(f"s2 1\ngranule = {granule}\nset_owner ipa=0x0 size=64K owner=33\n")
        verdict = Judge(left, right).verdict(program)
        assert verdict is not None
        directory = Filer(place.findings, SIDES, (left, right), {}).file(program, verdict)
        ledger.note_finding(directory, number, BUCKET, verdict.kind, False, 9, 60.0 + number, number)
        stats = Stats(executions=1_500_000, buckets=Counter({BUCKET: 200_000 if number else 2}))
        process, _ = ledger.begin_process(run, number, number, 1, 0.0)
        ledger.note_process(process, ProcessState(False, 3600.0, stats, (), (), 1, ()), 2000, 400.0)
        for at, edges in ((300.0, 200), (600.0, 250), (3600.0, 250)):
            executions = int(at / 3600 * 1_500_000)
            reached = {(f"image{number}", 1): (edges, 326)}
            ledger.sample(
                Sample(at, number, executions, 800.0, granule, 1000 + int(at), reached, (900, 1212), 1, {}, 2000)
            )
    ledger.note_run(run, 3600.0)
    return run


def lines_of(place: WorkDirectory) -> list[str]:
    return list(status_lines(status_of(place), place.root))


@pytest.mark.parametrize(
    ("ended", "state", "said"),
    [
        (None, "killed", "not running; it was killed, and `s2fuzz campaign` goes on from there"),
        ("time", "finished", "not running; finished: it ended by time"),
        ("interrupted", "stopped", "not running; stopped: it ended by interrupted"),
        ("disk", "failed", "not running; failed: it ended by disk"),
    ],
)
def test_how_a_campaign_is_that_does_not_run(
    ended: str | None, state: str, said: str, place: WorkDirectory, ledger: Ledger
) -> None:
    ledger.note_run(run_in(place, ledger), 3600.0, ended)
    assert status_of(place)["state"] == state
    assert lines_of(place)[0] == f"{place.root}: {said}"
    assert status_of(place)["workers"] == [], "and it has no workers"


def test_a_campaign_that_runs_tells_of_its_workers(place: WorkDirectory, ledger: Ledger) -> None:
    run_in(place, ledger)
    with place.locked():
        found = status_of(place)
        lines = lines_of(place)
    assert (found["state"], found["exec_per_s"]) == ("running", 800.0)
    assert [(one["worker"], one["label"], one["rate"]) for one in found["workers"]] == [
        (0, "4k", 400.0),
        (1, "16k", 400.0),
    ]
    assert lines[1] == "1:00:00 in 1 run, 3,000,000 executions, 800/s, 326 for each input"
    assert "worker 1: 16k, 1,500,000 executions in 1:00:00, 400/s" in lines


def test_a_bucket_of_two_granules_is_told_apart_and_what_is_kept_is_on_the_disk(
    place: WorkDirectory, ledger: Ledger
) -> None:
    run_in(place, ledger)
    first, second = status_of(place)["findings"]
    assert (first["bucket"], second["bucket"]) == (BUCKET, BUCKET)
    assert (first["granule"], second["granule"]) == ("4k", "16k")
    assert [(one["kept"], one["ops"], one["minimised"]) for one in (first, second)] == [(1, 1, False)] * 2, (
        "the ledger says 9 ops, as it was found"
    )
    text = "\n".join(lines_of(place))
    for granule in ("4k", "16k"):
        assert f"divergence {BUCKET}, model:6.12 against model:6.12, pages of {granule}:\n" in text
    (place.root / first["directories"][0]).rename(place.root / "taken")
    assert status_of(place)["findings"][0]["kept"] == 0


def test_a_campaign_that_is_about_to_begin(place: WorkDirectory) -> None:
    with pytest.raises(ToolFailure, match="nothing has run here yet"):
        status_of(place)
    with place.locked(), pytest.raises(ToolFailure, match="is about to begin it"):
        status_of(place)


def test_what_grows_and_what_masks(place: WorkDirectory, ledger: Ledger) -> None:
    run_in(place, ledger)
    found, lines = status_of(place), lines_of(place)
    assert found["growth"]["edges"] == {"value": 500, "of": 652, "at": 600.0, "executions": 500_000}
    assert found["growth"]["inputs"]["at"] == 3600.0
    assert "  kernel edges                   500 of 652    0:50:00         2,500,000  flat" in lines
    assert "  inputs kept                         9,200    0:00:00                 0" in lines
    (masked,) = found["masking"]
    assert (masked["comparison"], masked["bucket"], round(masked["share"], 3)) == (1, BUCKET, 0.133)
    assert [line.partition(":")[0] for line in found["remarks"]] == ["masked", "many inputs", "flat"]


def test_json_is_one_line_of_the_same(place: WorkDirectory, ledger: Ledger) -> None:
    run_in(place, ledger)
    result = CliRunner().invoke(status, [str(place.root), "--json"], standalone_mode=False)
    assert result.output.count("\n") == 1
    printed = json.loads(result.output)
    assert printed["growth"] == status_of(place)["growth"]
    page = (Path(__file__).parents[2] / "docs" / "campaigns.md").read_text()
    undocumented = [name for name in printed if not re.search(rf"^\|[^|]*`{name}`", page, re.MULTILINE)]
    assert undocumented == []


def test_a_ledger_of_the_version_before(place: WorkDirectory, ledger: Ledger) -> None:
    """As it was read and written without `joint`, `replaced`, and the columns that came with them."""
    ledger.note_run(run_in(place, ledger), 3600.0, "time")
    ledger.close()
    with closing(sqlite3.connect(place.ledger)) as base:
        base.executescript(
            "DROP TABLE joint; DROP TABLE replaced; ALTER TABLE processes DROP COLUMN rate; PRAGMA user_version = 1;"
            "ALTER TABLE samples DROP COLUMN joint; ALTER TABLE samples DROP COLUMN features;"
        )
    before = place.ledger.read_bytes()
    found = status_of(place)
    assert (found["state"], found["growth"]["edges"]["value"]) == ("finished", 500)
    assert found["growth"]["results"]["value"] == 0
    assert place.ledger.read_bytes() == before, "who only reads changes nothing"
    with closing(Ledger(place.ledger)) as again:
        again.note_joint(0, "results", 5)
        assert again.joint() == {(0, "results"): 5}
        assert again.seconds() == 3600.0


STATE = CampaignState(
    at=11_232.0,
    seconds=3600.0,
    left=14_400.0,
    executions=3_651_773,
    rate=1014.2,
    growth={
        "edges": Grown(301, 326, 72.0, 251_653),
        "lines": Grown(1001, 1212, 3000.0, 900_000),
        "results": Grown(1274, None, 9000.0, 3_000_000),
        "inputs": Grown(34_501, None, 11_230.0, 3_651_000),
    },
    buckets=3,
    known=1,
    flaky=1,
    incidents=2,
    minimising=1,
    slots=(
        SlotState(0, "4k", "fuzzing", 1_800_000, 11_000.0, 507.4),
        SlotState(1, "model:6.12 kernel:6.12+a-rather-long-name-of-a-file.c 16k", "silent 20 s", 1_000, 3.0, 0.0),
    ),
    remarks=("slow: 20/s a worker",),
)


def test_a_process_is_not_called_slow_before_it_is_warm() -> None:
    assert [replace(STATE.slots[0], seconds=seconds).is_warm for seconds in (1.0, 60.0)] == [False, True]
    assert not STATE.slots[1].is_warm, "it is silent"


def test_the_live_view_fits_a_terminal_of_80_columns() -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(table(STATE))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    text = out.getvalue()
    for said in (
        *("3,651,773 executions, 1,014/s, 4:00:00 left", "buckets found 2 (and 1 known), flaky 1, incidents 2"),
        *("301 of 326", "3:06:00", "3,400,120", "1,800,000", "507", "silent 20 s", "slow: 20/s a worker"),
    ):
        assert said in text, said
    assert [line for line in lines if line.endswith("flat")] == [
        line for line in lines if "edges" in line or "lines" in line
    ]


def test_a_log_has_it_on_one_line() -> None:
    assert describe(STATE) == (
        "3:07:12, 3,651,773 executions, 1,014/s, 301/326 kernel edges, 1,001/1,212 model lines, 34,501 inputs, "
        "buckets found 2 (and 1 known), flaky 1, incidents 2, 1 to minimise, last new 0:37:12 ago, 4:00:00 left"
    )
