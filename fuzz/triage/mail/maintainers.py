"""To whom a mail goes, as `scripts/get_maintainer.pl` of a kernel tree says.

That runs code of the tree, so that it is asked only where the user named one, and for so long.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path
from typing import IO, Final

from harness.errors import BadInput, ToolFailure
from harness.outside import printable, shown

SCRIPT: Final = Path("scripts/get_maintainer.pl")
SECONDS: Final = 30.0
"""How long it may take: with a large MAINTAINERS it takes one or two."""
_MOST: Final = 1 << 20
"""Bytes of what it prints that are read."""


@dataclass(frozen=True, slots=True)
class Recipients:
    """Maintainers, and those who get a copy: reviewers and lists."""

    to: tuple[Address, ...] = ()
    copies: tuple[Address, ...] = ()


def recipients_for(tree: Path, files: Sequence[Path], seconds: float = SECONDS) -> Recipients:
    """Who looks after files of a tree. Raises BadInput where it has no such script, ToolFailure where that fails, says
    nobody, or takes longer than `seconds`; its processes are ended then."""
    script = tree.resolve() / SCRIPT
    if not os.access(script, os.X_OK) or not script.is_file():
        raise BadInput(f"--tree {shown(tree)}: has no {SCRIPT} that can be run; give the top folder of a Linux tree")
    command = [str(script), "--no-git", "--no-git-fallback", "--roles", "--no-rolestats"]
    command += [word for file in files for word in ("-f", str(file))]
    printed, complaint = _run(command, tree, seconds)
    to: list[Address] = []
    copies: list[Address] = []
    for line in printed.splitlines():
        found = re.fullmatch(r"(.*?\S@[^\s>]+>?)(?:\s+\((.*)\))?", line.strip())
        address = None if found is None else address_in(found[1])
        if found is not None and address is not None:
            (to if re.match(r"(maintainer|supporter)\b", found[2] or "") else copies).append(address)
    if not to and not copies:
        raise ToolFailure(f"--tree {shown(tree)}: {SCRIPT} names nobody: {printable(complaint or printed)[-200:]}")
    return Recipients(tuple(to), tuple(copies))


def address_in(text: str) -> Address | None:
    """An address as people write it; None where it is none."""
    name, address = parseaddr(text)
    try:
        return Address(printable(name), addr_spec=printable(address)) if "@" in address else None
    except (MessageError, ValueError, IndexError):
        return None


def _run(command: Sequence[str], folder: Path, seconds: float) -> tuple[str, str]:
    """What it printed, and what it complained of."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )
        except OSError as error:
            raise ToolFailure(f"--tree {shown(folder)}: {SCRIPT} cannot be run: {error.strerror}") from error
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise ToolFailure(
                f"--tree {shown(folder)}: {SCRIPT} took longer than {seconds:g} s, and was ended"
            ) from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        printed, complaint = (_beginning(file) for file in (out, err))
    if status:
        raise ToolFailure(f"--tree {shown(folder)}: {SCRIPT} failed: {printable(complaint.strip())[-200:]}")
    return printed, complaint


def _beginning(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(_MOST).decode(errors="replace")
