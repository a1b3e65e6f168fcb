"""The command that makes a folder for fuzzing clusters."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import click

from fuzz.cli.chosen import compiled_now, sides_from
from fuzz.cli.options import CORPORA, EXISTING, GRANULE, NO_COMPILE, OK, kernel_options, say, show_line, tier_options
from fuzz.cli.outputs import OutFolder
from fuzz.cluster.folder import PackageContents, package
from fuzz.cluster.packaged import NAME
from fuzz.engine.process import require_atheris
from harness.amounts import counted
from harness.errors import BadInput
from harness.program.granule import granule_named
from harness.verdict.tiers import DEFAULT_TIERS, Tier

_SEEDS: Final = CORPORA / "seeds"


@click.command("package")
@click.argument("directory", type=OutFolder(), metavar="DIR")
@click.option(
    "--corpus",
    "corpora",
    type=EXISTING,
    multiple=True,
    metavar="FOLDER",
    help="What the seed corpus is made of: programs, findings, folders of either, or of inputs, such as a campaign's "
    "corpus/4k. May be repeated.  [default: the seeds of the checkout]",
)
@click.option("--force", is_flag=True, help="Replace files of the same names that s2fuzz did not make.")
@tier_options
@GRANULE
@NO_COMPILE
@kernel_options
def package_command(
    directory: Path,
    corpora: tuple[Path, ...],
    force: bool,
    tiers: frozenset[Tier] | None,
    granule: str,
    no_compile: bool,
    **kernel: Any,
) -> int:
    """Make a folder from which a fuzzing cluster runs: OSS-Fuzz, ClusterFuzzLite, or your own.

    DIR is what they call $OUT. It gets the launcher stage2_fuzzer, with seed corpus, dictionary and options beside it,
    and in stage2_fuzzer.files all that it takes: Python, Atheris, the kernel's image, QEMU and every shared library. A
    copy of it runs anywhere with Linux on x86-64 and /bin/sh, also where nothing can be written.

    \b
      DIR/stage2_fuzzer -max_total_time=600 CORPUS     libFuzzer's command line
      DIR/stage2_fuzzer crash-…                        once more

    A finding, confirmed on fresh kernels, is raised: libFuzzer keeps the input and ends with status 77. Other files in
    DIR stay; a package that is there is replaced once the new one has run. The folder holds a binary made from Linux:
    it is for running, not for a repository. docs/ci.md has the rest.
    """
    require_atheris()
    chosen = corpora or ((_SEEDS,) if _SEEDS.is_dir() else ())
    if not chosen:
        raise BadInput("an installed s2fuzz has no seeds of its own: name programs with --corpus")
    sides = sides_from(**kernel)
    compiled = compiled_now(no_compile)
    contents = PackageContents(sides, granule_named(granule), tiers or DEFAULT_TIERS, chosen, compiled)
    started = time.monotonic()
    made = package(directory, contents, force, say)
    show_line(
        f"{directory / NAME}: {sides[0].full_name} against {sides[1].full_name}, {granule}; "
        f"{counted(made.seeds, 'seed')}, {made.size >> 20} MiB, made in {time.monotonic() - started:.0f} s"
    )
    for why, count in made.left_out.items():
        show_line(f"{counted(count, 'program')} left out: {why}")
    return OK
