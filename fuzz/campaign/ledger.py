"""A campaign's ledger, in SQLite: what ran, how far it came, what it found. Reports are made from it.

Everything that matters is in files as well: a ledger that is damaged is put aside, and another begun from the files.
Times called `at` are seconds of campaign, all of its runs together, by a clock that never jumps; `day` is the
wall clock's word, for people.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fuzz.engine.messages import ProcessState
from fuzz.engine.stats import Stats
from harness.errors import BadInput
from harness.outside import shown
from harness.verdict.tiers import Tier

_VERSION: Final = 1
"""Of the tables below."""

_TABLES: Final = """
CREATE TABLE runs (id INTEGER PRIMARY KEY, day TEXT, began REAL, seconds REAL, workers INTEGER, ended TEXT);
CREATE TABLE processes (
    id INTEGER PRIMARY KEY, run INTEGER, slot INTEGER, comparison INTEGER, seed INTEGER, began REAL, seconds REAL,
    executions INTEGER, boots INTEGER, features INTEGER, identities TEXT, tally TEXT, ended TEXT
);
CREATE TABLE samples (
    at REAL, comparison INTEGER, executions INTEGER, rate REAL, corpus INTEGER, edges TEXT, model_lines INTEGER,
    model_of INTEGER, buckets INTEGER, PRIMARY KEY (at, comparison)
);
CREATE TABLE coverage (image TEXT, side INTEGER, edges INTEGER, reached TEXT, PRIMARY KEY (image, side));
CREATE TABLE model_lines (file TEXT, line INTEGER, at REAL, PRIMARY KEY (file, line));
CREATE TABLE inputs (corpus TEXT, name TEXT, at REAL, slot INTEGER, measured INTEGER, PRIMARY KEY (corpus, name));
CREATE TABLE findings (
    directory TEXT, comparison INTEGER, bucket TEXT, kind TEXT, tier TEXT, flaky INTEGER, ops INTEGER,
    at REAL, day TEXT, slot INTEGER, PRIMARY KEY (directory, flaky)
);
CREATE TABLE incidents (
    id INTEGER PRIMARY KEY, at REAL, day TEXT, slot INTEGER, what TEXT, details TEXT, input TEXT, verdict TEXT
);
CREATE INDEX unmeasured ON inputs (measured) WHERE measured = 0;
"""
"""`runs.ended` is NULL while one goes on, and of one that was killed. `processes.tally` is a `Stats` as JSON, of a
process that may still go on; `processes.ended` is `done` (its slice of time was up), `stopped` with the run, or `lost`.
`samples.edges` is JSON: of each kernel image and side, edges reached and how many there are; `coverage.reached` has a
bit per edge, as hex digits. `inputs.measured` says whether model_lines has its lines; `inputs.slot` is NULL for one
that was brought from outside."""


def today() -> str:
    """The wall clock, for people."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def tier_of(bucket: str, kind: str) -> str:
    """The tier of a bucket; its kind, where it is no divergence."""
    word = bucket.partition("-")[0]
    return word if kind == "divergence" and word in {tier.name.lower() for tier in Tier} else kind


class Damaged(Exception):
    """The file is no ledger, or no longer."""


class Ledger:
    """The open ledger. Methods raise sqlite3.Error when the disk is full or the file is damaged."""

    def __init__(self, path: Path, readonly: bool = False) -> None:
        """Opened, and made where it is missing. Raises Damaged, BadInput for another version's."""
        self.path = path
        try:
            # Without the file URI's "mode=ro" a reader would make a file that is not there.
            mode = "ro" if readonly else "rwc"
            self._base = sqlite3.connect(
                f"file:{_quoted(path)}?mode={mode}", uri=True, isolation_level=None, timeout=10
            )
            if not readonly:
                self._base.execute("PRAGMA journal_mode = WAL")
                self._base.execute("PRAGMA synchronous = NORMAL")
            (sound,) = self._base.execute("PRAGMA quick_check(1)").fetchone()
            if sound != "ok":
                raise Damaged(str(sound))
            (version,) = self._base.execute("PRAGMA user_version").fetchone()
            if version == 0 and not readonly:
                self._base.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")
                version = _VERSION
            if version != _VERSION:
                raise BadInput(f"{shown(path)}: a ledger of version {version}, expected {_VERSION}")
            if not readonly:
                self.stats(), self.coverage()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            raise Damaged(str(error)) from error
        except (sqlite3.DatabaseError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise Damaged(str(error)) from error

    def close(self) -> None:
        """It cannot be used afterwards."""
        self._base.close()

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a SELECT finds."""
        return self._base.execute(query, values).fetchall()

    def seconds(self) -> float:
        """Of campaign so far."""
        return float(self.rows("SELECT coalesce(sum(seconds), 0) FROM runs")[0][0])

    def stats(self, comparison: int | None = None, apart_from: Iterable[int] = ()) -> Stats:
        """What all processes counted together, or those of one comparison; but for those `apart_from`."""
        skipped = set(apart_from)
        found = self.rows("SELECT id, comparison, tally FROM processes WHERE tally IS NOT NULL")
        counted = [
            Stats.from_json(json.loads(text))
            for process, which, text in found
            if process not in skipped and comparison in (None, which)
        ]
        return sum(counted, Stats())

    def begin_run(self, workers: int) -> int:
        """A run begins; its number."""
        began = self.seconds()
        self._base.execute(
            "INSERT INTO runs (day, began, seconds, workers) VALUES (?, ?, 0, ?)", (today(), began, workers)
        )
        return self._last()

    def note_run(self, run: int, seconds: float, ended: str | None = None) -> None:
        """How long it has been going on, and why it ended."""
        self._base.execute("UPDATE runs SET seconds = ?, ended = ? WHERE id = ?", (seconds, ended, run))

    def end_run(self, run: int, ended: str) -> None:
        """Why a run ended that could not say so itself."""
        self._base.execute("UPDATE runs SET ended = ? WHERE id = ? AND ended IS NULL", (ended, run))

    def begin_process(self, run: int, slot: int, comparison: int, seed: int, at: float) -> tuple[int, int]:
        """A fuzzing process begins; its number, and its seed, which follows from the campaign's and is its alone."""
        self._base.execute(
            "INSERT INTO processes (run, slot, comparison, began) VALUES (?, ?, ?, ?)", (run, slot, comparison, at)
        )
        number = self._last()
        own = (seed + number) % (1 << 32)
        self._base.execute("UPDATE processes SET seed = ? WHERE id = ?", (own, number))
        return number, own

    def note_process(self, process: int, state: ProcessState, features: int, ended: str | None = None) -> None:
        """How far it has come, with libFuzzer's `features`, and how it ended."""
        self._base.execute(
            "UPDATE processes SET seconds = ?, executions = ?, boots = ?, features = ?, identities = ?, tally = ?, "
            "ended = ? WHERE id = ?",
            (
                *(state.seconds, state.stats.executions, state.boots, features),
                *(json.dumps(state.identities, sort_keys=True), json.dumps(state.stats.to_json(), sort_keys=True)),
                *(ended, process),
            ),
        )

    def sample(
        self,
        at: float,
        comparison: int,
        executions: int,
        rate: float,
        corpus: int,
        edges: Sequence[Mapping[str, Any]],
        model_lines: tuple[int, int],
        buckets: int,
    ) -> None:
        """How far a comparison has come at a moment, all of its processes together."""
        self._base.execute(
            "INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (at, comparison, executions, rate, corpus, json.dumps(list(edges), sort_keys=True), *model_lines, buckets),
        )

    def coverage(self) -> dict[tuple[str, int], tuple[int, int]]:
        """By kernel image and side: which edges were reached, a bit for each, and how many there are."""
        return {
            (image, side): (int(reached, 16), edges)
            for image, side, edges, reached in self.rows("SELECT image, side, edges, reached FROM coverage")
        }

    def note_coverage(self, image: str, side: int, reached: int, edges: int) -> None:
        """Which edges were reached, of how many."""
        self._base.execute("INSERT OR REPLACE INTO coverage VALUES (?, ?, ?, ?)", (image, side, edges, f"{reached:x}"))

    def note_inputs(self, corpus: str, names: Iterable[str], at: float, slot: int | None) -> None:
        """Inputs that were kept, and by whom they were found (None: brought from outside)."""
        self._base.executemany(
            "INSERT OR IGNORE INTO inputs VALUES (?, ?, ?, ?, 0)", [(corpus, name, at, slot) for name in names]
        )

    def forget_inputs(self, corpus: str, names: Iterable[str]) -> None:
        """Inputs that are no longer kept."""
        self._base.executemany("DELETE FROM inputs WHERE corpus = ? AND name = ?", [(corpus, name) for name in names])

    def note_model_lines(self, corpus: str, name: str, lines: Iterable[tuple[str, int]], at: float) -> None:
        """Lines of the model that an input was the first to reach."""
        self._base.execute("BEGIN")
        self._base.executemany("INSERT OR IGNORE INTO model_lines VALUES (?, ?, ?)", [(*line, at) for line in lines])
        self._base.execute("UPDATE inputs SET measured = 1 WHERE corpus = ? AND name = ?", (corpus, name))
        self._base.execute("COMMIT")

    def note_finding(
        self,
        directory: Path,
        comparison: int | None,
        bucket: str,
        kind: str,
        flaky: bool,
        ops: int,
        at: float,
        slot: int | None,
    ) -> None:
        """A finding that was kept; `comparison` is None for one of other sides, that was put there."""
        self._base.execute(
            "INSERT OR IGNORE INTO findings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (directory.name, comparison, bucket, kind, tier_of(bucket, kind), flaky, ops, at, today(), slot),
        )

    def note_incident(self, at: float, slot: int | None, what: str, details: str, kept: str | None) -> int:
        """Something went wrong that is no finding, as yet; its number. `kept` names the file that has the program."""
        self._base.execute(
            "INSERT INTO incidents (at, day, slot, what, details, input) VALUES (?, ?, ?, ?, ?, ?)",
            (at, today(), slot, what, details, kept),
        )
        return self._last()

    def judge_incident(self, incident: int, verdict: str) -> None:
        """What came of it."""
        self._base.execute("UPDATE incidents SET verdict = ? WHERE id = ?", (verdict, incident))

    def _last(self) -> int:
        return int(self.rows("SELECT last_insert_rowid()")[0][0])


def put_aside(path: Path) -> Path:
    """Move a damaged ledger away, with what belongs to it, and return where it is. Raises OSError."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            os.rename(beside, aside.with_name(aside.name + suffix))
    os.rename(path, aside)
    return aside


def _quoted(path: Path) -> str:
    """As part of a file URI."""
    return str(path.resolve()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
