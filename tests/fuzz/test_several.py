"""Commands that take several programs: one bad file neither hides the others nor goes unnamed."""

from __future__ import annotations

from pathlib import Path

import pytest
from executors import Dying, OneOff

from fuzz.cli import main as cli
from fuzz.cluster.folder import seed_inputs
from fuzz.sides import Side
from harness.errors import BadInput
from harness.model.executor import Model
from harness.program.codec import dialect_for
from harness.program.granule import GRANULE_4K
from harness.program.program import Program

GOOD = "s2 1\n\nmap ipa=0x0 size=4K phys=0x0 prot=r mc=4\n"
OF_6_1 = "s2 1\n\nmkold ipa=0x0\n"
BAD = "s2 1\nfly ipa=0x0\n"
MODELS = ("--sides", "model:6.12,model:6.12")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in (("a", BAD), ("b", GOOD), ("c", OF_6_1), ("d", BAD), ("e", GOOD)):
        (tmp_path / f"{name}.s2").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(names: str) -> list[str]:
    return [f"{name}.s2" for name in names]


@pytest.mark.parametrize(
    ("names", "more", "status", "summary"),
    [
        ("bce", (), 0, "ran 2 of 3 programs; 1 skipped: model:6.12 lacks mkold (1)"),
        ("bce", ("--strict",), 2, "ran 2 of 3 programs; 1 skipped: model:6.12 lacks mkold (1)"),
        ("abde", (), 2, "ran 2 of 4 programs; 2 malformed"),
        ("cc", (), 2, "ran 0 of 2 programs; 2 skipped: model:6.12 lacks mkold (2)"),
        ("be", ("--strict",), 0, "ran 2 of 2 programs"),
    ],
)
def test_run_goes_on_and_counts(
    place: Path, names: str, more: tuple[str, ...], status: int, summary: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.status_of(["run", *files(names), *MODELS, *more]) == status
    said = capfd.readouterr()
    assert said.out.splitlines()[-1] == summary
    assert said.out.count("the sides agree") == sum(name in "be" for name in names)
    assert said.err.count("c.s2: skipped: model:6.12 lacks mkold") == names.count("c")
    for name in set(names) & set("ad"):
        assert f"{name}.s2:2:1: expected an op" in said.err


def test_run_of_nothing_but_malformed_programs_starts_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Side, "open", lambda *_: pytest.fail("a side was opened"))
    assert cli.status_of(["run", "a.s2", "d.s2", *MODELS]) == 2


def opening(monkeypatch: pytest.MonkeyPatch, right: Model) -> None:
    sides = iter((Model(), right))
    monkeypatch.setattr(Side, "open", lambda *_: next(sides))


def test_a_finding_weighs_more_than_a_malformed_program(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    opening(monkeypatch, Dying("map"))
    assert cli.status_of(["run", *files("abc"), *MODELS]) == 1
    assert capfd.readouterr().out.splitlines()[-1] == (
        "ran 1 of 3 programs; 1 skipped: model:6.12 lacks mkold (1); 1 malformed"
    )


def test_a_flaky_program_does_not_end_the_run(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "b.s2").write_text("s2 1\nset_owner ipa=0x0 size=4K owner=255 mc=5\n")
    opening(monkeypatch, OneOff())
    assert cli.status_of(["run", *files("be"), *MODELS]) == 3
    said = capfd.readouterr()
    assert "b.s2: flaky: " in said.err
    assert "e.s2: the sides agree" in said.out
    assert said.out.splitlines()[-1] == "ran 2 of 2 programs; 1 flaky"


class Interrupting(Model):
    """Ctrl-C comes with the second program, however often the first one runs."""

    def __init__(self) -> None:
        super().__init__()
        self._first: str | None = None

    def start(self, program: Program) -> None:
        self._first = self._first or program.ops[0].name
        if program.ops[0].name != self._first:
            raise KeyboardInterrupt
        super().start(program)


def test_an_interrupted_run_says_how_far_it_came(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "d.s2").write_text("s2 1\n\nunmap ipa=0x0 size=4K\n")
    opening(monkeypatch, Interrupting())
    assert cli.status_of(["run", *files("bde"), *MODELS]) == 130
    assert capfd.readouterr().err == "interrupted after 1 of 3 programs: nothing found so far\n"


def test_fmt_mends_what_it_can(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (place / "b.s2").write_text(GOOD.replace("4K", "0x1000"))
    assert cli.status_of(["fmt", *files("abde")]) == 2
    said = capfd.readouterr()
    assert said.out == "b.s2: rewritten\n"
    assert "a.s2:2:1" in said.err and "d.s2:2:1" in said.err
    assert (place / "b.s2").read_text() == GOOD
    assert sorted(path.name for path in place.iterdir()) == files("abcde")


def test_weigh_goes_on(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.status_of(["weigh", *files("abce"), "--sides", "model:6.12"]) == 2
    said = capfd.readouterr()
    assert [line for line in said.out.splitlines() if line.endswith(":")] == ["b.s2:", "e.s2:"]
    assert "a.s2:2:1" in said.err and "c.s2: skipped: model:6.12 lacks mkold" in said.err


def test_import_takes_what_it_can(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.status_of(["corpus", "import", "corpus", *files("abd"), *MODELS]) == 2
    said = capfd.readouterr()
    assert "1 input added" in said.out
    assert "a.s2:2:1" in said.err and "d.s2:2:1" in said.err


def test_a_package_names_all_that_are_malformed(place: Path) -> None:
    with pytest.raises(BadInput, match=r"(?s)a\.s2:2:1.*d\.s2:2:1"):
        seed_inputs([place], dialect_for(Model().capabilities, GRANULE_4K))
