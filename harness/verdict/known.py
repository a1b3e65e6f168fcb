"""What is known to be wrong in a version of Linux as it was released: it is counted and mentioned, but is no finding,
for whoever tests a change to that version. The same thing in another version is a finding, and so is anything else in
this one.

Only what is judged without a second side can be listed: TLB functions that fail their callers
(`harness.verdict.invalidation`). Both sides of a comparison then do it. What is known of QEMU is in
`harness.verdict.emulator`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from harness.amounts import counted
from harness.observation.events import FLUSH_CPU_CONTEXT, TLBI_VMID, TLBI_VMID_IPA
from harness.verdict.emulator import DEFECTS
from harness.verdict.invalidation import Problem


@dataclass(frozen=True, slots=True)
class KnownProblem:
    """One problem of one version. `what` is `Problem.what`, `calls` the kinds of the calls that have it; `reason` says
    what it is, `source` where that is known from."""

    version: str
    what: str
    calls: frozenset[int]
    reason: str
    source: str

    @property
    def key(self) -> str:
        """In counts: `6.1 walks-under-way`."""
        return f"{self.version} {self.what}"


KNOWN: Final = (
    KnownProblem(
        "6.1",
        "walks-under-way",
        frozenset((TLBI_VMID, TLBI_VMID_IPA, FLUSH_CPU_CONTEXT)),
        "nVHE hyp changes VTTBR_EL2 behind `dsb ishst`, or no barrier, which waits for no table walk of EL1&0",
        'Linux 6.4, "KVM: arm64: nvhe: Synchronise with page table walker on TLBI"',
    ),
)


def version_of(identity: Mapping[str, str]) -> str | None:
    """The version of Linux that an executor's `identity` tells of, without its patch level; None where it tells none:
    `6.1` of Linux 6.1.192 and of its model."""
    name = identity.get("version") or identity.get("linux")
    return None if name is None else ".".join(name.partition("-")[0].split(".")[:2])


def known(problem: Problem, version: str | None) -> KnownProblem | None:
    """What the problem is known as in that version."""
    return next(
        (
            one
            for one in KNOWN
            if one.version == version and one.what == problem.what and problem.call.event.kind in one.calls
        ),
        None,
    )


def mention(key: str, count: int) -> str:
    """A line about what was seen: `KnownProblem.key`, and in how many different calls; or `KnownDefect.key`, and in how
    many executions."""
    defect = next((one for one in DEFECTS if one.key == key), None)
    if defect is not None:
        return defect.mention(count)
    one = next(one for one in KNOWN if one.key == key)
    where = f"{one.what} in {counted(count, 'different call')}"
    return f"known of Linux {one.version}, no finding: {where}: {one.reason} ({one.source})"
