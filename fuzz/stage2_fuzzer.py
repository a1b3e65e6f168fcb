#!/usr/bin/env python3
"""The libFuzzer target, directly executable: `fuzz/stage2_fuzzer.py [libFuzzer flags] [CORPUS_DIR...]`.

The only module that imports Atheris. `s2fuzz smoke` runs it as a child, for libFuzzer ends its process without
returning; then S2FUZZ_ASSIGNMENT says what to do. In a folder made by `s2fuzz package`, S2FUZZ_PACKAGE says where that
is, and a finding is raised. By hand it compares the model with the default kernel, files findings below ./s2fuzz-out
and goes on.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import shlex
import sys
import traceback
from pathlib import Path

# Executed as a script, Python puts this folder first on its path; the packages are one up.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import atheris  # noqa: E402  (after the path is put right)

from fuzz.engine import compiling  # noqa: E402
from harness.errors import BadInput, ToolFailure  # noqa: E402
from harness.full_disk import explained  # noqa: E402
from harness.parent_death import die_with  # noqa: E402
from harness.settings import refuse_empty_variables, setting  # noqa: E402

try:
    refuse_empty_variables()
    _ORDERS = json.loads(setting("S2FUZZ_ASSIGNMENT") or "{}")
except BadInput as error:
    print(f"s2fuzz: {error}", file=sys.stderr)
    sys.exit(2)
except ValueError as error:
    print(f"s2fuzz: S2FUZZ_ASSIGNMENT, which s2fuzz sets for itself, is not JSON: {error}; unset it", file=sys.stderr)
    sys.exit(2)
if _ORDERS.get("parent") is not None:
    die_with(_ORDERS["parent"])  # before all that takes time
_PACKAGE = setting("S2FUZZ_PACKAGE")
_MERGES = any(argument.startswith(("-merge", "-set_cover_merge")) for argument in sys.argv[1:])
"""Whether inputs are chosen here for a smaller corpus, which is to reach as much of the model as well."""
if _MERGES or _ORDERS.get("guidance", "kernel") != "kernel":
    with atheris.instrument_imports(include=["pgtable"]):
        import pgtable  # noqa: F401
elif _PACKAGE is not None and Path(_PACKAGE, "compiled").is_dir():
    compiling.install(Path(_PACKAGE, "compiled"))
elif _ORDERS.get("compiled"):  # before anything else imports these modules as they are
    compiling.install(Path(_ORDERS["compiled"]))

from fuzz.cluster.packaged import FindingRaised, Package, raise_finding  # noqa: E402
from fuzz.corpus.store import check_codec, check_stamp  # noqa: E402
from fuzz.engine.assignment import Assignment  # noqa: E402
from fuzz.engine.target import Target  # noqa: E402
from fuzz.engine.worker import Worker  # noqa: E402
from fuzz.sides import choose_sides  # noqa: E402
from harness.outside import shown  # noqa: E402
from reference.probe.coverage import Registration  # noqa: E402

_OURS = ("fuzz", "harness", "pgtable", "reference")
"""Packages that are imported anew to go over to compiled modules."""


def mutate_bytes(data: bytes, max_size: int) -> bytes:
    """libFuzzer's own mutator, which Atheris puts in place when it begins to fuzz."""
    changed: bytes = atheris.Mutate(data, max_size)
    return changed


def register(at: Registration) -> None:
    """Hand counters to libFuzzer, in place: it reads and clears them where they are, a kernel's in the guest's memory.

    Only from within the target: Fuzz() loads libFuzzer after the mutator, and libFuzzer that was loaded sooner would
    silently use its own mutator.
    """
    from atheris import core_with_libfuzzer  # noqa: PLC0415

    libfuzzer = ctypes.CDLL(core_with_libfuzzer.__file__)
    pointer = ctypes.c_void_p
    libfuzzer.__sanitizer_cov_8bit_counters_init(pointer(at.counters_start), pointer(at.counters_stop))
    libfuzzer.__sanitizer_cov_pcs_init(pointer(at.pcs_start), pointer(at.pcs_stop))


def go_over(target: Target) -> Target:
    """The target that goes on where this one is, with compiled modules. All of ours are imported anew, since a compiled
    module takes no objects of a class that is not its own. libFuzzer stays, and so does the memory that it reads."""
    worker = target.worker
    folder = worker.compiled
    assert folder is not None, "it was told where they are"
    left = worker.hand_over()
    gc.unfreeze()  # what they leave can be freed
    for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
        del sys.modules[name]
    compiling.install(folder)
    try:
        gone_over: Target = importlib.import_module("fuzz.engine.target").Target.in_place_of(left, mutate_bytes)
    except Exception as error:
        worker.fail(f"it cannot go over to the compiled modules in {shown(folder)}: {error!r}")
    gc.collect()
    gc.freeze()
    return gone_over


def packaged() -> Package | None:
    """The package that this is run from; None otherwise. Ends the process with status 2 for what is none."""
    try:
        return None if _PACKAGE is None else Package.open(Path(_PACKAGE))
    except BadInput as error:
        print(f"s2fuzz: {error}", file=sys.stderr)
        sys.exit(2)


def assignment() -> Assignment:
    """What to do: as the parent says, or, run by hand, to compare the model with the default kernel for ever."""
    text = setting("S2FUZZ_ASSIGNMENT")
    if text is not None:
        return Assignment.from_json(text)
    return Assignment(choose_sides(), Path("s2fuzz-out"), (), 0, None, None, True, None)


def prepare(work: Assignment, arguments: list[str], package: Package | None) -> Worker:
    """The worker, with suspects and corpora replayed. Ends the process with status 2 on bad input."""
    try:
        if package is None:
            worker, check = Worker(work), check_codec
        else:
            worker, check = Worker(work, executors=package.executors, found=raise_finding), check_stamp
        for argument in arguments[1:]:
            if not argument.startswith("-") and not Path(argument).is_file():  # a file is an input to run
                check(Path(argument), worker.dialect)
    except BadInput as error:
        print(f"s2fuzz: {error}", file=sys.stderr)
        sys.exit(2)
    try:
        worker.retry_suspects()
        worker.replay_corpora()
        worker.await_turn()
    except (BadInput, ToolFailure, OSError) as error:
        worker.fail(explained(error), bad_input=isinstance(error, BadInput))
    return worker


def main(arguments: list[str]) -> None:
    """Set up, replay the corpora, and fuzz; never returns."""
    package = packaged()
    work = assignment() if package is None else package.assignment
    target = Target(prepare(work, arguments, package), mutate_bytes)
    unregistered = target.worker.registrations()
    gc.freeze()  # what lives for ever need not be looked at again and again

    def run(data: bytes) -> None:
        while unregistered:
            register(unregistered.pop())
        target.run(data)

    def packaged_run(data: bytes) -> None:
        """Raises findings only."""
        try:
            run(data)
        except FindingRaised:
            raise
        except Exception:
            target.worker.fail(f"an error of its own; please report it:\n{traceback.format_exc()}")

    def breed(data: bytes, max_size: int, seed: int) -> bytes:
        nonlocal target
        if target.worker.compiled is not None:  # here, for libFuzzer measures the time of a run, and of nothing else
            target = go_over(target)
        return target.breed(data, max_size, seed)

    def cross(first: bytes, second: bytes, max_size: int, seed: int) -> bytes:
        return target.cross(first, second, max_size, seed)

    # For -merge, -fork and -jobs libFuzzer starts its argv[0] anew, through a shell. One that fails leaves an empty
    # corpus and status 0; so it must not hang on what `python3` happens to be.
    by_hand = [sys.executable, str(Path(__file__).resolve())]
    again = shlex.join(by_hand if package is None else [str(package.launcher)])
    atheris.Setup(
        [again, *arguments[1:]], run if package is None else packaged_run, custom_mutator=breed, custom_crossover=cross
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
