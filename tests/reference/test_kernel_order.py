"""The test kernel's own files call each other in one order, which kernel.h tells: no two depend on each other."""

from __future__ import annotations

import re

import pytest

from reference.build.own_files import OURS, name_of, own_files

APART = {"start", "exceptions", "ubsan", "coverage", "checks"}
"""What stands apart from the order, as kernel.h says, and the assembly that everything begins in."""


def file_of(name: str) -> str:
    """As the order names it: all operations are one."""
    return "ops" if name.startswith("ops/") else name.partition(".")[0]


def code(text: str) -> str:
    """C without comments and strings."""
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"', " ", text, flags=re.DOTALL)


TEXTS = {name_of(path): code(path.read_text()) for path in own_files() if path.suffix == ".c"}
DEFINED = re.compile(r"^(?!static\b|typedef\b|#)[a-z][\w \t*]*?\b(\w+)\([^;{}]*\)\n\{", re.MULTILINE)


def order() -> list[str]:
    found = re.search(r"A file calls only those before it: (.*?)\.", (OURS / "kernel.h").read_text(), re.DOTALL)
    assert found is not None
    return re.sub(r"[\s*]+", " ", found[1]).split(", ")


def test_the_order_names_every_file() -> None:
    names = order()
    assert len(set(names)) == len(names)
    assert {file_of(name) for name in TEXTS} - APART == set(names)


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_a_file_calls_only_those_before_it(name: str) -> None:
    places = {one: place for place, one in enumerate(order())}
    if file_of(name) in APART:
        return
    homes = {function: file_of(other) for other, text in TEXTS.items() for function in DEFINED.findall(text)}
    called = {homes[word] for word in re.findall(r"\b(\w+)\(", TEXTS[name]) if word in homes} - APART
    later = {home for home in called if places[home] > places[file_of(name)]}
    assert not later, f"{name} calls what stands above it: {', '.join(sorted(later))}"


def test_functions_are_found() -> None:
    assert {"pool_alloc", "pool_free_exact"} <= set(DEFINED.findall(TEXTS["pool.c"]))
    assert "op_map" in DEFINED.findall(TEXTS["ops/table.c"])
