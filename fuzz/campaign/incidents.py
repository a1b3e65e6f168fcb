"""What went wrong in a campaign and is no finding, as yet: noted in the ledger, the program beside it as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fuzz.campaign.ledger import Ledger
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.corpus.store import name_of
from harness.durable import write_durably
from harness.errors import BadInput
from harness.program.codec import Dialect, decode
from harness.program.program import Program
from harness.program.text import format_program, read


class Incidents:
    """Those of the ledger. `now` tells seconds of campaign."""

    def __init__(self, place: WorkDirectory, ledger: Ledger, now: Callable[[], float]) -> None:
        self._place = place
        self._ledger = ledger
        self._now = now
        (self.count,) = ledger.rows("SELECT count(*) FROM incidents")[0]

    def note(
        self, slot: int, what: str, details: str, data: bytes | None = None, dialect: Dialect | None = None
    ) -> int:
        """One in a slot; its number. `data` is the input that was in flight, in `dialect`. Raises OSError."""
        self.count += 1
        kept = None
        if data is not None and dialect is not None:
            kept = f"{name_of(data)}.s2"
            comment = "".join(f"# {line}\n" for line in [f"{what}; this was under way.", *details.splitlines()])
            text = f"{comment}{format_program(decode(data, dialect))}"
            self._place.incidents.mkdir(exist_ok=True)
            write_durably(self._place.incidents / kept, text.encode(), self._place.scratch)
        return self._ledger.note_incident(self._now(), slot, what, details, kept)

    def judge(self, incident: int, verdict: str) -> None:
        """What came of it."""
        self._ledger.judge_incident(incident, verdict)

    def open(self) -> Iterator[tuple[int, Program]]:
        """Those that are yet to be judged, since a run ended before, and the programs that were in flight."""
        rows = self._ledger.rows("SELECT id, input FROM incidents WHERE verdict IS NULL AND input <> ''")
        for incident, kept in rows:
            try:
                program = read(self._place.incidents / kept)
            except BadInput as error:
                self.judge(incident, f"cannot be judged: {error}")
                continue
            yield incident, program
