"""What is shipped, and that it works elsewhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("pgtable", "harness", "reference", "fuzz")


def versioned() -> list[str]:
    """Files of the checkout that git knows, relative to it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from a copy: setuptools keeps a `build` folder beside the sources, and ships what an earlier build left."""
    folder, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    for name in versioned():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(folder.glob("s2fuzz-*.whl"))


def test_wheel_holds_the_packages_folders_and_nothing_else(wheel: Path) -> None:
    """Every module and data file that is versioned there, whatever folder it is in."""
    ours = {name for name in versioned() if name.partition("/")[0] in PACKAGES}
    assert {"pgtable/stage2.py", "fuzz/report/page.html.jinja", "reference/kernel/start.S"} <= ours
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.partition("/")[0].endswith(".dist-info")}
    assert names == ours


@pytest.mark.slow
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
    (tmp_path / "p.s2").write_text("s2 1\n\nmap ipa=0x0 size=2M phys=0x80000000 prot=rwx mc=2\n")
    run = call(str(command), "run", "p.s2")
    assert run.returncode == 0, run.stderr
    smoke = call(str(command), "smoke", "--seconds", "1")
    assert smoke.returncode == 3
    assert "needs Atheris" in smoke.stderr
