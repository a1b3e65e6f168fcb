"""What a compiler's or linker's complaint says of a tree: what it lacks, and what our shim headers lack."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from reference.build.own_files import SHIM

_MISSING: Final = re.compile(
    r"(?:undefined symbol: |undeclared (?:identifier|function) '|unknown type name '|no member named '"
    r"|has no number here: ')([^'\s]+(?: [^'\s]+)?)"
)
"""What a compiler or linker says that there is not."""

_MOVED: Final = re.compile(
    r"conflicting types for '(\w+)|incompatible (?:function )?pointer types [^'\n]*'(?:const )?(?:struct |enum )?(\w+)"
    r"|too (?:few|many) arguments to function call.*\n(?:(?!.* error: ).*\n)*?.*note: '(\w+)' declared here"
)
"""What a compiler says that there is in another form than ours."""

_HEADER_FOLDERS: Final = ("arch/arm64/include", "include", "arch/arm64/include/uapi", "include/uapi", "arch/arm64/kvm")
"""Where the kernel's headers are."""

_ABSENT: Final = re.compile(
    r"error: (?:use of undeclared identifier '(?P<identifier>\w+)'"
    r"|call to undeclared (?:library )?function '(?P<function>\w+)'"
    r"|unknown type name '(?P<type>\w+)'|no member named '(?P<member>\w+)' in '(?P<holder>struct \w+)'"
    r"|[^\n]*?(?:incomplete type|has type) '(?P<struct>(?:struct|union|enum) \w+)')"
    r"|'(?P<header>[\w/.-]+\.h)' file not found|undefined symbol: (?P<symbol>\w+)"
)
"""What a compiler or linker says that a hosted file asks for in vain."""

_MOST_NAMES: Final = 8
"""Names in a headline."""

_PLAIN_WORD: Final = re.compile(r"(?!current$|jiffies$)[a-z0-9]+")
"""A variable's name that some header is sure to declare something by: where it is missing, it was mistyped."""

_DECLARED: Final = (
    r"^[ \t]*#[ \t]*define[ \t]+({0})\b|^(?!return\b)(?:[A-Za-z_][\w \t*]*[\s*])?({0})[ \t]*\("
    r"|^extern [^\n;]*\b({0})\b|^typedef [^\n]*\b({0});|^\}}[ \t]*({0});"
    r"|^[ \t]+((?=[A-Z0-9_]+\b)(?:{0}))[ \t]*(?:=[^=\n]*)?,?[ \t]*$|^((?:{0}))[ \t]*\{{"
)
"""How a header declares one of these names: a macro, a function, a variable, a type, a constant, a structure."""


def misfits(message: str) -> str:
    """What is missing or of another form, in parentheses; empty where the message does not say."""
    missing = sorted(set(_MISSING.findall(message)))
    moved = sorted({"".join(groups) for groups in _MOVED.findall(message)})
    reasons = [f"{what}: {_few(names)}" for what, names in (("missing", missing), ("moved", moved)) if names]
    return f" ({'; '.join(reasons)})" if reasons else ""


def _few(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:_MOST_NAMES])} and {more} more"


def shim_lacks(root: Path, message: str) -> str:
    """Of what is missing, that which the kernel does have, with what to do; empty where there is none of it. What
    no header of the tree declares is a mistake of the file's author's."""
    names, members, known = set[str](), set[tuple[str, str]](), set[str]()
    for match in _ABSENT.finditer(message):
        found = {kind: text for kind, text in match.groupdict().items() if text}
        if "member" in found:
            members.add((found["holder"], found["member"]))
        elif "header" in found:
            known |= {found["header"]} if _has_header(root, found["header"]) else set()
        elif not _PLAIN_WORD.fullmatch(found.get("identifier", found.get("type", ""))):
            names |= set(found.values())
    known |= _declared_in_headers(root, names, members)
    if not known:
        return ""
    names_text = ", ".join(f"`{name}`" for name in sorted(known))
    return (
        f"{names_text} {'is' if len(known) == 1 else 'are'} not in s2fuzz's shim, which stands for the rest of the"
        " kernel; the file may well be right. Leave it out where S2FUZZ_PAGE_SHIFT is defined (#ifndef), or add it"
        f" to {SHIM.parent.name}/{SHIM.name}/linux/kvm_host.h (docs/kernels.md)"
    )


def _declared_in_headers(root: Path, names: Collection[str], members: Collection[tuple[str, str]]) -> set[str]:
    """Those of the names that some header of the tree declares, and those of the members that a structure has there, as
    `struct kvm.slots_lock`."""
    found: set[str] = set()
    if not names and not members:
        return found
    words = re.compile("|".join(rf"\b{name}\b" for name in [*names, *(member for _, member in members)]).encode())
    declared_as = re.compile(_DECLARED.format("|".join(names)), re.MULTILINE) if names else None
    for folder in _HEADER_FOLDERS:
        for path in (root / folder).rglob("*.h"):
            with suppress(OSError):  # a link that leads nowhere, or a folder of that name
                content = path.read_bytes()
                if not words.search(content):
                    continue
                code = re.sub(r"/\*.*?\*/|//[^\n]*", " ", content.decode(errors="replace"), flags=re.DOTALL)
                if declared_as is not None:
                    found.update(name for groups in declared_as.findall(code) for name in groups if name)
                found.update(f"{holder}.{member}" for holder, member in members if _has_member(code, holder, member))
    return found


def _has_member(code: str, holder: str, member: str) -> bool:
    body = re.search(rf"^{holder} \{{\n(.*?)^\}}", code, re.MULTILINE | re.DOTALL)
    return body is not None and re.search(rf"\b{member}\b[^\n;,(]*[;,:]", body[1]) is not None


def _has_header(root: Path, name: str) -> bool:
    """Whether `#include <name>` is right in the kernel."""
    return any((root / folder / name).is_file() for folder in _HEADER_FOLDERS)
