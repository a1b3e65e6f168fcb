"""What the kernel's own build makes of pgtable.c, in a test kernel, running: for each granule when it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from fuzz.sides import parse_side
from harness.observation.executor import Executor


@pytest.fixture(scope="session")
def made(linux: str) -> Iterator[Executor]:
    """That of each version. Programs of any granule go to the kernel that was configured for them."""
    with closing(parse_side(f"kernel-make:{linux}").open()) as every:
        yield every
