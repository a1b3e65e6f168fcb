"""Rooms are folders: which of them may import which is one table, and nothing goes round in circles."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("pgtable", "harness", "reference", "fuzz")

ROOMS: Mapping[str, str] = {
    "pgtable": "",
    # What both sides share. Few know the model: the room that runs it, and what describes entries and tables.
    "harness": "",
    "harness/program": "harness",
    "harness/observation": "harness harness/program",
    "harness/verdict": "harness harness/program harness/observation",
    "harness/model": "pgtable harness harness/program harness/observation",
    # What a table says by the Arm ARM is the model's to tell, whoever wrote it.
    "harness/findings/voices.py": "pgtable harness/program harness/observation harness/verdict harness/model",
    "harness/findings/trees.py": "pgtable harness harness/program harness/observation",
    "harness/findings": "harness harness/program harness/observation harness/verdict harness/findings/trees.py"
    " harness/findings/voices.py",
    # The test kernel.
    "reference": "harness harness/program harness/observation",
    "reference/probe": "harness reference",
    "reference/build": "harness harness/program harness/observation reference reference/probe",
    "reference/link": "harness harness/program harness/observation reference reference/probe reference/build",
    # What generates and steers.
    "fuzz": "pgtable harness harness/program harness/observation harness/model reference/build reference/link",
    "fuzz/generate": "harness/program",
    "fuzz/coverage": "pgtable harness harness/program harness/observation harness/model reference/probe reference/link"
    " fuzz fuzz/generate",
    "fuzz/corpus": "harness harness/program harness/observation harness/findings reference/link fuzz fuzz/coverage",
    "fuzz/triage": "harness harness/program harness/observation harness/verdict harness/findings reference/build fuzz",
    "fuzz/engine": "harness harness/program harness/observation harness/verdict harness/model reference/probe"
    " reference/build reference/link fuzz fuzz/generate fuzz/coverage fuzz/corpus fuzz/triage",
    "fuzz/campaign": "harness harness/program harness/verdict harness/model harness/findings reference/link fuzz"
    " fuzz/coverage fuzz/corpus fuzz/triage fuzz/engine",
    "fuzz/results": "harness harness/program harness/findings reference/build fuzz fuzz/triage fuzz/engine",
    "fuzz/report": "pgtable harness harness/program harness/findings reference/probe fuzz fuzz/coverage fuzz/engine"
    " fuzz/campaign",
    "fuzz/cluster": "harness harness/program harness/observation harness/verdict harness/findings reference/build"
    " reference/link fuzz fuzz/corpus fuzz/engine",
    "fuzz/cli": "pgtable harness harness/program harness/observation harness/verdict harness/findings"
    " harness/findings/trees.py reference reference/build reference/link fuzz fuzz/coverage fuzz/corpus fuzz/triage"
    " fuzz/engine fuzz/campaign fuzz/results fuzz/report fuzz/cluster",
    # Two ways in besides the command line: libFuzzer's target, and pytest's plugin.
    "fuzz/stage2_fuzzer.py": "pgtable harness reference/probe fuzz fuzz/corpus fuzz/engine fuzz/cluster",
    "fuzz/pytest_plugin.py": "harness harness/program harness/verdict harness/findings reference/build fuzz",
}
"""Which other rooms each room may import. A folder below a room is part of it; a file in the table is a room."""

OTHERS: Mapping[str, str] = {
    "atheris": "fuzz/stage2_fuzzer.py",
    "click": "fuzz/cli",
    "elftools": "reference/probe reference/build",
    "jinja2": "fuzz/report fuzz/triage",
    "junitparser": "fuzz/results",
    "matplotlib": "fuzz/report",
    "pexpect": "reference/link",
    "platformdirs": "reference/build fuzz/cli",
    "pytest": "fuzz/pytest_plugin.py",
    "rich": "fuzz/campaign fuzz/cli",
    "xz": "reference/build",
}
"""Which rooms may import a package that is neither Python's nor ours."""


def files(root: Path) -> list[Path]:
    """All our modules, relative to the root."""
    return sorted(path.relative_to(root) for package in PACKAGES for path in (root / package).rglob("*.py"))


def room_of(file: Path, rooms: Mapping[str, str]) -> str:
    """The room of a module: a file of the table, or its folder, up to two deep."""
    return str(file) if str(file) in rooms else "/".join(file.parent.parts[:2])


def file_of(name: str, root: Path) -> Path | None:
    """The file of a module or package of ours by its dotted name."""
    stem = Path(*name.split("."))
    return next((file for file in (stem.with_suffix(".py"), stem / "__init__.py") if (root / file).is_file()), None)


class RunTime(ast.NodeTransformer):
    """Takes out what only type checkers read."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        for_checkers = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return node.orelse if for_checkers else self.generic_visit(node)


@functools.cache
def imported(file: Path, root: Path, run_time: bool = False) -> set[str]:
    """Dotted names of what a file imports anywhere in it: in functions and, but for `run_time`, for type checkers."""
    found = set()
    tree: ast.AST = ast.parse((root / file).read_text())
    for node in ast.walk(RunTime().visit(tree) if run_time else tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{file}:{node.lineno}: imports are absolute"
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {part for part in parts if file_of(part, root)}
            found |= modules | ({node.module} if modules != parts else set())
    return found


def imports(root: Path, run_time: bool = False) -> dict[Path, set[Path]]:
    """Of each module of ours, the modules of ours that it imports."""
    found = {}
    for file in files(root):
        names = {name for name in imported(file, root, run_time) if name.partition(".")[0] in PACKAGES}
        targets = {name: file_of(name, root) for name in names}
        assert None not in targets.values(), f"{file} imports what is not there: {targets}"
        found[file] = {target for target in targets.values() if target is not None}
    return found


def forbidden(root: Path, rooms: Mapping[str, str]) -> list[str]:
    """What imports against the table, as lines for people; rooms that the table lacks among it."""
    found = [
        f"{room} is not in the table" for room in sorted({room_of(file, rooms) for file in files(root)} - set(rooms))
    ]
    for file, targets in imports(root).items():
        room = room_of(file, rooms)
        allowed = {room, *rooms.get(room, "").split()}
        found += [f"{file} imports {target}" for target in sorted(targets) if room_of(target, rooms) not in allowed]
    return found


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """A circle in a graph, as the nodes along it; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_import_is_in_the_table() -> None:
    wrong = forbidden(ROOT, ROOMS)
    assert not wrong, "\n".join(wrong)


def test_the_table_allows_no_more_than_is_imported() -> None:
    used = {
        (room_of(file, ROOMS), room_of(target, ROOMS)) for file, targets in imports(ROOT).items() for target in targets
    }
    assert not [f"{room}: {other}" for room, row in ROOMS.items() for other in row.split() if (room, other) not in used]


def test_rooms_go_round_in_no_circle() -> None:
    assert not circle({room: set(row.split()) for room, row in ROOMS.items()})


def test_modules_go_round_in_no_circle() -> None:
    """Not even within a room, when they run: types may name each other there."""
    graph = {str(file): {str(target) for target in targets} for file, targets in imports(ROOT, run_time=True).items()}
    assert not circle(graph)


def test_what_is_not_ours_is_imported_where_the_table_says() -> None:
    wrong = []
    for file in files(ROOT):
        for package in {name.partition(".")[0] for name in imported(file, ROOT)}:
            if package in sys.stdlib_module_names or package in PACKAGES:
                continue
            if room_of(file, ROOMS) not in OTHERS.get(package, "").split():
                wrong.append(f"{file} imports {package}")
    assert not wrong


def test_no_module_shadows_another() -> None:
    """What is executed inside a package has that folder first on its path."""
    taken = sys.stdlib_module_names | OTHERS.keys() | {"hypothesis", "mypy", "mypyc", "pip", "setuptools", *PACKAGES}
    assert not [file for file in files(ROOT) if file.stem in taken]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("import harness.low\n", []),
        ("from harness.low import NAME\n", []),
        ("from harness import low\n", []),
        ("def f():\n    from fuzz.high import room\n", ["harness/middle/it.py imports fuzz/high/room.py"]),
        ("if TYPE_CHECKING:\n    import fuzz.high.room\n", ["harness/middle/it.py imports fuzz/high/room.py"]),
        ("from fuzz.high import room\n", ["harness/middle/it.py imports fuzz/high/room.py"]),
    ],
)
def test_an_import_against_the_table_is_found(tmp_path: Path, text: str, wrong: list[str]) -> None:
    for name in ("harness/__init__.py", "harness/middle/__init__.py", "fuzz/__init__.py", "fuzz/high/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "harness/low.py").write_text("NAME = 1\n")
    (tmp_path / "fuzz/high/room.py").touch()
    (tmp_path / "harness/middle/it.py").write_text(text)
    rooms = {"harness": "", "harness/middle": "harness", "fuzz": "", "fuzz/high": "harness/middle"}
    assert forbidden(tmp_path, rooms) == wrong
    del rooms["fuzz/high"]
    assert "fuzz/high is not in the table" in forbidden(tmp_path, rooms)


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
    assert not circle({"a": {"b", "c"}, "b": {"c"}})
