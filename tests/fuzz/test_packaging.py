"""What is shipped, and what imports what."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("pgtable", "harness", "reference", "fuzz")
THIRD_PARTY = {
    "atheris",
    "click",
    "elftools",
    "pexpect",
    "rich",
    "pytest",
    "hypothesis",
    "setuptools",
    "pip",
    "jinja2",
    "matplotlib",
}
ALLOWED = {
    "pgtable": set(),
    "harness": {"pgtable"},
    "reference": {"harness"},
    "fuzz": {"harness", "reference", "pgtable"},
}


def imports_of(path: Path) -> set[str]:
    """Top-level names of the packages that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_flow_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        ours = imports_of(path) & set(PACKAGES) - {package}
        assert ours <= ALLOWED[package], f"{path.name} imports {ours - ALLOWED[package]}"


def test_few_modules_meet_the_model_and_one_meets_atheris() -> None:
    importers = {
        path.relative_to(ROOT).parts[1] for path in (ROOT / "harness").rglob("*.py") if "pgtable" in imports_of(path)
    }
    assert importers == {"model", "findings"}
    with_atheris = [
        path.name for name in PACKAGES for path in (ROOT / name).rglob("*.py") if "atheris" in imports_of(path)
    ]
    assert with_atheris == ["stage2_fuzzer.py"]


def test_pgtable_depends_on_nothing() -> None:
    for path in (ROOT / "pgtable").glob("*.py"):
        assert imports_of(path) <= {*sys.stdlib_module_names, "pgtable"}, path.name


def test_no_module_shadows_another() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if path.stem != "__init__":
                assert path.stem not in sys.stdlib_module_names | THIRD_PARTY | set(PACKAGES), path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(folder.glob("s2fuzz-*.whl"))


def test_wheel_holds_the_packages_and_the_kernel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for needed in ("pgtable/stage2.py", "reference/kernel/start.S", "reference/kernel/link.ld"):
        assert needed in names
    for source in (*(ROOT / "reference" / "shim").rglob("*.h"), *(ROOT / "fuzz").rglob("*.jinja")):
        assert str(source.relative_to(ROOT)) in names
    assert not [name for name in names if name.startswith(("tests/", "corpora/"))]


def test_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """In an environment with nothing else, and so without Atheris: everything but fuzzing works, and it says why."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python, command = tmp_path / "venv/bin/python", tmp_path / "venv/bin/s2fuzz"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", str(wheel)], check=True, capture_output=True)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)

    doctor = call(str(command), "doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert "missing  Atheris" in doctor.stdout
    example = (
        "from pgtable import *\n"
        "features, pool, cache = Features(), PagePool(base=0x4000_0000, pages=16), Memcache()\n"
        "s2 = Stage2(get_vtcr(40, features), pool, NullHooks(), features)\n"
        "print(s2.init(), cache.topup(pool, 2), s2.map(0x1000, 4096, 0x8000_1000, Prot.R | Prot.W, cache))\n"
    )
    assert call(str(python), "-c", example).stdout == "0 0 0\n"
    reproducer = (
        "from collections import defaultdict\n"
        "from fuzz.triage.kunit.case import kunit_case\n"
        "from harness.program.program import Program\n"
        "from harness.verdict.judge import Verdict\n"
        "crash = Verdict('crash', 'x', 0, None, None, None)\n"
        "print(kunit_case(Program(()), crash, defaultdict(bool), {}).count('KUNIT_CASE(s2fuzz_x)'))\n"
    )
    assert call(str(python), "-c", reproducer).stdout == "1\n"
    (tmp_path / "p.s2").write_text("s2 1\n\nmap ipa=0x0 size=2M phys=0x80000000 prot=rwx mc=2\n")
    run = call(str(command), "run", "p.s2")
    assert run.returncode == 0, run.stderr
    smoke = call(str(command), "smoke", "--seconds", "1")
    assert smoke.returncode == 3
    assert "needs Atheris" in smoke.stderr
