"""What a run says of the findings that it has filed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FLAKY: Final = "flaky"
"""The folder beside the findings for what does not happen every time."""


@dataclass(frozen=True, slots=True)
class Filed:
    """A finding that a run has filed, and of which class it is, as whoever started the run is told. `shared`: both
    sides do it alike (`Verdict.is_shared`)."""

    bucket: str
    kind: str
    directory: Path
    ops: int
    shared: bool = False

    def to_json(self) -> dict[str, Any]:
        """As `smoke --json` prints it, too."""
        return {
            "bucket": self.bucket,
            "class": self.kind,
            "directory": str(self.directory),
            "ops": self.ops,
            "shared": self.shared,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Filed:
        """What `to_json` made."""
        return cls(data["bucket"], data["class"], Path(data["directory"]), data["ops"], data["shared"])
