"""The instructions of TLB maintenance: whose context they run in, and how they are ordered."""

from __future__ import annotations

import pytest

from pgtable import GRANULE_4K, TLBI_TTL_UNKNOWN, Features
from pgtable.tlb import HCR_HOST_VHE, HCR_TGE, Context, Instruction, Mmu, TlbMaintenance, vttbr

OWN, HOST, FOREIGN = (Mmu(number, vttbr(number << 12, number, Features())) for number in (1, 2, 3))


def issued(context: Context, **features: bool) -> list[str]:
    tlb = TlbMaintenance(Features(**features), GRANULE_4K, context)
    return [_text(one) for one in tlb.flush_vmid_ipa(0x1000, 3).instructions]


def _text(one: Instruction) -> str:
    operand = f" {one.operand:#x}" if one.operand else ""
    return f"{one.name} {one.what}{operand}".strip()


BODY = ["tlbi ipas2e1is 0x700000000001", "dsb ish", "tlbi vmalle1is", "dsb ish", "isb"]


def load(mmu: Mmu) -> list[str]:
    return [f"msr vtcr_el2 {mmu.vtcr:#x}", f"msr vttbr_el2 {mmu.vttbr:#x}"]


def test_from_a_host_without_a_stage_2() -> None:
    assert issued(Context(OWN)) == ["dsb ish", *load(OWN), "isb", *BODY, "msr vttbr_el2", "isb"]


def test_from_a_host_with_one() -> None:
    assert issued(Context(OWN, host=HOST)) == ["dsb ish", *load(OWN), "isb", *BODY, *load(HOST), "isb"]


@pytest.mark.parametrize("context", [Context(OWN, running=OWN), Context(OWN, host=OWN)])
def test_nothing_is_switched_where_the_context_is_there(context: Context) -> None:
    assert issued(context) == ["dsb ish", *BODY]


def test_the_hosts_from_within_a_guest() -> None:
    switched = [*load(OWN), "isb", *BODY, *load(FOREIGN), "isb"]
    assert issued(Context(OWN, running=FOREIGN, host=OWN)) == ["dsb ish", *switched]


def test_another_guests_is_refused_too_late() -> None:
    assert issued(Context(OWN, running=FOREIGN, host=HOST)) == ["dsb ish", "warn enter_vmid_context", *BODY]


def test_vhe_leaves_its_own_regime() -> None:
    enter = ["dsb ishst", *load(OWN), f"msr hcr_el2 {HCR_HOST_VHE & ~HCR_TGE:#x}", "isb"]
    leave = [f"msr hcr_el2 {HCR_HOST_VHE:#x}", "isb"]
    assert issued(Context(OWN, vhe=True, running=OWN)) == [*enter, *BODY, *leave, "isb"]
    assert issued(Context(OWN, vhe=True, running=FOREIGN)) == [*enter, *BODY, *leave, *load(FOREIGN), "isb"]


def test_some_cpus_are_told_twice() -> None:
    twice = [*BODY[:-1], "tlbi vale2is", "dsb ish", "isb"]
    assert issued(Context(OWN, running=OWN), repeat_tlbi=True) == ["dsb ish", *twice]


def test_no_level_is_no_hint() -> None:
    tlb = TlbMaintenance(Features(), GRANULE_4K, Context(OWN, running=OWN))
    assert Instruction("tlbi", "ipas2e1", 1) in tlb.flush_vmid_ipa_nsh(0x1000, TLBI_TTL_UNKNOWN).own


def test_vmids_have_16_bits() -> None:
    assert vttbr(0x4000, 0x12345, Features(cnp=False)) == 0x2345 << 48 | 0x4000
    assert vttbr(0x4000, 0x12345, Features(cnp=False, vmid_bits=8)) == 0x45 << 48 | 0x4000
    for wide in (Features(lpa2=True), Features(pa_bits_52=True)):
        assert vttbr(0x9_0000_0001_0000, 1, wide) == 1 << 48 | 0x1_0000 | 9 << 2 | 1
