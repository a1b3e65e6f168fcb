"""The patches in the files that people have: diffs, mails, mailboxes (also gzipped), and folders of these.

git splits mailboxes and decodes mails, as `git am` does. What is no patch is left out and told: cover letters, replies,
mails without a diff. Patches that are numbered ([PATCH 2/3]) go in that order, whatever the mailbox's was.
"""

from __future__ import annotations

import gzip
import re
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.outside import printable, shown
from reference.build.commands import git_environment, run, said
from reference.build.errors import BadKernelChoice
from reference.build.patch_names import FILE_ENDS, STDIN, SUFFIXES
from reference.build.tree import NEEDED, check_file, read

if TYPE_CHECKING:
    from email.message import EmailMessage

ONLY_NEEDED: Final = [f"--include={path}{'' if path == 'Makefile' else '/*'}" for path in NEEDED]
"""Has `git apply` leave out what the build does not read."""
_MAX_UNPACKED: Final = 64 << 20
"""Bytes of a gzipped file."""
_REPLY: Final = re.compile(r"(re|aw|fwd?)\s*:", re.IGNORECASE)
_TAG: Final = re.compile(r"\[([^]]*)\]\s*")
_DIFF: Final = re.compile(rb"^(diff --git|\+\+\+) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch of the file `path`. `place` names it in messages, with its file and mail; `files` are those of a tree
    that it changes and the build reads; `hint` is what the mail says of itself that may be why it does not apply."""

    path: Path
    place: str
    subject: str
    diff: bytes
    files: tuple[str, ...]
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """Patches in the order in which they are applied, and what is to be said of the files that they are from."""

    patches: tuple[Patch, ...]
    notes: tuple[str, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that hold any."""
        return tuple(dict.fromkeys(patch.path for patch in self.patches))


@dataclass(frozen=True, slots=True)
class _Mail:
    head: EmailMessage
    diff: bytes
    body: bytes

    @property
    def subject(self) -> str:
        return " ".join(printable(str(self.head["subject"] or "(no subject)")).split())

    @property
    def title(self) -> str:
        """The subject without what stands in brackets before it."""
        return re.sub(rf"^({_TAG.pattern})+", "", self.subject)

    @property
    def number(self) -> tuple[int, int] | None:
        """n and m of [PATCH n/m]."""
        found = re.search(r"\b(\d{1,4})/(\d{1,4})\b", " ".join(_TAG.findall(self.subject)))
        return None if found is None else (int(found[1]), int(found[2]))

    def why_none(self) -> str:
        """Why it is no patch; empty where it is one."""
        if _REPLY.match(self.subject):
            return "a reply"
        if self.number is not None and self.number[0] == 0:
            return "a cover letter"
        return "" if _DIFF.search(self.diff) else "no diff in it"


def files_of(given: Sequence[Path]) -> list[Path]:
    """The files that are meant: those given, and of folders those in them. Raises as `files_in` does."""
    return [file for path in given for file in (files_in(path) if path.is_dir() else [path])]


def files_in(folder: Path) -> list[Path]:
    """The files with patches in a folder, as `git format-patch -o` and b4 write it, or in a maildir, in the order in
    which they are applied. Raises BadKernelChoice where there are none, or several versions of a series."""
    if (folder / "cur").is_dir():
        mails = sorted(path for name in ("cur", "new") for path in (folder / name).glob("*") if path.is_file())
        return sorted(mails, key=lambda path: _Mail(_head(read(path)), b"", b"").number or (0, 0))
    found = sorted(path for path in folder.glob("*") if path.name.endswith(FILE_ENDS) and path.is_file())
    if not found:
        raise BadKernelChoice(
            f"--patch {shown(folder)}: no file in it is called {', '.join(f'*{one}' for one in SUFFIXES)}"
        )
    versions = {match[1] or "1" for path in found if (match := re.match(r"(?:v(\d+)-)?\d{4}-", path.name))}
    if len(versions) > 1:
        several = " and ".join(f"v{one}" for one in sorted(versions, key=int))
        raise BadKernelChoice(
            f"--patch {shown(folder)}: holds {several} of a series; give the files of one, as in "
            f"{shown(folder)}/v{max(versions, key=int)}-*.patch"
        )
    return found


def read_series(paths: Sequence[Path]) -> Series:
    """The patches in these files; none of no files. Raises BadKernelChoice for a file that cannot be read or is neither
    diff nor mail, and where there is no patch at all."""
    patches: list[Patch] = []
    notes: list[str] = []
    for path in paths:
        name = f"--patch {'-' if path.name == STDIN else shown(path)}"
        content = _content(path, name)
        if _is_mail(content):
            patches += _patches_in(path, name, _mails(name, content), notes)
        else:
            patches.append(_patch(path, name, printable(path.name), content.replace(b"\r\n", b"\n")))
    if paths and not patches:
        raise BadKernelChoice(f"{'; '.join(notes)}: no mail in it holds a diff; give the mails with the patches")
    return Series(tuple(patches), tuple(notes))


def _content(path: Path, name: str) -> bytes:
    check_file(path, "--patch")
    content = read(path)
    if content.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(BytesIO(content)) as file:
                content = file.read(_MAX_UNPACKED + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise BadKernelChoice(f"{name}: cannot be unpacked: {error}; get the file anew") from error
        if len(content) > _MAX_UNPACKED:
            raise BadKernelChoice(f"{name}: more than {_MAX_UNPACKED >> 20} MB of patches; give those of one series")
    if not content.strip():
        raise BadKernelChoice(f"{name}: the file is empty; give a diff or a mail with one")
    return content.lstrip()


def _is_mail(content: bytes) -> bool:
    header = content.replace(b"\r\n", b"\n").split(b"\n\n")[0]
    fields = [re.search(rb"(?mi)^%s:" % field, header) for field in (b"from", b"subject")]
    return bool(re.match(rb"From \S", header)) or all(fields)


def _head(mail: bytes) -> EmailMessage:
    from email.message import EmailMessage  # noqa: PLC0415  (only who has mails waits for it)
    from email.parser import BytesParser  # noqa: PLC0415
    from email.policy import default  # noqa: PLC0415

    head = BytesParser(policy=default).parsebytes(mail, headersonly=True)
    assert isinstance(head, EmailMessage)
    return head


def _mails(name: str, content: bytes) -> Iterator[_Mail]:
    """The mails in a file, decoded."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)

        def git(*arguments: str, stdin: bytes) -> None:
            result = run(["git", *arguments], cwd=folder, env=git_environment(), stdin=stdin)
            if result.returncode:
                raise BadKernelChoice(f"{name}: not a readable mail: {said(result)}; save it anew, as it was sent")

        git("mailsplit", "-b", "-o.", stdin=content)
        for file in sorted(folder.glob("[0-9]*"), key=lambda path: int(path.name)):
            git("mailinfo", "-n", "--quoted-cr=strip", "message", "diff", stdin=(mail := file.read_bytes()))
            yield _Mail(_head(mail), (folder / "diff").read_bytes(), mail)


def _patches_in(path: Path, name: str, mails: Iterator[_Mail], notes: list[str]) -> list[Patch]:
    """The patches of a mailbox, in order. What is left out is added to the notes."""
    seen: set[str] = set()
    found = []
    for mail in mails:
        identity = str(mail.head["message-id"] or "")
        if identity and identity in seen:  # it came over several lists
            continue
        seen.add(identity)
        why = mail.why_none()
        if why:
            notes.append(f'{name}: "{mail.subject}" is left out: {why}')
        else:
            found.append(mail)
    found = _in_order(name, found, notes)
    places = [f'"{mail.subject}"' for mail in found]
    if len(found) > 1:
        places = [f"patch {number} of {len(found)}, {place}" for number, place in enumerate(places, start=1)]
    return [
        _patch(path, f"{name}, {place}", mail.title, mail.diff, _hint(mail))
        for place, mail in zip(places, found, strict=True)
    ]


def _in_order(name: str, mails: list[_Mail], notes: list[str]) -> list[_Mail]:
    """Mails as they are numbered. Several series behind each other stay as they are."""
    numbers = [mail.number for mail in mails if mail.number is not None]
    twice = [mail for mail in mails if [one.title for one in mails].count(mail.title) > 1]
    if twice and numbers:
        raise BadKernelChoice(
            f'{name}: holds "{twice[0].subject}" and "{twice[-1].subject}"; give one version of the series, as '
            "`b4 am` does"
        )
    totals = {of for _, of in numbers}
    if len(totals) == 1 and len(set(numbers)) == len(numbers):
        if numbers != sorted(numbers):
            notes.append(f"{name}: its mails are out of order, and are taken as they are numbered")
            mails = sorted(mails, key=lambda mail: mail.number or max(numbers))
        missing = sorted(set(range(1, totals.pop() + 1)) - {number for number, _ in numbers})
        notes += [f"{name}: patch {number} of the series is not there" for number in missing if len(mails) > 1]
    elif not all(after > before or (before == of and after == 1) for (before, of), (after, _) in pairwise(numbers)):
        raise BadKernelChoice(f"{name}: holds several series, out of order; give each in a file of its own")
    return mails


def _hint(mail: _Mail) -> str:
    base = re.search(rb"(?m)^base-commit: ([0-9a-f]{12,64})\s*$", mail.body)
    if base is not None:
        return f"it says that it was made on commit {base[1].decode()}"
    if "flowed" in str(mail.head["content-type"] or "").lower():
        return "the mail is format=flowed, which spoils diffs: have it sent by `git send-email`"
    return ""


def _patch(path: Path, place: str, subject: str, diff: bytes, hint: str = "") -> Patch:
    """The patch; what it changes is what git makes of it, without any tree. Raises BadKernelChoice."""
    command = ["git", "apply", "--numstat", "-z", "-p1", *ONLY_NEEDED, "-"]
    result = run(command, env=apply_environment(), stdin=diff)
    if result.returncode:
        raise BadKernelChoice(
            f"{place}: no diff that can be read; save it anew, as it was sent. git says: {said(result)}"
            + (f" ({hint})" if hint else "")
        )
    stat = result.stdout.decode(errors="surrogateescape").split("\0")[:-1]
    return Patch(path, place, subject, diff, tuple(printable(line.split("\t", 2)[2]) for line in stat), hint)


def apply_environment() -> dict[str, str]:
    """For `git apply`, without a repository: inside one, git would silently skip all that is not in this folder."""
    return git_environment() | {"GIT_DIR": "/dev/null", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
