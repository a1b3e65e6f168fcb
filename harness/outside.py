"""What came from somebody else: files that are read, and written, without being led elsewhere, and names that are
printed without forging anything.

Nothing in a finding, a corpus or a campaign's directory is followed out of it: a symbolic link in it is refused, and so
is whatever else is no plain file (a FIFO would keep us waiting for ever). What the user names on the command line may
be reached through links of their own, but must be a plain file itself.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from harness.errors import BadInput


def printable(text: str) -> str:
    """Text that cannot upset a terminal or a page: without control characters, line ends included."""
    return "".join(character if character.isprintable() else "?" for character in text)


def printable_lines(text: str) -> str:
    """The same for text of several lines, which may be indented."""
    return "".join(character if character.isprintable() or character in "\n\t" else "?" for character in text)


def shown(name: Path | str) -> str:
    """A file's name for a message: whatever is in it, it stays on its line."""
    return printable(str(name))


def open_plain(path: Path, root: Path | None = None) -> BinaryIO:
    """A plain file, opened for reading. With a `root`, no symbolic link below that is followed.

    Raises BadInput for what is no plain file; OSError.
    """
    if root is not None:
        check_inside(path, root)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadInput(f"{shown(path)}: a symbolic link, not a plain file") from error
        if error.errno == errno.ENXIO:  # a socket
            raise BadInput(f"{shown(path)}: not a plain file") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadInput(f"{shown(path)}: not a plain file")
    return os.fdopen(descriptor, "rb")


def read_plain(path: Path, most: int, what: str, root: Path | None = None) -> bytes:
    """The content of a plain file, which is to be `what`, of at most `most` bytes. Raises as `open_plain` does, and
    BadInput for a larger one."""
    with open_plain(path, root) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise BadInput(f"{shown(path)}: too large for {what} (more than {most} bytes)")
    return data


def read_plain_text(path: Path, most: int, what: str, root: Path | None = None) -> str:
    """The same as text, which is UTF-8 in every file of ours. Raises as `read_plain` does, and BadInput for what is no
    such text."""
    try:
        return read_plain(path, most, what, root).decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{shown(path)}: not text (byte {error.start} is not UTF-8), so not {what}") from error


def write_plain(path: Path, data: bytes) -> None:
    """Write a file anew. What has that name is replaced: a link is not followed, and its target keeps its content.
    Raises OSError."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with writing(path), os.fdopen(descriptor, "wb") as file:
        file.write(data)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Have an OSError within say which file it is about: one of a write or a close does not know its name."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def check_inside(path: Path, root: Path) -> None:
    """Raise BadInput where a name between the folder `root` and `path`, which is below it, is a symbolic link or leads
    back."""
    try:
        parts = path.relative_to(root).parts
    except ValueError as error:
        raise BadInput(f"{shown(path)}: not in {shown(root)}") from error
    if ".." in parts:
        raise BadInput(f"{shown(path)}: leads out of {shown(root)}")
    here = root
    for part in parts:
        here /= part
        if here.is_symlink():
            raise BadInput(f"{shown(here)}: a symbolic link, which is not followed")


def program_files(folder: Path) -> list[Path]:
    """The files below a folder that are called *.s2, in order, whatever they are: reading them refuses what is no plain
    file. Folders that are symbolic links are left alone."""
    found = []
    for here, _, names in os.walk(folder):
        found += [Path(here, name) for name in names if name.endswith(".s2")]
    return sorted(found)
