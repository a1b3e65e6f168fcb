"""What a fuzzing process is to do, as its parent tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fuzz.sides import Side, side_from_json, side_to_json
from harness.program.granule import GRANULE_4K
from harness.verdict.judging import Judging
from harness.verdict.tiers import DEFAULT_TIERS, Tier, format_tiers, parse_tiers

KEPT_PER_BUCKET: Final = 3
"""Findings; later ones are only counted."""
GUIDANCE: Final = ("kernel", "model", "both")


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is to do; it travels to the fuzzing process as JSON.

    `seconds` counts from the first generated execution, and what hangs took before; None for no limit, likewise
    `executions`, of which 0 is to replay the corpora and end. `messages` and `control` are file descriptors that the
    process inherits; it dies with its `parent`. `guidance` says whose coverage steers: `kernel`, `model` or `both`;
    `tiers` what is compared; `granule` names that of the programs; `stages` are those whose programs are run, all where
    it is empty. `compiled` is a folder of `fuzz.engine.compiling`, None to run all modules as they are. `in_flight` is
    a file that always holds the input that runs, and `suspects` are inputs to run first, one by one, since they may
    have ended another process. `budget` is the least that a program has, None to leave each its own. `filed` says of
    which buckets others have filed how many findings. A process that is `held` waits, ready, until its parent tells
    it to begin: before it replays corpora, and again before it generates. `corpora_seconds` is how long hangs among the
    corpora may take, where that is not `seconds`. `judging` says which programs the hardware judges. One that
    `is_alone` has one side, which stands in the place of both. `strict`: a promise that both sides break alike ends
    the run as other findings do.
    """

    sides: tuple[Side, Side]
    out: Path
    corpora: tuple[Path, ...]
    seed: int
    seconds: float | None
    executions: int | None
    keep_going: bool
    inputs: Path | None
    messages: int | None = None
    control: int | None = None
    parent: int | None = None
    guidance: str = "kernel"
    tiers: frozenset[Tier] = DEFAULT_TIERS
    granule: str = GRANULE_4K.name
    stages: tuple[int, ...] = ()
    compiled: Path | None = None
    in_flight: Path | None = None
    suspects: tuple[bytes, ...] = ()
    budget: int | None = None
    filed: Mapping[str, int] = field(default_factory=dict)
    held: bool = False
    corpora_seconds: float | None = None
    judging: Judging = Judging.SAMPLE
    is_alone: bool = False
    strict: bool = False

    def to_json(self) -> str:
        """As one line."""
        data = {
            "budget": self.budget,
            "compiled": None if self.compiled is None else str(self.compiled),
            "control": self.control,
            "corpora": [str(path) for path in self.corpora],
            "corpora_seconds": self.corpora_seconds,
            "is_alone": self.is_alone,
            "inputs": None if self.inputs is None else str(self.inputs),
            "judging": self.judging.value,
            "executions": self.executions,
            "filed": dict(self.filed),
            "granule": self.granule,
            "guidance": self.guidance,
            "held": self.held,
            "keep_going": self.keep_going,
            "messages": self.messages,
            "out": str(self.out),
            "parent": self.parent,
            "seconds": self.seconds,
            "seed": self.seed,
            "stages": self.stages,
            "strict": self.strict,
            "sides": [side_to_json(side) for side in self.sides],
            "suspects": [data.hex() for data in self.suspects],
            "tiers": format_tiers(self.tiers),
            "underway": None if self.in_flight is None else str(self.in_flight),
        }
        return json.dumps(data)

    @classmethod
    def from_json(cls, text: str) -> Assignment:
        """What `to_json` wrote."""
        data = json.loads(text)
        left, right = (side_from_json(side, Path()) for side in data["sides"])
        return cls(
            (left, right),
            Path(data["out"]),
            tuple(map(Path, data["corpora"])),
            data["seed"],
            data["seconds"],
            data["executions"],
            data["keep_going"],
            None if data["inputs"] is None else Path(data["inputs"]),
            data["messages"],
            data["control"],
            data["parent"],
            data["guidance"],
            parse_tiers(data["tiers"]),
            data["granule"],
            tuple(data["stages"]),
            None if data["compiled"] is None else Path(data["compiled"]),
            None if data["underway"] is None else Path(data["underway"]),
            tuple(map(bytes.fromhex, data["suspects"])),
            data["budget"],
            data["filed"],
            data["held"],
            data["corpora_seconds"],
            Judging(data["judging"]),
            data["is_alone"],
            data["strict"],
        )
