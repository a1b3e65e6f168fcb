"""Programs as text: the `*.s2` files that people write, read and review.

    # What the program shows.
    s2 1                                   format version, first
    ia_bits = 40                           knobs that differ from the machine's defaults
    requires = stage2                      optional: what the kernel must offer

    map ipa=0x200000 size=2M phys=0x80200000 prot=rwx mc=2      one op per line
    walk ipa=0x0 size=1G flags=leaf+table_pre                   # comments end a line

Numbers are hexadecimal (0x…) or decimal, with an optional suffix K, M, G or T (powers of 1024). `prot` and `flags`
join names with `+` (`rwx` may be written together, `-` is none of them); `mc` is the number of pages the memcache is
topped up to first, or `none` for no memcache at all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.errors import BadInput
from harness.outside import read_plain, shown
from harness.program.definition import (
    FLAG_NAMES,
    OPS,
    OPS_BY_NAME,
    PLANTED_NAMES,
    U64_MAX,
    VISITOR_BITS,
    VISITORS,
    Arg,
    Kind,
    Op,
)
from harness.program.machine import DEFAULTS, KNOBS_BY_NAME, Machine
from harness.program.program import MAX_OPS, Program

FORMAT_VERSION: Final = 1
MAX_TEXT: Final = 1 << 20
"""Bytes of a program file; what is longer was not written by people or by us."""

_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that change how others are shown; of them, tabs and line ends are welcome."""
_SUFFIXES: Final = {"K": 10, "M": 20, "G": 30, "T": 40}
_NUMBER: Final = re.compile(r"(0x[0-9a-fA-F_]+|[0-9]+)([KMGT]?)")
_TOKEN: Final = re.compile(r"[^\s#]+")
_SHORT_PROT: Final = "rwx"
_PLAIN_NUMBERS: Final = frozenset({Kind.OWNER, Kind.SPLIT_CACHE, Kind.LEVEL, Kind.UNLINKED, Kind.NTH, Kind.PHYS_SHIFT})
_PROTS: Final = frozenset({Kind.PROT, Kind.HYP_PROT})
_SWITCH: Final = ("off", "on")
_PLANTED_BY_VALUE: Final = {value: name for name, value in PLANTED_NAMES.items()}


class MalformedProgram(BadInput):
    """A program's text is wrong: `file:line:column: expected …, got …`."""

    def __init__(self, source: str, line: int, column: int, problem: str) -> None:
        super().__init__(f"{source}:{line}:{column}: {problem}")
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class _Line:
    """One line: what it says in canonical form (empty for a comment or blank line), and its comment."""

    content: str
    comment: str


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    column: int


def parse(text: str, source: str = "<program>") -> Program:
    """The program that `text` describes. Raises MalformedProgram; `source` names the text in its message."""
    return _Parser(text, source).program


def read(path: Path) -> Program:
    """The program in a file. Raises BadInput when it cannot be read, MalformedProgram when it is not a program."""
    return parse(read_text(path), shown(path))


def read_text(path: Path) -> str:
    """A program file's text, which may be printed. Raises BadInput when it cannot be read, or cannot be a program for
    its size, bytes or control characters."""
    try:
        text = read_plain(path, MAX_TEXT, "a program").decode()
    except OSError as error:
        raise BadInput(f"{shown(path)}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{shown(path)}: not text (byte {error.start} is not UTF-8)") from error
    unwelcome = {one for one in set(text) - set("\t\n\r") if unicodedata.category(one) in _UNPRINTABLE}
    if unwelcome:
        at, found = next((at, one) for at, one in enumerate(text) if one in unwelcome)
        line = text.count("\n", 0, at) + 1
        raise BadInput(f"{shown(path)}:{line}: U+{ord(found):04X} has no place in a program: it could upset a terminal")
    return text


def reformat(text: str, source: str = "<program>") -> str:
    """The same program in canonical form, comments and blank lines kept. Raises MalformedProgram."""
    lines = _Parser(text, source).lines
    return "".join(f"{line}\n" for line in map(_join, lines))


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
    """One op as a line; arguments that have their defaults are left out."""
    words = [op.name]
    for arg, value in zip(op.definition.args, op.args, strict=True):
        if value != arg.default:
            words.append(f"{arg.name}={format_value(arg.kind, value)}")
    return " ".join(words)


def format_knob(name: str, value: int) -> str:
    """A knob's value as text."""
    knob = KNOBS_BY_NAME[name]
    if knob.names:
        return knob.names[value]
    return f"{value:#x}" if knob.align > 1 else str(value)


def format_value(kind: Kind, value: int) -> str:
    """An argument's value as text."""
    if kind in FLAG_NAMES:
        return _format_flags(kind, value)
    if kind is Kind.CACHE:
        return str(value - 1) if value else "none"
    if kind in _PLAIN_NUMBERS:
        return str(value)
    if kind is Kind.SWITCH:
        return _SWITCH[value]
    if kind is Kind.VISITOR:
        nth = value >> VISITOR_BITS
        return VISITORS[value & (1 << VISITOR_BITS) - 1] + (f"@{nth}" if nth else "")
    if kind is Kind.PLANTED and value in _PLANTED_BY_VALUE:
        return _PLANTED_BY_VALUE[value]
    return format_size(value) if kind in (Kind.SIZE, Kind.PAGEWISE_SIZE) else f"{value:#x}"


def format_size(value: int) -> str:
    """A size with the largest suffix that divides it, or in hexadecimal where that would be longer than helpful."""
    for suffix, shift in reversed(_SUFFIXES.items()):
        if value and value % (1 << shift) == 0 and value >> shift < 4096:
            return f"{value >> shift}{suffix}"
    return f"{value:#x}" if value else "0"


def _format_flags(kind: Kind, value: int) -> str:
    names = [name for name, bit in FLAG_NAMES[kind].items() if value & bit]
    if kind in _PROTS:
        letters = "".join(name for name in names if name in _SHORT_PROT)
        names = [letters, *(name for name in names if name not in _SHORT_PROT)] if letters else names
    return "+".join(names) or "-"


def _comment(text: str) -> str:
    """A comment as it is written: a space after the mark, and further ones where they were."""
    text = text.rstrip()
    return f"#{text}" if not text or text[0].isspace() else f"# {text}"


def _join(line: _Line) -> str:
    if not line.content:
        return line.comment
    return f"{line.content}  {line.comment}" if line.comment else line.content


class _Parser:
    """Reads a program line by line. `lines` keeps what is needed to write it out again."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.lines: list[_Line] = []
        self.knobs: dict[str, int] = {}
        self.knobs_at: dict[str, tuple[int, int]] = {}
        """Line and column of their values."""
        self.requires: tuple[str, ...] = ()
        self.ops: list[Op] = []
        self.seen_version = False
        self.comment: list[str] = []
        for number, line in enumerate(_lines(text), start=1):
            self.number = number
            self._line(line)
        if not self.seen_version:
            self.number += 1
            raise self._error(1, f"expected the first line `s2 {FORMAT_VERSION}`, got the end of the file")

        try:
            self.machine = Machine.of(**self.knobs)
        except ValueError as error:  # each knob is in its range, so it is about how they go together
            self.number, column = self.knobs_at.get(str(error).partition(":")[0], (1, 1))
            raise self._error(column, str(error)) from error

    number = 0

    @property
    def program(self) -> Program:
        return Program(tuple(self.ops), self.machine, self.requires, "\n".join(self.comment))

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

    def _content(self, tokens: list[_Token]) -> str:
        if not self.seen_version:
            return self._version(tokens)
        if len(tokens) > 1 and tokens[1].text == "=":
            return self._setting(tokens)
        return self._op(tokens)

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
            raise self._error(name.column, f"expected {_one_of([*KNOBS_BY_NAME, 'requires'])}, got `{name.text}`")
        if name.text in self.knobs:
            raise self._error(name.column, f"{name.text} is set twice")
        if len(tokens) > 3:
            raise self._error(tokens[3].column, f"expected the end of the line, got `{tokens[3].text}`")
        self.knobs[name.text] = self._knob(name.text, tokens[2])
        self.knobs_at[name.text] = self.number, tokens[2].column
        return f"{name.text} = {format_knob(name.text, self.knobs[name.text])}"

    def _knob(self, name: str, token: _Token) -> int:
        knob = KNOBS_BY_NAME[name]
        if knob.names:
            return self._named(name, knob.names, token)
        value = self._number(token)
        problem = knob.problem(value)
        if problem:
            raise self._error(token.column, f"{problem} for {name}, got `{token.text}`")
        return value

    def _named(self, name: str, names: tuple[str, ...], token: _Token) -> int:
        if token.text not in names:
            raise self._error(token.column, f"expected {' or '.join(reversed(names))} for {name}, got `{token.text}`")
        return names.index(token.text)

    def _op(self, tokens: list[_Token]) -> str:
        head = tokens[0]
        definition = OPS_BY_NAME.get(head.text)
        name = head.text.partition("=")[0]
        if definition is None and name in (*KNOBS_BY_NAME, "requires"):
            raise self._error(head.column, f"expected spaces around `=`: `{name} = …`, got `{head.text}`")
        if definition is None:
            raise self._error(head.column, f"expected an op ({_one_of(OPS_BY_NAME)}), got `{head.text}`")
        stage = self.knobs.get("stage", DEFAULTS["stage"])
        if stage not in definition.stages:
            names = _one_of(op.name for op in OPS if stage in op.stages)
            raise self._error(head.column, f"expected an op of stage {stage} ({names}), got `{head.text}`")
        if len(self.ops) == MAX_OPS:
            raise self._error(head.column, f"expected the end of the file: a program has at most {MAX_OPS} ops")
        values = self._args({arg.name: arg for arg in definition.args}, head.text, tokens[1:])
        missing = [arg.name for arg in definition.args if arg.name not in values and arg.default is None]
        if missing:
            last = tokens[-1]
            raise self._error(last.column + len(last.text), f"expected {missing[0]}=… for {head.text}")
        op = Op.of(head.text, **values)
        self.ops.append(op)
        return format_op(op)

    def _args(self, known: Mapping[str, Arg], op: str, tokens: list[_Token]) -> dict[str, int]:
        values: dict[str, int] = {}
        for token in tokens:
            name, equals, text = token.text.partition("=")
            if not equals or name not in known:
                expected = _one_of([f"{arg}=" for arg in known]) if known else "the end of the line"
                raise self._error(token.column, f"expected {expected} for {op}, got `{token.text}`")
            if name in values:
                raise self._error(token.column, f"{name} is given twice")
            values[name] = self._value(known[name], _Token(text, token.column + len(name) + 1))
        return values

    def _value(self, arg: Arg, token: _Token) -> int:
        if arg.kind in FLAG_NAMES:
            return self._flags(arg.kind, token)
        if arg.kind is Kind.SWITCH:
            return self._named(arg.name, _SWITCH, token)
        if arg.kind is Kind.VISITOR:
            return self._visitor(arg, token)
        if arg.kind is Kind.SPLIT_CACHE and token.text == "none":
            raise self._error(token.column, "expected pages: without a cache, Linux would read NULL")
        if arg.kind is Kind.CACHE:
            value = 0 if token.text == "none" else self._number(token) + 1
        elif arg.kind is Kind.PLANTED and token.text in PLANTED_NAMES:
            value = PLANTED_NAMES[token.text]
        else:
            value = self._number(token)
        if not arg.allows(value):
            raise self._error(token.column, f"`{token.text}` is out of range for {arg.name}")
        return value

    def _visitor(self, arg: Arg, token: _Token) -> int:
        name, at, nth = token.text.partition("@")
        if name not in VISITORS:
            raise self._error(
                token.column, f"expected {_one_of(VISITORS)}, and at which visit (@1), got `{token.text}`"
            )
        number = self._number(_Token(nth, token.column + len(name) + 1)) if at else 0
        value = number << VISITOR_BITS | VISITORS.index(name)
        if not arg.allows(value) or (at and not number):
            raise self._error(token.column, f"`{token.text}` is out of range for {arg.name}")
        return value

    def _flags(self, kind: Kind, token: _Token) -> int:
        names = FLAG_NAMES[kind]
        value, column = 0, token.column
        for part in [] if token.text == "-" else token.text.split("+"):
            if kind in _PROTS and part and set(part) <= set(_SHORT_PROT):
                bits = [names[letter] for letter in part]
            elif part in names:
                bits = [names[part]]
            else:
                raise self._error(column, f"expected {_one_of([*names, '-'])}, got `{part}`")
            for bit in bits:
                value |= bit
            column += len(part) + 1
        return value

    def _number(self, token: _Token) -> int:
        match = _NUMBER.fullmatch(token.text)
        digits = match.group(1).replace("_", "") if match else ""
        if match is None or digits == "0x":
            raise self._error(
                token.column, f"expected a number (0x…, or decimal, with K, M, G or T), got `{token.text}`"
            )
        value = int(digits, 16 if digits.startswith("0x") else 10) << _SUFFIXES.get(match.group(2), 0)
        if value > U64_MAX:
            raise self._error(token.column, f"`{token.text}` does not fit 64 bits")
        return value


def _lines(text: str) -> list[str]:
    """Lines as editors count them, unlike str.splitlines()."""
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _quote(tokens: list[_Token]) -> str:
    return "`" + " ".join(token.text for token in tokens)[:60] + "`"


def _one_of(names: Iterable[str]) -> str:
    return ", ".join(names)
