"""Traces for others: text, JSON, and what casemate's offline checker reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from casemate import Checker, Objection, records
from click.testing import CliRunner, Result
from planted import load_all

from fuzz.cli.traces import trace
from harness.errors import BadInput
from reference.build.sources import KernelChoice, prepare

HEADER = "s2 1\nia_bits = 48\ntlb_range = off\n"
MAPS = """
map ipa=0x0 size=2M phys=0x80000000 prot=rwx mc=4
map ipa=0x1000 size=4K phys=0x90000000 prot=rw mc=4
map ipa=0x2000 size=4K phys=0x90001000 prot=rw mc=4 flags=handle_fault+shared
set_owner ipa=0x1000 size=4K mc=4 owner=3
map ipa=0x1000 size=4K phys=0x90000000 prot=r mc=4
destroy
init
map ipa=0x40000000 size=4K phys=0x90000000 prot=r mc=4
"""


def run(tmp_path: Path, ops: str, *options: str, header: str = HEADER) -> Result:
    program = tmp_path / "program.s2"
    program.write_text(header + ops)
    return CliRunner().invoke(trace, [str(program), *options], standalone_mode=False)


@pytest.mark.parametrize("on", ["left", "right"])
@pytest.mark.parametrize("mode", ["nvhe", "vhe"])
def test_casemate_follows(tmp_path: Path, on: str, mode: str) -> None:
    result = run(tmp_path, f"kvm_mode = {mode}\n{MAPS}", "--format", "casemate", "--on", on)
    assert result.exit_code == 0, result.exception
    names = {name for name, _, _ in records(result.stdout)}
    assert names == {
        *("mem-init", "mem-set", "mem-read", "mem-write", "barrier", "tlbi", "sysreg-write", "hint", "lock", "unlock")
    }
    Checker().follow(result.stdout)


def test_a_dropped_tlbi_is_not_in_the_trace(tmp_path: Path) -> None:
    mutant = next(one for one in load_all() if one.name == "event-bbm-tlbi-dropped")
    pgtable = tmp_path / "pgtable.c"
    pgtable.write_text(mutant.apply(prepare(KernelChoice()).pgtable.read_text()))
    stock = run(tmp_path, MAPS, "--format", "casemate").stdout
    dropped = run(tmp_path, MAPS, "--format", "casemate", "--pgtable", str(pgtable)).stdout
    assert [name for name, _, _ in records(dropped)].count("tlbi") < [name for name, _, _ in records(stock)].count(
        "tlbi"
    )
    with pytest.raises(Objection, match="invalid and not clean, then valid"):
        Checker().follow(dropped)


@pytest.mark.parametrize(
    ("header", "ops", "why"),
    [
        ("s2 1\ntlb_range = off\n", MAPS, "ia_bits is 40"),
        ("s2 1\nia_bits = 48\n", MAPS, "tlb_range must be off"),
        (HEADER + "granule = 16k\n", MAPS, "its pages are of 16k"),
        (HEADER + "lpa2 = on\n", MAPS, "LPA2"),
        ("s2 1\nstage = 1\n", "", "stage 1"),
        (HEADER, "plant ipa=0x0 level=0 pte=0x4\n", "op 1, plant: somebody else writes an entry"),
        (HEADER + "vmid = 0\n", MAPS, "two roots have the VMID 0"),
        (
            HEADER,
            "map ipa=0x0 size=4K phys=0x0 prot=r mc=4\nrelax_perms ipa=0x0 prot=w\n",
            "op 2, relax_perms: casemate knows no TLBI ipas2e1",
        ),
    ],
)
def test_other_programs_are_refused(tmp_path: Path, header: str, ops: str, why: str) -> None:
    result = run(tmp_path, f"\n{ops}", "--format", "casemate", "--on", "left", header=header)
    assert isinstance(result.exception, BadInput), result.stdout
    assert why in str(result.exception)


def test_calls_alone_are_refused(tmp_path: Path) -> None:
    result = run(tmp_path, MAPS, "--format", "casemate", "--on", "left", "--flavour", "calls")
    assert isinstance(result.exception, BadInput)
    assert "known by their calls alone" in str(result.exception)


def test_json_has_what_text_has(tmp_path: Path) -> None:
    ops = "\nmap ipa=0x0 size=4K phys=0x90000000 prot=rw mc=4\nwalk ipa=0x0 size=4K flags=leaf+table_pre\n"
    told = json.loads(run(tmp_path, ops, "--format", "json", "--on", "left").stdout)
    text = run(tmp_path, ops, "--on", "left").stdout
    assert [record["op"].split()[0] for record in told["records"]] == ["init", "map", "walk"]
    assert told["records"][1]["ret"] == 0
    assert [visit["visit"] for visit in told["records"][2]["results"]] == [2, 2, 2, 1]
    for event in (event for record in told["records"] for event in record["events"]):
        assert set(event) == {"kind", "in_call", "a", "b", "text"}
        assert event["text"] in text
    assert told["program"].startswith("s2 1\n")
