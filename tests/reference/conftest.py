"""Kernels of the tests of the reference: with UBSan, of a test's own, with a changed pgtable.c."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
from altered_tree import with_changes

from reference.build.image import Image, build
from reference.link.console import ConsoleLink
from reference.link.executor import Reference
from reference.link.ram import RamLink


@pytest.fixture(scope="session")
def ubsan_kernel(image: Image) -> Iterator[Reference]:
    """The default kernel's pgtable.c, compiled with UBSan, running."""
    with closing(Reference(build(image.tree, "ubsan"), "kernel:6.12+ubsan")) as reference:
        yield reference


@pytest.fixture(params=[RamLink, ConsoleLink], ids=["memory", "console"])
def own_kernel(image: Image, request: pytest.FixtureRequest) -> Iterator[Reference]:
    """A driver of the test's own over either link, with nothing started yet."""
    with closing(Reference(image, "kernel:own", request.param(image.elf))) as reference:
        yield reference


@pytest.fixture
def console_kernel(image: Image) -> Iterator[Reference]:
    """The same, over the console."""
    with closing(Reference(image, "kernel:own", ConsoleLink(image.elf))) as reference:
        yield reference


@pytest.fixture
def memory_kernel(image: Image) -> Iterator[tuple[Reference, RamLink]]:
    """The same, over memory; and its link."""
    link = RamLink(image.elf)
    with closing(Reference(image, "kernel:own", link)) as reference:
        yield reference, link


@pytest.fixture(scope="session")
def tests_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for what only tests build, so that the user's does not grow. The run's processes share it."""
    own = tmp_path_factory.getbasetemp()
    cache = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "cache"
    cache.mkdir(exist_ok=True)
    return cache


@pytest.fixture
def scratch_cache(tests_cache: Path, image: Image, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Has the test's builds use that cache; the default kernel's sources were prepared before."""
    monkeypatch.setenv("S2FUZZ_CACHE", str(tests_cache))
    return tests_cache


OpenAltered = Callable[..., AbstractContextManager[Reference]]


@pytest.fixture
def altered(image: Image, tmp_path: Path, scratch_cache: Path) -> OpenAltered:
    """Opens a kernel with a changed pgtable.c: `with altered({line: replacement}) as kernel`."""

    def run(changes: Mapping[str, str], flavour: str = "plain") -> AbstractContextManager[Reference]:
        tree = with_changes(image.tree, tmp_path / "pgtable.c", changes)
        return closing(Reference(build(tree, flavour), "kernel:altered"))

    return run
