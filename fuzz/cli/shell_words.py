"""What may be said to `s2fuzz shell`: its help, and how a line that is begun may go on. All from the definitions."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Final

from harness.errors import BadInput
from harness.program.capabilities import Capabilities
from harness.program.definition import Arg, Op, OpDef
from harness.program.kinds import Kind, Role, Unreadable
from harness.program.machine import KNOBS, KNOBS_BY_NAME, Machine
from harness.program.ops import FAMILIES, OPS_BY_NAME
from harness.program.source import Source
from harness.program.space import space_of
from harness.program.text import format_knob, format_op

OWN_WORDS: Final = {
    "tree": "the table as it is, decoded",
    "events": "what the last op did at its boundary, in order",
    "reset": "a fresh machine with an empty table: reset ia_bits=32 fwb=off",
    "help": "this; `help map` has the arguments of an op, `help reset` the settings",
    "quit": "leave (Ctrl-D does, too)",
}
_WIDTH: Final = 100
_NAMES: Final = max(len(name) for name in OPS_BY_NAME)
_FEW: Final = 1 << 16
"""Up to here values are told by how many there are."""
_ADDRESS: Final = 0x20_0000
"""Where the op of an example works."""


def known_ops(capabilities: Capabilities, stage: int) -> list[OpDef]:
    """The ops that a table of that stage has on such a kernel, family by family."""
    return [op for family in FAMILIES.values() for op in family if stage in op.stages and capabilities.has(op.name)]


def help_lines(words: list[str], capabilities: Capabilities, machine: Machine) -> Iterator[str]:
    """The answer to `help`, or to `help` and a word. Raises BadInput for one that is not known."""
    if not words:
        yield from _overview(capabilities, machine["stage"])
    elif words == ["reset"]:
        yield f"reset: {OWN_WORDS['reset']}"
        for knob in KNOBS:
            values = (
                ", ".join(knob.names) or f"{format_knob(knob.name, knob.low)} to {format_knob(knob.name, knob.high)}"
            )
            yield from _entry(knob.name, f"{values} [{format_knob(knob.name, knob.default)}]: {knob.help}", _NAMES)
    elif len(words) == 1 and words[0] in OPS_BY_NAME:
        yield from _op_help(OPS_BY_NAME[words[0]], machine)
    elif len(words) == 1 and words[0] in OWN_WORDS:
        yield f"{words[0]}: {OWN_WORDS[words[0]]}"
    else:
        raise BadInput(f"`{' '.join(words)}` is no op: `help` lists them")


def _overview(capabilities: Capabilities, stage: int) -> Iterator[str]:
    known = known_ops(capabilities, stage)
    for family, ops in FAMILIES.items():
        here = [op for op in ops if op in known]
        if here:
            yield f"{family}:"
        for op in here:
            yield from _entry(op.name, op.summary, _NAMES)
    other = 3 - stage
    yield f"(`reset stage={other}` has the ops of stage {other})"
    yield "also:"
    for word, what in OWN_WORDS.items():
        yield from _entry(word, what, _NAMES)


def _op_help(op: OpDef, machine: Machine) -> Iterator[str]:
    args = [f"{arg.name}=…" if arg.default is None else f"[{arg.name}=…]" for arg in op.args]
    made = f"{op.makes.prefix}1 = " if op.makes else ""
    yield " ".join([f"{made}{op.name}", *args])
    yield from textwrap.wrap(op.summary, _WIDTH, initial_indent="  ", subsequent_indent="  ")
    width = max([len(arg.name) for arg in op.args], default=0)
    for arg in op.args:
        default = "" if arg.default is None else f"  [{arg.kind.format(arg.default)}]"
        yield from _entry(arg.name, f"{_form(arg)}{default}", width)
    if op.results:
        each = "each visit: " if op.repeats else ""
        yield f"  tells {each}{', '.join(result.name for result in op.results)}"
    if machine["stage"] not in op.stages:
        yield f"  of stage {op.stages[0]}: `reset stage={op.stages[0]}` first"
    yield f"  example: {made}{_example(op, machine)}"


def _form(arg: Arg) -> str:
    """How an argument is written."""
    kind = arg.kind
    forms = [", ".join(word for word in kind.words if word != "-")] if kind.words else []
    if kind.role is Role.HANDLE:
        forms = [kind.format(0), "or what a line calls it"]
    elif kind.role is not Role.FLAGS and kind.limit >= len(kind.words) and _takes_numbers(kind):
        least, most = kind.format(1 if kind.words else 0), kind.format(kind.limit)
        forms.append(f"{least} to {most}" if kind.limit < _FEW else "a number: 0x…, or decimal with K, M, G or T")
    is_plain = kind.name.startswith(arg.name) or kind.limit == len(kind.words) - 1
    what = "" if is_plain else f"{kind.name}: "
    return what + ", ".join(forms) + (f"; {kind.hint}" if kind.hint else "")


def _takes_numbers(kind: Kind) -> bool:
    try:
        kind.parse("0x1", kind.name)
    except Unreadable:
        return False
    return True


def _example(op: OpDef, machine: Machine) -> str:
    """The op with the values that the fuzzer's bytes mean most often."""
    space = space_of(machine)
    values = [
        _ADDRESS if arg.kind.role is Role.ADDRESS else arg.kind.decode(Source(b""), space, _ADDRESS) for arg in op.args
    ]
    return format_op(Op(op, tuple(values)))


def _entry(name: str, text: str, width: int) -> list[str]:
    """A name, in a column of that width, and what there is to say of it."""
    first = f"  {name:<{width}}  "
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=" " * len(first))


def completions(
    before: str, begun: str, capabilities: Capabilities, machine: Machine, names: Iterable[str]
) -> list[str]:
    """How a word may go on that is `begun`, where the line up to it is `before`: ops, arguments, the words of their
    values. `names` are those of what ops made."""
    return [word for word in _candidates(before, capabilities, machine, names) if word.startswith(begun)]


def _candidates(before: str, capabilities: Capabilities, machine: Machine, names: Iterable[str]) -> list[str]:
    words, at_value = before.split(), before.endswith(("=", "+"))
    if words[1:2] == ["="]:  # `t1 = create_unlinked`
        makers = [f"{op.name} " for op in known_ops(capabilities, machine["stage"]) if op.makes]
        return makers if len(words) == 2 else _of_op(words[2], words[3:], at_value, names)
    if not words:
        return [f"{word} " for word in (*(op.name for op in known_ops(capabilities, machine["stage"])), *OWN_WORDS)]
    if words[0] == "help":
        return [*OPS_BY_NAME, *OWN_WORDS] if len(words) == 1 else []
    if words[0] == "reset":
        return _of_reset(words[1:], at_value)
    return _of_op(words[0], words[1:], at_value, names)


def _of_reset(words: list[str], at_value: bool) -> list[str]:
    if at_value:
        knob = KNOBS_BY_NAME.get(words[-1].partition("=")[0])
        return [f"{name} " for name in knob.names] if knob else []
    given = {word.partition("=")[0] for word in words}
    return [f"{knob.name}=" for knob in KNOBS if knob.name not in given]


def _of_op(name: str, words: list[str], at_value: bool, names: Iterable[str]) -> list[str]:
    op = OPS_BY_NAME.get(name)
    if op is None:
        return []
    if not at_value:
        given = {word.partition("=")[0] for word in words}
        return [f"{arg.name}=" for arg in op.args if arg.name not in given]
    arg = next((arg for arg in op.args if words and arg.name == words[-1].partition("=")[0]), None)
    return [] if arg is None else _values(arg, words[-1], names)


def _values(arg: Arg, word: str, names: Iterable[str]) -> list[str]:
    """What an argument may be, or what more, where some of it is there."""
    if arg.kind.role is Role.HANDLE:
        return [*names]
    given = word.partition("=")[2].split("+")
    return [one for one in arg.kind.words if one not in given]
