"""What goes wrong before the kernel's own build does, and what is taken from it. The build itself: tests/fidelity."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import BadInput, ToolFailure
from harness.program.granule import GRANULE_4K, GRANULES
from harness.program.machine import Machine
from reference.build import kbuild
from reference.build.kbuild import OBJECT, Configuration, kernel_build
from reference.tools import Toolchain

CLANG = Toolchain("clang", "ld.lld", "clang version 19.1.7", 19)


def ignore(_message: str) -> None:
    pass


def test_only_packaged_versions(tmp_path: Path) -> None:
    for linux in (str(tmp_path), "6.19"):
        with pytest.raises(BadInput, match=r"is for packaged versions: 6\.12, 6\.1"):
            kernel_build(Configuration(linux, GRANULE_4K), CLANG, ignore)


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolFailure, match="bc is not installed"):
        kernel_build(Configuration("6.12", GRANULE_4K), CLANG, ignore)


def test_an_option_that_kconfig_refused(tmp_path: Path) -> None:
    options = Configuration("6.12", GRANULE_4K).options
    taken = [option for option in options if option != "CONFIG_KVM=y"]
    (tmp_path / ".config").write_text("\n".join(["# CONFIG_KVM is not set", *taken]) + "\n")
    with pytest.raises(ToolFailure, match=r"does not take CONFIG_KVM=y$"):
        kbuild._check_configuration(tmp_path / ".config", options)


@pytest.mark.parametrize("prefix", ["savedcmd_", "cmd_"])
def test_the_flags_are_good_from_any_folder(tmp_path: Path, prefix: str) -> None:
    command = (
        f"{prefix}{OBJECT} := clang -Wp,-MMD,arch/.pgtable.o.d -nostdinc -I/tree/include -I./include -I ./arch/hyp"
        """ -include /tree/kconfig.h -DNAME='"a b"' -DHASH='$(pound)' -c -o pgtable.o /tree/pgtable.c\n"""
        "\nsource_x := y\n"
    )
    saved = tmp_path / OBJECT.with_name(".pgtable.o.cmd")
    saved.parent.mkdir(parents=True)
    saved.write_text(command)
    flags = kbuild._flags(tmp_path)
    assert flags == (
        "-nostdinc",
        "-I/tree/include",
        f"-I{tmp_path}/include",
        f"-I{tmp_path}/arch/hyp",
        "-include",
        "/tree/kconfig.h",
        '-DNAME="a b"',
        "-DHASH=#",
    )


def test_a_build_that_fails(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("all:\n\t@echo broken >&2; false\n")
    with pytest.raises(ToolFailure, match=r"the kernel's build failed \(all\):\nbroken"):
        kbuild._run(["make", f"--directory={tmp_path}", "all"], {})


def test_a_build_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kbuild, "_SECONDS", 0.2)
    with pytest.raises(ToolFailure, match="did not end within"):
        kbuild._run(["sleep", "20"], {})


def test_what_a_machine_asks_of_the_configuration() -> None:
    options = Configuration.of("6.12", Machine.of(granule=2, pa_bits_52=1)).options
    assert {"CONFIG_ARM64_64K_PAGES=y", "CONFIG_ARM64_PA_BITS_52=y", "CONFIG_ARM64_HW_AFDBM=y"} <= set(options)
    wide = [Configuration.of("6.12", Machine.of(granule=number, pa_bits_52=1)) for number in range(len(GRANULES))]
    assert [one.has_52_bits for one in wide] == [False, False, True]
    assert "# CONFIG_ARM64_HW_AFDBM is not set" in Configuration.of("6.12", Machine.of(hw_af=0)).options
