"""Compiling behind a run, and over to compiled modules on the way: the inputs are the same as without."""

from __future__ import annotations

import random
import select
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from processes import await_death, descendants, s2fuzz, start

from fuzz.engine import compiling
from fuzz.engine.assignment import Assignment
from fuzz.engine.messages import WentOver
from fuzz.engine.process import FuzzingProcess
from fuzz.sides import choose_sides

MODELS = ("--sides", "model:6.12,model:6.12", "--no-corpora", "--workers", "1", "--granule", "4k", "--seed", "1")
"""Sides that need no kernel."""


def generated(folder: Path, executions: int, compiled: Path | None = None, after: int | None = None) -> list[str]:
    """The first inputs that a process makes of a seed, with `compiled` modules, if any: from the start, or `after` so
    many programs."""
    folder.mkdir()
    work = Assignment(choose_sides(), folder / "out", (), 11, None, executions, True, folder / "inputs")
    process = FuzzingProcess(replace(work, compiled=compiled if after is None else None), folder)
    try:
        while process.sources:
            for source in select.select(sorted(process.sources), [], [], 0.1)[0]:
                process.hear(source)
            if compiled is not None and after is not None and process.executions >= after:
                process.go_over(compiled)
            process.watch()
    finally:
        process.close()
    process.settle(interrupted=False)
    places = [message.executions for message in process.news if isinstance(message, WentOver)]
    assert [after is not None and after <= place < executions for place in places] == [True] * (after is not None)
    return (folder / "inputs").read_text().splitlines()


@pytest.mark.parametrize("executions", [1_500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_the_inputs_are_the_same_as_is_compiled_and_gone_over(tmp_path: Path, executions: int) -> None:
    modules = compiling.compiled(print)
    somewhere = random.randrange(executions // 4)
    as_is = generated(tmp_path / "as is", executions)
    assert len(as_is) == executions
    assert generated(tmp_path / "compiled", executions, modules) == as_is
    assert generated(tmp_path / "gone over", executions, modules, somewhere) == as_is, f"over after {somewhere}"


@pytest.mark.slow
def test_a_run_begins_at_once_and_goes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a cache that has nothing but the objects. It is interrupted as soon as it has said that it went over."""
    kept = compiling.compiled(print).parent
    objects = sorted(kept.glob("objects-*/*"))
    (tmp_path / "cache/compiled").mkdir(parents=True)
    for folder in kept.glob("objects-*"):
        (tmp_path / "cache/compiled" / folder.name).symlink_to(folder)
    monkeypatch.setenv("S2FUZZ_CACHE", str(tmp_path / "cache"))
    run = start("smoke", *MODELS, "--seconds", "400", "--inputs", "inputs", cwd=tmp_path)
    assert run.stderr is not None
    said: list[str] = []
    for line in run.stderr:
        said.append(line)
        if "went over" in line:
            run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode == 130, said
    began, made, over = (
        next(number for number, line in enumerate(said) if words in line)
        for words in ("in the background: compiling", "are compiled", "worker 0 went over to compiled modules after")
    )
    assert began < made < over
    programs = int(said[over].split()[-2])
    assert 0 < programs < len((tmp_path / "inputs").read_text().splitlines()), "it goes on afterwards"
    entries = [path for path in (tmp_path / "cache/compiled").iterdir() if not path.is_symlink()]
    assert [path.name for path in entries] == [compiling._entry()], "and no part of one"
    assert sorted(kept.glob("objects-*/*")) == objects, "what mypyc makes is the same again"


def test_the_compiling_does_not_outlive_a_killed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2FUZZ_CACHE", str(tmp_path / "cache"))
    run = start("smoke", *MODELS, "--seconds", "300", cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not any(is_mypyc(pid) for pid, _ in descendants(run.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started = [pid for pid, _ in descendants(run.pid)]
    run.kill()
    run.communicate()
    await_death(started)


def is_mypyc(pid: int) -> bool:
    """Whether it is the process that makes C of the modules, a child of the one that compiles."""
    try:
        return b"mypycify" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_run_that_cannot_compile_says_so_once_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/compiled").touch()
    result = s2fuzz(
        *("smoke", *MODELS, "--executions", "300"), cwd=tmp_path, env={"S2FUZZ_CACHE": str(tmp_path / "cache")}
    )
    assert result.returncode == 0, result.stderr
    said = [line for line in result.stderr.splitlines() if "more slowly than compiled" in line]
    assert len(said) == 1 and "compiled" in said[0] and "set S2FUZZ_CACHE" in said[0], result.stderr
    assert "300 executions" in result.stdout


def test_an_object_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file, the headers beside it, and the flags."""
    monkeypatch.setenv("S2FUZZ_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()

    def objects(*flags: str) -> list[tuple[Path, int]]:
        told: list[str] = []
        made = compiling._compile_all(work, ["one.c", "other.c"], flags, [], told.append)
        assert [line.rpartition(": ")[2] for line in told] == ["1 of 2 C files", "2 of 2 C files"]
        return [(path, path.stat().st_ino) for path in made]

    (work / "h.h").write_text("enum { VALUE = 1 };\n")
    (work / "one.c").write_text('#include "h.h"\nint one = VALUE;\n')
    (work / "other.c").write_text("int other;\n")
    first = objects()
    assert objects() == first
    (work / "one.c").write_text('#include "h.h"\nint one = VALUE + 1;\n')
    second = objects()
    assert [one == other for one, other in zip(first, second, strict=True)] == [False, True]
    assert not set(objects("-DX")) & {*first, *second}
    (work / "h.h").write_text("enum { VALUE = 2 };\n")
    assert not set(objects()) & {*first, *second}
    (work / "other.c").write_text("int other\n")
    with pytest.raises(compiling.CannotCompile, match=r"failed with status 1:\n.*other\.c:1"):
        objects()
