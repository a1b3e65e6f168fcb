"""How a campaign is getting on, as another process learns it from the directory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuzz.campaign.ledger import Damaged, Ledger
from fuzz.campaign.setup import CampaignSetup
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.engine.cautions import caution_lines
from harness.errors import ToolFailure
from harness.outside import shown


def duration(seconds: float) -> str:
    """As people say it: `3:07:12` is hours, minutes and seconds."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def status_of(place: WorkDirectory) -> dict[str, Any]:
    """What the campaign in `place` is, and how far it came, for `status`. Raises BadInput where there is none, and
    ToolFailure where its ledger cannot be read."""
    setup = CampaignSetup.load(place)
    try:
        ledger = Ledger(place.ledger, readonly=True)
    except Exception as error:
        if isinstance(error, Damaged) or place.ledger.exists():
            raise ToolFailure(
                f"{shown(place.ledger)}: cannot be read ({error}); `s2fuzz campaign` makes another"
            ) from error
        raise ToolFailure(f"{shown(place.ledger)}: nothing has run here yet") from error
    try:
        return _status(place, setup, ledger)
    finally:
        ledger.close()


def _status(place: WorkDirectory, setup: CampaignSetup, ledger: Ledger) -> dict[str, Any]:
    known = place.known_buckets()
    word = place.last_word()
    runs = [
        (day, seconds, workers, ended or (word[1] if word is not None and word[0] == number else None))
        for number, day, seconds, workers, ended in ledger.rows(
            "SELECT id, day, seconds, workers, ended FROM runs ORDER BY id"
        )
    ]
    samples = [
        ledger.rows(
            "SELECT executions, rate, corpus, edges, model_lines, model_of FROM samples WHERE comparison = ? "
            "ORDER BY at DESC LIMIT 1",
            number,
        )
        for number in range(len(setup.work))
    ]
    stats = ledger.stats().summary()
    findings = ledger.rows(
        "SELECT comparison, bucket, kind, tier, min(at), count(*), min(ops) FROM findings WHERE NOT flaky "
        "GROUP BY comparison, bucket ORDER BY min(at), comparison, bucket"
    )
    return {
        "comparisons": [
            {
                "edges": json.loads(rows[0][3]),
                "executions": rows[0][0],
                "corpus": rows[0][2],
                "what": what,
            }
            for what, rows in zip(setup.describe(), samples, strict=True)
            if rows
        ],
        "exec_per_s": next((rows[0][1] for rows in samples if rows), 0.0),
        "findings": [
            {
                "at": at,
                "bucket": bucket,
                "class": kind,
                "comparison": number,
                "executions": ledger.stats(number).buckets[bucket],
                "kept": kept,
                "known": bucket in known,
                "ops": ops,
                "tier": tier,
            }
            for number, bucket, kind, tier, at, kept, ops in findings
        ],
        "incidents": [
            {"at": at, "program": kept, "verdict": verdict, "what": what, "worker": slot}
            for at, slot, what, kept, verdict in ledger.rows(
                "SELECT at, slot, what, input, verdict FROM incidents ORDER BY id"
            )
        ],
        "model": dict(zip(("lines", "of"), next((rows[0][4:] for rows in samples if rows), (0, 0)), strict=True)),
        "running": place.holder(),
        "runs": [
            {"day": day, "ended": ended, "seconds": seconds, "workers": workers}
            for day, seconds, workers, ended in runs
        ],
        "seconds": ledger.seconds(),
        "tally": stats,
        "flaky": stats["unconfirmed"],
    }


def status_lines(status: dict[str, Any], root: Path) -> Iterator[str]:
    """The same for people."""
    running = status["running"]
    runs, executions = status["runs"], status["tally"]["executions"]
    last = runs[-1]["ended"] if runs else None
    how = f"running (process {running})" if running else f"not running; it ended by {last}" if last else "was killed"
    yield f"{shown(root)}: {how}; {duration(status['seconds'])} in {len(runs)} runs, {executions} executions"
    for one in status["comparisons"]:
        edges = " ".join("{reached}/{of}".format(**edge) for edge in one["edges"]) or "-"
        yield f"{one['what']}: {one['executions']} executions, corpus {one['corpus']}, kernel {edges} edges"
    yield f"model: {status['model']['lines']} of {status['model']['of']} lines"
    never = [name for name, counts in status["tally"]["op"].items() if not counts["programs_succeeded"]]
    if never:
        yield f"never succeeded: {', '.join(never)}"
    for one in status["findings"]:
        label = " (known)" if one["known"] else ""
        yield (
            f"{one['class']} {one['bucket']}{label}: after {duration(one['at'])}, {one['executions']} executions, "
            f"{one['kept']} kept, {one['ops']} ops"
        )
    yield from caution_lines(status["tally"])
    if not status["findings"]:
        yield "nothing found"
    if status["tally"]["inconclusive"]:
        yield f"{status['tally']['inconclusive']} inconclusive: the budget cut the sides at different events"
    if status["flaky"]:
        yield f"{status['flaky']} did not happen every time: flaky/ has some"
    for one in status["incidents"][-10:]:
        program = f", with incidents/{one['program']} under way" if one["program"] else ""
        yield f"incident after {duration(one['at'])}: {one['what']}{program}: {one['verdict'] or 'open'}"
