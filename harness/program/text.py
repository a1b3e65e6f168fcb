"""Programs as text: the `*.s2` files that people write, read and review.

    # What the program shows.
    s2 1                                   format version, first
    ia_bits = 40                           knobs that differ from the machine's defaults
    requires = stage2                      optional: what the kernel must offer

    map ipa=0x200000 size=2M phys=0x80200000 prot=rwx mc=2      one op per line
    walk ipa=0x0 size=1G flags=leaf+table_pre                   # comments end a line
    t1 = create_unlinked phys=0x80000000 level=2 prot=rw        what an op makes has a name
    free_unlinked table=t1

Numbers are hexadecimal (0x…) or decimal, with an optional suffix K, M, G or T (powers of 1024). `prot` and `flags`
join names with `+` (`rwx` may be written together, `-` is none of them); `mc` is the number of pages the memcache is
topped up to first, or `none` for no memcache at all. How the arguments of each kind are written, the kind knows
(`harness.program.kinds`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.errors import BadInput
from harness.outside import read_plain_text, shown
from harness.program.definition import Arg, Definitions, Op, OpDef
from harness.program.kinds.handles import NAME, Handle
from harness.program.kinds.kind import Role, Unreadable, one_of, parse_choice, parse_number
from harness.program.machine import DEFAULTS, KNOBS_BY_NAME, Knob, Machine
from harness.program.ops import STANDARD
from harness.program.program import MAX_OPS, Program

FORMAT_VERSION: Final = 1
MAX_TEXT: Final = 1 << 20
"""Bytes of a program file; what is longer was not written by people or by us."""

_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that change how others are shown; of them, tabs and line ends are welcome."""
_TOKEN: Final = re.compile(r"[^\s#]+")


class MalformedProgram(BadInput):
    """A program's text is wrong: `file:line:column: expected …, got …`."""

    def __init__(self, source: str, line: int, column: int, problem: str) -> None:
        super().__init__(f"{source}:{line}:{column}: {problem}")
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class _Line:
    """One line: what it says in canonical form (empty for a comment or blank line; None for an op, which is known when
    the program is), and its comment."""

    content: str | None
    comment: str


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    column: int


@dataclass(frozen=True, slots=True)
class _ParsedOp:
    """An op whose handles are not bound yet."""

    definition: OpDef
    args: list[int]


def parse(text: str, source: str = "<program>", definitions: Definitions = STANDARD) -> Program:
    """The program that `text` describes. Raises MalformedProgram; `source` names the text in its message."""
    return _Parser(text, source, definitions).program


def parse_op(line: str, stage: int, source: str = "<op>") -> Op:
    """The op in a line, for whoever has a table of their own: its handles are numbered as they are written, `t1` and 0
    being the first. Raises MalformedProgram, in which it is line 3."""
    (op,) = _Parser(f"s2 {FORMAT_VERSION}\nstage = {stage}\n{line}", source, STANDARD).unnumbered()
    return op


def read(path: Path) -> Program:
    """The program in a file. Raises BadInput when it cannot be read, MalformedProgram when it is not a program."""
    return parse(read_text(path), shown(path))


def read_text(path: Path) -> str:
    """A program file's text, which may be printed. Raises BadInput when it cannot be read, or cannot be a program for
    its size, bytes or control characters."""
    try:
        text = read_plain_text(path, MAX_TEXT, "a program")
    except OSError as error:
        raise BadInput(f"{shown(path)}: {error.strerror}") from error
    unwelcome = {one for one in set(text) - set("\t\n\r") if unicodedata.category(one) in _UNPRINTABLE}
    if unwelcome:
        at, found = next((at, one) for at, one in enumerate(text) if one in unwelcome)
        line = text.count("\n", 0, at) + 1
        raise BadInput(f"{shown(path)}:{line}: U+{ord(found):04X} has no place in a program: it could upset a terminal")
    return text


def reformat(text: str, source: str = "<program>") -> str:
    """The same program in canonical form, comments and blank lines kept. Raises MalformedProgram."""
    parser = _Parser(text, source, STANDARD)
    ops = iter(parser.program.ops)
    return "".join(f"{_join(line, ops)}\n" for line in parser.lines)


def format_program(program: Program) -> str:
    """The text of a program; `parse` gives it back as it was."""
    lines = [f"# {line}".rstrip() for line in program.comment.split("\n")] if program.comment else []
    lines.append(f"s2 {FORMAT_VERSION}")
    for name, value in program.machine.changed().items():
        lines.append(f"{name} = {format_knob(name, value)}")
    if program.requires:
        lines.append(f"requires = {' '.join(program.requires)}")
    lines.append("")
    lines += [format_op(op) for op in program.ops]
    return "\n".join(lines) + "\n"


def format_op(op: Op) -> str:
    """One op as a line; arguments that have their defaults are left out, and what it makes has a name where a program
    gave it a number."""
    makes = op.definition.makes
    words = [] if makes is None or op.made is None else [makes.format(op.made), "="]
    words.append(op.name)
    for arg, value in zip(op.definition.args, op.args, strict=True):
        if value != arg.default:
            words.append(f"{arg.name}={arg.kind.format(value)}")
    return " ".join(words)


def format_knob(name: str, value: int) -> str:
    """A knob's value as text."""
    knob = KNOBS_BY_NAME[name]
    if knob.names:
        return knob.names[value]
    return f"{value:#x}" if knob.align > 1 else str(value)


def _comment(text: str) -> str:
    """A comment as it is written: a space after the mark, and further ones where they were."""
    text = text.rstrip()
    return f"#{text}" if not text or text[0].isspace() else f"# {text}"


def _join(line: _Line, ops: Iterator[Op]) -> str:
    content = format_op(next(ops)) if line.content is None else line.content
    if not content:
        return line.comment
    return f"{content}  {line.comment}" if line.comment else content


class _Parser:
    """Reads a program line by line. `lines` keeps what is needed to write it out again."""

    def __init__(self, text: str, source: str, definitions: Definitions) -> None:
        self.source = source
        self.definitions = definitions
        self.lines: list[_Line] = []
        self.knobs: dict[str, int] = {}
        self.knobs_at: dict[str, tuple[int, int]] = {}
        """Line and column of their values."""
        self.requires: tuple[str, ...] = ()
        self.ops: list[_ParsedOp] = []
        self.made: dict[Handle, int] = {}
        """How many of a kind there are so far."""
        self.named: dict[str, tuple[Handle, int]] = {}
        """What has a name, with its number."""
        self.unnamed: list[tuple[_ParsedOp, int, int, _Token]] = []
        """Uses of names that nothing had yet: op, place of the argument, line, token."""
        self.seen_version = False
        self.comment: list[str] = []
        for number, line in enumerate(_lines(text), start=1):
            self.number = number
            self._line(line)
        if not self.seen_version:
            self.number += 1
            raise self._error(1, f"expected the first line `s2 {FORMAT_VERSION}`, got the end of the file")
        self._bind()
        try:
            self.machine = Machine.of(**self.knobs)
        except ValueError as error:  # each knob is in its range, so it is about how they go together
            self.number, column = self.knobs_at.get(str(error).partition(":")[0], (1, 1))
            raise self._error(column, str(error)) from error

    number = 0

    @property
    def program(self) -> Program:
        return Program(self.unnumbered(), self.machine, self.requires, "\n".join(self.comment))

    def unnumbered(self) -> tuple[Op, ...]:
        """The ops as they are written, before a program numbers what they make."""
        return tuple(Op(op.definition, tuple(op.args)) for op in self.ops)

    def _error(self, column: int, problem: str) -> MalformedProgram:
        return MalformedProgram(self.source, self.number, column, problem)

    def _line(self, line: str) -> None:
        body, mark, comment = line.partition("#")
        tokens = [_Token(match.group(), match.start() + 1) for match in _TOKEN.finditer(body)]
        if not tokens:
            if mark and not self.seen_version:
                self.comment.append(comment.removeprefix(" ").rstrip())
            self.lines.append(_Line("", _comment(comment) if mark else ""))
            return
        content = self._content(tokens)
        self.lines.append(_Line(content, _comment(comment) if mark else ""))

    def _content(self, tokens: list[_Token]) -> str | None:
        if not self.seen_version:
            return self._version(tokens)
        if len(tokens) > 1 and tokens[1].text == "=" and not self._is_making(tokens):
            return self._setting(tokens)
        self._op(tokens)
        return None

    def _is_making(self, tokens: list[_Token]) -> bool:
        """Whether this is `name = op …`, and not a setting."""
        is_setting = tokens[0].text == "requires" or tokens[0].text in KNOBS_BY_NAME
        return len(tokens) > 2 and tokens[2].text in self.definitions.by_name and not is_setting

    def _version(self, tokens: list[_Token]) -> str:
        if tokens[0].text != "s2" or len(tokens) != 2:
            raise self._error(tokens[0].column, f"expected `s2 {FORMAT_VERSION}`, got {_quote(tokens)}")
        if tokens[1].text != str(FORMAT_VERSION):
            raise self._error(tokens[1].column, f"expected format version {FORMAT_VERSION}, got `{tokens[1].text}`")
        self.seen_version = True
        return f"s2 {FORMAT_VERSION}"

    def _setting(self, tokens: list[_Token]) -> str:
        name = tokens[0]
        if self.ops:
            raise self._error(name.column, "expected an op: settings come before the first one")
        if len(tokens) == 2:
            raise self._error(tokens[1].column + 1, f"expected a value for {name.text}")
        if name.text == "requires":
            if self.requires:
                raise self._error(name.column, "requires is set twice")
            self.requires = tuple(token.text for token in tokens[2:])
            return f"requires = {' '.join(self.requires)}"
        if name.text not in KNOBS_BY_NAME:
            raise self._error(name.column, f"expected {one_of([*KNOBS_BY_NAME, 'requires'])}, got `{name.text}`")
        if name.text in self.knobs:
            raise self._error(name.column, f"{name.text} is set twice")
        if len(tokens) > 3:
            raise self._error(tokens[3].column, f"expected the end of the line, got `{tokens[3].text}`")
        self.knobs[name.text] = self._knob(name.text, tokens[2])
        self.knobs_at[name.text] = self.number, tokens[2].column
        return f"{name.text} = {format_knob(name.text, self.knobs[name.text])}"

    def _knob(self, name: str, token: _Token) -> int:
        knob = KNOBS_BY_NAME[name]
        value = self._read(token, lambda: _knob_value(knob, token.text))
        problem = knob.problem(value)
        if problem:
            raise self._error(token.column, f"{problem} for {name}, got `{token.text}`")
        return value

    def _read(self, token: _Token, parse_it: Callable[[], int]) -> int:
        try:
            return parse_it()
        except Unreadable as error:
            raise self._error(token.column + error.offset, error.problem) from error

    def _op(self, tokens: list[_Token]) -> None:
        name = tokens[0] if self._is_making(tokens) else None
        words = tokens if name is None else tokens[2:]
        head, rest = words[0], words[1:]
        definition = self._definition(head)
        if len(self.ops) == MAX_OPS:
            raise self._error(head.column, f"expected the end of the file: a program has at most {MAX_OPS} ops")
        op = self._args(definition, rest)
        missing = [arg.name for arg, value in zip(definition.args, op.args, strict=True) if value < 0]
        if missing:
            last = tokens[-1]
            raise self._error(last.column + len(last.text), f"expected {missing[0]}=… for {head.text}")
        self.ops.append(op)
        self._make(definition, name)

    def _definition(self, head: _Token) -> OpDef:
        """The op that a line begins with, which the machine's stage must have."""
        known = self.definitions.by_name
        definition, name = known.get(head.text), head.text.partition("=")[0]
        if definition is None and (name in KNOBS_BY_NAME or name == "requires"):
            raise self._error(head.column, f"expected spaces around `=`: `{name} = …`, got `{head.text}`")
        if definition is None:
            raise self._error(head.column, f"expected an op ({one_of(known)}), got `{head.text}`")
        stage = self.knobs.get("stage", DEFAULTS["stage"])
        if stage not in definition.stages:
            names = one_of(op.name for op in self.definitions.ops if stage in op.stages)
            raise self._error(head.column, f"expected an op of stage {stage} ({names}), got `{head.text}`")
        return definition

    def _make(self, definition: OpDef, name: _Token | None) -> None:
        """Number what an op makes, and remember what it is called."""
        kind = definition.makes
        if kind is None:
            if name is not None:
                raise self._error(name.column, f"{definition.name} makes nothing that could be called `{name.text}`")
            return
        number = self.made[kind] = self.made.get(kind, -1) + 1
        if name is None:
            return
        if not NAME.fullmatch(name.text):
            raise self._error(name.column, f"expected a name of a-z, 0-9 and _, got `{name.text}`")
        if name.text in self.named:
            raise self._error(name.column, f"`{name.text}` is made twice")
        self.named[name.text] = kind, number

    def _args(self, definition: OpDef, tokens: list[_Token]) -> _ParsedOp:
        """An op with its arguments; those that are missing and have no default are -1."""
        known = {arg.name: place for place, arg in enumerate(definition.args)}
        op = _ParsedOp(definition, [-1 if arg.default is None else arg.default for arg in definition.args])
        given = set()
        for token in tokens:
            name, equals, text = token.text.partition("=")
            if not equals or name not in known:
                expected = one_of([f"{arg}=" for arg in known]) if known else "the end of the line"
                raise self._error(token.column, f"expected {expected} for {definition.name}, got `{token.text}`")
            if name in given:
                raise self._error(token.column, f"{name} is given twice")
            given.add(name)
            value = _Token(text, token.column + len(name) + 1)
            place = known[name]
            if definition.args[place].kind.role is Role.HANDLE and NAME.fullmatch(text):
                self.unnamed.append((op, place, self.number, value))
                op.args[place] = 0
            else:
                op.args[place] = self._value(definition.args[place], value)
        return op

    def _value(self, arg: Arg, token: _Token) -> int:
        value = self._read(token, lambda: arg.kind.parse(token.text, arg.name))
        if not arg.allows(value):
            raise self._error(token.column, f"`{token.text}` is out of range for {arg.name}")
        return value

    def _bind(self) -> None:
        """Give uses of names their numbers, now that all names are known."""
        for op, place, line, token in self.unnamed:
            self.number = line
            arg = op.definition.args[place]
            kind, number = self.named.get(token.text, (None, 0))
            if kind is None:
                number = self._value(arg, token)
                if any(one == (arg.kind, number) for one in self.named.values()):
                    raise self._error(token.column, f"nothing in the program is called `{token.text}`")
            elif kind is not arg.kind:
                raise self._error(token.column, f"`{token.text}` is no {arg.kind.name}")
            op.args[place] = number


def _knob_value(knob: Knob, text: str) -> int:
    return parse_choice(text, knob.name, knob.names) if knob.names else parse_number(text)


def _lines(text: str) -> list[str]:
    """Lines as editors count them, unlike str.splitlines()."""
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _quote(tokens: list[_Token]) -> str:
    return "`" + " ".join(token.text for token in tokens)[:60] + "`"
