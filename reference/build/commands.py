"""The tools that prepare trees: git, tar, awk."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from harness.full_disk import says_full
from reference.build.cache import no_room
from reference.build.errors import MissingSource

_PACKAGES: Final = {"awk": "mawk", "git": "git", "tar": "tar", "xz": "xz-utils"}
HELP: Final = "run `make setup`, then `s2fuzz doctor`"
TAR_OPTIONS: Final = ("--no-same-owner", "--no-same-permissions")


def require(*tools: str) -> None:
    """Raise MissingSource, saying what to install, for a tool that is not there."""
    for tool in tools:
        if shutil.which(tool) is None:
            raise MissingSource(f"{tool} is not installed: it is in Debian's {_PACKAGES[tool]}; {HELP}")


def git_environment() -> dict[str, str]:
    """Ours without what points git at a repository, as in a hook; messages in English."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith("GIT_CONFIG")
    }
    return inherited | {"LC_ALL": "C"}


def run(
    command: Sequence[str | Path],
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    stdin: bytes = b"",
) -> subprocess.CompletedProcess[bytes]:
    """Run a tool to its end, with messages in English. Raises MissingSource where it is not installed, DiskFull where
    that is what it says of the cache."""
    require(str(command[0]))
    result = subprocess.run(
        command,
        cwd=cwd,
        env=env or os.environ | {"LC_ALL": "C"},
        input=stdin,
        capture_output=True,
        check=False,
    )
    return _checked(result)


def run_fed(command: Sequence[str | Path], pieces: Iterable[bytes]) -> subprocess.CompletedProcess[bytes]:
    """`run` for a tool that prints nothing and is fed piece by piece. One that ends sooner does without the rest.
    Raises whatever `pieces` does."""
    require(str(command[0]))
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=complaints, env=os.environ | {"LC_ALL": "C"}
        ) as process,
    ):
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin as fed:
            for piece in pieces:
                fed.write(piece)
        status = process.wait()
        complaints.seek(0)
        return _checked(subprocess.CompletedProcess(command, status, b"", complaints.read()))


def _checked(result: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[bytes]:
    if result.returncode and says_full(result.stderr.decode(errors="replace")):
        raise no_room()
    return result


def said(result: subprocess.CompletedProcess[bytes]) -> str:
    """The end of what a tool complained of."""
    lines = result.stderr.decode(errors="replace").split("\n")
    return "; ".join(line.strip() for line in lines[-12:] if line.strip()) or f"status {result.returncode}"
