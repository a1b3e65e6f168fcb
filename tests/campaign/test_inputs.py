"""Which inputs a campaign records, and which it lets go for shorter ones: files and the ledger, without processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fuzz.campaign.inputs import Inputs
from fuzz.campaign.ledger import Ledger
from fuzz.campaign.setup import CampaignSetup, new_assignment
from fuzz.campaign.spool import Spool
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.corpus.store import name_of
from fuzz.sides import choose_sides
from harness.program.codec import encode
from harness.program.text import parse

LONG, SHORT, HALF = b"a long input", b"short", b"half of it"


def write(folder: Path, *inputs: bytes) -> list[str]:
    for data in inputs:
        (folder / name_of(data)).write_bytes(data)
    return [name_of(data) for data in inputs]


def taken(spool: Spool) -> list[bytes]:
    """What is handed out, and recorded."""
    found = list(spool.whole())
    spool.found(map(name_of, found))
    return found


def test_a_whole_file_is_handed_out_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    (name,) = write(tmp_path, LONG)
    (tmp_path / name_of(HALF)).write_bytes(HALF[:3])
    assert list(spool.whole()) == [LONG]
    assert list(spool.whole()) == []
    assert list(spool.broken()) == [(tmp_path / name_of(HALF), 3)]
    write(tmp_path, HALF)
    assert list(spool.whole()) == [HALF]
    assert spool.holds(name)


def test_what_was_replaced_goes_at_the_second_look(tmp_path: Path) -> None:
    """libFuzzer removes one, and then writes the other."""
    spool = Spool(tmp_path)
    (name,) = write(tmp_path, LONG)
    assert taken(spool) == [LONG]
    (tmp_path / name).unlink()
    assert spool.replaced([]) == []
    (tmp_path / name_of(SHORT)).write_bytes(b"")  # as on a full disk
    assert (taken(spool), spool.replaced([])) == ([], [])
    write(tmp_path, SHORT)
    assert taken(spool) == [SHORT]
    assert spool.replaced([]) == [name]
    assert spool.replaced([]) == []


def test_what_others_have_or_found_stays(tmp_path: Path) -> None:
    folders = [tmp_path / "mine", tmp_path / "another's"]
    for folder in folders:
        folder.mkdir()
    mine, other = map(Spool, folders)
    name, _ = write(folders[0], LONG, SHORT)
    write(folders[1], LONG)
    taken(mine)
    list(mine.whole()), list(other.whole())
    for folder in folders:
        assert [spool.replaced([one]) for spool, one in ((mine, other), (other, mine)) for _ in range(2)] == [[]] * 4
        (folder / name).unlink()
    assert (other.replaced([mine]), other.replaced([mine])) == ([], []), "the other did not find it"
    assert mine.replaced([other]) == [name], "now that nobody has it"


@pytest.fixture
def inputs(tmp_path: Path) -> Iterator[Inputs]:
    place = WorkDirectory(tmp_path)
    setup = CampaignSetup.of([new_assignment(choose_sides(sides="model:6.12,model:6.12"), seed=1)])
    with closing(Ledger(place.ledger)) as ledger:
        found = Inputs(place, setup, print, lambda: 7.0)
        found.follow(ledger)
        yield found


def test_an_input_goes_unless_it_reaches_lines_of_the_model_first(inputs: Inputs, tmp_path: Path) -> None:
    store = inputs.stores["4k"]
    programs = [parse(f"s2 1\nget_leaf ipa={page << 12:#x}\n") for page in range(3)]
    first, again, later = inputs.keep("4k", (encode(program, store.dialect) for program in programs), 0)
    inputs.replace("4k", [first, again])
    assert store.names() == sorted([first, again, later]), "nobody knows yet what they reach"
    inputs.measure(60.0)
    assert store.names() == sorted([first, later])
    inputs.replace("4k", [first, later])
    assert store.names() == [first]
    assert inputs.counts["4k"] == 1
    with closing(Ledger(tmp_path / "ledger.sqlite", readonly=True)) as ledger:
        assert {name for (name,) in ledger.rows("SELECT name FROM replaced WHERE at = 7")} == {again, later}
        assert ledger.rows("SELECT name FROM inputs") == [(first,)]
