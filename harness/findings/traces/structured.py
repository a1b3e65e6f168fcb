"""A trace as plain data, for scripts."""

from __future__ import annotations

import json
from typing import Any

from harness.findings.event_text import event_lines
from harness.observation.events import each_event
from harness.observation.layout import Observation, Record
from harness.program.program import Program
from harness.program.results import signed
from harness.program.text import format_op, format_program


def json_trace(program: Program, observation: Observation) -> str:
    """The trace as JSON: `program`, its text; `records`, one for each op that ran, the implicit init's first.

    A record has `op` (as in the program), `ret` (null where the budget was spent), `results` by name (of a walk, a list
    of them, one a visit), `complaints`, and `events`: each with its `kind`, `in_call` (whether it is an instruction of
    the TLB function called last), the words `a` and `b` as hexadecimal strings, and `text` for people.
    """
    lines = event_lines(observation, program.machine)
    ops = ["init", *map(format_op, program.ops)]
    records = [_record(op, record, texts) for op, record, texts in zip(ops, observation.records, lines, strict=False)]
    return json.dumps({"program": format_program(program), "records": records}, indent=1) + "\n"


def _record(op: str, record: Record, texts: list[str]) -> dict[str, Any]:
    return {
        "op": op,
        "ret": record.ret,
        "results": _results(record),
        "complaints": [str(complaint) for complaint in record.complaints],
        "events": [
            {
                "kind": event.name,
                "in_call": event.is_in_call,
                "a": f"{event.a:#x}",
                "b": f"{event.b:#x}",
                "text": text.strip(),
            }
            for event, text in zip(each_event(record.events), texts, strict=True)
        ],
    }


def _results(record: Record) -> Any:
    names = [result.name for result in record.definition.results]
    width = len(names) or 1
    groups = [
        dict(zip(names, map(_number, record.outs[at : at + width]), strict=False))
        for at in range(0, len(record.outs), width)
    ]
    if record.definition.repeats:
        return groups
    return groups[0] if groups else {}


def _number(word: int) -> int | str:
    """Small numbers as such; words that JSON's readers may round, in hexadecimal."""
    value = signed(word)
    return value if abs(value) < 1 << 31 else f"{word:#x}"
