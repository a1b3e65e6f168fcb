"""Violations that are known: those that Linux commits as it was released, each an entry of corpora/violations.

An entry is a program, NAME.s2, and what is to be said of it, NAME.toml beside it:

    what       what is wrong, in a sentence
    verdict    one of VERDICTS
    kernels    who does it: 6.12, and 6.12+hyp for hyp's object, as sides are named
    breaks     tables of what it breaks: `contract`, `op`, and `where`, one of PLACES (left out: anywhere)

An entry applies to every violation of one of its contracts by one of its ops in such a place on one of its kernels, in
whatever program. So a known violation hides no other one.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.errors import BadInput
from harness.outside import shown
from harness.verdict.contracts.contract import Violation
from harness.verdict.contracts.places import PLACES
from harness.verdict.known import version_of

VERDICTS: Final = ("kernel bug", "documentation gap", "caller's duty")
_ENTRY: Final = {"what": str, "verdict": str, "kernels": list, "breaks": list}
_BREAKS: Final = ("contract", "op", "where")


@dataclass(frozen=True, slots=True)
class Break:
    """One promise that an entry's program breaks."""

    contract: str
    op: str
    where: str

    def covers(self, violation: Violation) -> bool:
        """Whether a violation is this one."""
        named = (violation.contract.name, violation.op) == (self.contract, self.op)
        return named and PLACES[self.where](violation.transition)


@dataclass(frozen=True, slots=True)
class Entry:
    """A known violation; see above. `program` is its file."""

    program: Path
    what: str
    verdict: str
    kernels: tuple[str, ...]
    breaks: tuple[Break, ...]

    @property
    def name(self) -> str:
        """As `corpora/violations` has it."""
        return self.program.stem


def kernel_of(identity: Mapping[str, str]) -> str | None:
    """Which kernel a side is, or is a model of, as entries name them, by an executor's `identity`: the version without
    the patch level, and the object. None where that tells of no version."""
    version = version_of(identity)
    return f"{version}+hyp" if version is not None and identity.get("object") == "hyp" else version


def listed(violation: Violation, kernels: Iterable[str | None], entries: Iterable[Entry]) -> Entry | None:
    """The entry that a violation is known by, which all of these kernels committed; None where there is none. An entry
    is for no tree of which nobody knows the version."""
    committed = set(kernels)
    mine = (entry for entry in entries if committed <= {*entry.kernels})
    return next((entry for entry in mine if any(one.covers(violation) for one in entry.breaks)), None)


def entry_text(what: str, verdict: str, kernels: Iterable[str], contract: str, op: str) -> str:
    """The text of an entry that breaks one contract by one op, anywhere."""
    names = ", ".join(json.dumps(kernel) for kernel in kernels)
    lines = [f"what = {json.dumps(what)}", f"verdict = {json.dumps(verdict)}", f"kernels = [{names}]", ""]
    lines += ["[[breaks]]", f"contract = {json.dumps(contract)}", f"op = {json.dumps(op)}"]
    return "\n".join(lines) + "\n"


def read_listed(folder: Path) -> tuple[Entry, ...]:
    """The entries of a folder, by name. Raises BadInput."""
    return tuple(_entry(path) for path in sorted(folder.glob("*.toml")))


def _entry(path: Path) -> Entry:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{shown(path)}: {error}") from error
    program = path.with_suffix(".s2")
    problem = _problem(data)
    if problem is None and not program.is_file():
        problem = f"there is no {program.name} beside it"
    if problem is not None:
        raise BadInput(f"{shown(path)}: {problem}")
    breaks = tuple(Break(one["contract"], one["op"], one.get("where", "anywhere")) for one in data["breaks"])
    return Entry(program, data["what"], data["verdict"], tuple(data["kernels"]), breaks)


def _problem(data: Mapping[str, Any]) -> str | None:
    """What is wrong with an entry."""
    if data.keys() != _ENTRY.keys():
        return f"expected the keys {', '.join(_ENTRY)}, got {', '.join(data)}"
    for key, kind in _ENTRY.items():
        if not isinstance(data[key], kind) or not data[key]:
            return f"{key}: expected {'text' if kind is str else 'a list'} that is not empty, got {data[key]!r}"
    if data["verdict"] not in VERDICTS:
        return f"verdict: expected one of {', '.join(VERDICTS)}, got {data['verdict']!r}"
    if not all(isinstance(one, str) for one in data["kernels"]):
        return f"kernels: expected their names, as text, got {data['kernels']!r}"
    return next((problem for one in data["breaks"] if (problem := _break_problem(one))), None)


def _break_problem(one: object) -> str | None:
    if (
        not isinstance(one, dict)
        or not set(one) <= {*_BREAKS}
        or not all(isinstance(text, str) for text in one.values())
    ):
        return f"breaks: expected a table of {', '.join(_BREAKS)}, each text, got {one!r}"
    if "contract" not in one or "op" not in one:
        return f"breaks: expected an op and a contract, got {one!r}"
    if one.get("where", "anywhere") not in PLACES:
        return f"breaks: where: expected one of {', '.join(PLACES)}, got {one['where']!r}"
    return None
