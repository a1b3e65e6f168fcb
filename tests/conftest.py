"""What tests of several folders share: the packaged kernel's image, and one running test kernel."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import settings

from harness.program.granule import Granule
from reference.build.image import Image, build
from reference.build.naming import SUPPORTED
from reference.build.sources import KernelChoice, prepare
from reference.link.executor import ByGranule, Reference

# A busy machine makes slow examples, not wrong ones.
settings.register_profile("s2fuzz", deadline=None)
settings.load_profile("s2fuzz")


@pytest.fixture(scope="session")
def image() -> Image:
    """The plain test kernel that hosts the default kernel's pgtable.c."""
    return build(prepare(KernelChoice()))


@pytest.fixture(scope="session")
def kernel(image: Image) -> Iterator[Reference]:
    """That kernel, running. A test that leaves it dead or refreshed does no harm to the next."""
    with closing(Reference(image, "kernel:6.12")) as reference:
        yield reference


def by_granule(linux: str) -> ByGranule:
    """A packaged kernel for every granule, each built and started when its first program comes."""

    def make(granule: Granule) -> Reference:
        return Reference(build(prepare(KernelChoice(linux)), granule=granule), f"kernel:{linux}")

    return ByGranule(make, f"kernel:{linux}")


@pytest.fixture(scope="session")
def kernels() -> Iterator[ByGranule]:
    """The default kernel, for every granule."""
    with closing(by_granule("6.12")) as every:
        yield every


@pytest.fixture(scope="session", params=SUPPORTED)
def linux(request: pytest.FixtureRequest) -> str:
    """Every packaged version in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def each_kernel(linux: str) -> Iterator[Reference]:
    """The kernel of that version, running."""
    with closing(Reference(build(prepare(KernelChoice(linux))), f"kernel:{linux}")) as reference:
        yield reference


@pytest.fixture(scope="session")
def every_kernel(linux: str) -> Iterator[ByGranule]:
    """The same for every granule."""
    with closing(by_granule(linux)) as every:
        yield every


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of six MiB: room for a small campaign."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting a tmpfs is not allowed here: {mounted.stderr}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # a cache there is in use while we live


@pytest.fixture
def full_disk(small_disk: Path) -> Path:
    """That file system with room for folders and empty files, but for no byte more."""
    with suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    return small_disk
