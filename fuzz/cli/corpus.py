"""Commands for corpora: of a campaign, or any folder of inputs that libFuzzer keeps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from fuzz.campaign.setup import CampaignSetup
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.cli.chosen import sides_from
from fuzz.cli.options import BAD_INPUT, EXISTING, GRANULE, OK, kernel_options, say, show_line
from fuzz.cli.outputs import OutFolder
from fuzz.cli.several import read_each
from fuzz.corpus.store import Store, programs_in, why_left_out
from fuzz.sides import Side, capabilities_of
from harness.amounts import counted, number
from harness.errors import BadInput
from harness.locks import try_lock
from harness.outside import shown, write_plain
from harness.program.codec import dialect_for
from harness.program.granule import granule_named

_THERE: Final = click.Path(exists=True, file_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class _Corpus:
    """A folder of inputs, and the comparisons that they are for."""

    name: str
    store: Store
    comparisons: tuple[tuple[Side, Side], ...]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def corpus() -> None:
    """Put corpora in order: between text and the private form, checked, or smaller.

    DIR is a campaign's directory, or a folder of inputs as libFuzzer keeps them; for such a folder the options say what
    its inputs are for, as for a run. A campaign must not be running.
    """


@contextmanager
def _corpora(directory: Path, granule: str, kernel: dict[str, Any]) -> Iterator[list[_Corpus]]:
    """What is in `directory`, locked. Raises BadInput."""
    place = WorkDirectory(directory.resolve())
    if not place.is_campaign:
        with _folder(place.root, granule, sides_from(**kernel)) as found:
            yield [found]
        return
    if any(kernel.values()):
        raise BadInput(f"{shown(directory)} is a campaign, which says itself what it compares: leave out the options")
    with place.locked():
        setup = CampaignSetup.load(place)
        found_here: dict[str, _Corpus] = {}
        for number, name in enumerate(setup.stores):
            sides = setup.work[number].sides
            before = found_here.get(name) or _Corpus(name, setup.open_store(number, place), ())
            found_here[name] = _Corpus(name, before.store, (*before.comparisons, sides))
        yield list(found_here.values())


@contextmanager
def _folder(folder: Path, granule: str, sides: tuple[Side, Side]) -> Iterator[_Corpus]:
    scratch = folder.with_name(f"{folder.name}.tmp")
    store = Store.open(folder, scratch, dialect_for(capabilities_of(sides), granule_named(granule)))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not try_lock(descriptor):
            raise BadInput(f"{shown(folder)}: in use by another process; wait for it, or end it")
        yield _Corpus(folder.name, store, (sides,))
    finally:
        os.close(descriptor)
        with suppress(OSError):
            scratch.rmdir()


@corpus.command("import")
@click.argument("directory", type=OutFolder(), metavar="DIR")
@click.argument("programs", nargs=-1, required=True, type=EXISTING, metavar="PROGRAM...")
@GRANULE
@kernel_options
def import_(directory: Path, programs: tuple[Path, ...], granule: str, **kernel: Any) -> int:
    """Add programs to a corpus: *.s2 files, findings' directories, or folders of either.

    What a corpus cannot hold is left out, and said: a program for another granule, one that asks for what the sides
    lack, or one that is too long. One that is malformed is named, and makes the exit status 2.
    """
    read = read_each(file for path in programs for file in programs_in(path))
    loaded = read.programs
    with _corpora(directory, granule, kernel) as corpora:
        homeless = {path for path, _ in loaded}
        why: dict[Path, str] = {}
        for one in corpora:
            encoded = [(path, one.store.encode(program)) for path, program in loaded]
            taken = {path: data for path, data in encoded if data is not None}
            added = one.store.add(taken.values())
            homeless -= taken.keys()
            why |= {path: why_left_out(program, one.store.dialect) for path, program in loaded if path in homeless}
            added_now = counted(len(added), "input")
            show_line(f"{shown(one.name)}: {added_now} added, {number(len(taken) - len(added))} were there")
        for path, _ in loaded:
            if path in homeless:
                show_line(f"{shown(path)}: left out: {why[path]}")
    return BAD_INPUT if read.malformed else OK


@corpus.command()
@click.argument("directory", type=_THERE, metavar="DIR")
@click.argument("out", type=OutFolder(), metavar="OUT")
@GRANULE
@kernel_options
def export(directory: Path, out: Path, granule: str, **kernel: Any) -> int:
    """Write a corpus as text, a *.s2 file for every input; of a campaign with several, into a folder for each.

    What is damaged is left out, and named. Exit status: 2 if anything is.
    """
    problems = 0
    with _corpora(directory, granule, kernel) as corpora:
        for one in corpora:
            folder = out / one.name if len(corpora) > 1 else out
            folder.mkdir(parents=True, exist_ok=True)
            damaged = _say_what_is_damaged(one, "; left out")
            names = [name for name in one.store.names() if name not in damaged]
            for name in names:
                write_plain(folder / f"{name}.s2", one.store.text(name).encode())
            left_out = f", {len(damaged)} left out" if damaged else ""
            show_line(f"{shown(one.name)}: {counted(len(names), 'program')} in {shown(folder)}{left_out}")
            problems += len(damaged)
    return BAD_INPUT if problems else OK


def _say_what_is_damaged(one: _Corpus, more: str = "") -> set[str]:
    """A line on each file that is not what its name says, with `more` behind it; returns their names."""
    damaged = one.store.damaged()
    for path, why in damaged.items():
        say(f"{shown(path)}: {why}{more}")
    return {path.name for path in damaged}


@corpus.command()
@click.argument("directory", type=_THERE, metavar="DIR")
@GRANULE
@kernel_options
def check(directory: Path, granule: str, **kernel: Any) -> int:
    """Check that every input holds what its name says, and count. Changes nothing. Exit status: 2 if one does not."""
    problems = 0
    with _corpora(directory, granule, kernel) as corpora:
        for one in corpora:
            damaged = _say_what_is_damaged(one)
            problems += len(damaged)
            sound = [name for name in one.store.names() if name not in damaged]
            texts = {one.store.text(name) for name in sound}
            size = sum((one.store.folder / name).stat().st_size for name in sound)
            show_line(
                f"{shown(one.name)}: {counted(len(sound), 'input')}, {number(size)} bytes, "
                f"{counted(len(texts), 'different program')}"
            )
    return BAD_INPUT if problems else OK


@corpus.command()
@click.argument("directory", type=_THERE, metavar="DIR")
@GRANULE
@kernel_options
def cmin(directory: Path, granule: str, **kernel: Any) -> int:
    """Make a corpus as small as may be: few, short inputs that reach all that it reaches, on both sides.

    Edges of the hosted file by how often they are taken, what the sides do together, lines of the model. The smaller
    corpus is written beside the other, run again, and takes its place at once, if nothing is missing.
    """
    # Of these commands, the one that runs programs.
    from fuzz.cli.spinners import running  # noqa: PLC0415
    from fuzz.corpus.minset import cmin as run_cmin  # noqa: PLC0415

    with _corpora(directory, granule, kernel) as corpora:
        for one in corpora:
            with running(one.name) as told:
                saved = run_cmin(one.store, one.comparisons, told)
            show_line(
                f"{shown(one.name)}: {number(saved.inputs)} of {counted(saved.inputs_before, 'input')}, "
                f"{number(saved.size)} of {counted(saved.size_before, 'byte')}, reach the same "
                f"{counted(saved.features, 'feature')} (edges by how often, what both sides do, lines of the model)"
            )
            for name in saved.lost:
                show_line(f"{shown(one.name)}: a side died on {name}, which is kept; `s2fuzz corpus export` and run it")
    return OK
