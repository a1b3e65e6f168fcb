"""Some folders out of a large tar.xz, without decompressing the rest of it.

xz can compress in blocks that stand by themselves, and its index says where they begin. Debian's kernel tarballs have
some sixty, and their members are sorted by name, so the blocks that hold a folder are found as a word is found in a
dictionary. The build needs five of them.
"""

from __future__ import annotations

import tarfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple, Self

import xz

END: Final = bytes(2 * tarfile.BLOCKSIZE)
"""What ends an archive."""
_CHUNK: Final = 1 << 18
_MAGIC: Final = slice(257, 262)
"""Where a member's header says "ustar"."""
_NAME_ROOM: Final = 100
"""Bytes of a name in a header. A longer one is a member of its own, before the one that it belongs to."""
_PLAIN: Final = (tarfile.REGTYPE, tarfile.DIRTYPE)


class _Member(NamedTuple):
    name: str
    start: int
    """Of its header in the archive."""


class Tarball:
    """An open tar.xz. Here and below, a file that is none raises OSError, xz.XZError, lzma.LZMAError or EOFError."""

    def __init__(self, path: Path) -> None:
        self._file = xz.open(path)
        self._starts = self._file.block_boundaries
        self._size = len(self._file)
        self._members: dict[int, _Member] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def ranges(self, names: Sequence[str]) -> list[range]:
        """Which bytes of the archive hold these folders and files, with others beside them: whole members, in order.
        All of it where its members are not sorted."""
        blocks = sorted({block for name in names for block in self._blocks_of(name)})
        found = [range(self._member(block).start, self._member(block + 1).start) for block in blocks]
        seen = [self._members[block] for block in sorted(self._members)]
        is_sorted = all(one.name <= next_one.name for one, next_one in pairwise(seen))
        return found if is_sorted else [range(self._size)]

    def read(self, where: range) -> Iterator[bytes]:
        """These bytes, piece by piece."""
        for at in range(where.start, where.stop, _CHUNK):
            yield self._read(at, min(_CHUNK, where.stop - at))

    def _blocks_of(self, name: str) -> range:
        """The blocks in which `name`, and what is in it, begins; as far as members are sorted."""
        blocks = range(len(self._starts))
        first = bisect_right(blocks, name, key=lambda block: self._member(block).name) - 1
        # All that is below `name` sorts before name + "0", for "0" follows "/".
        last = bisect_left(blocks, f"{name}0", key=lambda block: self._member(block).name)
        return range(max(first, 0), last)

    def _member(self, block: int) -> _Member:
        """The first member that begins in a block, or behind it."""
        if block not in self._members:
            self._members[block] = self._look(block)
        return self._members[block]

    def _look(self, block: int) -> _Member:
        if block == 0:
            return _Member("", 0)
        if block < len(self._starts):
            start = -(-self._starts[block] // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            for chunk in range(start, self._size, _CHUNK):
                data = self._read(chunk, _CHUNK)
                for at in range(0, len(data), tarfile.BLOCKSIZE):
                    name = _name_in(data[at : at + tarfile.BLOCKSIZE])
                    if name is not None:
                        return _Member(name, chunk + at)
        return _Member("\U0010ffff", self._size)

    def _read(self, at: int, size: int) -> bytes:
        self._file.seek(at)
        data: bytes = self._file.read(size)
        return data


def _name_in(header: bytes) -> str | None:
    """The name of the file or folder whose header it is; None for other bytes, and where the name may be elsewhere."""
    if header[_MAGIC] != b"ustar":
        return None
    try:
        member = tarfile.TarInfo.frombuf(header, tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return None
    return member.name if member.type in _PLAIN and len(member.name) < _NAME_ROOM else None
