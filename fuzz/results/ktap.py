"""KTAP version 1, as the kernel's Documentation/dev-tools/ktap.rst has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from fuzz.results.outcome import Outcome, Status, Test, others, worst
from harness.outside import printable

_INDENT: Final = "  "
_DIRECTIVES: Final = {Status.SKIPPED: "SKIP", Status.BROKEN: "ERROR"}


@dataclass(frozen=True, slots=True)
class _Node:
    """A test with its subtests, or with its own diagnostic lines."""

    name: str
    status: Status
    subtests: Sequence[_Node] = ()
    why: str = ""
    lines: Sequence[str] = ()


def render(outcome: Outcome) -> str:
    """A test for each pair of sides; its subtests are the granules, and theirs what was tested."""
    pairs: dict[str, dict[str, list[_Node]]] = {}
    for test in outcome.tests:
        granules = pairs.setdefault(test.comparison.name, {})
        granules.setdefault(test.comparison.granule, []).append(_leaf(test))
    nodes = [
        _parent(pair, [_parent(f"pages of {granule}", leaves) for granule, leaves in granules.items()])
        for pair, granules in pairs.items()
    ]
    about = [_diagnostic(f"{key}: {value}") for key, value in outcome.about.items()]
    return "\n".join([*_block(nodes, about), ""])


def _leaf(test: Test) -> _Node:
    lines = () if test.status is Status.SKIPPED else (*test.report.splitlines(), *others(test))
    return _Node(test.name, test.status, why=test.why, lines=lines)


def _parent(name: str, nodes: Sequence[_Node]) -> _Node:
    """It fails where one of its subtests does."""
    return _Node(name, worst(node.status for node in nodes), nodes)


def _block(nodes: Sequence[_Node], about: Iterable[str] = ()) -> Iterator[str]:
    yield "KTAP version 1"
    yield f"1..{len(nodes)}"
    yield from about
    for number, node in enumerate(nodes, start=1):
        if node.subtests:
            yield from (_INDENT + line for line in _block(node.subtests))
        yield from map(_diagnostic, node.lines)
        yield _result(number, node)


def _result(number: int, node: _Node) -> str:
    result = "not ok" if node.status in (Status.FAILED, Status.BROKEN) else "ok"
    words = [_DIRECTIVES.get(node.status, ""), _plain(node.why)]
    after = " ".join(filter(None, words))
    return f"{result} {number} {_plain(node.name)}" + (f" # {after}" if after else "")


def _plain(text: str) -> str:
    """Text in a result line, where a hash begins something else."""
    return printable(text).replace("#", "?")


def _diagnostic(text: str) -> str:
    """Text that no parser takes for anything else, as it would `# Subtest:`."""
    return f"#   {printable(text)}".rstrip()
