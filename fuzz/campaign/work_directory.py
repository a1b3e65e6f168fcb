"""A campaign's directory: what is where, and who has it.

campaign.json   what is compared, how, with which seed and codec; and copies of --patch and --pgtable files in kernel/
corpus/NAME/    inputs, each a file named by its SHA-1; a folder for each granule and for each set of capabilities
findings/       findings, at most three of a bucket and comparison, each program once
flaky/          what did not happen every time on fresh kernels
incidents/      programs in flight when a fuzzing process or QEMU was lost, and what was said then
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

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz.triage.filed import FLAKY
from harness.durable import write_durably
from harness.errors import BadInput
from harness.locks import try_lock
from harness.outside import read_plain, read_plain_text, shown
from harness.verdict.buckets import check_buckets, listed_buckets

SETUP: Final = "campaign.json"
LOCK: Final = "lock"
_LAST_WORD: Final = 64
"""Bytes for it."""
AT_MOST: Final = 16 << 20
"""Bytes of a file that is read whole."""
_DYING: Final = 30.0
"""Seconds that the fuzzing processes of a campaign that was killed have to end as well."""


@dataclass(frozen=True, slots=True)
class WorkDirectory:
    """Where things are in a campaign's directory."""

    root: Path

    @property
    def setup(self) -> Path:
        return self.root / SETUP

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
        return self.setup.is_file()

    def known_buckets(self) -> frozenset[str]:
        """Those that the user does not want to hear of. A misspelt one, which `check_known` would refuse, does no harm.
        Raises OSError, BadInput."""
        return listed_buckets(self._known_text())

    def check_known(self) -> None:
        """Raise BadInput where the user's list has what no finding can be called; OSError."""
        check_buckets(self._known_text(), shown(self.root / "known"))

    def _known_text(self) -> str:
        try:
            return read_plain_text(self.root / "known", AT_MOST, "a list of buckets")
        except FileNotFoundError:
            return ""

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
        with (self.root / LOCK).open("a+") as file:
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
        while not try_lock(descriptor):
            if self.holder() is not None or time.monotonic() > deadline:
                raise BadInput(f"{shown(self.root)}: in use by process {self.holder() or '?'}")
            time.sleep(0.1)  # its processes are about to follow one that was killed

    def holder(self) -> int | None:
        """The process that has it, where one does."""
        try:
            pid = int((self.root / LOCK).read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        with (self.root / LOCK).open() as file:
            is_free = try_lock(file.fileno(), shared=True)
        return None if is_free else pid  # a number that was left behind may be another's now
