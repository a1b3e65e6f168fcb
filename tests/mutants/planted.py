"""The planted bugs: one small TOML file each beside this module, and how to run the fuzzer against one.

Those in harmless/ are none: clean-ups that nobody can notice, of which nothing may be found.

what          what is wrong, for people
file          `pgtable.c`, another file of the tree (by its path there), or a file of the model
kernels       the kernels whose file has the anchor
flagged       which tiers may flag it first (`results`, `tables`, `accounting`, `translation`, `events`,
              `instructions`), or `crash`, `hang`, `flood`, `invalidation`, `stale`
anchor        one line of the file, quoted
replacement   what stands there instead
change        instead of these, where there are several: a table of both each, and of `occurrence`
granule       the size of page it is looked for with (left out: 4k)
object        what pgtable.c is built as, `host` or `hyp` (left out: host)
occurrence    which of the lines that match, from 1 (left out: the only one)
executions    how many generated programs `make mutants` may spend on it with one seed (left out: 3000)
shown_by      a program that shows it, or a seed's path, where generated ones take minutes (left out: generated ones
              must find it)
stale         what the judge of stale translations calls it by itself (`StaleProblem.what`; left out: it need not)
order_hides   why nobody need find it under `--expect order` (left out: it must be found there, too)

Most are found within a thousand programs. They say that no part of the comparison is blind, and tell little about how
soon bugs are found. Those with `executions` are harder: a limit, a rare machine, three operations in order. They were
chosen as a reviewer of pgtable.c would and shown by a program written by hand; kept were those for which the fuzzer
of e61f8d3, at 70 to 200 programs a second, took more than two seconds with seed 1 or 2. `make mutants` runs them with
the first seed only; of those with `shown_by` it runs that program, and generated ones are for measuring.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any

from fuzz.sides import Side, choose_sides
from reference.build.sources import KernelChoice, prepare

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PACKAGES = ("pgtable", "harness", "reference", "fuzz")
EXECUTIONS = 3000
SECONDS = 400.0
"""A bound for very slow machines; the number of executions is what counts."""


@dataclass(frozen=True)
class Change:
    """One line of a file that becomes another; `occurrence` is which of those that match, from 1, None for the only."""

    anchor: str
    replacement: str
    occurrence: int | None

    @classmethod
    def of(cls, data: dict[str, Any]) -> Change:
        return cls(data["anchor"], data["replacement"], data.get("occurrence"))


@dataclass(frozen=True)
class Mutant:
    """One planted bug, as its file describes it."""

    name: str
    what: str
    file: str
    kernels: tuple[str, ...]
    flagged: tuple[str, ...]
    changes: tuple[Change, ...]
    executions: int = EXECUTIONS
    shown_by: str | None = None
    granule: str = "4k"
    kernel_object: str = "host"
    order_hides: str | None = None
    stale: str | None = None

    @property
    def leaves_tables_alone(self) -> bool:
        """Whether neither results nor tables ever show it."""
        return bool(self.flagged) and not {"results", "tables", "crash", "hang"} & set(self.flagged)

    @property
    def is_in_model(self) -> bool:
        """Whether it is planted in ours rather than in Linux."""
        return self.file.split("/")[0] in PACKAGES

    @property
    def is_harder(self) -> bool:
        """Whether the usual number of programs does not do."""
        return self.executions > EXECUTIONS

    def apply(self, text: str) -> str:
        """The file's text with the bug in it. Raises ValueError when the anchor does not fit."""
        lines = text.split("\n")
        found = []
        for change in self.changes:
            places = [number for number, line in enumerate(lines) if line == change.anchor]
            if change.occurrence is None and len(places) != 1:
                raise ValueError(f"{self.name}: the anchor occurs {len(places)} times: {change.anchor}")
            found.append(places[(change.occurrence or 1) - 1])
        for place, change in zip(found, self.changes, strict=True):
            lines[place] = change.replacement
        return "\n".join(lines)


def load_all() -> list[Mutant]:
    """Every planted bug, in order of their names."""
    return [load(path) for path in sorted(HERE.glob("*.toml"))]


def load_harmless() -> list[Mutant]:
    """Every clean-up, in order of their names."""
    return [load(path) for path in sorted((HERE / "harmless").glob("*.toml"))]


def load(path: Path) -> Mutant:
    """The planted bug in one file."""
    data = tomllib.loads(path.read_text())
    return Mutant(
        path.stem,
        data["what"],
        data["file"],
        tuple(data["kernels"]),
        tuple(data.get("flagged", ())),
        tuple(map(Change.of, data.get("change", [data]))),
        data.get("executions", EXECUTIONS),
        _program(data.get("shown_by")),
        data.get("granule", "4k"),
        data.get("object", "host"),
        data.get("order_hides"),
        data.get("stale"),
    )


def _program(shown_by: str | None) -> str | None:
    is_path = shown_by is not None and shown_by.endswith(".s2")
    return (ROOT / str(shown_by)).read_text() if is_path else shown_by


def run_against(mutant: Mutant, seed: int, work: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """Fuzz with the bug planted; only generated programs, and with `more` options. The exit status and the JSON line,
    with what was said."""
    command = ["smoke", "--no-corpora", "--json", "--seed", str(seed), "--out", str(work / f"out-{seed}")]
    command += ["--executions", str(mutant.executions), "--seconds", str(SECONDS), "--granule", mutant.granule]
    command += ["--object", mutant.kernel_object, *more]
    root = ROOT
    options = kernel_options(mutant, work)
    if mutant.is_in_model:
        root = _copy_with(mutant, work)
        command.append("--no-compile")  # which would take longer than the run
    if "--sides" in more:
        del options["linux"]
    command += [word for option, path in options.items() for word in (f"--{option}", str(path))]
    result = subprocess.run(
        [sys.executable, "-c", "from fuzz.cli.main import main; main()", *command],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    line = result.stdout.splitlines()[-1] if result.stdout else "{}"
    return result.returncode, {**json.loads(line), "stderr": result.stderr}


def kernel_options(mutant: Mutant, work: Path) -> dict[str, Path | str]:
    """What makes a kernel with the bug: options of the command line, or arguments of `choose_sides`. The changed file
    is below `work`; of a file that cannot be replaced by itself, a patch."""
    if mutant.is_in_model:
        return {"linux": mutant.kernels[0]}
    tree = prepare(KernelChoice(mutant.kernels[0]))
    if mutant.file == "pgtable.c":
        changed = work / "pgtable.c"
        changed.write_text(mutant.apply(tree.pgtable.read_text()))
        return {"linux": mutant.kernels[0], "pgtable": changed}
    text = (tree.root / mutant.file).read_text()
    names = (f"a/{mutant.file}", f"b/{mutant.file}")
    lines = unified_diff(text.splitlines(keepends=True), mutant.apply(text).splitlines(keepends=True), *names)
    patch = work / "planted.patch"
    patch.write_text("".join(lines))
    return {"linux": mutant.kernels[0], "patch": patch}


def sides_of(mutant: Mutant, work: Path) -> tuple[Side, Side]:
    """The model, and the kernel with the bug."""
    options = kernel_options(mutant, work)
    patches = tuple(Path(path) for option, path in options.items() if option == "patch")
    pgtable = next((Path(path) for option, path in options.items() if option == "pgtable"), None)
    left, right = choose_sides(mutant.kernels[0], patches, pgtable, kernel_object=mutant.kernel_object)
    return left, right


def _copy_with(mutant: Mutant, work: Path) -> Path:
    """A copy of the packages with the bug in the model: our own files are never touched."""
    root = work / "tree"
    if not root.exists():
        for package in PACKAGES:
            shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
        # What is known of Linux is no finding there either.
        shutil.copytree(ROOT / "corpora" / "violations", root / "corpora" / "violations")
        target = root / mutant.file
        target.write_text(mutant.apply(target.read_text()))
    return root
