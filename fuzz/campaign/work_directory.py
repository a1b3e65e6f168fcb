"""A campaign's directory: what is where, what the campaign is, and who has it.

campaign.json   what is compared, how, with which seed and codec; and copies of --patch and --pgtable files in kernel/
corpus/NAME/    inputs, each a file named by its SHA-1; a folder for each granule, and for each offer of operations
findings/       findings, at most three of a bucket
flaky/          what did not happen every time on fresh kernels
incidents/      programs under way when a fuzzing process or QEMU was lost, and what was said then
damaged/        files that did not hold what their names say
ledger.sqlite   what ran, how far it came (fuzz/campaign/ledger.py)
known           buckets that do not count, one a line: yours to write
report.html     the report, where one was made
ended           the last word of a run that could not tell the ledger how it ended
lock            held while a campaign runs
tmp/            files being written
spool/          the fuzzing processes' own folders; nothing here is recorded yet
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from fuzz import __version__
from fuzz.campaign.ledger import today
from fuzz.corpus.store import Store
from fuzz.engine.assignment import Assignment
from fuzz.sides import Side, capabilities_of, from_configuration, to_configuration
from fuzz.triage.filing import FLAKY
from harness.durable import sync_folder, write_durably
from harness.errors import BadInput
from harness.outside import check_inside, read_plain, shown
from harness.program.codec import CODEC, dialect_for
from harness.program.granule import granule_named
from harness.verdict.tiers import format_tiers, parse_tiers

_FORMAT: Final = 1
CONFIGURATION: Final = "campaign.json"
_LOCK: Final = "lock"
_LAST_WORD: Final = 64
"""Bytes for it."""
_AT_MOST: Final = 16 << 20
"""Bytes of a file that is read whole."""
_DYING: Final = 30.0
"""Seconds that the fuzzing processes of a campaign that was killed have to end as well."""


@dataclass(frozen=True, slots=True)
class WorkDirectory:
    """Where things are in a campaign's directory."""

    root: Path

    @property
    def configuration(self) -> Path:
        return self.root / CONFIGURATION

    @property
    def corpora(self) -> Path:
        return self.root / "corpus"

    @property
    def findings(self) -> Path:
        return self.root / "findings"

    @property
    def flaky(self) -> Path:
        return self.root / FLAKY

    @property
    def incidents(self) -> Path:
        return self.root / "incidents"

    @property
    def damaged(self) -> Path:
        return self.root / "damaged"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.sqlite"

    @property
    def ended(self) -> Path:
        return self.root / "ended"

    @property
    def spool(self) -> Path:
        return self.root / "spool"

    @property
    def scratch(self) -> Path:
        """For files that are being written; beside all others."""
        return self.root / "tmp"

    @property
    def is_campaign(self) -> bool:
        """Whether it says that it is one."""
        return self.configuration.is_file()

    def known_buckets(self) -> frozenset[str]:
        """Those that the user does not want to hear of. Raises OSError, BadInput."""
        try:
            text = read_plain(self.root / "known", _AT_MOST, "a list of buckets").decode()
        except FileNotFoundError:
            return frozenset()
        except UnicodeDecodeError as error:
            raise BadInput(f"{shown(self.root / 'known')}: not text") from error
        return frozenset(word for line in text.splitlines() if (word := line.partition("#")[0].strip()))

    def make_room_for_last_word(self) -> None:
        """Have a file for `say_last_word`, which takes no more room then. Raises OSError."""
        write_durably(self.ended, b" " * _LAST_WORD, self.scratch)

    def say_last_word(self, run: int, why: str) -> None:
        """Note how a run ended where the disk may be full. Raises OSError."""
        with self.ended.open("r+b") as file:
            file.write(f"{run} {why}".encode()[:_LAST_WORD])
            file.flush()
            os.fsync(file.fileno())

    def last_word(self) -> tuple[int, str] | None:
        """The number of a run, and how it ended, where that was noted here. Raises BadInput."""
        try:
            run, _, why = read_plain(self.ended, _LAST_WORD, "a last word").decode(errors="replace").partition(" ")
        except OSError:
            return None
        return (int(run), shown(why.strip())) if run.isdecimal() else None

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Have it for oneself; the descriptor that is yielded keeps it so, also in children that inherit it. Raises
        BadInput when somebody else has it."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.check_links()
        with (self.root / _LOCK).open("a+") as file:
            self._lock(file.fileno())
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            try:
                yield file.fileno()
            finally:
                file.truncate(0)

    def check_links(self) -> None:
        """Refuse (BadInput) a directory in which a symbolic link stands for a file or folder of ours: much in it is
        written and cleared, and it may be somebody else's. Raises OSError."""
        folders = [self.root, *(one for one in (self.corpora, self.findings, self.flaky, self.spool) if one.is_dir())]
        for folder in folders:
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                if entry.is_symlink():
                    raise BadInput(f"{shown(entry.path)}: a symbolic link, which is not followed")

    def _lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + _DYING
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if self.holder() is not None or time.monotonic() > deadline:
                    raise BadInput(f"{shown(self.root)}: in use by process {self.holder() or '?'}") from error
                time.sleep(0.1)  # its processes are about to follow one that was killed

    def holder(self) -> int | None:
        """The process that has it, where one does."""
        try:
            pid = int((self.root / _LOCK).read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        try:
            with (self.root / _LOCK).open() as file:
                fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return pid
        return None  # a number that was left behind, and is another's now


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a campaign is: `work` has an assignment for each comparison, `stores` the name of the folder below corpus/
    that its inputs are in. `made` says when and with what it began, for people."""

    work: tuple[Assignment, ...]
    stores: tuple[str, ...]
    made: dict[str, str]

    @classmethod
    def of(cls, work: Sequence[Assignment]) -> Configuration:
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
                    "sides": [to_configuration(side, _kept_names(side)) for side in one.sides],
                    "store": store,
                }
                for one, store in zip(self.work, self.stores, strict=True)
            ],
            "format": _FORMAT,
            "guidance": first.guidance,
            "made": self.made,
            "seed": first.seed,
            "stages": list(first.stages),
            "tiers": format_tiers(first.tiers),
        }

    def same_as(self, other: Configuration) -> bool:
        """Whether both are the same campaign, whenever it began, and by whatever seed."""
        mine, theirs = (
            {key: value for key, value in one.to_json().items() if key not in ("made", "seed")} for one in (self, other)
        )
        return mine == theirs

    def save(self, place: WorkDirectory) -> Configuration:
        """Make `place` this campaign's directory: from then on it is one. What comes back uses copies of the kernels'
        files that are kept there. Raises OSError, BadInput where there is something else."""
        strangers = {path.name for path in place.root.iterdir()} - {_LOCK, "kernel", "tmp", "corpus", "known"}
        if strangers:
            raise BadInput(
                f"{shown(place.root)}: holds {shown(', '.join(sorted(strangers)[:3]))}, and is no campaign's directory"
            )
        place.scratch.mkdir(exist_ok=True)
        work = [
            replace(one, sides=(_with_copies(one.sides[0], place.root), _with_copies(one.sides[1], place.root)))
            for one in self.work
        ]
        kept = replace(self, work=tuple(work))
        text = json.dumps(kept.to_json(), indent=2, sort_keys=True)
        write_durably(place.configuration, text.encode() + b"\n", place.scratch)
        sync_folder(place.root)
        return kept

    @classmethod
    def load(cls, place: WorkDirectory) -> Configuration:
        """What `save` wrote. Raises BadInput."""
        path = place.configuration
        try:
            place.check_links()
            data = json.loads(read_plain(path, _AT_MOST, "a campaign's configuration"))
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
                "seed": int(data["seed"]),
                "stages": tuple(map(int, data["stages"])),
                "tiers": parse_tiers(data["tiers"]),
            }
            work = []
            for one in data["comparisons"]:
                left, right = (from_configuration(side, place.root) for side in one["sides"])
                for path in (*_files(left), *_files(right)):
                    check_inside(path, place.root)
                granule = granule_named(one["granule"]).name
                work.append(new_assignment((left, right), granule=granule, **common))
            stores = tuple(str(one["store"]) for one in data["comparisons"])
            if not work or any(not name or "/" in name or name.startswith(".") for name in stores):
                raise BadInput(f"{shown(path)}: its comparisons are malformed")
            return cls(tuple(work), stores, dict(data["made"]))
        except OSError as error:
            raise BadInput(
                f"{shown(place.root)}: no campaign's directory: {CONFIGURATION}: {error.strerror}"
            ) from error
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
    """The same, with copies of its files that are kept below `root`. Raises OSError."""
    names = _kept_names(side)
    for path, name in names.items():
        target = root / name
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            write_durably(target, path.read_bytes(), target.parent)
    return from_configuration(to_configuration(side, names), root)
