"""What a folder made by `s2fuzz package` is, seen from within: the fuzzing process there opens its sides from images,
and raises what it finds, as fuzzing clusters expect of a target."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, Final, NoReturn

from fuzz.engine.assignment import Assignment
from fuzz.sides import Side, side_from_json, side_to_json
from harness.errors import BadInput
from harness.observation.executor import Executor
from harness.outside import read_plain_text
from harness.program.capabilities import Capabilities
from harness.program.granule import Granule, granule_named
from harness.verdict.tiers import Tier, format_tiers, parse_tiers
from reference.build.image import Image
from reference.build.tree import KernelTree
from reference.link.console import QEMU, QEMU_SETTING
from reference.link.executor import Reference

SETTING: Final = "S2FUZZ_PACKAGE"
"""The environment variable by which the launcher says where the folder is."""

NAME: Final = "stage2_fuzzer"
"""The target's: what the launcher is called, and what the names of all that belongs to it begin with."""

FILES: Final = f"{NAME}.files"
"""The folder beside the launcher that holds whatever is no business of the cluster's."""
MANIFEST: Final = "package.json"
_MAX_MANIFEST: Final = 1 << 20
"""Bytes."""
LIBRARIES, FIRMWARE, COMPILED, IMAGES = "libraries", "firmware", "compiled", "kernels"

_FRAMES: Final = 3
"""How many functions of a trace ClusterFuzz tells findings apart by; two that share two of them are one to it."""


class FindingRaised(Exception):
    """Something that is wrong on every fresh kernel. The message is the bucket, the same for every such finding."""


def raise_finding(bucket: str, report: str) -> NoReturn:
    """Print the report, and raise a FindingRaised.

    A cluster tells crashes apart by the innermost functions of the trace and nothing else, so those bear the bucket's
    name.
    """
    print(report, file=sys.stderr, flush=True)

    def climb(self: FunctionType, frames: int) -> NoReturn:
        if frames > 1:
            self(self, frames - 1)
        raise FindingRaised(bucket)

    code = climb.__code__.replace(co_name=bucket, co_qualname=bucket)
    named = FunctionType(code, globals(), closure=climb.__closure__)
    named(named, _FRAMES)
    raise AssertionError("it has raised")


def to_manifest(sides: tuple[Side, Side], images: Mapping[int, Image], granule: Granule, tiers: frozenset[Tier]) -> str:
    """What package.json says. `images` are those of the kernels among the sides, by number."""
    described = []
    for number, side in enumerate(sides):
        one = {"configuration": side_to_json(side), "name": side.full_name}
        described.append(one if side.kind == "model" else {**one, "image": _describe(images[number])})
    return json.dumps(
        {"granule": granule.name, "sides": described, "tiers": format_tiers(tiers)}, indent=1, sort_keys=True
    )


def _describe(image: Image) -> dict[str, Any]:
    return {
        "compiler": image.compiler,
        "elf": image.elf.name,
        "files": dict(image.files),
        "flavour": image.flavour,
        "lacks": sorted(image.capabilities.lacks),
        "object": image.kernel_object,
        "sha256": image.sha256,
        "tree": {
            "description": image.tree.description,
            "pgtable_sha256": image.tree.pgtable_sha256,
            "version": image.tree.version,
        },
    }


@dataclass(frozen=True, slots=True)
class Package:
    """The folder `files` of a package, which lies beside its launcher."""

    files: Path
    assignment: Assignment
    executors: tuple[Executor, Executor]

    @classmethod
    def open(cls, files: Path) -> Package:
        """Raises BadInput for a folder that is no package. From then on QEMU is the package's own."""
        try:
            data = json.loads(read_plain_text(files / MANIFEST, _MAX_MANIFEST, "a package's manifest"))
            granule = granule_named(data["granule"])
            left, right = data["sides"]
            sides = (_side(left), _side(right))
            executors = (_executor(left, sides[0], files, granule), _executor(right, sides[1], files, granule))
            tiers = parse_tiers(data["tiers"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{files} is no package of s2fuzz: {error!r}") from error
        os.environ[QEMU_SETTING] = shlex.join(qemu_words(files))
        work = Assignment(sides, files, (), 0, None, None, True, None, granule=granule.name, tiers=tiers)
        return cls(files, work, executors)

    @property
    def launcher(self) -> Path:
        """What libFuzzer starts anew for -merge, -fork and -jobs."""
        return self.files.with_name(NAME)


def qemu_words(files: Path) -> list[str]:
    """The command of the package's own QEMU, which takes nothing from the system it runs on."""
    libraries = files / LIBRARIES
    loader = loader_in(libraries)
    own = [str(loader), "--inhibit-cache", "--library-path", str(libraries), str(files / QEMU)]
    return [*own, "-no-user-config", "-L", str(files / FIRMWARE)]


def loader_in(libraries: Path) -> Path:
    """The dynamic loader among libraries. Raises BadInput where there is none."""
    found = sorted(path for path in libraries.glob("ld-*.so*"))
    if len(found) != 1:
        raise BadInput(f"{libraries} holds {len(found)} dynamic loaders, instead of one")
    return found[0]


def _side(data: Any) -> Side:
    return side_from_json(data["configuration"], Path())


def _executor(data: Any, side: Side, files: Path, granule: Granule) -> Executor:
    if side.kind == "model":
        return side.open_for(granule)
    image, tree = data["image"], data["image"]["tree"]
    elf = files / IMAGES / str(image["elf"])
    if hashlib.sha256(elf.read_bytes()).hexdigest() != image["sha256"]:
        raise BadInput(f"{files} is damaged: {elf.name} is not the image that was packaged")
    nowhere = files / IMAGES  # the sources stayed behind
    return Reference(
        Image(
            elf,
            KernelTree(
                nowhere, nowhere, nowhere, tree["pgtable_sha256"], str(tree["version"]), str(tree["description"])
            ),
            str(image["flavour"]),
            str(image["compiler"]),
            str(image["sha256"]),
            Capabilities(frozenset(image["lacks"])),
            granule,
            kernel_object=str(image["object"]),
            files={str(name): str(digest) for name, digest in image.get("files", {}).items()},
        ),
        str(data["name"]),
    )
