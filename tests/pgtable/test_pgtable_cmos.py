"""Memory callbacks without cache maintenance: nothing is announced, nothing else changes."""

import pytest

from pgtable import Features, Prot

PAGE = 1 << 12
RWX = Prot.R | Prot.W | Prot.X
PA = 0x8000_0000
NAMES = {"dcache": "dcache_clean_inval_poc", "icache": "icache_inval_pou"}


def kinds(make_world, left_out) -> list[str]:
    world = make_world(features=Features(fwb=False))
    for name in left_out:
        setattr(world, NAMES[name], None)
    assert world.s2.map(0, 20 * PAGE, PA, RWX, world.cache) == 0
    assert world.s2.map(1 << 30, PAGE, PA, Prot.R, world.cache) == 0
    assert world.s2.relax_perms(1 << 30, Prot.X) == 0
    assert world.s2.flush(0, 1 << 31) == 0
    assert world.s2.unmap(0, 1 << 31) == 0
    world.check_refcounts()
    return world.kinds()


@pytest.mark.parametrize("left_out", [("dcache",), ("icache",), ("dcache", "icache")])
def test_what_is_not_there_is_not_called(make_world, left_out):
    everything = kinds(make_world, ())
    assert [everything.count(name) for name in NAMES] == [3 * 21, 20 + 1]
    assert kinds(make_world, left_out) == [kind for kind in everything if kind not in left_out]
