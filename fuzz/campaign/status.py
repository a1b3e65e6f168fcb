"""How a campaign is getting on, as another process learns it from the directory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from fuzz.campaign.growth import WHAT, Grown, Growth, duration, growth_rows, maskings, remarks
from fuzz.campaign.kept import KeptFindings
from fuzz.campaign.ledger import Damaged, Ledger
from fuzz.campaign.setup import CampaignSetup
from fuzz.campaign.state import INTERRUPTED, ON_TIME, WARM
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.engine.cautions import caution_lines
from fuzz.engine.hardware_lines import hardware_lines
from harness.amounts import counted
from harness.errors import ToolFailure
from harness.outside import shown

RUNNING: Final = "running"
KILLED: Final = "killed"
FINISHED: Final = "finished"
STOPPED: Final = "stopped"
FAILED: Final = "failed"
"""What a campaign is doing; in `status --json`, too."""
_QUIET: Final = 60.0
"""Seconds after which it is odd that a running campaign has written nothing."""


def status_of(place: WorkDirectory) -> dict[str, Any]:
    """What the campaign in `place` is, and how far it came, for `status`; docs/campaigns.md has the entries. Raises
    BadInput where there is none, and ToolFailure where its ledger cannot be read."""
    setup = CampaignSetup.load(place)
    try:
        ledger = Ledger(place.ledger, readonly=True)
    except Exception as error:
        if isinstance(error, Damaged) or place.ledger.exists():
            raise ToolFailure(
                f"{shown(place.ledger)}: cannot be read ({error}); `s2fuzz campaign` makes another"
            ) from error
        holder = place.holder()
        how = "nothing has run here yet" if holder is None else f"process {holder} is about to begin it; ask again soon"
        raise ToolFailure(f"{shown(place.ledger)}: {how}") from error
    try:
        return _status(place, setup, ledger)
    finally:
        ledger.close()


def state_of(holder: int | None, ended: str | None) -> str:
    """What a campaign is doing that a process holds or none, by how its last run ended (None: nobody could say so)."""
    if holder is not None:
        return RUNNING
    return {None: KILLED, ON_TIME: FINISHED, INTERRUPTED: STOPPED}.get(ended, FAILED)


def _status(place: WorkDirectory, setup: CampaignSetup, ledger: Ledger) -> dict[str, Any]:
    holder = place.holder()
    runs = _runs(place, ledger)
    state = state_of(holder, runs[-1]["ended"] if runs else None)
    growth = Growth()
    growth.replay(ledger.samples(setup.stores))
    every = [ledger.stats(number) for number in range(len(setup.work))]
    tally = ledger.stats().summary()
    seconds, executions = ledger.seconds(), tally["executions"]
    workers = list(_workers(setup, ledger)) if state == RUNNING else []
    masked = maskings(setup.labels(), every)
    notes = list(
        remarks(seconds, executions, growth, [one["rate"] for one in workers if one["seconds"] >= WARM], masked)
    )
    quiet = _quiet(place)
    if state == RUNNING and quiet > _QUIET:
        notes.append(f"odd: it has written nothing for {duration(quiet)}; is it stopped, or its disk slow?")
    return {
        "comparisons": list(_comparisons(setup, ledger, growth)),
        "exec_per_s": round(sum(one["rate"] for one in workers), 2) if workers else _last_rate(ledger),
        "findings": _findings(place, setup, ledger, every),
        "growth": {name: asdict(growth.of[name]) for name in WHAT if name in growth.of},
        "incidents": [
            {"at": at, "program": kept, "verdict": verdict, "what": what, "worker": slot}
            for at, slot, what, kept, verdict in ledger.rows(
                "SELECT at, slot, what, input, verdict FROM incidents ORDER BY id"
            )
        ],
        "masking": [asdict(one) for one in masked],
        "model": {"lines": growth.of["lines"].value, "of": growth.of["lines"].of}
        if growth.of
        else {"lines": 0, "of": 0},
        "quiet": round(quiet, 1),
        "remarks": notes,
        "replaced": ledger.rows("SELECT count(*) FROM replaced")[0][0],
        "running": holder,
        "runs": runs,
        "seconds": seconds,
        "state": state,
        "tally": tally,
        "flaky": tally["unconfirmed"],
        "workers": workers,
    }


def _runs(place: WorkDirectory, ledger: Ledger) -> list[dict[str, Any]]:
    word = place.last_word()
    return [
        {
            "day": day,
            "ended": ended or (word[1] if word is not None and word[0] == number else None),
            "seconds": seconds,
            "workers": workers,
        }
        for number, day, seconds, workers, ended in ledger.rows(
            "SELECT id, day, seconds, workers, ended FROM runs ORDER BY id"
        )
    ]


def _quiet(place: WorkDirectory) -> float:
    """Seconds since the ledger was written to."""
    files = [place.ledger, place.ledger.with_name(f"{place.ledger.name}-wal")]
    return max(0.0, time.time() - max(path.stat().st_mtime for path in files if path.exists()))


def _last_rate(ledger: Ledger) -> float:
    rows = ledger.rows("SELECT rate FROM samples ORDER BY at DESC LIMIT 1")
    return float(rows[0][0]) if rows else 0.0


def _workers(setup: CampaignSetup, ledger: Ledger) -> Iterator[dict[str, Any]]:
    """The fuzzing processes that go on, as of the last sample."""
    for slot, comparison, seconds, executions, rate in ledger.rows(
        "SELECT slot, comparison, seconds, executions, rate FROM processes WHERE ended IS NULL "
        "AND run = (SELECT max(id) FROM runs) ORDER BY slot"
    ):
        yield {
            "comparison": comparison,
            "executions": executions or 0,
            "label": setup.labels()[comparison],
            "rate": rate or 0.0,
            "seconds": seconds or 0.0,
            "worker": slot,
        }


def _comparisons(setup: CampaignSetup, ledger: Ledger, growth: Growth) -> Iterator[dict[str, Any]]:
    last = {one.comparison: one for one in ledger.samples(setup.stores)}
    for number, what in enumerate(setup.describe()):
        if number not in last:
            continue
        yield {
            "corpus": last[number].corpus,
            "edges": [
                {"image": image, "of": of, "reached": reached, "side": side}
                for (image, side), (reached, of) in sorted(last[number].edges.items())
            ],
            "executions": last[number].executions,
            "growth": asdict(growth.of[f"edges:{number}"]),
            "what": what,
        }


def _findings(place: WorkDirectory, setup: CampaignSetup, ledger: Ledger, stats: Sequence[Any]) -> list[dict[str, Any]]:
    """A bucket of a comparison each: when it was found the ledger knows, what is kept of it the folder."""
    kept = KeptFindings(place, setup, lambda _: None, lambda _: None)
    kept.look()
    known = place.known_buckets()
    what = setup.describe()
    found = []
    for number, bucket, kind, tier, at, ops in ledger.rows(
        "SELECT comparison, bucket, kind, tier, min(at), min(ops) FROM findings WHERE NOT flaky "
        "GROUP BY comparison, bucket ORDER BY min(at), comparison, bucket"
    ):
        there = sorted(kept.of((number, bucket)), key=lambda one: (len(one.program.ops), one.directory.name))
        counted = ledger.stats() if number is None else stats[number]
        found.append(
            {
                "at": at,
                "bucket": bucket,
                "class": kind,
                "comparison": number,
                "directories": [str(one.directory.relative_to(place.root)) for one in there],
                "executions": counted.buckets[bucket],
                "granule": None if number is None else setup.work[number].granule,
                "kept": len(there),
                "known": bucket in known,
                "minimised": any(one.minimised for one in there),
                "ops": len(there[0].program.ops) if there else ops,
                "tier": tier,
                "what": "sides that are not compared here" if number is None else what[number],
            }
        )
    return found


def status_lines(status: dict[str, Any], root: Path) -> Iterator[str]:
    """The same for people, on lines that fit a terminal as far as names allow."""
    runs, tally = status["runs"], status["tally"]
    yield f"{shown(root)}: {_state_line(status)}"
    rate = f", {status['exec_per_s']:,.0f}/s" if status["state"] == RUNNING else ""
    inputs = status["growth"].get("inputs", {}).get("value")
    each = f", {tally['executions'] / inputs:,.0f} for each input" if inputs else ""
    of_all = f"{duration(status['seconds'])} in {counted(len(runs), 'run')}"
    yield f"{of_all}, {tally['executions']:,} executions{rate}{each}"
    for one in status["workers"]:
        yield (
            f"worker {one['worker']}: {one['label']}, {one['executions']:,} executions in {duration(one['seconds'])}, "
            f"{one['rate']:,.0f}/s"
        )
    for one in status["comparisons"]:
        edges = " ".join(f"{edge['reached']:,} of {edge['of']:,}" for edge in one["edges"]) or "no"
        yield f"{one['what']}: {one['executions']:,} executions, {one['corpus']:,} inputs, {edges} kernel edges"
    yield from _growth_lines(status)
    if status["replaced"]:
        yield f"{status['replaced']:,} inputs went for shorter ones that reach the same"
    yield from status["remarks"]
    yield from caution_lines({**tally, "masking": []})
    yield from hardware_lines(tally)
    yield from _finding_lines(status)
    never = [name for name, counts in tally["op"].items() if not counts["programs_succeeded"]]
    if never:
        yield f"ops that never succeeded: {', '.join(never)}"
    if tally["inconclusive"]:
        yield f"{tally['inconclusive']:,} programs inconclusive: the budget cut the sides at different events"
    for one in status["incidents"][-10:]:
        program = f", with incidents/{one['program']} under way" if one["program"] else ""
        yield f"incident after {duration(one['at'])}: {one['what']}{program}: {one['verdict'] or 'open'}"


def _state_line(status: dict[str, Any]) -> str:
    ended = status["runs"][-1]["ended"] if status["runs"] else None
    if status["state"] == RUNNING:
        return f"running (process {status['running']}, heard {status['quiet']:.0f} s ago)"
    if status["state"] == KILLED:
        return "not running; it was killed, and `s2fuzz campaign` goes on from there"
    return f"not running; {status['state']}: it ended by {ended}"


def _growth_lines(status: dict[str, Any]) -> Iterator[str]:
    grown = {name: Grown(**one) for name, one in status["growth"].items()}
    rows = list(growth_rows(grown, status["seconds"], status["tally"]["executions"]))
    for what, count, ago, since, flat in [("", "so far", "last new", "executions since", ""), *rows]:
        yield f"  {what:<26} {count:>14} {ago:>10} {since:>17}  {flat}".rstrip()


def _finding_lines(status: dict[str, Any]) -> Iterator[str]:
    several = len(status["comparisons"]) > 1
    for one in status["findings"]:
        where = f", {one['what']}" if several or one["comparison"] is None else ""
        minimal = "minimised" if one["minimised"] else "not minimised"
        yield f"{one['class']} {one['bucket']}{where}{' (known)' if one['known'] else ''}:"
        yield (
            f"  first after {duration(one['at'])}; {counted(one['executions'], 'program')} fell into it, {one['kept']} "
            f"kept, {minimal}, {counted(one['ops'], 'op')}"
        )
        yield from (f"  {shown(name)}" for name in one["directories"][:1])
    if not status["findings"]:
        yield "nothing found"
    if status["flaky"]:
        confirmed = sum(status["tally"]["buckets"].values())
        flaky = counted(status["flaky"], "difference")
        yield f"flaky: {flaky} did not happen every time, {confirmed:,} did; flaky/ has some"
