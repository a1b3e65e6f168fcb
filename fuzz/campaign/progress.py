"""How far a campaign has come: for the ledger, and for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fuzz.campaign.counts import Counts
from fuzz.campaign.incidents import Incidents
from fuzz.campaign.inputs import Inputs
from fuzz.campaign.kept import KeptFindings
from fuzz.campaign.ledger import Ledger
from fuzz.campaign.setup import CampaignSetup
from fuzz.campaign.slots import Slot
from fuzz.campaign.state import CampaignState, SlotState
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.engine.process import FuzzingProcess

_SILENT: Final = 15.0
"""Seconds without a word from a process, from which on that is said."""


class CampaignProgress:
    """Told by those that know of its parts."""

    def __init__(
        self,
        place: WorkDirectory,
        setup: CampaignSetup,
        counts: Counts,
        inputs: Inputs,
        findings: KeptFindings,
        incidents: Incidents,
    ) -> None:
        self._place = place
        self._setup = setup
        self._counts = counts
        self._inputs = inputs
        self._findings = findings
        self._incidents = incidents

    def record(self, ledger: Ledger, now: float) -> None:
        """Have the ledger know, as of that second of campaign, what of the kernels is reached, and how far each
        comparison is."""
        lines = self._inputs.lines
        for image, side, reached, of in self._counts.coverage():
            ledger.note_coverage(image, side, reached, of)
        for number in range(len(self._setup.work)):
            ledger.sample(
                now,
                number,
                self._counts.executions(number),
                round(self._counts.rate, 2),
                self._inputs.counts[self._setup.stores[number]],
                self._counts.edges_of(number),
                (lines.reached, lines.total),
                sum(which == number for which, _ in self._findings.buckets),
            )

    def state(
        self, at: float, seconds: float, left: float | None, minimising: int, slots: Iterable[SlotState]
    ) -> CampaignState:
        """For people; what is given here is as in a `CampaignState`."""
        known = self._place.known_buckets()
        return CampaignState(
            at=at,
            seconds=seconds,
            left=left,
            executions=self._counts.executions(),
            rate=self._counts.rate,
            inputs=self._inputs.counts.total(),
            edges=self._counts.edges,
            model_lines=(self._inputs.lines.reached, self._inputs.lines.total),
            buckets=len(self._findings.buckets),
            known=sum(bucket in known for _, bucket in self._findings.buckets),
            flaky=len(self._findings.flaky),
            incidents=self._incidents.count,
            minimising=minimising,
            slots=tuple(slots),
        )


def slot_state(
    setup: CampaignSetup, slot: Slot, process: FuzzingProcess | None, now: float, is_ending: bool
) -> SlotState:
    """What a slot and its process, if there is one, look like at `now` of the monotonic clock."""
    work = setup.work[slot.comparison]
    what = f"{work.sides[0].name} {work.sides[1].name} {work.granule}"
    if process is None:
        wait = max(0.0, slot.not_before - now)
        return SlotState(slot.number, what, "ended" if is_ending else f"waits {wait:.0f} s", 0, 0.0)
    silent = now - process.heard
    health = f"silent {silent:.0f} s" if silent > _SILENT else "fuzzing" if process.seconds else "starting"
    return SlotState(slot.number, what, "stopping" if is_ending else health, process.executions, process.seconds)
