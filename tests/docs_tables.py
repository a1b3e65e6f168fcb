"""Tables of pages in docs/, made from the definitions: `make docs` writes them anew."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from harness.model.executor import Model  # noqa: E402  (this is a script, too)
from harness.program.definition import OpDef  # noqa: E402
from harness.program.machine import KNOBS, Knob  # noqa: E402
from harness.program.ops import FAMILIES  # noqa: E402
from harness.program.text import format_knob  # noqa: E402
from harness.verdict.tlb.rules import Duty, Rules  # noqa: E402
from pgtable import VERSIONS  # noqa: E402

PAGES = {ROOT / "docs" / "programs.md": ("knobs", "ops"), ROOT / "docs" / "stale.md": ("rules", "duties")}
"""And the tables in each."""
_MODELLED = {version: Model(version).capabilities for version in VERSIONS}
_MARKED = re.compile(r"(<!-- (knobs|ops|rules|duties) -->\n\n).*?(\n*<!-- end -->)", re.DOTALL)
"""A marker, what stands behind it, and the end."""


def table(heads: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def knobs() -> str:
    """The settings, in the order of their definitions."""
    return table(("setting", "default", "values", "meaning"), (_knob(knob) for knob in KNOBS))


def _knob(knob: Knob) -> Sequence[str]:
    values = ", ".join(f"`{name}`" for name in knob.names) or f"{_number(knob, knob.low)} to {_number(knob, knob.high)}"
    return f"`{knob.name}`", _number(knob, knob.default), values, knob.help


def _number(knob: Knob, value: int) -> str:
    return format_knob(knob.name, value)


def ops() -> str:
    """The operations, family by family."""
    heads = ("family", "operation", "arguments", "results besides the return code", "stage", "Linux", "what it does")
    return table(heads, (_op(family, op) for family, ops in FAMILIES.items() for op in ops))


def _op(family: str, op: OpDef) -> Sequence[str]:
    args = " ".join(arg.name if arg.default is None else f"[{arg.name}]" for arg in op.args)
    results = ", ".join(f"`{result.name}`" for result in op.results)
    return (
        family,
        f"`{op.name}`",
        f"`{args}`" if args else "",
        f"for each visit: {results}" if op.repeats else results,
        ", ".join(map(str, op.stages)),
        ", ".join(version for version, capabilities in _MODELLED.items() if capabilities.has(op.name)),
        op.summary,
    )


def rules() -> str:
    """By which stale translations are judged."""
    return table(("rule", "where it stands"), ((rule.value.says, rule.value.section) for rule in Rules))


def duties() -> str:
    """Why an entry may be stale although the code under test did what it is for."""
    return "\n".join(f"- {duty.value}" for duty in Duty if duty is not Duty.TOLD)


MADE: Mapping[str, str] = {"knobs": knobs(), "ops": ops(), "rules": rules(), "duties": duties()}


def filled(page: str) -> str:
    """A page with its marked tables as the definitions have them."""
    return _MARKED.sub(lambda match: match[1] + MADE[match[2]] + "\n\n" + match[3].lstrip(), page)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(filled(path.read_text()))
