"""The inputs that a campaign has recorded, and which lines of the model they reach."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from pathlib import Path

from fuzz.campaign.kept import free_name
from fuzz.campaign.ledger import Ledger
from fuzz.campaign.setup import CampaignSetup
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.corpus.store import Store, is_whole, name_of, read_input
from fuzz.coverage.model_lines import ModelLines
from fuzz.engine.first_inputs import starting_inputs
from fuzz.sides import model_of
from harness.errors import BadInput
from harness.model.executor import Model
from harness.outside import program_files, shown
from harness.program.text import read


class Inputs:
    """Those in corpus/, and the ledger's record of them once there is one (`follow`). An input counts as recorded once
    its file holds what its name says, and is on the disk. `now` tells seconds of campaign."""

    def __init__(
        self, place: WorkDirectory, setup: CampaignSetup, say: Callable[[str], None], now: Callable[[], float]
    ) -> None:
        """Raises BadInput, OSError."""
        self._place = place
        self._setup = setup
        self._say = say
        self._now = now
        self.stores = {name: setup.open_store(number, place) for number, name in enumerate(setup.stores)}
        self.counts: Counter[str] = Counter()
        """By store."""
        self.lines = ModelLines()
        self._unmeasured: deque[tuple[str, str]] = deque()
        self._first: set[tuple[str, str]] = set()
        """Those that were the first to reach a line of the model."""
        self._replaced: set[tuple[str, str]] = set()
        """Those that may go, once it is known which lines they reach."""

    def store_of(self, comparison: int) -> Store:
        """That of a comparison."""
        return self.stores[self._setup.stores[comparison]]

    def put_damaged_aside(self) -> None:
        """Move away what does not hold what its name says. Raises OSError."""
        for store in self.stores.values():
            for path, why in store.damaged().items():
                target = free_name(self._place.damaged / path.name)
                path.rename(target)
                self._say(f"{shown(path)}: {why}; put aside as {shown(target)}")

    def rescue(self, name: str, folder: Path) -> None:
        """Record what a process of an earlier run left in a folder of inputs for that store. Raises OSError."""
        store = self.stores.get(name)
        if store is not None and folder.is_dir():
            store.add(read_input(path) for path in sorted(folder.iterdir()) if is_whole(path))

    def follow(self, ledger: Ledger) -> None:
        """Have the ledger know what is there, and from now on what comes."""
        self._ledger = ledger
        self.lines.know(ledger.rows("SELECT file, line FROM model_lines"))
        for name, store in self.stores.items():
            there = set(store.names())
            self.counts[name] = len(there)
            noted = {one for (one,) in ledger.rows("SELECT name FROM inputs WHERE corpus = ?", name)}
            ledger.note_inputs(name, sorted(there - noted), self._now(), None)
            ledger.forget_inputs(name, sorted(noted - there))
        self._unmeasured.extend(ledger.rows("SELECT corpus, name FROM inputs WHERE measured = 0"))

    def begin(self, corpora: Iterable[Path]) -> None:
        """Fill stores that are empty: with random inputs, and the corpora's programs. Raises BadInput, OSError."""
        empty = {name: store for name, store in self.stores.items() if not store.names()}
        programs = [read(path) for folder in corpora for path in program_files(folder)] if empty else []
        for name, store in empty.items():
            encoded = (data for program in programs if (data := store.encode(program)) is not None)
            self.keep(name, [*starting_inputs(self._setup.work[0].seed, store.dialect), *encoded], None)

    def keep(self, name: str, inputs: Iterable[bytes], finder: int | None) -> list[str]:
        """Record inputs that the slot `finder` found, or that came from outside; the names of those that are new.
        Raises OSError."""
        kept = self.stores[name].add(inputs)
        self._ledger.note_inputs(name, kept, self._now(), finder)
        self._unmeasured.extend((name, one) for one in kept)
        self.counts[name] += len(kept)
        return kept

    def drop(self, comparison: int, data: bytes) -> None:
        """Take an input out of its store, to the incidents. Raises OSError."""
        name = self._setup.stores[comparison]
        path = self.stores[name].folder / name_of(data)
        if path.exists():
            self._place.incidents.mkdir(exist_ok=True)
            path.rename(self._place.incidents / path.name)
            self._ledger.forget_inputs(name, [path.name])
            self.counts[name] -= 1

    def replace(self, name: str, inputs: Iterable[str]) -> None:
        """Let inputs go for which a process has recorded shorter ones that steer it as well; but for those that reach
        lines of the model first, for it does not see these. Raises OSError."""
        unmeasured = set(self._unmeasured)
        for one in inputs:
            if (name, one) in unmeasured:
                self._replaced.add((name, one))
            else:
                self._let_go(name, one)

    def _let_go(self, name: str, one: str) -> None:
        if (name, one) not in self._first:
            self._ledger.note_replaced(name, one, self._now())
            (self.stores[name].folder / one).unlink(missing_ok=True)
            self.counts[name] -= 1

    def measure(self, seconds: float) -> None:
        """Follow the model through inputs that were kept, for so long."""
        until = time.monotonic() + seconds
        while self._unmeasured and time.monotonic() < until:
            name, one = self._unmeasured.popleft()
            work = self._setup.work[self._setup.stores.index(name)]
            try:
                program = self.stores[name].program(one)
            except FileNotFoundError:
                continue
            except BadInput as error:  # it was damaged since; the next run puts it aside
                self._say(f"left out: {error}")
                continue
            before = self.lines.missing()
            self.lines.be_patient()
            self.lines.run(Model(model_of(work.sides)), [program])
            lines = before - self.lines.missing()
            self._ledger.note_model_lines(name, one, lines, self._now())
            if lines:
                self._first.add((name, one))
            if (name, one) in self._replaced:
                self._replaced.discard((name, one))
                self._let_go(name, one)
