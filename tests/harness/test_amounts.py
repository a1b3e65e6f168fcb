"""Numbers in text for people."""

from __future__ import annotations

import pytest

from harness.amounts import counted, number


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (985, "985"), (4096, "4,096"), (10_000, "10,000"), (1_234_567, "1,234,567")]
)
def test_large_numbers_have_separators(value: int, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "words", "text"),
    [
        (0, ("program",), "0 programs"),
        (1, ("program",), "1 program"),
        (34_501, ("input",), "34,501 inputs"),
        (1, ("entry", "entries"), "1 entry"),
        (2, ("entry", "entries"), "2 entries"),
    ],
)
def test_a_count_says_of_what(value: int, words: tuple[str, ...], text: str) -> None:
    assert counted(value, *words) == text
