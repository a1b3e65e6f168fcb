"""The decoder of TLBI instructions: against the assembler, against hand-encoded operands, and against the model."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.observation.tlbi import BY_NAME, OPERATIONS, Invalidation, Target, invalidation_of
from pgtable import GRANULE_4K, Features
from pgtable.geometry import Geometry
from pgtable.tlb import Context, Issue, Mmu, TlbMaintenance
from reference.tools import find_toolchain

U64 = (1 << 64) - 1
GRANULES = [Geometry(shift) for shift in (12, 14, 16)]


def decoded(name: str, operand: int = 0, lpa2: bool = False) -> Invalidation:
    found = invalidation_of(BY_NAME[name].number, operand, lpa2)
    assert found is not None
    return found


def test_the_assembler_encodes_each_operation_so(tmp_path: Path) -> None:
    lines = [f"tlbi {one.name}" + (", x3" if one.takes_operand else "") for one in OPERATIONS]
    source, out = tmp_path / "all.s", tmp_path / "all.o"
    source.write_text("\n".join([".arch armv8.7-a", *lines, ""]))
    subprocess.run([find_toolchain().clang, "--target=aarch64-linux-gnu", "-c", source, "-o", out], check=True)
    words = [0xD508_0000 | one.number << 5 | (3 if one.takes_operand else 31) for one in OPERATIONS]
    assert struct.pack(f"<{len(words)}I", *words) in out.read_bytes()


def test_every_operation_is_there_once() -> None:
    assert len(OPERATIONS) == len(BY_NAME) == len({one.number for one in OPERATIONS}) == 126


@pytest.mark.parametrize(
    ("name", "operand", "text"),
    [
        ("ipas2e1is", 0x6000_0000_0200, "stage 2, 0x200000 at level 2 of 4K, inner shareable"),
        ("ipas2e1", 0x1000, "stage 2, 0x1000000, non-shareable"),
        ("ipas2le1os", 0, "stage 2, 0x0, last level only, outer shareable"),
        ("vmalle1is", 0, "stage 1 of the VMID, inner shareable"),
        ("vmalls12e1is", 0, "stages 1 and 2 of the VMID, inner shareable"),
        ("alle1is", 0, "everything of the regime, inner shareable"),
        ("vale2is", 0x7000_0000_0001, "stage 1 of EL2, 0x1000 at level 3 of 4K, last level only, inner shareable"),
        ("vae1is", 0x1234 << 48, "stage 1, 0x0, ASID 0x1234, inner shareable"),
        ("aside1is", 0x1234 << 48, "stage 1, ASID 0x1234, inner shareable"),
        # 4K: 2^(5*1+1) * (7+1) pages from page 3.
        ("ripas2e1is", 1 << 46 | 1 << 44 | 7 << 39 | 3, "stage 2, 0x3000 to 0x202fff of 4K, inner shareable"),
        ("ripas2e1is", 2 << 46 | 3 << 37 | 1, "stage 2, 0x4000 to 0xbfff at level 3 of 16K, inner shareable"),
        ("ripas2e1is", 1, "stage 2, 0x1 to 0x0, inner shareable (TG 0b00 is reserved)"),
        ("ipas2e1is", 1 << 40, "stage 2, 0x0, inner shareable (bits 43:40 are reserved)"),
    ],
)
def test_in_words(name: str, operand: int, text: str) -> None:
    assert str(decoded(name, operand)) == text


def test_lpa2_counts_ranges_in_64k_and_has_leaves_of_level_0() -> None:
    assert decoded("ripas2e1is", 1 << 46 | 3, lpa2=True).start == 3 << 16
    assert decoded("ripas2e1is", 3 << 46 | 3).start == 3 << 16
    assert decoded("ipas2e1is", 4 << 44).level is None
    assert decoded("ipas2e1is", 4 << 44, lpa2=True).level == 0


@given(st.integers(0, (1 << 16) - 1) | st.sampled_from(OPERATIONS).map(lambda one: one.number), st.integers(0, U64))
def test_any_words_can_be_decoded(number: int, operand: int) -> None:
    for lpa2 in (False, True):
        found = invalidation_of(number, operand, lpa2)
        assert (found is None) == (number not in {one.number for one in OPERATIONS})
        if found is not None:
            assert (found.start is None) == (not found.operation.takes_address)
            assert (found.size is None) == (not found.operation.is_range)
            assert str(found)


# What the model builds, taken apart again


def tlbis(issue: Issue, lpa2: bool = False) -> list[Invalidation]:
    return [decoded(one.what, one.operand, lpa2) for one in issue.instructions if one.name == "tlbi"]


def maintenance(geometry: Geometry, **features: bool) -> TlbMaintenance:
    return TlbMaintenance(Features(**features), geometry, Context(Mmu(0, 1 << 48)))


@given(st.sampled_from(GRANULES), st.integers(0, (1 << 48) - 1), st.integers(-1, 4), st.booleans())
def test_an_address_and_its_level(geometry: Geometry, ipa: int, level: int, ttl: bool) -> None:
    first = tlbis(maintenance(geometry, ttl=ttl).flush_vmid_ipa(ipa, level))[0]
    assert (first.operation.target, first.start) == (Target.STAGE_2, ipa & ~0xFFF)
    # Without LPA2 there are no leaves above these levels to hint.
    hinted = ttl and geometry.min_block_level - (geometry.page_shift == 16) <= level <= 3
    assert (first.level, first.page_shift) == ((level, geometry.page_shift) if hinted else (None, None))


@given(st.sampled_from(GRANULES), st.integers(0, 1 << 36), st.integers(1, 1 << 21), st.booleans(), st.booleans())
def test_a_range_is_covered_page_by_page_and_no_further(
    geometry: Geometry, first: int, pages: int, tlb_range: bool, lpa2: bool
) -> None:
    pages = pages if tlb_range else pages & 0x3FF or 1
    size = geometry.page_size
    start = first % (1 << 47 - geometry.page_shift) * size
    at = start
    for one in tlbis(
        maintenance(geometry, tlb_range=tlb_range, lpa2=lpa2).flush_vmid_range(start + 0x123, pages), lpa2
    ):
        if one.operation.target is Target.STAGE_2:
            assert (one.start, one.level, one.flaw) == (at, None, None)
            assert one.page_shift == (geometry.page_shift if one.operation.is_range else None)
            at += size if one.size is None else one.size
    assert at == start + pages * size


def test_few_instructions_do_for_any_range() -> None:
    for pages in (1, 2, 63, 64, 65, 2048, (1 << 21) - 1, 1 << 21):
        issued = tlbis(maintenance(GRANULE_4K).flush_vmid_range(0, pages))
        assert sum(one.start is not None for one in issued) <= 5
