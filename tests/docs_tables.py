"""What the pages in docs/ have from definitions: the tables of programs.md and stale.md, and contracts.md. `make docs`
writes them anew."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from specification import GENERATED, by_generated, by_seeds  # noqa: E402

from harness.amounts import number  # noqa: E402
from harness.model.executor import Model  # noqa: E402  (this is a script, too)
from harness.program.definition import OpDef  # noqa: E402
from harness.program.machine import KNOBS, Knob  # noqa: E402
from harness.program.ops import FAMILIES  # noqa: E402
from harness.program.text import format_knob  # noqa: E402
from harness.verdict.contracts import families, metamorphic  # noqa: E402
from harness.verdict.contracts.contract import Contract  # noqa: E402
from harness.verdict.tlb.rules import Duty, Rules  # noqa: E402
from pgtable import VERSIONS  # noqa: E402

FOLDER = ROOT / "docs"
_MODELLED = {version: Model(version).capabilities for version in VERSIONS}
_MARKED = re.compile(r"(<!-- (\w+) -->\n\n).*?(\n\n<!-- end -->)", re.DOTALL)
"""A marker, what stands behind it, and the end."""
_WIDTH: Final = 120


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
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


def contracts() -> str:
    """Each contract with its promise and source, family by family."""
    sections = []
    for family, several in families.FAMILIES.items():
        about = _paragraph(import_module(f"{families.__package__}.{family}").__doc__ or "")
        sections += [f"### {family}", about, *(_contract(one) for one in several)]
    return "\n\n".join(sections)


def _contract(one: Contract) -> str:
    ops = ", ".join(f"`{op}`" for op in one.ops) or "every operation"
    source = f"{'Proposed. ' if one.proposed else ''}{one.source}"
    lines = [_paragraph(one.promise), "", *(_item("Of", ops), _item("Source", source))]
    return "\n".join([f"#### `{one.name}`", "", *lines])


def _item(head: str, text: str) -> str:
    return textwrap.fill(f"- {head}: {text}", _WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _paragraph(text: str) -> str:
    return "\n\n".join(
        textwrap.fill(" ".join(part.split()), _WIDTH, break_on_hyphens=False) for part in text.split("\n\n")
    )


def relations() -> str:
    """Each relation with its premise and what it promises."""
    return "\n\n".join(f"### `{one.name}`\n\n{_paragraph(one.promise)}" for one in metamorphic.RELATIONS)


def coverage() -> str:
    """How often each is asked, and its premise holds."""
    return (
        table(("contract", "asked", "premise held", "in seeds"), _exercised())
        + "\n\n"
        + table(("relation", "programs", "of which it made others", "in seeds"), _related())
    )


def _exercised() -> Iterator[Sequence[str]]:
    generated, seeds = by_generated().contracts, by_seeds().contracts
    for one in families.CONTRACTS.all:
        yield f"`{one.name}`", *map(number, (generated.asked[one.name], generated.held[one.name], seeds.held[one.name]))


def _related() -> Iterator[Sequence[str]]:
    for one in metamorphic.RELATIONS:
        counts = GENERATED, by_generated().related[one.name], by_seeds().related[one.name]
        yield f"`{one.name}`", *map(number, counts)


def rules() -> str:
    """By which stale translations are judged."""
    return table(("rule", "where it stands"), ((rule.value.says, rule.value.section) for rule in Rules))


def duties() -> str:
    """Why an entry may be stale although the code under test did what it is for."""
    return "\n".join(f"- {duty.value}" for duty in Duty if duty is not Duty.TOLD)


PAGES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "programs.md": {"knobs": knobs, "ops": ops},
    "contracts.md": {"contracts": contracts, "relations": relations, "coverage": coverage},
    "stale.md": {"rules": rules, "duties": duties},
}
"""What each page has behind which marker."""


def parts(text: str) -> Mapping[str, str]:
    """What stands behind the markers of a page."""
    return {found[2]: found[0].removeprefix(found[1]).removesuffix(found[3]) for found in _MARKED.finditer(text)}


def filled(name: str) -> str:
    """A page with what is behind its markers as the definitions have it."""
    text = (FOLDER / name).read_text()
    return _MARKED.sub(lambda found: found[1] + PAGES[name][found[2]]() + found[3], text)


if __name__ == "__main__":
    for page in PAGES:
        (FOLDER / page).write_text(filled(page))
