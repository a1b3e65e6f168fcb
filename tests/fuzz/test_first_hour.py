"""Every command of docs/first-hour.md, in its order, as somebody types them who has a clone and a kernel repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import kernel_history
import pytest
from kernel_history import git
from planted import HERE, load

from reference.build.cache import cache_dir
from reference.build.hosted import PGTABLE

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "first-hour.md"
COMMAND = re.compile(r"^    \$ (?P<command>.+?)(?:\s+# ends with (?P<status>\d)\b.*)?$", re.MULTILINE)
SHORTER = ((re.compile(r"--seconds \d+"), "--seconds 3"), (re.compile(r"--hours \d+"), "--hours 0.001"))
"""How long the commands fuzz that find nothing; a run with a finding ends by itself."""
MARK = "@@@"


@dataclass(frozen=True)
class Typed:
    command: str
    status: int
    """Expected."""

    @property
    def shorter(self) -> str:
        command = self.command
        for long, short in SHORTER if self.status == 0 else ():
            command = long.sub(short, command)
        return command


def typed() -> list[Typed]:
    return [Typed(found["command"], int(found["status"] or 0)) for found in COMMAND.finditer(PAGE.read_text())]


def repository(path: Path) -> None:
    """`v6.12`; `faster`, two commits with a planted bug in the second; `fixed`, which takes that back."""
    kernel_history.begin(path)
    git(path, "tag", "v6.12")
    git(path, "checkout", "-q", "-b", "faster")
    pgtable = path / PGTABLE
    kernel_history.commit(path, "pgtable: say why", pgtable)
    sound = pgtable.read_text()
    bug = load(HERE / "block-beyond-range.toml")
    kernel_history.commit(path, "pgtable: fewer checks", pgtable, bug.apply(sound))
    git(path, "checkout", "-q", "-b", "fixed")
    kernel_history.commit(path, "pgtable: check the end again", pgtable, sound)


def script(commands: list[Typed]) -> str:
    """What a shell runs: each command, and its status behind a mark."""
    lines = []
    for each in commands:
        lines += [each.shorter, f'printf "\\n{MARK} %s\\n" $?']
        if each.command.startswith("git clone"):
            # Python's packages are here already: `make setup` is to find them.
            lines += [
                f"ln -s {Path(sys.executable).parents[1]} s2fuzz/.venv",
                "touch -d 2000-01-01 s2fuzz/pyproject.toml",
            ]
    return "\n".join(lines)


@pytest.mark.slow
def test_every_command_does_as_the_page_says(tmp_path: Path) -> None:
    repository(tmp_path / "src" / "linux")
    commands = typed()
    assert len(commands) > 20
    env = {**os.environ, "HOME": str(tmp_path), "S2FUZZ": str(ROOT), "S2FUZZ_CACHE": str(cache_dir())}
    ran = subprocess.run(
        ["bash"],
        input=script(commands),
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    *said, _ = ran.stdout.split(f"\n{MARK} ")
    statuses = [int(text.split("\n", 1)[0]) for text in ran.stdout.split(f"\n{MARK} ")[1:]]
    assert len(said) == len(commands)
    wrong = [
        f"{each.command}: ended with {status}, not {each.status}"
        for each, status in zip(commands, statuses, strict=True)
        if status != each.status
    ]
    assert not wrong, f"{wrong}\n{ran.stdout}\n{ran.stderr}"
    mail = (tmp_path / "bug.mail").read_text()
    assert "Fixes: " in mail
    assert '("pgtable: fewer checks")' in mail
    assert "pgtable: fewer checks" in next(
        text for each, text in zip(commands, said, strict=True) if "--each" in each.command
    )
