"""What the options come to that choose sides, and how fuzzing processes run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuzz.cli.options import say
from fuzz.sides import Side, choose_sides, switched_off, why_unmodelled
from harness.errors import BadInput
from reference.build.naming import DEFAULT_LINUX

if TYPE_CHECKING:
    from fuzz.engine.background import Compiling


def sides_from(
    linux: str | None,
    patches: Sequence[Path],
    pgtable: Path | None,
    sides: str | None,
    flavour: str | None,
    kernel_object: str | None,
) -> tuple[Side, Side]:
    """The two sides that `kernel_options` came to; says why there is no model among them by default, and what a tree of
    the user's has switched off. Raises BadInput, and ToolFailure where such a tree cannot be had."""
    if linux is not None and sides is not None:
        raise BadInput("--linux and --sides exclude each other: name the kernel in --sides, as kernel:…")
    chosen = choose_sides(
        DEFAULT_LINUX if linux is None else linux, tuple(patches), pgtable, sides, flavour or "plain", kernel_object
    )
    if sides is None and chosen[0].is_kernel:
        base, change = (side.full_name for side in chosen)
        # Without a change, the first is another kernel: the default one.
        kernel = chosen[0] if chosen[0].what == chosen[1].what else chosen[1]
        say(f"{why_unmodelled(kernel)}: comparing {base} with {change} instead")
    for line in switched_off(chosen):
        say(line)
    return chosen


def alone(sides: tuple[Side, Side]) -> tuple[Side, Side]:
    """The last kernel among the sides as either side: it is judged without a second one. Raises BadInput."""
    kernels = [side for side in sides if side.is_kernel]
    if not kernels:
        raise BadInput("--oracle contracts needs a kernel among the sides")
    return kernels[-1], kernels[-1]


def also_from(text: str, *, flavour: str | None, kernel_object: str | None, **_kernel: Any) -> tuple[Side, Side]:
    """Two more sides, as `--also` has them; flavour and object are those of `kernel_options`. Raises BadInput."""
    try:
        return choose_sides(sides=text, flavour=flavour or "plain", kernel_object=kernel_object)
    except BadInput as error:
        raise BadInput(f"--also: {error}") from error


def compiled_now(no_compile: bool) -> Path | None:
    """The compiled modules, made first where they are not there; None, said with the reason, where they cannot be had,
    and where the modules shall run as they are."""
    if no_compile:
        return None
    from fuzz.engine import compiling  # noqa: PLC0415  (most commands compile nothing)

    try:
        return compiling.compiled(say)
    except compiling.CannotCompile as error:
        say(f"the model runs as it is, more slowly than compiled: {error}")
        return None


@contextmanager
def compiling_for(guidance: str, no_compile: bool) -> Iterator[Compiling | None]:
    """The compiled modules for fuzzing processes with this guidance, made behind the run; None, said with the reason,
    where they cannot be had, and where the modules must or shall run as they are."""
    from fuzz.engine import compiling  # noqa: PLC0415
    from fuzz.engine.background import Compiling  # noqa: PLC0415

    behind = None
    if not no_compile and guidance == "kernel":
        try:
            behind = Compiling()
        except compiling.CannotCompile as error:
            say(f"the model runs as it is, more slowly than compiled: {error}")
    try:
        yield behind
    finally:
        if behind is not None:
            behind.close()
