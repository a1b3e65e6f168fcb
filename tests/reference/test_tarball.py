"""Folders out of a tar.xz: whole, and without the rest of it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from random import Random

import pytest

from reference.build.tarball import END, Tarball

_SIZE = 3000
_NAMES = sorted(
    [
        *(f"top/{folder}/{number:02}" for folder in ("arch", "drivers", "fs", "net", "sound") for number in range(30)),
        *("top/Makefile", "top/arch-readme", "top/fs.txt", f"top/fs/{'long/' * 30}name"),
    ]
)


def packed(folder: Path, names: Sequence[str], block_size: int = 16384) -> Path:
    """A tarball of these files, in this order, as blocks of so many bytes."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(Random(name).randbytes(_SIZE))
    order = "".join(f"{name}\n" for name in names)
    pack = ["tar", "-c", "--no-recursion", "--files-from=-", "--file=packed.tar"]
    subprocess.run(pack, cwd=folder, input=order, text=True, check=True)
    subprocess.run(["xz", f"--block-size={block_size}", "packed.tar"], cwd=folder, check=True)
    return folder / "packed.tar.xz"


def unpacked(tarball: Path, out: Path, members: Sequence[str]) -> tuple[set[str], int]:
    """What tar makes of the ranges of these members: names, whose contents are as they were; and the bytes it took."""
    out.mkdir()
    with Tarball(tarball) as archive:
        ranges = archive.ranges(members)
        data = b"".join(chain.from_iterable(map(archive.read, ranges))) + END
    subprocess.run(["tar", "-x", *members], cwd=out, input=data, check=True)
    found = {str(path.relative_to(out)): path for path in out.rglob("*") if path.is_file()}
    assert all(path.read_bytes() == Random(name).randbytes(_SIZE) for name, path in found.items())
    return set(found), sum(map(len, ranges))


@pytest.mark.parametrize("block_size", [5000, 16384, 100_000])
@pytest.mark.parametrize("members", [["top/arch"], ["top/Makefile", "top/fs"], ["top/sound", "top/drivers/07"]])
def test_what_is_asked_for_is_there_whole(tmp_path: Path, block_size: int, members: list[str]) -> None:
    tarball = packed(tmp_path, _NAMES, block_size)
    found, size = unpacked(tarball, tmp_path / "out", members)
    assert found == {name for name in _NAMES if any(f"{name}/".startswith(f"{member}/") for member in members)}
    assert size < len(found) * (_SIZE + 2048) + 6 * block_size, "and little else was read"


def test_of_a_tarball_that_is_not_sorted_all_is_read(tmp_path: Path) -> None:
    names = list(_NAMES)
    Random(1).shuffle(names)
    found, size = unpacked(packed(tmp_path, names), tmp_path / "out", ["top/net"])
    assert found == {name for name in names if name.startswith("top/net/")}
    assert size > len(names) * _SIZE


def test_a_tarball_of_one_block(tmp_path: Path) -> None:
    found, _ = unpacked(packed(tmp_path, _NAMES, 10 << 20), tmp_path / "out", ["top/arch-readme"])
    assert found == {"top/arch-readme"}
