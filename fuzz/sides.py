"""Which two executors a run compares: from `--sides`, `--linux`, `--patch` and `--pgtable` to executors.

A side is `model:VERSION`, `model:VERSION+WAY` (another way to record owners), `kernel:VERSION`, `kernel:TREE` or
`kernel:GITDIR@REV`, each with `+hyp` behind it for hyp's object; or `kernel-make:VERSION`: the same file as the
kernel's own build compiles it (docs/fidelity.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.errors import BadInput, ToolFailure
from harness.observation.executor import Executor
from harness.outside import shown
from harness.program.capabilities import Capabilities
from harness.program.granule import GRANULE_4K, Granule
from harness.settings import refuse_empty
from reference.build.flags import CALLS, FLAVOURS, OBJECTS
from reference.build.naming import DEFAULT_LINUX, SUPPORTED, is_version
from reference.build.patch_names import names_of

if TYPE_CHECKING:
    from harness.model.executor import Model
    from reference.build.declared import Declared
    from reference.build.image import Image
    from reference.build.kbuild import Configuration
    from reference.build.tree import KernelTree
    from reference.link.executor import Reference, Several
# The model, and what prepares, builds and runs a kernel, are imported where that is done: either does without the
# other, and many commands without both.

_HOST: Final = "host"


KINDS: Final = ("model", "kernel", "kernel-make")


@dataclass(frozen=True, slots=True)
class PreparedKernel:
    """A kernel's tree, ready to be built, and what its headers declare."""

    tree: KernelTree
    declared: Declared


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison. `kind` is one of `KINDS`; `patches`, `pgtable` and `flavour` are a kernel's, but for
    the flavour `calls`, which is both sides' or neither's; `kernel_object` is what pgtable.c is built as.

    Sides are equal that are said alike. Each prepares its kernel once, when it is first asked for: whoever is handed
    the side is handed that too. One that is made anew sees the user's files as they are then.
    """

    kind: str
    what: str
    patches: tuple[Path, ...] = ()
    pgtable: Path | None = None
    flavour: str = "plain"
    kernel_object: str = _HOST
    _prepared: list[PreparedKernel] = field(default_factory=list, init=False, repr=False, compare=False)
    """At most one."""

    @property
    def name(self) -> str:
        """As in `--sides`."""
        return f"{self.kind}:{self.what}" + ("" if self.kernel_object == _HOST else f"+{self.kernel_object}")

    @property
    def is_kernel(self) -> bool:
        """Whether Linux's own file runs on this side."""
        return self.kind != "model"

    def prepared(self, progress: Callable[[str], None] = lambda _: None) -> PreparedKernel:
        """The kernel, made available unless it was before. Raises as `open` does."""
        if not self._prepared:
            from reference.build.declared import declared  # noqa: PLC0415
            from reference.build.sources import KernelChoice, prepare  # noqa: PLC0415

            tree = prepare(KernelChoice(self.what, self.patches, self.pgtable), progress)
            self._prepared.append(PreparedKernel(tree, declared(tree.root)))
        return self._prepared[0]

    def built_as(self, flavour: str | None = None, kernel_object: str | None = None) -> Side:
        """The same kernel, built otherwise. Both sides are prepared together."""
        other = replace(self, flavour=flavour or self.flavour, kernel_object=kernel_object or self.kernel_object)
        object.__setattr__(other, "_prepared", self._prepared)
        return other

    def image(self, progress: Callable[[str], None], granule: Granule = GRANULE_4K) -> Image:
        """The kernel's image for that granule, built if need be. Raises BadInput or ToolFailure."""
        if self.kind == "kernel-make":
            from reference.build.kbuild import Configuration  # noqa: PLC0415

            return self._made_image(progress, Configuration(self.what, granule))
        from reference.build.image import build  # noqa: PLC0415

        return build(self.prepared(progress).tree, self.flavour, progress, granule, self.kernel_object)

    def open(self, progress: Callable[[str], None] = lambda _: None, granules: Iterable[Granule] = ()) -> Executor:
        """An executor for programs of any granule. A kernel's images for `granules` are built now, others when their
        first program comes.

        Raises BadInput for a side that cannot be, ToolFailure where the environment fails.
        """
        if self.kind == "model":
            return self._model()
        if self.kind == "kernel-make":
            from reference.build.kbuild import Configuration  # noqa: PLC0415

            made = self._made_kernel(progress)
            for granule in granules:
                made.of(Configuration(self.what, granule))
            return made
        from reference.link.executor import ByGranule  # noqa: PLC0415

        kernel = ByGranule(lambda granule: self._kernel(progress, granule), self.full_name)
        for granule in granules:
            kernel.of(granule)
        return kernel

    def open_for(self, granule: Granule, progress: Callable[[str], None] = lambda _: None) -> Executor:
        """An executor for programs of that granule; a kernel refuses others. Raises as `open` does."""
        if self.kind == "model":
            return self._model()
        return self._made_kernel(progress) if self.kind == "kernel-make" else self._kernel(progress, granule)

    def _made_kernel(self, progress: Callable[[str], None]) -> Several[Configuration]:
        from reference.build.kbuild import Configuration  # noqa: PLC0415
        from reference.link.executor import Reference, Several  # noqa: PLC0415

        return Several(
            lambda configuration: Reference(self._made_image(progress, configuration), self.full_name),
            lambda machine: Configuration.of(self.what, machine),
            Configuration(self.what),
            self.full_name,
        )

    def _made_image(self, progress: Callable[[str], None], configuration: Configuration) -> Image:
        if self.kernel_object != _HOST:
            raise BadInput(f"{self.name}: of the kernel's own build there is the host's object only")
        if self.patches:
            raise BadInput(f"{self.name} is built as it is packaged: a patch cannot go to it, --pgtable can")
        from reference.build.make_build import build_by_make  # noqa: PLC0415

        return build_by_make(self.prepared(progress).tree, configuration, progress, calls_only=self.flavour == CALLS)

    def _kernel(self, progress: Callable[[str], None], granule: Granule) -> Reference:
        from reference.link.executor import Reference  # noqa: PLC0415

        return Reference(self.image(progress, granule), self.full_name)

    def capabilities(self) -> Capabilities:
        """What programs may ask of it. Raises as `open` does."""
        return self._model().capabilities if self.kind == "model" else self.prepared().declared.capabilities

    def _model(self) -> Model:
        return _model(self.what, self.flavour == CALLS, self.kernel_object)

    @property
    def full_name(self) -> str:
        """The name, with what was changed."""
        extras = [*names_of(self.patches), *([] if self.pgtable is None else [self.pgtable.name])]
        if self.flavour != "plain":
            extras.append(self.flavour)
        return shown("+".join([self.name, *extras]))


def _model(version: str, calls_only: bool = False, kernel_object: str = _HOST) -> Model:
    from harness.model.executor import Model  # noqa: PLC0415

    return Model(version, calls_only, kernel_object)


def with_flavour(side: Side, flavour: str) -> Side:
    """The side as a run with `--flavour` has it."""
    return side.built_as(flavour) if side.kind == "kernel" or flavour == CALLS else side


def with_object(side: Side, kernel_object: str) -> Side:
    """The side as a run with `--object` has it."""
    return side.built_as(kernel_object=kernel_object)


def parse_side(text: str) -> Side:
    """A side as the user writes it. Raises BadInput."""
    kind, colon, what = text.partition(":")
    kernel_object = _HOST
    for name in OBJECTS:
        if what.endswith(f"+{name}") and not Path(what).exists():
            what, kernel_object = what.removesuffix(f"+{name}"), name
    if kind not in KINDS or not colon or not what:
        raise BadInput(
            f"`{shown(text)}` is not a side: expected model:VERSION, kernel:VERSION, kernel:TREE, kernel:DIR@REV or "
            "kernel-make:VERSION"
        )
    return Side(kind, _absolute(what) if kind == "kernel" else what, kernel_object=kernel_object)


def capabilities_of(sides: tuple[Side, Side]) -> Capabilities:
    """What programs may ask of both. Raises as `Side.open` does."""
    return sides[0].capabilities() & sides[1].capabilities()


def model_of(sides: tuple[Side, Side]) -> str:
    """The version of the model among the sides, or of that which is nearest to the last kernel."""
    versions = [side.what for side in sides if side.kind == "model"]
    return versions[0] if versions else _nearest_model(sides[-1].what)


def why_unmodelled(side: Side) -> str | None:
    """Why no model follows a side's kernel, whatever is changed of it; None where one does. That takes a version that
    is modelled, and headers that declare nothing beyond what that version has: a tree that does has taken over code of
    others.

    What is no kernel at all counts as modelled: opening it says what is wrong.
    """
    version = _version_of(side.what)
    if version in (None, side.what):
        return None
    kernel = _unchanged(side)
    model = _nearest_model(kernel.what)
    if _series(version) != model:
        from harness.model.executor import MODELLED  # noqa: PLC0415

        return f"Linux {version} is none of the versions that are modelled ({', '.join(MODELLED)})"
    try:
        added = _model(model).capabilities.lacks - kernel.capabilities().lacks
    except (BadInput, ToolFailure):
        return None
    return f"Linux {version} with {', '.join(sorted(added))}, which {model} has not, is not modelled" if added else None


def _version_of(linux: str) -> str | None:
    """As `reference.build.versions.version_of`: of a packaged one there is nothing to look up."""
    if is_version(linux):
        return linux
    from reference.build.versions import version_of  # noqa: PLC0415

    return version_of(linux)


def _unchanged(side: Side) -> Side:
    """A kernel's side as the kernel is without patches and another pgtable.c; itself where that is so."""
    if side.kind == "kernel" and not side.patches and side.pgtable is None:
        return side
    return Side("kernel", side.what)


def _series(version: str | None) -> str | None:
    found = re.match(r"\d+\.\d+", version or "")
    return found[0] if found else None


def _nearest_model(linux: str) -> str:
    from harness.model.executor import MODELLED  # noqa: PLC0415
    from pgtable import NEWEST  # noqa: PLC0415

    series = _series(_version_of(linux))
    return series if series in MODELLED else NEWEST.name


def follow(side: Side, kernel: Side) -> Side:
    """The side, or for a model the one that follows that kernel, with its way to record owners. Where none does, a
    model stays what it is."""
    if side.kind != "model" or why_unmodelled(kernel) is not None:
        return side
    _, plus, way = side.what.partition("+")
    return replace(side, what=f"{_nearest_model(kernel.what)}{plus}{way}")


def switched_off(sides: Iterable[Side]) -> list[str]:
    """A line on each thing that the model next to a kernel of the user's has, and its tree has not, or not in a form
    that we can call. Raises as `Side.open` does."""
    lines = []
    for side in sides:
        if side.kind == "kernel" and (side.patches or side.what not in SUPPORTED):
            why, known = side.prepared().declared.why, _model(_nearest_model(side.what)).capabilities.lacks
            lines += [f"{side.name}: {word} is switched off: {why[word]}" for word in why if word not in known]
    return list(dict.fromkeys(lines))


def _absolute(what: str) -> str:
    """A kernel's folder by its full name, so that a finding can be replayed from anywhere."""
    head, at, revision = what.rpartition("@")
    if re.fullmatch(r"\d+\.\d+", what):
        return what
    if Path(what).is_dir():
        return str(Path(what).resolve())
    return f"{Path(head).resolve()}@{revision}" if at and Path(head).is_dir() else what


def choose_sides(
    linux: str = DEFAULT_LINUX,
    patches: tuple[Path, ...] = (),
    pgtable: Path | None = None,
    sides: str | None = None,
    flavour: str = "plain",
    kernel_object: str | None = None,
) -> tuple[Side, Side]:
    """The two sides of a run. By default the model that follows the kernel `linux` against it; where none does, that
    kernel without the patches and the other pgtable.c, or if there are none the default kernel.

    Patches and a replaced pgtable.c go to the last kernel among the sides, so that `kernel:6.12,kernel:6.12` with a
    patch compares before and after. A `kernel_object` is that of both sides. Raises BadInput.
    """
    if flavour not in FLAVOURS:
        raise BadInput(f"`{flavour}` is not a flavour: expected {' or '.join(FLAVOURS)}")
    if sides is None:
        chosen = _default_sides(linux, bool(patches or pgtable))
    else:
        chosen = [parse_side(text) for text in sides.split(",")]
    if len(chosen) != 2:
        raise BadInput(f"`{shown(sides or '')}` is not two sides: expected A,B")
    kernels = [index for index, side in enumerate(chosen) if side.is_kernel]
    chosen = [with_flavour(side, flavour) for side in chosen]
    if kernel_object is not None:
        chosen = [with_object(side, kernel_object) for side in chosen]
    if (patches or pgtable) and not kernels:
        raise BadInput("--patch and --pgtable need a kernel among the sides")
    if patches or pgtable:
        chosen[kernels[-1]] = replace(chosen[kernels[-1]], patches=patches, pgtable=pgtable)
    return chosen[0], chosen[1]


def _default_sides(linux: str, is_changed: bool) -> list[Side]:
    kernel = parse_side(f"kernel:{linux}")
    if why_unmodelled(kernel) is None:
        return [Side("model", _nearest_model(kernel.what)), kernel]
    return [kernel if is_changed else Side("kernel", DEFAULT_LINUX), kernel]


def ownership_sides(ways: str | None = None) -> list[Side]:
    """The default kernel, and the model with these ways to record owners, or with each."""
    from pgtable import NEWEST, OWNERSHIPS  # noqa: PLC0415

    names = OWNERSHIPS if ways is None else ways.split(",")
    return [Side("kernel", DEFAULT_LINUX), *(Side("model", f"{NEWEST.name}+{name}") for name in names)]


def side_to_json(side: Side, file_names: Mapping[Path, str] | None = None) -> dict[str, Any]:
    """A side as JSON. `file_names` says under which names its files were kept beside it."""

    def where(path: Path) -> str:
        return str(path.resolve()) if file_names is None else file_names[path]

    return {
        "flavour": side.flavour,
        "kind": side.kind,
        "object": side.kernel_object,
        "patches": [where(path) for path in side.patches],
        "pgtable": None if side.pgtable is None else where(side.pgtable),
        "what": side.what,
    }


def side_from_json(data: Any, base: Path) -> Side:
    """A side from JSON; relative file names are below `base`. Raises BadInput when it is not a side."""
    try:
        kind, what, flavour = (str(data[key]) for key in ("kind", "what", "flavour"))
        side = parse_side(f"{kind}:{what}")
        if flavour not in FLAVOURS:
            raise BadInput(f"`{flavour}` is not a flavour")
        kernel_object = str(data.get("object", _HOST))
        if kernel_object not in OBJECTS:
            raise BadInput(f"`{kernel_object}` is not an object")
        if not isinstance(data["patches"], list):
            raise BadInput("the patches of a side are not a list")
        for name in (*data["patches"], *(() if data["pgtable"] is None else (data["pgtable"],))):
            refuse_empty("the name of a side's file", str(name))
        patches = tuple(base / str(name) for name in data["patches"])
        pgtable = None if data["pgtable"] is None else base / str(data["pgtable"])
    except (KeyError, TypeError) as error:
        raise BadInput(f"the configuration of a side is malformed: {error!r}") from error
    return replace(side, patches=patches, pgtable=pgtable, flavour=flavour, kernel_object=kernel_object)
