"""The harness's own arithmetic of granules and address fields, against the model's: the same facts, stated twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BadInput
from harness.observation.descriptors import address_field
from harness.observation.layout import NO_PAGE
from harness.program.codec import decode, dialect_for
from harness.program.granule import GRANULES, Granule, granule_named
from harness.program.machine import KNOBS_BY_NAME, Machine, highest_pool
from harness.program.space import space_of
from pgtable import AddressFormat, Features, Geometry, get_vtcr, start_level_of
from pgtable.vtcr import phys_bits

every_granule = pytest.mark.parametrize("granule", GRANULES, ids=[granule.name for granule in GRANULES])
machines = st.builds(lambda granule, lpa2: Machine.of(granule=granule, lpa2=lpa2), st.integers(0, 2), st.integers(0, 1))


@every_granule
def test_sizes(granule: Granule) -> None:
    geometry = Geometry(granule.shift)
    assert (granule.page, granule.entries) == (geometry.page_size, geometry.entries)
    assert [granule.level_shift(level) for level in range(-1, 4)] == [geometry.level_shift(n) for n in range(-1, 4)]
    assert granule.block == geometry.level_size(2)
    assert granule.has_large_blocks == (geometry.min_block_level == 1)


@every_granule
def test_root_pages(granule: Granule) -> None:
    geometry = Geometry(granule.shift)
    knob = KNOBS_BY_NAME["ia_bits"]
    for bits in range(knob.low, knob.high + 1):
        level = start_level_of(get_vtcr(bits, Features(), geometry), geometry)
        assert granule.root_pages(bits) == geometry.root_pages(bits, level), bits


@given(machines, st.integers(0, NO_PAGE), st.integers(0, NO_PAGE))
def test_address_fields(machine: Machine, entry: int, address: int) -> None:
    field, model = address_field(machine), AddressFormat(machine.granule.shift, bool(machine["lpa2"]))
    assert field.bits == model.mask
    assert field.address(entry) == model.to_phys(entry)
    assert field.put(entry, address) == entry & ~model.mask | model.to_pte(address)


@every_granule
def test_the_end_of_physical_addresses(granule: Granule) -> None:
    for lpa2 in (0, 1):
        for wide in (0, 1):
            machine = Machine.of(granule=GRANULES.index(granule), lpa2=lpa2, pa_bits_52=wide)
            features = Features(lpa2=bool(lpa2), pa_bits_52=bool(wide))
            assert machine.phys_bits == phys_bits(features, Geometry(granule.shift))


@every_granule
def test_what_the_fuzzer_chooses_from(granule: Granule) -> None:
    """Aligned to what it is a coordinate of, and within the smallest guest."""
    for bits in (32, 40, 52):
        space = space_of(Machine.of(granule=GRANULES.index(granule), ia_bits=bits))
        tops, blocks, pages = space.steps
        assert max(tops) + max(blocks) + max(pages) < space.limit
        assert {step % granule.page for step in pages} == {step % granule.block for step in blocks} == {0}
        assert max(pages) == granule.block - granule.page


def test_pools_lie_where_the_granule_allows() -> None:
    for number, granule in enumerate(GRANULES):
        for knobs in ({}, {"lpa2": 1}, {"pa_bits_52": 1}):
            machine = Machine.of(granule=number, **knobs)
            highest = highest_pool(machine)
            assert machine.replace("pool_base", highest)["pool_base"] == highest
            assert highest + 256 * granule.page == 1 << machine.phys_bits
            with pytest.raises(ValueError, match="pool_base: expected"):
                machine.replace("pool_base", highest + granule.page)
    with pytest.raises(ValueError, match="multiple of 0x10000"):
        Machine.of(granule=2, pool_base=0x4400_1000)


@every_granule
def test_zeros_are_the_default_machine_of_the_granule(granule: Granule) -> None:
    machine = decode(b"", dialect_for(granule=granule)).machine
    assert machine.changed().keys() <= {"granule"}
    assert machine.granule is granule


def test_names() -> None:
    assert [granule_named(granule.name) for granule in GRANULES] == list(GRANULES)
    with pytest.raises(BadInput, match="`8k` is not a granule: expected 4k, 16k, 64k"):
        granule_named("8k")
