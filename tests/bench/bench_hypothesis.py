"""Figure 3: against Hypothesis' rule-based state machine with the same executors, in rate and in time to a flag."""

from __future__ import annotations

import random
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mutants import planted

from bench import rules
from bench.figure import Bench, Figure, middle
from fuzz.sides import choose_sides
from harness.observation.executor import Executor, TargetDied
from harness.program.granule import GRANULE_4K
from harness.program.program import Program
from harness.verdict.judge import Judge
from pgtable import HOST

NAME: Final = "against a RuleBasedStateMachine: exec/s, and seconds to the first flag over the planted bugs"
RATE: Final = 8.0
TIME: Final = 0.2


@dataclass(frozen=True)
class Race:
    """One planted bug with one seed: how long each side took to flag it; None for a miss."""

    bug: str
    seed: int
    ours: float | None
    theirs: float | None


@dataclass
class _Hypothesis:
    """What one run of the state machine came to."""

    judge: Judge
    seconds: float
    executions: int = 0
    ops: int = 0
    flagged: float | None = None
    begun: float = 0.0

    def run(self, steps: int, seed: int) -> None:
        self.begun = time.monotonic()
        rules.run(self._execute, steps, seed)

    def _execute(self, program: Program) -> None:
        try:
            agree = self.judge.agree(program)
        except TargetDied:
            agree = False
        self.executions += 1
        self.ops += len(program.ops)
        passed = time.monotonic() - self.begun
        if not agree:
            self.flagged = passed
        if not agree or passed >= self.seconds:
            self.seconds = passed
            raise rules.Stop


def measure(bench: Bench) -> Figure:
    left, right = (side.open(bench.say) for side in choose_sides())
    with closing(left), closing(right):
        rates, steps = _rates(bench, left, right)
    races, left_out = _races(bench, steps)
    limit = bench.scale.bug_limit
    ours = sum(limit if race.ours is None else race.ours for race in races)
    theirs = sum(limit if race.theirs is None else race.theirs for race in races)
    ratio = middle(rates["ratios"])
    share = ours / theirs if races else float("nan")
    return Figure(
        3,
        NAME,
        {"exec_per_s": ratio, "time_to_flag": share},
        f"exec/s at least {RATE:g}, time to flag at most {TIME:g}",
        ratio >= RATE and share <= TIME,
        {
            **rates,
            "steps_per_program": steps,
            "flag_limit_s": limit,
            "flag_seconds_ours": ours,
            "flag_seconds_theirs": theirs,
            "flag_median_of_ratios": middle([_ratio(race, limit) for race in races]),
            "missed_ours": sum(race.ours is None for race in races),
            "missed_theirs": sum(race.theirs is None for race in races),
            "planted_bugs": [
                {"bug": race.bug, "seed": race.seed, "ours": race.ours, "theirs": race.theirs} for race in races
            ],
            "left_out_for_time": left_out,
        },
        "Rates: `s2fuzz smoke` as it comes, and the state machine with the same two executors, in turn, "
        f"{bench.scale.rounds} slices of {bench.scale.slice:g} s each. One rule per op; the program runs at teardown, "
        "which is the faster of the two ways; its number of steps is our mean number of ops; generation only, no "
        "database. Time to flag: total over the planted bugs in pgtable.c (tests/mutants), from the first "
        "execution; ours to the confirmed finding, theirs to the first disagreement; a miss counts as the limit; the "
        "bugs in a fixed random order, then again with the next seed, until the time for this figure is used up.",
        {"races": [(race.ours, race.theirs) for race in races], "limit": limit},
    )


def _ratio(race: Race, limit: float) -> float:
    return (limit if race.ours is None else race.ours) / (limit if race.theirs is None else race.theirs)


def _rates(bench: Bench, left: Executor, right: Executor) -> tuple[dict[str, Any], int]:
    ours: list[float] = []
    theirs: list[float] = []
    our_ops: list[float] = []
    their_ops: list[float] = []
    steps = 0
    for number in range(bench.scale.rounds):
        bench.say(f"rates, round {number + 1}")
        result = bench.smoke(bench.scale.slice, "--keep-going", seed=number + 1)
        ours.append(result["executions"] / result["seconds"])
        our_ops.append(result["ops"] / result["executions"])
        steps = steps or max(1, round(our_ops[0]))
        run = _Hypothesis(Judge(left, right), bench.scale.slice)
        run.run(steps, number)
        theirs.append(run.executions / run.seconds)
        their_ops.append(run.ops / run.executions)
    return {
        "exec_per_s": middle(ours),
        "exec_per_s_hypothesis": middle(theirs),
        "ratios": [a / b for a, b in zip(ours, theirs, strict=True)],
        "ops_per_execution": middle(our_ops),
        "ops_per_execution_hypothesis": middle(their_ops),
    }, steps


def _races(bench: Bench, steps: int) -> tuple[list[Race], list[str]]:
    """Every planted bug of the kernel's side, seed by seed while there is time; and those left out."""
    in_kernel = [bug for bug in planted.load_all() if (bug.file, bug.kernel_object) == ("pgtable.c", HOST.name)]
    # What both are run on.
    bugs = [bug for bug in in_kernel if "6.12" in bug.kernels and bug.granule == GRANULE_4K.name]
    random.Random(1).shuffle(bugs)
    todo = [(bug, seed) for seed in range(1, bench.scale.bug_seeds + 1) for bug in bugs]
    total = bench.scale.bugs_total
    begun = time.monotonic()
    races: list[Race] = []
    for number, (bug, seed) in enumerate(todo):
        if total is not None and races and time.monotonic() - begun > total - 2 * bench.scale.bug_limit:
            return races, [f"{left_out.name}, seed {its_seed}" for left_out, its_seed in todo[number:]]
        bench.say(f"planted bug {number + 1} of {len(todo)}: {bug.name}, seed {seed}")
        races.append(_race(bench, bug, seed, steps))
    return races, []


def _race(bench: Bench, bug: planted.Mutant, seed: int, steps: int) -> Race:
    changed = bench.scratch / "pgtable.c"
    changed.write_text(bug.apply(bench.image.tree.pgtable.read_text()))
    return Race(bug.name, seed, _ours(bench, changed, seed), _theirs(bench, changed, seed, steps))


def _ours(bench: Bench, changed: Path, seed: int) -> float | None:
    result = bench.smoke(bench.scale.bug_limit, "--pgtable", str(changed), seed=seed)
    return float(result["seconds"]) if result["findings"] else None


def _theirs(bench: Bench, changed: Path, seed: int, steps: int) -> float | None:
    left, right = (side.open(bench.say) for side in choose_sides(pgtable=changed))
    with closing(left), closing(right):
        run = _Hypothesis(Judge(left, right), bench.scale.bug_limit)
        run.run(steps, seed)
        return run.flagged
