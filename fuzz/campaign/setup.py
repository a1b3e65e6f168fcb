"""What a campaign is: what it compares, how, and from which seed. On disk it is campaign.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from fuzz import __version__
from fuzz.campaign.ledger import today
from fuzz.campaign.work_directory import AT_MOST, LOCK, SETUP, WorkDirectory
from fuzz.corpus.store import Store
from fuzz.engine.assignment import Assignment
from fuzz.sides import Side, capabilities_of, side_from_json, side_to_json
from harness.durable import sync_folder, write_durably
from harness.errors import BadInput
from harness.outside import check_inside, read_plain_text, shown
from harness.program.codec import CODEC, dialect_for
from harness.program.granule import granule_named
from harness.verdict.judging import Judging
from harness.verdict.tiers import format_tiers, parse_tiers

_FORMAT: Final = 1
"""Of campaign.json."""


@dataclass(frozen=True, slots=True)
class CampaignSetup:
    """What a campaign is: `work` has an assignment for each comparison, `stores` the name of the folder below corpus/
    that its inputs are in. `made` says when and with what it began, for people."""

    work: tuple[Assignment, ...]
    stores: tuple[str, ...]
    made: dict[str, str]

    @classmethod
    def of(cls, work: Sequence[Assignment]) -> CampaignSetup:
        """A new campaign that is to do `work`; its assignments differ in sides and granule alone. Raises as
        `Side.capabilities` does."""
        names: dict[Any, str] = {}
        stores: list[str] = []
        for one in work:
            key = (one.granule, tuple(sorted(capabilities_of(one.sides).lacks)))
            if key not in names:
                same = sum(granule == one.granule for granule, _ in names)
                names[key] = f"{one.granule}-{same + 1}" if same else one.granule
            stores.append(names[key])
        return cls(tuple(work), tuple(stores), {"began": today(), "s2fuzz": __version__})

    def describe(self) -> list[str]:
        """A line for each comparison."""
        return [f"{one.sides[0].name} against {one.sides[1].name}, pages of {one.granule}" for one in self.work]

    def labels(self) -> list[str]:
        """What tells each comparison from the others, in few words: its granule, with its sides where that alone does
        not."""
        granules = [one.granule for one in self.work]
        if len(set(granules)) == len(granules):
            return granules
        return [f"{one.sides[0].name} {one.sides[1].name} {one.granule}" for one in self.work]

    def open_store(self, number: int, place: WorkDirectory) -> Store:
        """The inputs of a comparison. Raises BadInput, OSError."""
        one = self.work[number]
        dialect = dialect_for(capabilities_of(one.sides), granule_named(one.granule))
        return Store.open(place.corpora / self.stores[number], place.scratch, dialect)

    def to_json(self) -> dict[str, Any]:
        """For campaign.json. Files of the kernels appear under the names that they are kept by. Raises OSError."""
        first = self.work[0]
        return {
            "budget": first.budget,
            "codec": CODEC,
            "comparisons": [
                {
                    "granule": one.granule,
                    "sides": [side_to_json(side, _kept_names(side)) for side in one.sides],
                    "store": store,
                }
                for one, store in zip(self.work, self.stores, strict=True)
            ],
            "format": _FORMAT,
            "guidance": first.guidance,
            "judge": first.judging.value,
            "made": self.made,
            "seed": first.seed,
            "stages": list(first.stages),
            "tiers": format_tiers(first.tiers),
        }

    def same_as(self, other: CampaignSetup) -> bool:
        """Whether both are the same campaign, whenever it began, and by whatever seed."""
        mine, theirs = (
            {key: value for key, value in one.to_json().items() if key not in ("made", "seed")} for one in (self, other)
        )
        return mine == theirs

    def save(self, place: WorkDirectory) -> CampaignSetup:
        """Make `place` this campaign's directory: from then on it is one. What comes back uses copies of the kernels'
        files that are kept there. Raises OSError, BadInput where there is something else."""
        strangers = {path.name for path in place.root.iterdir()} - {LOCK, "kernel", "tmp", "corpus", "known"}
        if strangers:
            raise BadInput(
                f"{shown(place.root)}: holds {shown(', '.join(sorted(strangers)[:3]))}, and is no campaign's directory"
            )
        place.scratch.mkdir(exist_ok=True)
        copies = {side: _with_copies(side, place.root) for one in self.work for side in one.sides}
        work = [replace(one, sides=(copies[one.sides[0]], copies[one.sides[1]])) for one in self.work]
        kept = replace(self, work=tuple(work))
        text = json.dumps(kept.to_json(), indent=2, sort_keys=True)
        write_durably(place.setup, text.encode() + b"\n", place.scratch)
        sync_folder(place.root)
        return kept

    @classmethod
    def load(cls, place: WorkDirectory) -> CampaignSetup:
        """What `save` wrote. Raises BadInput."""
        path = place.setup
        try:
            place.check_links()
            data = json.loads(read_plain_text(path, AT_MOST, "a campaign's configuration"))
            if data["format"] != _FORMAT:
                raise BadInput(f"{shown(path)}: a campaign of format {data['format']}, expected {_FORMAT}")
            if data["codec"] != CODEC:
                raise BadInput(
                    f"{shown(path)}: its inputs were written by codec {data['codec']}, this is {CODEC}; `s2fuzz corpus "
                    "export` with the version that wrote them, then import the programs into a new campaign"
                )
            common: dict[str, Any] = {
                "budget": None if data.get("budget") is None else int(data["budget"]),
                "guidance": str(data["guidance"]),
                "judging": Judging(data.get("judge", Judging.SAMPLE)),
                "seed": int(data["seed"]),
                "stages": tuple(map(int, data["stages"])),
                "tiers": parse_tiers(data["tiers"]),
            }
            work = []
            known: dict[Side, Side] = {}  # sides of several comparisons are one, and prepared once
            for one in data["comparisons"]:
                sides = (side_from_json(side, place.root) for side in one["sides"])
                left, right = (known.setdefault(side, side) for side in sides)
                for path in (*_files(left), *_files(right)):
                    check_inside(path, place.root)
                granule = granule_named(one["granule"]).name
                work.append(new_assignment((left, right), granule=granule, **common))
            stores = tuple(str(one["store"]) for one in data["comparisons"])
            if not work or any(not name or "/" in name or name.startswith(".") for name in stores):
                raise BadInput(f"{shown(path)}: its comparisons are malformed")
            return cls(tuple(work), stores, dict(data["made"]))
        except OSError as error:
            raise BadInput(f"{shown(place.root)}: no campaign's directory: {SETUP}: {error.strerror}") from error
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            raise BadInput(f"{shown(path)}: malformed: {error!r}") from error


def new_assignment(sides: Any, **common: Any) -> Assignment:
    """What a process is to do that goes on until it is told to stop. Where it writes is still to be said."""
    return Assignment(sides, Path(), (), common.pop("seed"), None, None, True, None, **common)


def _files(side: Side) -> list[Path]:
    return [path for path in (*side.patches, side.pgtable) if path is not None]


def _kept_names(side: Side) -> dict[Path, str]:
    """Under which names, below the directory, a side's files are kept: those that say what they hold."""

    def name(path: Path) -> str:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        return f"kernel/{path.name if path.name.startswith(digest) else f'{digest}-{path.name}'}"

    return {path: name(path) for path in _files(side)}


def _with_copies(side: Side, root: Path) -> Side:
    """The same, with copies of its files that are kept below `root`; itself where it has none. Raises OSError."""
    names = _kept_names(side)
    if not names:
        return side
    for path, name in names.items():
        target = root / name
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            write_durably(target, path.read_bytes(), target.parent)
    return side_from_json(side_to_json(side, names), root)
