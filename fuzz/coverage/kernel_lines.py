"""How much of a kernel's files under test programs reach, line by line, as llvm-cov judges it.

The programs are those of the corpora and, for a while, generated ones. They run on the kernel alone: this asks what is
reached at all, not whether the sides agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain, groupby
from pathlib import Path
from random import Random
from typing import Final

from fuzz.coverage.unreached import conditions
from fuzz.generate.fresh import random_input
from fuzz.generate.mutation import mutate
from fuzz.generate.scenario import vm_scenario, vmid_scenario
from fuzz.sides import Side
from harness.amounts import counted, number
from harness.errors import BadInput
from harness.observation.executor import TargetDied
from harness.outside import program_files
from harness.program.codec import Dialect, decode, dialect_for
from harness.program.granule import GRANULES, Granule
from harness.program.program import Program
from harness.program.text import read
from reference.link.executor import Reference
from reference.probe.lines import FileLines, judge, sum_of

_UNKNOWN: Final = "no condition is known: a program is missing, or a line in fuzz/coverage/unreached.py"
_SHARES: Final = (9, 2, 9)
"""Of generated programs: a VM's table, VMIDs, random choices."""

Told = Callable[[int, float], None]


def measure(
    side: Side, corpora: Iterable[Path], seconds: float, seed: int, told: Told, granules: Sequence[Granule] = GRANULES
) -> tuple[FileLines, ...]:
    """Run the corpora's programs and `seconds` of generated ones on a kernel for each granule in turn, and say what
    they reached in any, file by file.

    `told` hears now and then how many programs ran, in how many seconds. Raises BadInput for a side that is not a
    kernel or a program that is refused, ToolFailure where the environment fails.
    """
    if side.kind != "kernel":
        raise BadInput(f"{side.name} is not a kernel; choose one with --linux")
    programs = [read(path) for folder in corpora for path in program_files(folder)]
    started = time.monotonic()
    reached: list[tuple[FileLines, ...]] = []
    ran = 0

    def each_told(some: Iterable[Program]) -> Iterator[Program]:
        nonlocal ran
        for program in some:
            yield program
            ran += 1
            told(ran, time.monotonic() - started)

    for nth, granule in enumerate(granules, start=1):
        dialect = dialect_for(side.capabilities(), granule)
        generated = _generated(dialect, Random(seed), started + seconds * nth / len(granules))
        reached.append(reached_lines(side, granule, each_told(chain(programs, generated))))
    return tuple(map(sum_of, zip(*reached, strict=True)))


def reached_lines(side: Side, granule: Granule, programs: Iterable[Program]) -> tuple[FileLines, ...]:
    """What programs reach of each file under test, pgtable.c first; those that the kernel cannot run are left out.

    Raises BadInput where the kernel dies, ToolFailure where the environment fails."""
    kernel = side.built_as("lines").open_for(granule)
    assert isinstance(kernel, Reference)
    with closing(kernel):
        for program in programs:
            _run(kernel, program)
        image = kernel.image
        counted = [kernel.line_profile()]
        return tuple(judge(image.elf, counted, path, image.compiler) for path in image.tree.under_test)


def _run(kernel: Reference, program: Program) -> None:
    try:
        kernel.start(program)
        kernel.finish()
    except BadInput:
        return  # for another kernel or granule: it asks for what this one does not provide
    except TargetDied as error:
        raise BadInput(f"the kernel died ({error.report.headline}), and its counters with it; fuzz it first") from error


def _generated(dialect: Dialect, choice: Random, until: float) -> Iterator[Program]:
    while time.monotonic() < until:
        make = choice.choices((vm_scenario, vmid_scenario, random_input), _SHARES)[0]
        data = make(choice, dialect)
        yield decode(data, dialect)
        yield decode(mutate(data, choice, dialect), dialect)


def report(found: FileLines, kernel_object: str = "host") -> Iterator[str]:
    """What was reached, and every line that was not, in runs: with its text, and the condition that makes it so where
    one is known. Then what is wrong with that list."""
    total, reached = len(found.lines), found.reached
    yield f"{number(reached)} of {counted(total, 'line')} of {found.path.name} reached ({reached / total:.1%})"
    source = found.path.read_text(errors="replace")
    text, known, missed = source.splitlines(), conditions(source, kernel_object), found.unreached()
    for (why, _), run in groupby(enumerate(missed), key=lambda pair: (known.get(pair[1]), pair[1] - pair[0])):
        yield ""
        for _, line in run:
            yield f"{line:5}  {text[line - 1].expandtabs(8)}"
        yield f"       ({why or _UNKNOWN})"
    refuted = [line for line in sorted(known) if found.lines.get(line)]
    yield from ("", *(f"{line}: reached, against expectation: {known[line]}" for line in refuted)) if refuted else ()
    without = sum(line not in known for line in missed)
    yield ""
    yield f"{counted(len(missed), 'line')} not reached, {number(without)} of them without a known condition"
