"""A campaign's ledger, in SQLite: what ran, how far it came, what it found. Reports are made from it.

Everything that matters is in files as well: a ledger that is damaged is put aside, and another begun from the files.
Times called `at` are seconds of campaign, all of its runs together, by a clock that never jumps; `day` is the
wall clock's word, for people.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fuzz.campaign.growth import Sample
from fuzz.engine.messages import ProcessState
from fuzz.engine.stats import Stats
from harness.errors import BadInput
from harness.outside import shown
from harness.verdict.tiers import Tier

_TABLES: Final = (
    """
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
""",
    """
ALTER TABLE samples ADD COLUMN features INTEGER;
ALTER TABLE samples ADD COLUMN joint TEXT;
ALTER TABLE processes ADD COLUMN rate REAL;
CREATE TABLE joint (comparison INTEGER, kind TEXT, reached TEXT, PRIMARY KEY (comparison, kind));
CREATE TABLE replaced (corpus TEXT, name TEXT, at REAL, PRIMARY KEY (corpus, name));
""",
)
"""What makes a ledger of each version one of the next, beginning with none.

`runs.ended` is NULL while one goes on, and of one that was killed. `processes.tally` is a `Stats` as JSON, of a
process that may still go on; `processes.ended` is `done` (its slice of time was up), `stopped` with the run, or `lost`.
`samples.edges` is JSON: of each kernel image and side, edges reached and how many there are; `coverage.reached` has a
bit per edge, as hex digits; so has `joint.reached` for each of what the sides did together, and `samples.joint` is how
many by kind, as JSON. `inputs.measured` says whether model_lines has its lines; `inputs.slot` is NULL for one that was
brought from outside. `replaced` are inputs that were recorded, and went for shorter ones that reach the same."""
_VERSION: Final = len(_TABLES)


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
            if not (readonly and version == 0) and version < _VERSION:
                if readonly:
                    self._base = _in_memory(self._base)
                later = "".join(_TABLES[version:])
                self._base.executescript(f"BEGIN; {later} PRAGMA user_version = {_VERSION}; COMMIT;")
            elif version != _VERSION:
                raise BadInput(f"{shown(path)}: a ledger of version {version}, expected {_VERSION}")
            if not readonly:
                self.stats(), self.coverage(), self.joint()
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

    def note_process(
        self, process: int, state: ProcessState, features: int, rate: float, ended: str | None = None
    ) -> None:
        """How far it has come, with libFuzzer's `features` and its `rate` of late, and how it ended."""
        self._base.execute(
            "UPDATE processes SET seconds = ?, executions = ?, boots = ?, features = ?, identities = ?, tally = ?, "
            "rate = ?, ended = ? WHERE id = ?",
            (
                *(state.seconds, state.stats.executions, state.boots, features),
                *(json.dumps(state.identities, sort_keys=True), json.dumps(state.stats.to_json(), sort_keys=True)),
                *(round(rate, 2), ended, process),
            ),
        )

    def sample(self, one: Sample) -> None:
        """How far a comparison has come at a moment, all of its processes together."""
        edges = [
            {"image": image, "of": of, "reached": reached, "side": side}
            for (image, side), (reached, of) in sorted(one.edges.items())
        ]
        self._base.execute(
            "INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(one.at, one.comparison, one.executions, round(one.rate, 2), one.corpus),
                *(json.dumps(edges, sort_keys=True), *one.model_lines, one.buckets),
                *(one.features, json.dumps(dict(one.joint), sort_keys=True)),
            ),
        )

    def samples(self, stores: Sequence[str]) -> Iterator[Sample]:
        """All of them, in order of time; `stores` has the name of each comparison's."""
        for at, number, executions, rate, corpus, edges, lines, of, buckets, features, joint in self._base.execute(
            "SELECT at, comparison, executions, rate, corpus, edges, model_lines, model_of, buckets, features, joint "
            "FROM samples ORDER BY at, comparison"
        ):
            reached = {(one["image"], one["side"]): (one["reached"], one["of"]) for one in json.loads(edges)}
            yield Sample(
                *(at, number, executions, rate, stores[number], corpus, reached, (lines, of), buckets),
                *(json.loads(joint or "{}"), features or 0),
            )

    def coverage(self) -> dict[tuple[str, int], tuple[int, int]]:
        """By kernel image and side: which edges were reached, a bit for each, and how many there are."""
        return {
            (image, side): (int(reached, 16), edges)
            for image, side, edges, reached in self.rows("SELECT image, side, edges, reached FROM coverage")
        }

    def images(self) -> dict[int, set[tuple[str, int]]]:
        """Kernel images and sides that each comparison had last."""
        rows = self.rows("SELECT comparison, edges, max(at) FROM samples WHERE edges <> '[]' GROUP BY comparison")
        return {number: {(one["image"], one["side"]) for one in json.loads(edges)} for number, edges, _ in rows}

    def note_coverage(self, image: str, side: int, reached: int, edges: int) -> None:
        """Which edges were reached, of how many."""
        self._base.execute("INSERT OR REPLACE INTO coverage VALUES (?, ?, ?, ?)", (image, side, edges, f"{reached:x}"))

    def joint(self) -> dict[tuple[int, str], int]:
        """By comparison and kind: what the sides did together, a bit for each."""
        rows = self.rows("SELECT comparison, kind, reached FROM joint")
        return {(comparison, kind): int(reached, 16) for comparison, kind, reached in rows}

    def note_joint(self, comparison: int, kind: str, reached: int) -> None:
        """What the sides did together."""
        self._base.execute("INSERT OR REPLACE INTO joint VALUES (?, ?, ?)", (comparison, kind, f"{reached:x}"))

    def note_inputs(self, corpus: str, names: Iterable[str], at: float, slot: int | None) -> None:
        """Inputs that were kept, and by whom they were found (None: brought from outside)."""
        self._base.executemany(
            "INSERT OR IGNORE INTO inputs VALUES (?, ?, ?, ?, 0)", [(corpus, name, at, slot) for name in names]
        )

    def forget_inputs(self, corpus: str, names: Iterable[str]) -> None:
        """Inputs that are no longer kept."""
        self._base.executemany("DELETE FROM inputs WHERE corpus = ? AND name = ?", [(corpus, name) for name in names])

    def note_replaced(self, corpus: str, name: str, at: float) -> None:
        """An input that is about to go, for another that reaches the same."""
        self._base.execute("BEGIN")
        self._base.execute("INSERT OR REPLACE INTO replaced VALUES (?, ?, ?)", (corpus, name, at))
        self._base.execute("DELETE FROM inputs WHERE corpus = ? AND name = ?", (corpus, name))
        self._base.execute("COMMIT")

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


def _in_memory(base: sqlite3.Connection) -> sqlite3.Connection:
    """A copy of a ledger that may be changed where the ledger may not."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    base.backup(copy)
    base.close()
    return copy


def _quoted(path: Path) -> str:
    """As part of a file URI."""
    return str(path.resolve()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
