"""What the kernel's own build makes of pgtable.c, in a test kernel, running: for each granule when it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from fuzz.sides import parse_side
from harness.executor import Executor


@pytest.fixture(scope="session")
def made() -> Iterator[Executor]:
    """Programs of any granule go to the kernel that was configured for them."""
    with closing(parse_side("kernel-make:6.12").open()) as every:
        yield every
