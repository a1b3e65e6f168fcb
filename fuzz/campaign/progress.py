"""How far a campaign has come: for the ledger, and for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from fuzz.campaign.counts import Counts
from fuzz.campaign.growth import Growth, Sample, maskings, remarks, values_of
from fuzz.campaign.incidents import Incidents
from fuzz.campaign.inputs import Inputs
from fuzz.campaign.kept import KeptFindings
from fuzz.campaign.ledger import Ledger
from fuzz.campaign.setup import CampaignSetup
from fuzz.campaign.slots import Slot
from fuzz.campaign.state import FUZZING, CampaignState, SlotState
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.engine.process import FuzzingProcess

_SILENT: Final = 15.0
"""Seconds without a word from a process, from which on that is said."""


class CampaignProgress:
    """Told by those that know of its parts. What earlier runs came to is in the ledger."""

    def __init__(
        self,
        place: WorkDirectory,
        setup: CampaignSetup,
        counts: Counts,
        inputs: Inputs,
        findings: KeptFindings,
        incidents: Incidents,
        ledger: Ledger,
    ) -> None:
        self._place = place
        self._setup = setup
        self._counts = counts
        self._inputs = inputs
        self._findings = findings
        self._incidents = incidents
        self._growth = Growth()
        self._growth.replay(ledger.samples(setup.stores))

    def record(self, ledger: Ledger, now: float) -> None:
        """Have the ledger know, as of that second of campaign, what of the kernels is reached, and how far each
        comparison is."""
        for image, side, reached, of in self._counts.coverage():
            ledger.note_coverage(image, side, reached, of)
        for comparison, kind, reached in self._counts.joint():
            ledger.note_joint(comparison, kind, reached)
        for sample in self._samples(now):
            ledger.sample(sample)

    def tick(self, now: float) -> None:
        """See what has grown; to be called about once a second."""
        samples = list(self._samples(now))
        self._growth.note(now, self._counts.executions(), values_of(samples), self._counts.rate)

    def _samples(self, now: float) -> Iterator[Sample]:
        lines = (self._inputs.lines.reached, self._inputs.lines.total)
        buckets = self._findings.buckets
        for number, store in enumerate(self._setup.stores):
            yield Sample(
                now,
                number,
                self._counts.executions(number),
                self._counts.rate,
                store,
                self._inputs.counts[store],
                self._counts.edges_of(number),
                lines,
                sum(which == number for which, _ in buckets),
                self._counts.joint_of(number),
                self._counts.features_of(number),
            )

    def state(
        self, at: float, seconds: float, left: float | None, minimising: int, slots: Iterable[SlotState]
    ) -> CampaignState:
        """For people; what is given here is as in a `CampaignState`."""
        known = self._place.known_buckets()
        stats = [self._counts.stats_of(number) for number in range(len(self._setup.work))]
        shown = tuple(slots)
        return CampaignState(
            at=at,
            seconds=seconds,
            left=left,
            executions=self._counts.executions(),
            rate=self._counts.rate,
            growth=dict(self._growth.of),
            buckets=len(self._findings.buckets),
            known=sum(bucket in known for _, bucket in self._findings.buckets),
            flaky=len(self._findings.flaky),
            incidents=self._incidents.count,
            minimising=minimising,
            slots=shown,
            remarks=tuple(
                remarks(
                    at,
                    self._counts.executions(),
                    self._growth,
                    [slot.rate for slot in shown if slot.is_warm],
                    maskings(self._setup.labels(), stats),
                )
            ),
        )


def slot_state(
    setup: CampaignSetup, slot: Slot, process: FuzzingProcess | None, rate: float, now: float, is_ending: bool
) -> SlotState:
    """What a slot and its process, if there is one, whose `rate` that is, look like at `now` of the monotonic clock."""
    what = setup.labels()[slot.comparison]
    if process is None:
        wait = max(0.0, slot.not_before - now)
        return SlotState(slot.number, what, "ended" if is_ending else f"waits {wait:.0f} s", 0, 0.0, 0.0)
    silent = now - process.heard
    health = f"silent {silent:.0f} s" if silent > _SILENT else FUZZING if process.seconds else "starting"
    return SlotState(slot.number, what, "stopping" if is_ending else health, process.executions, process.seconds, rate)
