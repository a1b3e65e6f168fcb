"""Odd arguments are part of the contract: small programs for all combinations of them, on which both sides agree.

Ranges that are unaligned or empty, that touch, cross or wrap past a limit; physical addresses around and beyond the
largest; every combination of `prot`, most of them illegal. Whether the results are good ones is another question, which
docs/behaviour.md is about.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import pytest
from seeds import refusal
from thinning import first

from harness.errors import BadInput
from harness.model.executor import Model
from harness.program.kinds.flags import PROT_BITS
from harness.program.text import parse
from harness.verdict.judge import Judge
from reference.link.executor import Reference

PAGE, BLOCK, LIMIT, PA_LIMIT, TOP = 0x1000, 0x20_0000, 1 << 40, 1 << 48, 1 << 64
ADDRESSES = (0, 1, PAGE - 1, PAGE, BLOCK - 1, BLOCK, LIMIT - PAGE, LIMIT - 1, LIMIT, LIMIT + 1, LIMIT + PAGE)
HIGH_ADDRESSES = (1 << 63, TOP - PAGE, TOP - 1)
SIZES = (0, 1, PAGE - 1, PAGE, PAGE + 1, BLOCK - 1, BLOCK, LIMIT - PAGE, LIMIT, LIMIT + 1, 1 << 63, TOP - PAGE, TOP - 1)
PHYS = (0, PAGE - 1, PAGE, PA_LIMIT - 2 * PAGE, PA_LIMIT - 1, PA_LIMIT, PA_LIMIT + PAGE, 1 << 52, TOP - BLOCK, TOP - 1)

# Pages, a block, an owner, and the last page of the address space, for the op to meet.
BEFORE = """
map ipa=0x0 size=12K phys=0x80000000 prot=rwx mc=3
map ipa=0x200000 size=2M phys=0x80200000 prot=rwx mc=2
set_owner ipa=0x3000 size=4K mc=2 owner=1
map ipa=0xfffffff000 size=4K phys=0x80000000 prot=rw mc=3
"""
AFTER = "walk ipa=0x0 size=8M flags=leaf+table_pre\n"

RANGE_OPS = {
    "map": "phys=0x90000000 prot=rwx mc=3",
    "unmap": "",
    "set_owner": "mc=3 owner=1",
    "walk": "flags=leaf+table_post",
    "wrprotect": "",
    "test_clear_young": "mkold=on",
    "flush": "",
    "tlb_flush_vmid_range": "",
    "split": "mc=3",
}


def check(kernel: Reference, ops: Iterable[str], *knobs: str, before: str = BEFORE) -> int:
    """Both sides agree on each op, or refuse what that kernel lacks; how many there were."""
    judge = Judge(Model(kernel.name.partition(":")[2]), kernel)
    header = "\n".join(("s2 1", "budget = 3000", *knobs))
    count = 0
    for op in ops:
        program = parse(f"{header}\n{before}{op}\n{AFTER}")
        if refusal(judge.left, program):
            with pytest.raises(BadInput):
                kernel.start(program)
        else:
            assert judge.agree(program), f"{op} ({', '.join(knobs)}): {judge.check(program)}"
        count += 1
    return count


@pytest.mark.parametrize("knob", first(1, ["tlb_range = on", "fwb = off", "tlb_range = off"]))
@pytest.mark.parametrize("op", RANGE_OPS)
def test_ranges(op: str, knob: str, each_kernel: Reference) -> None:
    ranges = [(ipa, size) for ipa in ADDRESSES + HIGH_ADDRESSES for size in SIZES]
    ops = (f"{op} ipa={ipa:#x} size={size:#x} {RANGE_OPS[op]}" for ipa, size in ranges)
    assert check(each_kernel, ops, knob) > 150


@pytest.mark.parametrize("op", ["get_leaf", "mkyoung", "relax_perms", "mkold", "is_young"])
def test_addresses(op: str, each_kernel: Reference) -> None:
    rest = "prot=rwx" if op == "relax_perms" else ""
    assert check(each_kernel, (f"{op} ipa={ipa:#x} {rest}" for ipa in ADDRESSES + HIGH_ADDRESSES)) > 10


@pytest.mark.parametrize("phys", PHYS, ids=hex)
def test_physical_addresses(phys: int, each_kernel: Reference) -> None:
    ranges = [(ipa, size) for ipa in (0, 1, PAGE, BLOCK, 2 * BLOCK) for size in (1, PAGE, 2 * PAGE, BLOCK, 2 * BLOCK)]
    maps = [f"map ipa={ipa:#x} size={size:#x} phys={phys:#x} prot=rwx mc=3" for ipa, size in ranges]
    unlinked = [f"create_unlinked phys={phys:#x} level={level} prot=rw mc=3" for level in range(4)]
    assert check(each_kernel, maps + unlinked) == len(maps) + 4
    assert check(each_kernel, [f"map ipa={phys:#x} size=4K phys={phys:#x} prot=rw mc=3"], "idmap = on") == 1


@pytest.mark.parametrize("fwb", first(1, ["on", "off"]))
def test_every_prot(fwb: str, each_kernel: Reference) -> None:
    names = list(PROT_BITS)
    prots = ["+".join(chosen) or "-" for count in range(len(names) + 1) for chosen in combinations(names, count)]
    assert len(prots) == 512
    templates = (
        "map ipa=0x0 size=4K phys=0x80000000 prot={}",
        "map ipa=0x200000 size=2M phys=0x80200000 prot={}",
        "relax_perms ipa=0x1000 prot={}",
        "create_unlinked phys=0x80000000 level=2 prot={} mc=3",
    )
    ops = [template.format(prot) for template in templates for prot in prots]
    assert check(each_kernel, ops, f"fwb = {fwb}") == 4 * 512


# Hyp's stage 1: no further page than the first fill of a range is needed, so that huge ranges end there.
HYP_BEFORE = """
hyp_map va=0x0 size=12K phys=0x80000000 prot=rw
hyp_map va=0x200000 size=2M phys=0x80200000 prot=rx
hyp_map va=0xfffffff000 size=4K phys=0x80000000 prot=rw
"""


def check_hyp(kernel: Reference, ops: Iterable[str], *knobs: str) -> int:
    return check(kernel, ops, "stage = 1", *knobs, before=HYP_BEFORE)


@pytest.mark.parametrize("ttl", ["on", "off"])
@pytest.mark.parametrize("op", ["hyp_map", "hyp_unmap", "walk"])
def test_hyp_ranges(op: str, ttl: str, each_kernel: Reference) -> None:
    rest = {"hyp_map": "phys=0x90000000 prot=rw", "walk": "flags=leaf+table_post"}.get(op, "")
    address = "ipa" if op == "walk" else "va"
    ranges = [(va, size) for va in ADDRESSES + HIGH_ADDRESSES for size in SIZES]
    ops = (f"{op} {address}={va:#x} size={size:#x} {rest}" for va, size in ranges)
    assert check_hyp(each_kernel, ops, "va_bits = 40", f"ttl = {ttl}") > 150


@pytest.mark.parametrize("phys", PHYS, ids=hex)
def test_hyp_physical_addresses(phys: int, each_kernel: Reference) -> None:
    ranges = [(va, size) for va in (0, 1, PAGE, BLOCK, 2 * BLOCK) for size in (1, PAGE, 2 * PAGE, BLOCK, 2 * BLOCK)]
    ops = [f"hyp_map va={va:#x} size={size:#x} phys={phys:#x} prot=rw" for va, size in ranges]
    assert check_hyp(each_kernel, ops) == 25


@pytest.mark.parametrize("hvhe", ["on", "off"])
@pytest.mark.parametrize("bti", first(1, ["on", "off"]))
def test_every_hyp_prot(hvhe: str, bti: str, each_kernel: Reference) -> None:
    names = list(PROT_BITS)
    prots = ["+".join(chosen) or "-" for count in range(len(names) + 1) for chosen in combinations(names, count)]
    templates = (
        "hyp_map va=0x3000 size=4K phys=0x80003000 prot={}",
        "hyp_map va=0x1000 size=4K phys=0x80001000 prot={}",
        "hyp_map va=0x200000 size=2M phys=0x80200000 prot={}",
    )
    ops = [template.format(prot) for template in templates for prot in prots]
    assert check_hyp(each_kernel, ops, f"hvhe = {hvhe}", f"bti = {bti}") == 3 * 512


@pytest.mark.parametrize("hvhe", ["on", "off"])
def test_every_entry_s_permissions(hvhe: str, each_kernel: Reference) -> None:
    bits = [
        sum(1 << bit for bit, on in zip((0, 1, 6, 7, 50, 54, 55, 58), f"{n:08b}", strict=True) if on == "1")
        for n in range(256)
    ]
    assert check_hyp(each_kernel, (f"hyp_pte_prot pte={pte:#x}" for pte in bits), f"hvhe = {hvhe}") == 256


@pytest.mark.parametrize("va_bits", range(64))
def test_hyp_address_sizes(va_bits: int, each_kernel: Reference) -> None:
    last = max((1 << va_bits) - PAGE, 0)
    ops = [f"hyp_map va={last:#x} size=4K phys=0x80000000 prot=rw", f"hyp_unmap va={last:#x} size=8K", "destroy"]
    assert check_hyp(each_kernel, ops, f"va_bits = {va_bits}") == 3
