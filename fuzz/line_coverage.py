"""How much of a kernel's pgtable.c programs reach, line by line, as llvm-cov judges it.

The programs are those of the corpora and, for a while, generated ones. They run on the kernel alone: this asks what is
reached at all, not whether the sides agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from random import Random

from fuzz.mutation import life, mutate, random_input
from fuzz.sides import Side
from harness.codec import decode
from harness.errors import BadInput
from harness.executor import TargetDied
from harness.program import Program
from harness.program_text import read
from reference.executor import Reference
from reference.lines import FileLines, LineCounters, judge

Told = Callable[[int, float], None]


def measure(side: Side, corpora: Iterable[Path], seconds: float, seed: int, told: Told) -> FileLines:
    """Run the corpora's programs and `seconds` of generated ones on a kernel, and say what they reached.

    `told` hears now and then how many programs ran, in how many seconds. Raises BadInput for a side that is not a
    kernel or a program that is refused, ToolFailure where the environment fails.
    """
    if side.kind != "kernel":
        raise BadInput(f"{side.name} is not a kernel; choose one with --linux")
    kernel = replace(side, flavour="lines").open()
    assert isinstance(kernel, Reference)
    with closing(kernel):
        started = time.monotonic()
        for number, program in enumerate(_programs(corpora, Random(seed))):
            passed = time.monotonic() - started
            if passed > seconds:
                break
            _run(kernel, program)
            told(number, passed)
        image = kernel.image
        return judge(image.elf, [LineCounters(kernel).profile()], image.tree.pgtable, image.compiler)


def _run(kernel: Reference, program: Program) -> None:
    try:
        kernel.start(program)
        kernel.finish()
    except BadInput:
        return  # for another kernel: it asks for what this one does not provide
    except TargetDied as error:
        raise BadInput(f"the kernel died ({error.report.headline}), and its counters with it; fuzz it first") from error


def _programs(corpora: Iterable[Path], choice: Random) -> Iterator[Program]:
    for folder in corpora:
        for path in sorted(folder.rglob("*.s2")):
            yield read(path)
    while True:
        data = choice.choice((life, random_input))(choice)
        yield decode(data)
        yield decode(mutate(data, choice))


def report(found: FileLines) -> Iterator[str]:
    """What was reached, and every line that was not, with its text, in runs."""
    total, reached = len(found.lines), found.reached
    yield f"{reached} of {total} lines of {found.path.name} reached ({reached / total:.1%})"
    text = found.path.read_text(errors="replace").splitlines()
    missed = found.unreached()
    for _, run in groupby(enumerate(missed), key=lambda pair: pair[1] - pair[0]):
        yield ""
        for _, line in run:
            yield f"{line:5}  {text[line - 1].expandtabs(8)}"
