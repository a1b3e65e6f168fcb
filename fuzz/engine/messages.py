"""What a fuzzing process and its parent say to each other: one of these a line, as JSON. What it is told first is an
`Assignment`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fuzz.engine.stats import Stats
from fuzz.triage.filed import Filed


@dataclass(frozen=True, slots=True)
class Edges:
    """What a process has reached of a kernel's hosted files."""

    image: str
    """Which counters these are: of the same image, the same edges."""
    of: int
    reached: int
    """A bit for each edge."""

    def to_json(self) -> dict[str, Any]:
        """The bits as hex digits, for JSON has no such numbers."""
        return {"image": self.image, "of": self.of, "reached": f"{self.reached:x}"}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Edges:
        """What `to_json` made."""
        return cls(data["image"], data["of"], int(data["reached"], 16))


@dataclass(frozen=True, slots=True)
class ProcessState:
    """How far the process has come. `seconds` are since its first generated execution, with what hangs took before;
    `done` says that it has finished what it was to do, and ends; `waits` that the corpora are replayed, and that it
    goes on when it is told to `Begin`."""

    done: bool
    seconds: float
    stats: Stats
    findings: tuple[Filed, ...]
    identities: tuple[dict[str, str], ...]
    """Of what runs on each side."""
    boots: int
    edges: tuple[Edges, ...]
    """Of every kernel that counts."""
    joint: Mapping[str, int] = field(default_factory=dict)
    """What the sides did together, by kind (`JointCoverage.reached`)."""
    waits: bool = False

    def to_json(self) -> dict[str, Any]:
        """With its name under `event`, as all messages have it."""
        return {
            "boots": self.boots,
            "edges": [one.to_json() for one in self.edges],
            "event": "done" if self.done else "waits" if self.waits else "progress",
            "findings": [one.to_json() for one in self.findings],
            "identities": list(self.identities),
            "joint": {kind: f"{reached:x}" for kind, reached in self.joint.items()},
            "seconds": self.seconds,
            "tally": self.stats.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ProcessState:
        """What `to_json` made."""
        return cls(
            data["event"] == "done",
            data["seconds"],
            Stats.from_json(data["tally"]),
            tuple(map(Filed.from_json, data["findings"])),
            tuple(data["identities"]),
            data["boots"],
            tuple(map(Edges.from_json, data["edges"])),
            {kind: int(reached, 16) for kind, reached in data["joint"].items()},
            data["event"] == "waits",
        )


@dataclass(frozen=True, slots=True)
class Failed:
    """The process cannot go on, and ends: it was given bad input, or the tool or its environment failed."""

    bad_input: bool
    message: str

    def to_json(self) -> dict[str, Any]:
        """With its name."""
        return {"bad_input": self.bad_input, "event": "failed", "message": self.message}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Failed:
        """What `to_json` made."""
        return cls(data["bad_input"], data["message"])


@dataclass(frozen=True, slots=True)
class Retried:
    """A suspect has run, and whether something was found."""

    data: bytes
    found: bool

    def to_json(self) -> dict[str, Any]:
        """With its name."""
        return {"event": "retried", "found": self.found, "input": self.data.hex()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Retried:
        """What `to_json` made."""
        return cls(bytes.fromhex(data["input"]), data["found"])


@dataclass(frozen=True, slots=True)
class LostKernel:
    """A QEMU ended by itself, or spoke nonsense, while this input ran; it has run again on another."""

    data: bytes
    what: str

    def to_json(self) -> dict[str, Any]:
        """With its name."""
        return {"event": "incident", "input": self.data.hex(), "what": self.what}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LostKernel:
        """What `to_json` made."""
        return cls(bytes.fromhex(data["input"]), data["what"])


@dataclass(frozen=True, slots=True)
class Found:
    """A finding was filed. Its parent knows by the next `ProcessState`; this is for whoever reads along."""

    directory: str
    bucket: str

    def to_json(self) -> dict[str, Any]:
        """With its name."""
        return {"bucket": self.bucket, "directory": self.directory, "event": "finding"}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Found:
        """What `to_json` made."""
        return cls(data["directory"], data["bucket"])


@dataclass(frozen=True, slots=True)
class WentOver:
    """The process goes on with compiled modules, after so many generated programs."""

    executions: int

    def to_json(self) -> dict[str, Any]:
        """With its name."""
        return {"event": "went over", "executions": self.executions}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> WentOver:
        """What `to_json` made."""
        return cls(data["executions"])


@dataclass(frozen=True, slots=True)
class Given:
    """To the process: an input that another one found, to be run soon."""

    data: bytes

    def to_json(self) -> dict[str, Any]:
        """With its name."""
        return {"event": "given", "input": self.data.hex()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Given:
        """What `to_json` made."""
        return cls(bytes.fromhex(data["input"]))


@dataclass(frozen=True, slots=True)
class GoOver:
    """To the process: go on with the compiled modules in this folder (of `fuzz.engine.compiling`)."""

    compiled: Path

    def to_json(self) -> dict[str, Any]:
        """With its name."""
        return {"compiled": str(self.compiled), "event": "go over"}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> GoOver:
        """What `to_json` made."""
        return cls(Path(data["compiled"]))


@dataclass(frozen=True, slots=True)
class Begin:
    """To the process, where it is held: it is its turn. `filed` says of which buckets the run has filed how many
    findings."""

    filed: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """With its name."""
        return {"event": "begin", "filed": dict(self.filed)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Begin:
        """What `to_json` made."""
        return cls(data["filed"])


Message = ProcessState | Failed | Retried | LostKernel | Found | WentOver
"""What a process says."""
Order = Given | GoOver | Begin
"""What it is told. The end of the pipe says to stop."""

_READERS: Final[Mapping[str, Callable[[dict[str, Any]], Message]]] = {
    "done": ProcessState.from_json,
    "failed": Failed.from_json,
    "finding": Found.from_json,
    "incident": LostKernel.from_json,
    "progress": ProcessState.from_json,
    "retried": Retried.from_json,
    "waits": ProcessState.from_json,
    "went over": WentOver.from_json,
}


_ORDERS: Final[Mapping[str, Callable[[dict[str, Any]], Order]]] = {
    "begin": Begin.from_json,
    "given": Given.from_json,
    "go over": GoOver.from_json,
}


def to_line(message: Message | Order) -> bytes:
    """As it goes through the pipe, with the end of the line."""
    return json.dumps(message.to_json(), sort_keys=True).encode() + b"\n"


def from_line(line: bytes) -> Message:
    """What `to_line` made, without the end of the line."""
    data = json.loads(line)
    return _READERS[data["event"]](data)


def order_from_line(line: bytes) -> Order:
    """The same of what a process is told."""
    data = json.loads(line)
    return _ORDERS[data["event"]](data)
