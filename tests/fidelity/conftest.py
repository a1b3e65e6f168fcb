"""The kernel's own build of pgtable.o in a test kernel, running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from reference.build import Image
from reference.executor import Reference
from reference.make_build import build_by_make, patches_of
from reference.patching import Patches


@pytest.fixture(scope="session")
def made(image: Image) -> Iterator[Reference]:
    with closing(Reference(build_by_make(image.tree, "6.12"), "kernel-make:6.12")) as reference:
        yield reference


@pytest.fixture(scope="session")
def patches(image: Image) -> Patches:
    return patches_of(image.tree, "6.12")
