"""Commands and their exit statuses: a finding (1), bad input (2) and tool failure (3) never look alike."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from planted import load_all
from processes import COMMAND, s2fuzz

from fuzz.cli import main as cli
from harness.errors import BadInput, ToolFailure
from harness.findings.finding import load
from pgtable import OWNERSHIPS
from reference.build.sources import KernelChoice, prepare

PROGRAM = """\
# A block, split by one page.
s2 1

map ipa=0x0 size=2M phys=0x80000000 prot=rwx mc=2
map ipa=0x1000 size=4K phys=0x90000000 prot=rw mc=2
walk ipa=0x0 size=2M flags=leaf+table_pre
destroy
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "split.s2"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def broken_pgtable(tmp_path: Path) -> Path:
    """A pgtable.c that maps writable memory read-only."""
    mutant = next(one for one in load_all() if one.name == "write-permission-lost")
    path = tmp_path / "pgtable.c"
    path.write_text(mutant.apply(prepare(KernelChoice()).pgtable.read_text()))
    return path


def test_run_agrees(program: Path, tmp_path: Path) -> None:
    result = s2fuzz("run", "--verbose", program, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "split.s2: the sides agree" in result.stdout
    assert "walk ipa=0x0 size=2M flags=leaf+table_pre  => 0 514 visits" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["split.s2"], "nothing else is written"


def test_weigh_compares_any_number_of_sides(program: Path, tmp_path: Path) -> None:
    ways = s2fuzz("weigh", program, "--ways", "linux,flag", cwd=tmp_path)
    assert ways.returncode == 0, ways.stderr
    header, *rows = ways.stdout.splitlines()
    assert header.split()[:4] == ["side", "as", "first", "mapped"]
    assert [row.split()[0] for row in rows] == ["kernel:6.12", "model:6.12+linux", "model:6.12+flag"]
    assert len({tuple(row.split()[1:]) for row in rows}) == 1, "nobody owns anything"
    several = s2fuzz("weigh", program, program, "--sides", "model:6.12", cwd=tmp_path)
    assert [line.split()[0] for line in several.stdout.splitlines() if line] == [
        f"{program}:",
        "side",
        "model:6.12",
    ] * 2
    explained = s2fuzz("weigh", "--help", cwd=tmp_path).stdout
    assert all(f"{name} " in explained and way.what in explained for name, way in OWNERSHIPS.items())
    for wrong in (("--ways", "none"), ("--ways", "flag", "--sides", "model:6.12"), ("--sides", "model")):
        assert s2fuzz("weigh", program, *wrong, cwd=tmp_path).returncode == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["split.s2"]


def test_a_finding_is_filed_replayed_and_seen_to_be_gone(program: Path, broken_pgtable: Path, tmp_path: Path) -> None:
    result = s2fuzz("run", program, "--pgtable", broken_pgtable, "--out", tmp_path / "out", cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    (directory,) = (tmp_path / "out").iterdir()
    assert f"  s2fuzz replay out/{directory.name}\n" in result.stdout, "as it is typed from here"
    assert "First differing op: op 1: map" in result.stdout
    assert "the model was verified against other files" in result.stdout
    names = {path.name for path in directory.iterdir()}
    files = {"program.s2", "report.txt", "left.txt", "right.txt", "finding.json", "README", "reproducer.c", "kernel"}
    assert names == files | {f"test_{directory.name.replace('-', '_')}.py"}
    broken_pgtable.unlink()  # the finding has a copy of its own

    again = s2fuzz("replay", directory, cwd=tmp_path)
    assert (again.returncode, again.stdout.splitlines()[0]) == (1, "still there"), again.stderr
    fixed = s2fuzz("replay", directory, "--linux", "6.12", cwd=tmp_path)
    assert fixed.returncode == 0
    assert fixed.stdout.startswith("gone on model:6.12 and kernel:6.12: the sides agree")
    assert s2fuzz("run", directory, cwd=tmp_path).returncode == 0, "a finding may stand for its program"
    assert load(directory).kind == "divergence"


def test_tiers_can_be_chosen_and_stay_with_the_finding(program: Path, tmp_path: Path) -> None:
    """A TLBI that is missing shows in events only."""
    mutant = next(one for one in load_all() if one.name == "event-bbm-tlbi-dropped")
    silent = tmp_path / "silent.c"
    silent.write_text(mutant.apply(prepare(KernelChoice()).pgtable.read_text()))

    def run(*tiers: str) -> int:
        return s2fuzz("run", program, "--pgtable", silent, "--out", "out", *tiers, cwd=tmp_path).returncode

    assert run("--tiers", "results,tables,accounting") == 0
    assert run("--tiers", "events") == 1
    (directory,) = (tmp_path / "out").iterdir()
    assert directory.name.startswith("events-map-tlbi_vmid_ipa-level2-")
    assert load(directory).configuration["tiers"] == "events"
    assert s2fuzz("replay", directory, cwd=tmp_path).returncode == 1
    assert s2fuzz("replay", directory, "--tiers", "results,tables", cwd=tmp_path).returncode == 0


def test_events_are_printed_on_request(program: Path, tmp_path: Path) -> None:
    shown = s2fuzz("show", "--events", program, cwd=tmp_path).stdout
    printed = s2fuzz("run", "--events", program, cwd=tmp_path).stdout
    for line in ("  0 init (implicit): 2 events", "      dsb ishst"):
        assert line in shown.splitlines()
        assert f"  {line}" in printed.splitlines()


def test_replay_that_cannot_run_is_a_failure(program: Path, broken_pgtable: Path, tmp_path: Path) -> None:
    s2fuzz("run", program, "--pgtable", broken_pgtable, "--out", tmp_path / "out", cwd=tmp_path)
    (directory,) = (tmp_path / "out").iterdir()
    for path in (directory / "kernel").iterdir():
        path.unlink()
    result = s2fuzz("replay", directory, cwd=tmp_path)
    assert result.returncode == 3
    assert "cannot be run again here" in result.stderr


def test_two_kernels_can_be_compared(program: Path, broken_pgtable: Path, tmp_path: Path) -> None:
    result = s2fuzz(
        "run", program, "--sides", "kernel:6.12,kernel:6.12", "--pgtable", broken_pgtable, "--out", "o", cwd=tmp_path
    )
    assert result.returncode == 1, result.stderr
    assert "kernel:6.12+pgtable.c" in result.stdout


def test_show_decodes_the_tree(program: Path, tmp_path: Path) -> None:
    program.write_text(PROGRAM.replace("destroy\n", ""))
    result = s2fuzz("show", program, cwd=tmp_path)
    assert result.returncode == 0
    assert "pa=0x90000000 RW-" in result.stdout
    assert "level 3 table" in result.stdout
    on_kernel = s2fuzz("show", program, "--linux", "6.12", cwd=tmp_path)
    assert on_kernel.stdout == result.stdout


def test_check_and_fmt(program: Path, tmp_path: Path) -> None:
    assert s2fuzz("check", program, cwd=tmp_path).returncode == 0
    assert s2fuzz("fmt", "--check", program, cwd=tmp_path).returncode == 0
    program.write_text(PROGRAM.replace("size=2M phys", "size=0x200000   phys"))
    assert s2fuzz("fmt", "--check", program, cwd=tmp_path).returncode == 2
    assert s2fuzz("fmt", program, cwd=tmp_path).returncode == 0
    assert program.read_text() == PROGRAM


def test_build_prints_path_and_identity(tmp_path: Path) -> None:
    result = s2fuzz("build", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.splitlines()[0]).read_bytes()[:4] == b"\x7fELF"
    assert "pgtable_sha256: " in result.stdout


def test_doctor_and_version(tmp_path: Path) -> None:
    assert s2fuzz("doctor", cwd=tmp_path).returncode == 0
    assert s2fuzz("--version", cwd=tmp_path).stdout.startswith("s2fuzz")


def test_doctor_names_what_is_missing(tmp_path: Path) -> None:
    result = s2fuzz("doctor", cwd=tmp_path, env={"PATH": "/nonexistent"})
    assert result.returncode == 3
    assert "missing  QEMU" in result.stdout
    assert "apt-get install clang-19 lld-19" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nowhere.s2"], "does not exist"),
        (["run", "bad.s2"], "bad.s2:2:1: expected an op"),
        (["run", "needs.s2"], "lacks nested"),
        (["run"], "Missing argument"),
        (["smoke", "--seconds", "soon"], "not a valid float"),
        (["smoke", "--linux", "5.4"], "5.4 is not supported"),
        (["smoke", "--linux", "/nonexistent/tree"], "/nonexistent/tree"),
        (["smoke", "--sides", "model:6.12"], "`model:6.12` is not two sides: expected A,B"),
        (["smoke", "--sides", "model:9.9,kernel:6.12"], "the model knows 6.1, 6.12"),
        (["smoke", "--sides", "oracle,kernel:6.12"], "is not a side"),
        (["smoke", "--also", "model:6.12"], "--also: `model:6.12` is not two sides"),
        (["smoke", "--sides", "model:6.12,model:6.12", "--base", "6.12"], "--base 6.12: there is no kernel among"),
        (["smoke", "--sides", "model:6.12,kernel-make:9.9"], "9.9"),
        (["smoke", "--sides", "model:6.12,kernel-make:6.12", "--patch", "a.patch"], "built as it is packaged"),
        (["smoke", "--patch", "bad.s2"], "no diff that can be read"),
        (["smoke", "--pgtable", "bad.s2"], "does not compile"),
        (["smoke", "--tiers", "results,table"], "`table` is not a tier"),
        (["run", "good.s2", "--tiers", ""], "--tiers: the value is empty"),
        (["replay", "good.s2"], "not a finding"),
        (["check", "bad.s2"], "bad.s2:2:1"),
        (["frobnicate"], "No such command"),
    ],
)
def test_bad_input_is_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "bad.s2").write_text("s2 1\nfly ipa=0x0\n")
    (tmp_path / "good.s2").write_text("s2 1\n")
    (tmp_path / "a.patch").write_text("--- a/Makefile\n+++ b/Makefile\n@@ -1 +1 @@\n-a\n+b\n")
    (tmp_path / "needs.s2").write_text("s2 1\nrequires = nested\n")
    result = s2fuzz(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_tool_is_3(program: Path, tmp_path: Path) -> None:
    result = s2fuzz("run", program, cwd=tmp_path, env={"PATH": "/nonexistent"})
    assert result.returncode == 3
    assert "make setup" in result.stderr


COMMANDS = {
    "smoke": ["smoke"],
    "run": ["run", "p.s2"],
    "show": ["show", "p.s2"],
    "replay": ["replay", "p.s2"],
    "debug": ["debug", "p.s2"],
    "build": ["build"],
    "coverage": ["coverage"],
    "doctor": ["doctor"],
    "fmt": ["fmt", "p.s2"],
    "check": ["check", "p.s2"],
    "shell": ["shell"],
    "tmin": ["tmin", "p.s2"],
    "bisect": ["bisect", "p.s2", "--repo", ".", "v1", "v2"],
    "weigh": ["weigh", "p.s2"],
    "trace": ["trace", "p.s2"],
    "known": ["known", "add", "p.s2", "--verdict", "kernel bug", "--reason", "x"],
    "campaign": ["campaign", "d"],
    "status": ["status", "."],
    "corpus": ["corpus", "check", "."],
    "report": ["report", "."],
    "package": ["package", "d"],
    "mail": ["mail", "p.s2"],
}


def test_every_command_is_covered_below() -> None:
    assert set(COMMANDS) == set(cli.cli.commands)


@pytest.mark.parametrize("command", sorted(COMMANDS))
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("a bug of ours"), 3),
        (KeyError("another"), 3),
        (OSError(28, "no space left"), 3),
        (ToolFailure("no QEMU"), 3),
        (BadInput("what you gave"), 2),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_uncaught_errors_become_statuses(
    command: str, error: BaseException, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raised from inside each command's own code, by way of the first thing it calls."""
    (tmp_path / "p.s2").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)

    def fail(*_args: object, **_kwargs: object) -> None:
        raise error

    assert all(cli.cli.commands.values()), "which imports them"
    commands = [module for name, module in sys.modules.items() if name.startswith("fuzz.cli.")]
    for module in commands:
        for name in ("sides_from", "program_in", "load", "examine", "file_of", "WorkDirectory"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, fail)
    assert cli.status_of(COMMANDS[command]) == status


def test_help_is_a_manual() -> None:
    for name, command in cli.cli.commands.items():
        assert command.help and len(command.help) > 40, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.name}"
    assert "Exit status" in inspect.cleandoc(cli.cli.help or "")


def test_show_on_a_changed_kernel(program: Path, broken_pgtable: Path, tmp_path: Path) -> None:
    program.write_text(PROGRAM.replace("destroy\n", ""))
    result = s2fuzz("show", program, "--pgtable", broken_pgtable, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "pa=0x90000000 R--" in result.stdout


def test_findings_on_two_kernels_are_two(program: Path, broken_pgtable: Path, tmp_path: Path) -> None:
    for extra in ("", "/* another file */"):
        broken_pgtable.write_text(broken_pgtable.read_text() + extra)
        assert s2fuzz("run", program, "--pgtable", broken_pgtable, "--out", "o", cwd=tmp_path).returncode == 1
    first, second = (tmp_path / "o").iterdir()
    assert first.name[:-8] == second.name[:-8]
    assert s2fuzz("fmt", first, cwd=tmp_path).returncode == 0, "a finding may stand for its program"


def test_a_finding_may_only_name_its_own_files(program: Path, broken_pgtable: Path, tmp_path: Path) -> None:
    s2fuzz("run", program, "--pgtable", broken_pgtable, "--out", "o", cwd=tmp_path)
    (directory,) = (tmp_path / "o").iterdir()
    record = directory / "finding.json"
    text = record.read_text()
    for name in ("/etc/hostname", "kernel/../../../pgtable.c", "../x"):
        record.write_text(text.replace("kernel/0-pgtable.c", name))
        result = s2fuzz("replay", directory, cwd=tmp_path)
        assert result.returncode == 2
        assert "is not one of the finding's own files" in result.stderr


def test_a_reader_that_leaves_is_no_finding(program: Path, tmp_path: Path) -> None:
    """As in `s2fuzz run … | head -1`, with more output than a pipe holds."""
    program.write_text("s2 1\n" + "get_leaf ipa=0x1000\n" * 3000)
    command = f"{COMMAND} run --verbose {program} | head -1; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 3, result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("seconds", ["nan", "inf", "0"])
def test_a_run_has_an_end(seconds: str, tmp_path: Path) -> None:
    assert s2fuzz("smoke", "--seconds", seconds, cwd=tmp_path).returncode == 2


def test_a_place_for_findings_is_tried_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    result = s2fuzz("smoke", "--out", "out", "--seconds", "300", cwd=tmp_path)
    assert result.returncode == 2
    assert "Directory 'out' is a file" in result.stderr


def test_a_malformed_program_among_the_corpora_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "bad.s2").write_text("s2 1\nfly\n")
    result = s2fuzz("smoke", "--no-compile", "--corpora", "mine", "--seconds", "5", cwd=tmp_path)
    assert result.returncode == 2
    assert "bad.s2:2:1" in result.stderr


@pytest.mark.slow
def test_coverage_lists_unreached_lines(tmp_path: Path) -> None:
    result = s2fuzz("coverage", "--seconds", "2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    first, _, rest = result.stdout.partition("\n")
    assert re.fullmatch(r"\d+ of \d+ lines of pgtable\.c reached \(\d\d\.\d%\)", first)
    *lines, last = rest.splitlines()
    assert all(re.match(r" *\d+  | {7}\(.*\)$|$", line) for line in lines)
    assert re.fullmatch(r"\d+ lines not reached, \d+ of them without a known condition", last)


def test_coverage_refuses_a_model_and_other_flavours(tmp_path: Path) -> None:
    assert s2fuzz("coverage", "--sides", "kernel:6.12,model:6.12", cwd=tmp_path).returncode == 2
    assert s2fuzz("coverage", "--flavour", "ubsan", cwd=tmp_path).returncode == 2
