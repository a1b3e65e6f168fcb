"""A hang is told from a slow machine by what the kernel has worked, not by how long that took."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from reference.link import console
from reference.link.console import Deadline


class Clocks:
    """The clock on the wall, and QEMU's, which goes at a share of it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.spent = 7.0

    def pass_by(self, seconds: float, share: float) -> None:
        self.now += seconds
        self.spent += seconds * share


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


@pytest.mark.parametrize("share", [1.0, 0.125, 0.02])
def test_a_busy_machine_gives_a_kernel_its_time(clocks: Clocks, share: float) -> None:
    deadline = Deadline(10.0, 0.5, lambda: clocks.spent)
    waited = 0.0
    while (left := deadline.left()) and waited < 100.0:
        waited += left
        clocks.pass_by(left, share)
    assert clocks.spent - 7.0 == pytest.approx(0.5, abs=0.01)
    assert waited == pytest.approx(0.5 / share, abs=0.5)


def test_a_kernel_that_does_nothing_is_given_up(clocks: Clocks) -> None:
    deadline = Deadline(10.0, 0.5, lambda: clocks.spent)
    clocks.pass_by(9.0, 0.0)
    assert 0.0 < deadline.left() <= 1.0
    clocks.pass_by(1.0, 0.0)
    assert deadline.left() == 0.0


def test_without_work_there_is_the_clock(clocks: Clocks) -> None:
    deadline = Deadline(10.0, None, lambda: clocks.spent)
    clocks.pass_by(9.0, 1.0)
    assert deadline.left() == pytest.approx(1.0)
    clocks.pass_by(1.0, 1.0)
    assert deadline.left() == 0.0
