"""What a compiler, assembler or linker complained of, for the people whose tree it is: files under the names that they
know, and no more than helps. The whole text is kept in the cache.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from harness.outside import printable_lines
from reference.build.cache import cache_dir, claimed, digest
from reference.build.generated import GENERATED
from reference.build.hosted import PGTABLE
from reference.build.tree import KernelTree

_MOST: Final = 4
"""Errors that are shown."""
_MOST_LINES: Final = 12
"""Lines of each."""
_MOST_REFERENCES: Final = 2
"""Places that are shown that refer to an undefined symbol."""

_OF_COMPILER: Final = re.compile(
    r"(?:In file included from .*|(?!\s|\d+ (?:error|warning))[^\n]*?: (?P<kind>fatal error|error|warning): .*)"
)
"""The line that a compiler's diagnostic begins with, or the way to the header that it is in."""
_OF_LINKER: Final = re.compile(r"\S*lld\S*: (?P<kind>error|warning): .*")
_UNDEFINED: Final = re.compile(r"\S*lld\S*: error: undefined symbol: (.*)")
_REFERENCE: Final = re.compile(r">>> referenced by (\S+)(?: \((.*)\))?\n>>>\s+\S*?([^/\s]+):\(([^)]*)\)")
_MORE: Final = re.compile(r">>> referenced (\d+) more times")
_IN_MACRO: Final = re.compile(r"<instantiation>:[\d:]+ error: ([^\n]*)\n.*\n([^\n]*): note: while in macro", re.DOTALL)
"""What an assembler says of a macro of ours: what is wrong, and where it was used."""
_COUNT: Final = re.compile(r"\d+ (?:errors?|warnings?)(?: and \d+ \w+)? generated\.|.*too many errors emitted.*")

_AT: Final = re.compile(r"(\S+\.s):(\d+):\d+: ")
_LOCATION: Final = re.compile(r"\s*\.loc\s+(\d+)\s+(\d+)")
_FILE: Final = re.compile(r'\s*\.file\s+(\d+)\s+(?:"([^"]*)"\s+)?"([^"]*)"')


def told(message: str, tree: KernelTree) -> str:
    """The message, shortened, and with the names that `tree`'s files have there; where it was cut, also where all of it
    is. Who changed the files that it is about is said in the end."""
    named = _named(printable_lines(message.rstrip()), tree)
    errors = list(_errors(named))
    shown = [_cut(error) for error in errors[:_MOST]]
    text = "\n".join(shown) if errors else named
    left_out = len(errors) - len(shown)
    if left_out:
        text += f"\n… and {left_out} more error{'s' if left_out > 1 else ''}"
    if left_out or any("\n  … " in error for error in shown):
        text += f"\nall of it: {path}" if (path := _kept(named)) else ""
    return "\n".join([text, *_changed_by(text, tree)])


def name_for_people(path: Path, tree: KernelTree) -> str:
    """What the user calls a file that was compiled: their own path to it, or the name in a tree that lies in the
    cache."""
    if path == tree.pgtable != tree.root / PGTABLE or tree.is_in_place or not path.is_relative_to(tree.root):
        return str(path)
    return f"{path.relative_to(tree.root)} of {tree.description}"


def in_source(message: str, assembly: str) -> str:
    """An assembler's message about what a compiler made, with the source's lines, as far as `assembly` says them."""
    lines = assembly.split("\n")
    files = {match[1]: Path(match[2] or "", match[3]) for line in lines if (match := _FILE.match(line))}

    def place(match: re.Match[str]) -> str:
        for line in reversed(lines[: int(match[2])]):
            if (found := _LOCATION.match(line)) and found[1] in files:
                return f"{files[found[1]]}:{found[2]}: "
        return match[0]

    return _AT.sub(place, message)


def _named(message: str, tree: KernelTree) -> str:
    message = message.replace(f"{tree.generated}/", f"{GENERATED}/")
    return re.sub(rf"{re.escape(str(cache_dir()))}/(?:kernels|kbuild|sources)/[\w.-]+/", "", message)


def _errors(message: str) -> Iterator[str]:
    """Its errors, each with all that belongs to it; warnings are left out, and undefined symbols get a line each."""
    linker = _OF_LINKER.search(message) is not None
    begins = _OF_LINKER if linker else _OF_COMPILER
    block: list[str] = []
    kind = ""
    for line in [*message.split("\n"), ""]:
        found = begins.fullmatch(line)
        if (found is not None and kind) or _COUNT.fullmatch(line):
            yield from _error(block, kind)
            block, kind = [], ""
        if found is not None:
            kind = found["kind"] or kind
        if (found is not None or block) and not _COUNT.fullmatch(line):
            block.append(line)
    yield from _error(block, kind)


def _error(block: Sequence[str], kind: str) -> Iterator[str]:
    if "error" not in kind:
        return
    text = "\n".join(block).strip("\n")
    undefined, in_macro = _UNDEFINED.match(text), _IN_MACRO.match(text)
    if undefined:
        yield _undefined(undefined[1], text)
    else:
        yield f"{in_macro[2]}: error: {in_macro[1]}" if in_macro else text


def _undefined(symbol: str, block: str) -> str:
    """A linker's words about a symbol, in a line."""
    places = [
        f"{where} ({function})" if where else f"{file} (in {made})"
        for file, where, made, function in _REFERENCE.findall(block)
    ]
    places = list(dict.fromkeys(places))
    more = max(0, len(places) - _MOST_REFERENCES) + sum(int(number) for number in _MORE.findall(block))
    by = " and ".join(places[:_MOST_REFERENCES]) or "something"
    return f"undefined: {symbol}, which is used by {by}{f', and {more} more' if more else ''}"


def _cut(error: str) -> str:
    lines = error.split("\n")
    more = len(lines) - _MOST_LINES
    return error if more <= 0 else "\n".join([*lines[:_MOST_LINES], f"  … {more} more lines"])


def _changed_by(text: str, tree: KernelTree) -> Iterator[str]:
    for file, patches in tree.changed_by.items():
        if re.search(rf"(?<![\w/]){re.escape(file)}(?::|\b)", text):
            yield f"{file} was changed by {' and '.join(patches)}"


def _kept(message: str) -> Path | None:
    """The file that a message was written to; None where that cannot be: what is said of it counts more."""
    try:
        path = claimed("kernels", f"complaint-{digest(message)[:16]}") / "complaint.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{message}\n")
    except OSError:
        return None
    return path
