"""What repeats is shown by its first and last; what does not is never left out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.findings.repeats import fold


def stores(count: int, mark: str = "  - ") -> list[str]:
    return [f"{mark}store plain {0x44000000 + 8 * n:#x} = 0  level 3 ipa {0x1000 * n:#x}: -" for n in range(count)]


def test_the_first_how_many_more_and_the_last() -> None:
    lines = stores(48)
    assert fold(lines) == [lines[0], "  - … 46 more, each +0x8 +0x1000", lines[47]]


def test_several_lines_may_repeat_together() -> None:
    lines = [line for n in range(20) for line in (f"  - get_page pa={8 * n:#x}", "  - dsb ishst", f"  - {n} pages")]
    folded = fold(lines)
    assert folded == [*lines[:3], "  - … these 3 lines 18 times more, each +0x8 +1", *lines[-3:]]


def test_both_sides_of_what_differs_stay_side_by_side() -> None:
    lines = [line for pair in zip(stores(9), stores(9, "  + "), strict=True) for line in pair]
    assert fold(lines) == [*lines[:2], "    … these 2 lines 7 times more, each +0x8 +0x1000", *lines[-2:]]


def test_what_is_the_same_every_time() -> None:
    assert fold(["    dsb ish"] * 100_000) == ["    dsb ish", "    … 99,998 more, the same", "    dsb ish"]


@pytest.mark.parametrize(
    "other",
    [
        "  - store plain 0x440000a0 = 0  level 3 ipa 0x14001: -",  # another step
        "  - store plain 0x440000a0 = 0  level 2 ipa 0x14000: -",
        "  - store plain 0x440000a0 = 0  level 3 ipa 0x14000: locked",
        "  + store plain 0x440000a0 = 0  level 3 ipa 0x14000: -",
        "  - store plain 0x440000a0 = 0x0  level 3 ipa 0x14000: -",
    ],
)
def test_a_line_that_breaks_the_pattern_is_shown(other: str) -> None:
    lines = stores(40)
    lines[20] = other
    folded = fold(lines)
    assert other in folded
    assert len(folded) == 3 + 1 + 3
    assert (folded[2], folded[4]) == (lines[19], lines[21])


def test_few_lines_are_left_as_they_are() -> None:
    assert fold(stores(4)) == stores(4)
    assert fold([]) == []


NUMBER = re.compile(r"0x[0-9a-f]+|\b[0-9]+\b")
SUMMARY = re.compile(r"… (?:these (\d+) lines )?(\d+)(?: times?)? more")


def unfolded(folded: list[str]) -> list[str]:
    """The lines again, from what is shown of them."""
    lines = []
    for at, line in enumerate(folded):
        match = SUMMARY.search(line)
        if match is None:
            lines.append(line)
            continue
        period, times = int(match[1] or 1), int(match[2])
        pairs = list(zip(folded[at - period : at], folded[at + 1 : at + 1 + period], strict=True))
        lines += [between(*pair, share, times + 1) for share in range(1, times + 1) for pair in pairs]
    return lines


def between(first: str, last: str, share: int, of: int) -> str:
    """A line that lies so far on the way from one to the other."""
    ends = iter(NUMBER.findall(last))

    def number(match: re.Match[str]) -> str:
        base = 16 if match[0].startswith("0x") else 10
        start = int(match[0], base)
        value = start + (int(next(ends), base) - start) * share // of
        return f"{value:#x}" if base == 16 else str(value)

    return NUMBER.sub(number, first)


LINE = st.one_of(
    st.sampled_from(["- dsb ish", "+ dsb ish", "walk"]),
    st.builds("get {:#x} {}".format, st.integers(0, 3), st.integers(0, 3)),
)


@given(st.lists(st.tuples(st.lists(LINE, max_size=3), st.integers(1, 9)), max_size=6))
def test_what_is_left_out_follows_from_what_is_shown(runs: list[tuple[list[str], int]]) -> None:
    lines = [line for some, times in runs for line in some * times]
    assert unfolded(fold(lines)) == lines
    assert unfolded(fold([*lines, *stores(12), *lines])) == [*lines, *stores(12), *lines]
