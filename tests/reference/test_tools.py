"""The compiler's tools are of its own version, whatever comes first on the PATH; .ci/packages agrees."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fuzz.cli.doctor import examine
from harness.errors import ToolFailure
from reference import tools
from reference.build.kbuild import Configuration, kernel_build
from reference.probe.lines import judge
from reference.tools import find_toolchain, look_up, required, version_of

ROOT = Path(__file__).parents[2]
OLD = "Debian LLVM version 14.0.6"
NEW = "Debian LLVM version 19.1.7"
SILENT = None
"""As llvm-profdata, which knew no --version for long."""


def fake(folder: Path, name: str, says: str | None) -> Path:
    """A program that says of what version it is, or does not know the question."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n" if says else "#!/bin/sh\necho 'Unknown command!' >&2\nexit 1\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of the PATH, but for what has nothing to do with LLVM."""
    own = tmp_path / "bin"
    own.mkdir()
    for name in ("sh", "bash", "sed", "head", "readlink", "id"):
        (own / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(own))
    monkeypatch.setattr(tools, "_FOLDER", str(tmp_path / "llvm-%d"))
    return own


def compiler(path: Path, version: int = 19, suffix: str = "-19") -> None:
    fake(path, f"clang{suffix}", f"Debian clang version {version}.1.7 (3~deb12u1)")
    fake(path, f"ld.lld{suffix}", f"Debian LLD {version}.1.7 (compatible with GNU linkers)")


def test_an_older_tool_first_on_the_path_counts_as_missing(path: Path, tmp_path: Path) -> None:
    compiler(path)
    old = fake(path, "llvm-cov", OLD)
    found = look_up("llvm-cov", 19)
    assert (found.path, found.package) == (None, "llvm-19")
    with pytest.raises(ToolFailure, match=f"llvm-cov of version 19.*{old} is of version 14.*install.* llvm-19"):
        required("llvm-cov", 19)
    with pytest.raises(ToolFailure, match=r"llvm-profdata of version 19, .* not found: install the package llvm-19"):
        judge(tmp_path / "kernel.elf", [], tmp_path / "pgtable.c", find_toolchain().version)
    fake(path, "llvm-cov-19", OLD)
    assert look_up("llvm-cov", 19).path is None, "its name is wrong"
    folder = tmp_path / "llvm-19/bin"
    there = fake(folder, "llvm-cov", NEW)
    assert required("llvm-cov", 19) == str(there)
    named = fake(path, "llvm-cov-19", NEW)
    assert required("llvm-cov", 19) == str(named)


def test_a_plain_name_will_do_where_the_version_is_right(path: Path) -> None:
    compiler(path)
    plain = fake(path, "llvm-cov", NEW)
    assert required("llvm-cov", 19) == str(plain)


def test_a_tool_that_does_not_say_its_version(path: Path, tmp_path: Path) -> None:
    silent = fake(path, "llvm-profdata", SILENT)
    assert version_of(str(silent)) is None
    assert look_up("llvm-profdata", 19).others == (f"{silent} is of version unknown",)
    there = fake(tmp_path / "lib/llvm-14/bin", "llvm-profdata", SILENT)
    silent.unlink()
    silent.symlink_to(there)
    assert version_of(str(silent)) == 14
    assert version_of(str(fake(path, "llvm-profdata-19", SILENT))) == 19


def test_a_linker_of_another_version_is_none(path: Path) -> None:
    compiler(path, 14, "")
    with pytest.raises(ToolFailure, match="clang is of version 14, and 16 is the oldest that will do"):
        find_toolchain()
    fake(path, "clang-19", "Debian clang version 19.1.7 (3~deb12u1)")
    with pytest.raises(ToolFailure, match=r"ld\.lld of version 19.*ld\.lld is of version 14"):
        find_toolchain()
    fake(path, "ld.lld-19", "Debian LLD 19.1.7 (compatible with GNU linkers)")
    found = find_toolchain()
    assert (found.clang, found.lld, found.major) == (str(path / "clang-19"), str(path / "ld.lld-19"), 19)


def test_a_compiler_by_its_plain_name(path: Path) -> None:
    compiler(path, 23, "")
    assert find_toolchain().major == 23


def test_the_kernels_own_build_takes_tools_of_that_version_only(path: Path) -> None:
    compiler(path)
    for name in ("bc", "bison", "flex", "gcc", "make"):
        fake(path, name, "1")
    for name in ("llvm-ar", "llvm-nm", "llvm-objcopy", "llvm-objdump", "llvm-readelf", "llvm-strip"):
        fake(path, name, OLD)
    with pytest.raises(ToolFailure, match=r"llvm-ar of version 19.*is of version 14"):
        kernel_build(Configuration("6.12"), find_toolchain(), lambda _: None)


def test_doctor_names_tool_and_version(path: Path) -> None:
    compiler(path)
    fake(path, "llvm-cov", OLD)
    checks = {check.name: check for check in examine()}
    assert checks["clang and lld"].found
    check = checks["llvm-cov, llvm-profdata of version 19"]
    assert check.found is None and check.remedy == "apt-get install llvm-19"
    assert f"{path / 'llvm-cov'} is of version 14" in check.needed_for
    for name in ("llvm-cov-19", "llvm-profdata-19"):
        fake(path, name, NEW)
    checks = {check.name: check for check in examine()}
    assert checks["llvm-cov, llvm-profdata of version 19"].found


@pytest.mark.parametrize("purpose", ["", "test", "fidelity"])
def test_the_packages_that_are_installed_are_those_that_fit(path: Path, purpose: str) -> None:
    """What .ci/packages finds missing, where there is nothing to install it with."""

    def missing() -> set[str]:
        command = [str(ROOT / ".ci/packages"), *([purpose] if purpose else [])]
        result = subprocess.run(command, env={"PATH": str(path)}, capture_output=True, text=True, check=False)
        assert result.returncode == 3, result.stderr
        line = next(line for line in result.stderr.splitlines() if "Debian packages: " in line)
        names = line.partition(": ")[2].split()
        assert len(names) == len(set(names))
        return {name for name in names if name.startswith(("clang", "lld", "llvm"))}

    assert {"clang-19", "lld-19"} <= missing()
    compiler(path, 21, "-21")
    for name in ("llvm-cov", "llvm-profdata", "llvm-ar"):
        fake(path, name, OLD)
    assert missing() == {"llvm-21"}
    for name in ("cov", "profdata", "ar", "nm", "objcopy", "objdump", "readelf", "strip"):
        fake(path, f"llvm-{name}-21", "LLVM version 21.1.0")
    assert missing() == set()
    fake(path, "llvm-profdata-21", SILENT)
    assert missing() == set()
