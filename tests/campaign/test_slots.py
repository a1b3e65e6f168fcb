"""Which process runs next in a slot, and when: driven without processes, by a clock of the test's own."""

from __future__ import annotations

import pytest

from fuzz.campaign.slots import BARREN, LONGEST_WAIT, SOUND, STRIKES, Slot, Slots


def rotations(comparisons: int, workers: int) -> list[tuple[int, ...]]:
    return [slot.rotation for slot in Slots(comparisons, workers)]


def test_comparisons_are_divided_among_workers() -> None:
    assert rotations(1, 2) == [(0,), (0,)]
    assert rotations(2, 2) == [(0,), (1,)]
    assert rotations(3, 2) == [(0, 2), (1,)]
    assert rotations(2, 3) == [(0,), (1,), (0,)], "who is left over helps"
    for workers in range(1, 9):
        for comparisons in range(1, 9):
            assert {one for slot in rotations(comparisons, workers) for one in slot} == set(range(comparisons))


def test_turns() -> None:
    first, second = Slots(3, 2)
    assert (first.takes_turns, second.takes_turns) == (True, False)
    seen = []
    for _ in range(4):
        seen.append(first.comparison)
        first.done()
    assert seen == [0, 2, 0, 2]


def test_a_comparison_stays_until_its_process_is_done() -> None:
    slot = Slot(0, (0, 2))
    slot.lost(5.0, 0.0)
    assert slot.comparison == 0
    slot.done()
    assert slot.comparison == 2


def test_only_the_first_process_of_a_comparison_replays_the_corpora() -> None:
    slots = Slots(1, 2)
    first, second = slots
    assert [slots.begin(first), slots.begin(second), slots.begin(first)] == [True, False, False]


def test_who_is_lost_again_and_again_waits_ever_longer() -> None:
    slot = Slot(0, (0,))
    waits = []
    for _ in range(9):
        slot.lost(1.0, 1000.0)
        waits.append(slot.not_before - 1000.0)
    assert waits == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_WAIT, LONGEST_WAIT]
    assert not slot.is_hopeless, "they all ran programs"


@pytest.mark.parametrize("good", ["it was done", "it lived long"])
def test_what_went_well_is_a_new_beginning(good: str) -> None:
    slot = Slot(0, (0,))
    for _ in range(5):
        slot.lost(1.0, 0.0)
    if good == "it was done":
        slot.done()
        slot.lost(1.0, 100.0)
    else:
        slot.lost(SOUND + 1.0, 100.0)
    assert slot.not_before == 100.0


def test_a_slot_whose_processes_never_run_a_program_is_hopeless() -> None:
    slot = Slot(0, (0,))
    for _ in range(BARREN - 1):
        slot.lost(0.0, 0.0)
    assert not slot.is_hopeless
    slot.lost(0.0, 0.0)
    assert slot.is_hopeless
    slot.lost(0.5, 0.0)
    assert not slot.is_hopeless


def test_an_input_that_ends_processes_is_given_up_whichever_slots_they_were_in() -> None:
    slots = Slots(1, 2)
    first, second = slots
    taken = [first, second, first]
    assert len(taken) == STRIKES
    for number, slot in enumerate(taken):
        slot.lost(0.0, 0.0)
        goes_on = slots.suspect(slot, b"bad", number)
        assert goes_on == (number < STRIKES - 1)
    assert b"bad" not in first.suspects
    assert first.barren == 0, "the input was at fault, not how the process was started"
    assert slots.suspect(first, b"other", 7)
    assert first.suspects == {b"other": 7}
