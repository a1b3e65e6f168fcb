"""The mail on a finding: plain text of 72 columns behind headers that `git send-email` and `mutt -H` read.

It is written from what is in the finding's directory. Only the user sends it.
"""

from __future__ import annotations

import difflib
import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import EmailPolicy
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from fuzz import __version__
from fuzz.sides import Side
from fuzz.triage.cause import CommitCause, commit_of, patch_of
from fuzz.triage.mail.maintainers import Recipients, address_in
from fuzz.triage.mail.words import words_on
from fuzz.triage.recorded import Sides, recorded_sides_of, tiers_of
from harness.errors import BadInput
from harness.files import DIGITS
from harness.findings.finding import Finding, observations_in, report_in
from harness.outside import printable, printable_lines, shown
from harness.program.text import format_program
from harness.verdict.tiers import DEFAULT_TIERS, format_tiers
from reference.build.naming import repository_of

WIDTH: Final = 72
"""Columns, but of a tag, which is not to be broken."""
_INDENT: Final = "  "
_MAX_ROWS: Final = 40
"""Of a part of the report, and of the differences."""
_MAX_PART: Final = 16
"""Of differences that lie together."""
_CUT: Final = "Lines and rows that end in ... are whole in the finding's directory."
_POLICY: Final = EmailPolicy(max_line_length=WIDTH, linesep="\n", cte_type="8bit")


def letter(finding: Finding, recipients: Recipients) -> bytes:
    """The mail. Raises BadInput for a finding in which no kernel is, or whose files are malformed; OSError."""
    sides = recorded_sides_of(finding)
    if not any(side.is_kernel for side in sides):
        raise BadInput(f"{shown(finding.directory)}: no kernel is among its sides, so that there is nobody to write to")
    names = _name(sides[0], sides), _name(sides[1], sides)
    words = words_on(finding, sides, names)
    commit, patch = commit_of(finding.directory), patch_of(finding.directory)
    causes = [f"It was {one.line}." for one in (commit, patch) if one is not None]
    report = _folded(_core(tidy(report_in(finding.directory), sides)))
    program = _marked(finding)
    observed = observations_in(finding.directory)
    difference = [] if observed is None else _difference(tidy(observed[0], sides), tidy(observed[1], sides))
    blocks = {
        "core": _block(report),
        "program": _block(program),
        "difference": _block([f"--- {names[0]}", f"+++ {names[1]}", *difference]) if difference else "",
    }
    body = _template().render(
        **blocks,
        opening=_filled(words.opening),
        judged=_filled(f"{_seen(finding)} {words.judge}"),
        cause=_filled(" ".join(causes)),
        minimised=finding.minimised,
        command=_command(finding, sides),
        missing=_filled(_missing(sides)),
        ran="\n".join(_ran(finding, sides)),
        cut=_CUT if any(" ...\n" in f"{block}\n" for block in blocks.values()) else "",
        fixes="" if commit is None else f'Fixes: {commit.commit[:12]} ("{commit.subject}")',
    )
    return _mail(words.subject, recipients, commit, body)


def _mail(subject: str, recipients: Recipients, commit: CommitCause | None, body: str) -> bytes:
    """The headers and the body. Whoever made the commit that brought it gets a copy."""
    author = None if commit is None else address_in(commit.author)
    to: dict[str, Address] = {one.addr_spec: one for one in recipients.to}
    copies = {
        one.addr_spec: one for one in (*recipients.copies, *([author] if author else [])) if one.addr_spec not in to
    }
    mail = EmailMessage(policy=_POLICY)
    for header, people in (("To", to), ("Cc", copies)):
        if people:
            mail[header] = list(people.values())
    mail.set_content(body, cte="7bit" if body.isascii() else "8bit")
    # Folded here: the policy would have a long subject begin on the second line.
    heading = textwrap.fill(f"Subject: {subject}", WIDTH, subsequent_indent=" ", break_on_hyphens=False)
    return heading.encode("ascii", "replace") + b"\n" + mail.as_bytes()


def tidy(text: str, sides: Sides) -> str:
    """Text for others: a folder of the user's by its last name, commits in short, and nothing that upsets a terminal:
    a finding may be somebody else's."""
    text = printable_lines(text)
    for side in sides:
        folder = _folder(side.what)
        if folder is not None:
            text = text.replace(shown(folder), shown(folder.name))
    text = re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28}\b", r"\1", text)
    return re.sub(r"\bkernel/\d+-", "", text).replace("…", "...")


def _folder(what: str) -> Path | None:
    """The folder that a side's kernel is in, which may be one of somebody else's machine."""
    head, at, _ = what.rpartition("@")
    return repository_of(what) or (Path(head if at else what) if "/" in what else None)


def _name(side: Side, sides: Sides) -> str:
    """What a side is called, with files as the user had them."""
    return tidy(re.sub(r"\+\d+-", "+", side.full_name), sides)


def _core(report: str) -> list[str]:
    """What the report says of the op: results, what differs, what the kernel printed, and the effects. Tables and
    events are among the differences."""
    found: list[str] = []
    for section in report[max(report.find("First differing op"), 0) :].split("\n\n"):
        if section.startswith("Program ("):
            break
        if section.startswith(("First differing op", "Effects of", _INDENT)):
            # What was padded beside a side's whole name is not so beside a shorter one.
            found += ["", *re.sub(r"(?<=\S) {3,}", "  ", section).splitlines()]
    return found[1:]


def _difference(left: str, right: str) -> list[str]:
    """What was observed on one side and not on the other, with a line around it."""
    both = [re.sub(r"(?m): \d+ events$", "", text).splitlines() for text in (left, right)]
    parts: list[list[str]] = []
    for row in list(difflib.unified_diff(both[0], both[1], lineterm="", n=1))[2:]:
        if row.startswith("@@"):
            parts.append([])
        else:
            parts[-1] += [f"{row[:1]}{line}" for line in _folded([row[1:]], taken=1)]
    return [row for part in parts for row in ("@@", *_shortened(part, _MAX_PART))]


def _shortened(rows: Sequence[str], most: int) -> list[str]:
    """So many rows, and how many more there are."""
    return [*rows[:most], *([f"{len(rows) - most} more rows ..."] if len(rows) > most else [])]


def _marked(finding: Finding) -> list[str]:
    """The program, fit to be pasted, with a comment behind the op at which it shows."""
    lines = format_program(finding.program).splitlines()
    if finding.record:
        lines[len(lines) - len(finding.program.ops) + finding.record - 1] += "  # here"
    return lines


def _folded(lines: Sequence[str], taken: int = 0) -> list[str]:
    """Lines that a block has room for, with so many columns taken; what is folded is indented further."""
    folded = []
    for line in lines:
        more = " " * (len(line) - len(line.lstrip()) + 4)
        room = WIDTH - len(_INDENT) - taken
        folded += textwrap.wrap(line, room, subsequent_indent=more, break_long_words=False, break_on_hyphens=False) or [
            ""
        ]
    return folded


def _block(lines: Sequence[str]) -> str:
    """Indented; what does not fit is cut, and ends in dots."""
    room = WIDTH - len(_INDENT)
    cut = (line if len(line) <= room else f"{line[: room - 4]} ..." for line in _shortened(lines, _MAX_ROWS))
    return "\n".join(f"{_INDENT}{line}".rstrip() for line in cut)


def _filled(text: str) -> str:
    return textwrap.fill(text.strip(), WIDTH, break_long_words=False, break_on_hyphens=False)


def _seen(finding: Finding) -> str:
    seen, of = finding.reliability
    if finding.is_flaky:
        return f"It does not happen every time: it was seen on {seen} of {of} fresh kernels."
    return f"Seen on each of {of} fresh kernels." if of else ""


def _command(finding: Finding, sides: Sides) -> str:
    """What runs the program on such sides, over as many lines as it takes."""
    words = ["s2fuzz run bug.s2", f"--sides {','.join(tidy(shlex.quote(side.name), sides) for side in sides)}"]
    words += [f"--patch {shlex.quote(name)}" for name in _names(sides, patches=True)]
    words += [f"--pgtable {shlex.quote(name)}" for name in _names(sides, patches=False)]
    words += [f"--flavour {flavour}" for flavour in sorted({side.flavour for side in sides} - {"plain"})]
    if tiers_of(finding) != DEFAULT_TIERS:
        words.append(f"--tiers {format_tiers(tiers_of(finding))}")
    lines = [f"{_INDENT}{words[0]}"]
    for word in map(printable, words[1:]):
        if len(lines[-1]) + len(word) + 3 <= WIDTH:
            lines[-1] += f" {word}"
        else:
            lines[-1] += " \\"
            lines.append(f"{_INDENT * 3}{word}")
    return "\n".join(lines)


def _names(sides: Sides, patches: bool) -> list[str]:
    """What the user's own patches, or files in place of pgtable.c, were called."""
    paths = [path for side in sides for path in (side.patches if patches else (side.pgtable,)) if path is not None]
    return list(dict.fromkeys(re.sub(r"^\d+-", "", path.name) for path in paths))


def _missing(sides: Sides) -> str:
    """What the kernel was changed by, which the reader has yet to get."""
    names = [*_names(sides, patches=True), *_names(sides, patches=False)]
    if not names:
        return ""
    return f"{printable(', '.join(names))} {'is' if len(names) == 1 else 'are'} not in this mail."


def _ran(finding: Finding, sides: Sides) -> Iterator[str]:
    """What ran, a line for each thing."""
    for name, side in zip(("left", "right"), sides, strict=True):
        identity = finding.identities.get(name, {})
        if not side.is_kernel or not identity:
            continue
        about = {
            "kernel": ", ".join(identity[key] for key in ("linux", "source") if key in identity),
            "commit": identity.get("commit", ""),
            "changed": identity.get("commit_changed", ""),
            "pgtable.c": f"sha256 {identity['pgtable_sha256'][:DIGITS]}" if "pgtable_sha256" in identity else "",
            "granule": identity.get("granule", ""),
            "compiler": identity.get("compiler", ""),
            "QEMU": identity.get("qemu", ""),
        }
        for key, value in about.items():
            if value:
                yield _entry(key, tidy(value, sides))
    yield _entry("s2fuzz", f"{__version__}, a differential fuzzer for KVM/arm64's page tables")


def _entry(key: str, value: str) -> str:
    head = f"{_INDENT}{key + ':':<11}"
    return textwrap.fill(
        value,
        WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("fuzz.triage.mail", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("body.txt.jinja")
