"""What ops make in the model: how it is found, refused, and ended."""

from __future__ import annotations

import errno

import pytest

from harness.model.executor import Model
from harness.model.ops.unlinked import UnlinkedTable
from harness.program.text import parse
from pgtable import PagePool

MAKING = "create_unlinked phys=0x80000000 level=2 prot=rw mc=2"


def returns(*lines: str) -> list[int | None]:
    return [
        record.ret for record in Model().observe(parse("\n".join(("s2 1", "budget = 5000", "", *lines)))).records[1:]
    ]


@pytest.mark.parametrize("use", ["free_unlinked table={}", "link ipa=0x200000 table={}"])
@pytest.mark.parametrize("number", [0, 1, 4095])
def test_what_nothing_has_made_is_refused(use: str, number: int) -> None:
    assert returns(use.format(number), MAKING, use.format(1)) == [-errno.EBADF, 0, -errno.EBADF]


def test_what_could_not_be_made_is_refused_and_has_its_number() -> None:
    failing = MAKING.replace("mc=2", "mc=0")
    free = "free_unlinked table={}"
    assert returns(failing, MAKING, free.format(0), free.format(1), free.format(1)) == [
        -errno.ENOMEM,
        0,
        -errno.EBADF,
        0,
        -errno.EBADF,
    ]


def test_what_the_tree_took_over_is_refused() -> None:
    link, free = "link ipa=0x{}00000 table=0", "free_unlinked table=0"
    map_page = "map ipa=0x200000 size=4K phys=0x90000000 prot=rw mc=4"
    assert returns(MAKING, map_page, link.format(2), link.format(4), free) == [0, 0, 0, -errno.EBADF, -errno.EBADF]


def test_what_no_op_ended_is_ended_unseen_in_reverse_order(monkeypatch: pytest.MonkeyPatch) -> None:
    program = parse(f"s2 1\nbudget = 5000\n\n{MAKING}\n{MAKING}\n{MAKING}\nfree_unlinked table=1\n")
    model, ended, pools = Model(), list[int](), list[PagePool]()
    end, reset = UnlinkedTable.end, PagePool.reset

    def watch(self: UnlinkedTable) -> None:
        ended.append(self.number)
        end(self)

    def reset_and_watch(self: PagePool) -> None:
        pools.append(self)
        reset(self)

    monkeypatch.setattr(UnlinkedTable, "end", watch)
    monkeypatch.setattr(PagePool, "reset", reset_and_watch)
    observation = model.observe(program)
    assert ended == [1, 2, 0]
    assert len(observation.pages) == observation.allocs - observation.frees
    assert pools[0].pages_in_use() == len(observation.pages) - 2
    assert model.observe(program).words == observation.words
    model.start(program)
    assert model.finish().digest == observation.digest


def test_ending_has_a_budget_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the program spent its own, and where no budget suffices."""
    spent = Model().observe(parse(f"s2 1\nbudget = 2000\n\n{MAKING}\nmap ipa=0 size=1M phys=0 prot=rw mc=4\n"))
    assert spent.records[-1].ret is None
    assert len(spent.pages) > 1

    def forever(self: UnlinkedTable) -> None:
        while True:
            self._stage2._hooks.dsb("ishst")

    program = parse(f"s2 1\nbudget = 5000\n\n{MAKING}\n")
    before = Model().observe(program)
    monkeypatch.setattr(UnlinkedTable, "end", forever)
    assert Model().observe(program).words == before.words
