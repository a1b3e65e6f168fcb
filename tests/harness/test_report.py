"""Verdicts and observations as text: everything a reader needs is in it."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

from executors import AnyOwner, Dying, Patched
from observations import observe

import pgtable.pte
from harness.files import HOSTED_FILES, VERIFIED_FILES, file_lines
from harness.findings.report import (
    MAX_ROWS,
    describe_record,
    event_report,
    observation_text,
    run_report,
    verdict_report,
)
from harness.findings.trees import side_by_side, tree
from harness.findings.verified import verified_against
from harness.model.executor import Model
from harness.observation.executor import Executor
from harness.observation.layout import MEMCACHE, UNDER_TEST, Cache, Holder
from harness.program.machine import DEFAULT_MACHINE
from harness.program.program import Program
from harness.program.text import format_program, parse
from harness.verdict.judge import Judge
from pgtable.entry import EntryWriter
from pgtable.memory import PagePool
from pgtable.walker import SKIP_BBM_TLBI, Walk

PROGRAM = parse("""
# Why.
s2 1
ia_bits = 39
map ipa=0x200000 size=2M phys=0x80200000 prot=rwx mc=1
set_owner ipa=0x1000 size=4K mc=2 owner=3
destroy
""")
NAMES = ("model:6.12", "kernel:x")


def report_on(right: Executor, program: Program = PROGRAM, left: Executor | None = None) -> str:
    verdict = Judge(left or Model(), right).verdict(program)
    assert verdict is not None
    return verdict_report(program, verdict, NAMES, ["note: for readers"])


def test_a_divergence_in_results() -> None:
    lines = report_on(AnyOwner()).splitlines()
    assert lines[:2] == ["divergence: results-set_owner-return", "note: for readers"]
    assert "First differing op: op 2: set_owner ipa=0x1000 size=4K mc=2 owner=3" in lines
    assert "  results differ: return" in lines
    assert "    model:6.12  -EINVAL" in lines
    assert "    kernel:x    0" in lines
    # The trees, only where they differ, decoded.
    assert "Tables after that op (only rows that differ):" in lines
    assert [line.split()[1:4] for line in lines if line.startswith("!")] == [["2", "0x0", "-"], ["2", "0x0", "table"]]
    # The program, which the mark of the op does not keep from being found.
    for line in format_program(PROGRAM).splitlines():
        assert any(shown[2:] == line for shown in lines), line


def test_ops_after_the_one_that_differs_are_counted() -> None:
    after = "destroy\n" * 9
    text = report_on(AnyOwner(), parse(f"s2 1\nset_owner ipa=0x1000 size=4K mc=2 owner=3\n{after}"))
    program = text.split("(> marks the first differing op):\n")[1].splitlines()
    assert program[2:] == ["> set_owner ipa=0x1000 size=4K mc=2 owner=3", *["  destroy"] * 3, "  … 6 more ops"]


def test_a_divergence_in_tables_shows_both_entries_decoded() -> None:
    text = report_on(Patched(pgtable.pte, "XN", 0), parse("s2 1\nmap ipa=0x1000 size=8K phys=0x5000 prot=rw mc=2"))
    assert "divergence: tables-map-entry-level3" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("! ")]
    assert [row[1:3] for row in rows] == [["3", "0x1000"], ["3", "0x2000"]]
    assert rows[0][3:] == ["page", "pa=0x5000", "RW-", "normal", "AF", "page", "pa=0x5000", "RWX", "normal", "AF"]
    assert "… 2 equal entries" in text


def test_a_divergence_in_events_shows_them_aligned() -> None:
    program = parse("s2 1\nmap ipa=0x0 size=2M phys=0x0 prot=r mc=1\nmap ipa=0x1000 size=4K phys=0x5000 prot=rw mc=1")
    text = report_on(Patched(EntryWriter, "try_break", try_break_without_tlbi), program)
    assert text.startswith("divergence: events-map-tlbi_vmid_ipa-level2\n")
    lines = text.splitlines()
    assert "  events differ: tlbi_vmid_ipa" in lines
    assert "    model:6.12  #2 tlbi_vmid_ipa ipa=0x1000 level=2" in lines
    assert "    kernel:x    #2 put_page pa=0x44002000" in lines
    start = lines.index("Events of that op:")
    assert lines[start + 1 : start + 22] == [
        "  - model:6.12",
        "  + kernel:x",
        "    zalloc_page pa=0x44003000",
        "    store plain 0x44002000 = 0x400  level 2 ipa 0x0: locked",
        "  - tlbi_vmid_ipa ipa=0x1000 level=2",
        "  -   dsb ish",
        "  -   msr vtcr_el2, 0x802d3558",
        "  -   msr vttbr_el2, 0x1000044000001: VMID 0x1, root 0x44000000",
        "  -   isb",
        "  -   tlbi ipas2e1is, 0x600000000001: stage 2, 0x1000 at level 2 of 4K, inner shareable",
        "  -   dsb ish",
        "  -   tlbi vmalle1is: stage 1 of the VMID, inner shareable",
        "  -   dsb ish",
        "  -   isb",
        "  -   msr vttbr_el2, 0x0: VMID 0x0, root 0x0",
        "  -   isb",
        "    put_page pa=0x44002000",
        "    get_page pa=0x44002000",
        "    store release 0x44002000 = 0x44003003  level 2 ipa 0x0: table -> 0x44003000",
        "    … 5 equal events",
        "",
    ]


def try_break_without_tlbi(self: EntryWriter, walk: Walk) -> bool:
    """Break-before-make that forgets the TLB."""
    walk.flags |= SKIP_BBM_TLBI
    return _try_break(self, walk)


_try_break = EntryWriter.try_break


def test_events_are_listed_when_asked_for() -> None:
    seen = Model().observe(PROGRAM)
    text = observation_text(PROGRAM, seen, events=True)
    assert text.startswith(observation_text(PROGRAM, seen))
    listed = text.removeprefix(observation_text(PROGRAM, seen)).splitlines()
    assert listed == ["", *event_report(PROGRAM, seen)]
    assert listed[1:4] == [
        "  0 init (implicit): 2 events",
        "      zalloc_pages_exact pa=0x44000000 size=0x1000",
        "      dsb ishst",
    ]
    assert "  2 set_owner ipa=0x1000 size=4K mc=2 owner=3: 0 events" in listed


def test_a_divergence_in_init() -> None:
    text = report_on(Patched(pgtable.vtcr, "HA", 0))
    assert "First differing op: init (implicit)" in text
    assert "results differ: vtcr" in text


def test_a_difference_of_references_shows_the_table() -> None:
    wrong = Patched(PagePool, "get_page", lambda self, pa: None)
    text = report_on(wrong, parse("s2 1\nmap ipa=1G size=1G phys=1G prot=r"))
    assert "accounting differs: refcount" in text
    row = next(line for line in text.splitlines() if line.startswith("! "))
    assert "table with 2 references" in row and "table with 1 reference" in row


def test_complaints_are_told_with_their_place() -> None:
    program = parse("s2 1\ndestroy\ndestroy")
    text = report_on(Patched(PagePool, "free_pages_exact", lambda self, pa, size: None), program, Model())
    assert "divergence: accounting-destroy-pages_freed" in text
    verdict = Judge(Model(), Dying("get_leaf")).verdict(parse("s2 1\ndestroy\ndestroy\nget_leaf ipa=0x0"))
    assert verdict is not None
    text = verdict_report(program=parse("s2 1\ndestroy\ndestroy\nget_leaf ipa=0x0"), verdict=verdict, names=NAMES)
    assert "  model:6.12 complained:\n    op 2: WARN at kvm_pgtable_stage2_destroy\n    op 2: pool bad-free\n" in text


def test_a_crash() -> None:
    text = report_on(Dying("destroy"))
    assert text.startswith("crash: crash-destroy-stage2_unmap_walker\n")
    assert "First differing op: op 3: destroy" in text
    assert "  kernel:dying: crash: data abort on read in stage2_unmap_walker\n    x0 0\n    x1 1\n" in text
    assert "Tables after that op" not in text


def differing_rows(program: Program) -> list[str]:
    """Of the tables, where every leaf differs."""
    text = report_on(Patched(pgtable.pte, "AF", 0), program)
    return text.split("(only rows that differ):\n")[1].split("\n\n")[0].splitlines()


def test_long_lists_are_cut() -> None:
    program = parse("s2 1\nmap ipa=0x0 size=1M phys=0x0 prot=r mc=2\nwalk ipa=0x0 size=1M flags=leaf")
    lines = run_report(program, Model().observe(program), visits=True)
    assert lines[2].endswith("=> 0 256 visits")
    assert len(lines) == 3 + MAX_ROWS + 1
    assert lines[-1] == f"… {256 - MAX_ROWS} more rows"


def test_rows_and_events_that_repeat_are_told_once() -> None:
    program = parse("s2 1\nmap ipa=0x0 size=1M phys=0x0 prot=r mc=2")
    header, equal, first, more, last = differing_rows(program)
    assert (header.split()[0], equal) == ("level", "  … 2 equal entries")
    assert first.split()[:3] == ["!", "3", "0x0"] and last.split()[:3] == ["!", "3", "0xff000"]
    assert more == "!     … 254 more, each +0x1000"


def test_every_op_with_its_result() -> None:
    program = parse(
        "s2 1\nmap ipa=0x1000 size=4K phys=0x5000 prot=rw\nwalk ipa=0x0 size=8K flags=leaf\nget_leaf ipa=1T"
    )
    lines = run_report(program, Model().observe(program), visits=True)
    assert lines[0] == "  0 init (implicit)  => 0 vtcr=0x802d3558 ia_bits=0x28 start_level=0x1 root_pages=0x2"
    assert lines[1:] == [
        "  1 map ipa=0x1000 size=4K phys=0x5000 prot=rw  => -ENOMEM",
        "  2 walk ipa=0x0 size=8K flags=leaf  => 0 1 visit",
        "      leaf level=0x1 ipa=0x0 pte=0x0",
        "  3 get_leaf ipa=0x10000000000  => -ERANGE",
    ]
    assert run_report(program, Model().observe(program)) == [line for line in lines if "leaf level" not in line]


def test_ops_that_did_not_run_are_counted() -> None:
    spent = parse("s2 1\nbudget = 3\nunmap ipa=0x0 size=1T\ndestroy\ndestroy")
    assert run_report(spent, Model().observe(spent))[1:] == [
        "  1 unmap ipa=0x0 size=1T  => budget",
        "    2 more ops not run: the budget is spent",
    ]
    failed = parse("s2 1\npool_pages = 1\ndestroy")
    assert run_report(failed, Model().observe(failed)) == [
        "  0 init (implicit)  => -ENOMEM",
        "    1 more op not run: there is no table",
    ]


def test_a_result_with_complaints() -> None:
    seen = observe("destroy\ndestroy\n")
    assert describe_record(seen.records[2]) == "0 [WARN] [pool: bad-free 0x0]"


def test_a_tree() -> None:
    seen = observe("map ipa=0x1000 size=8K phys=0x80001000 prot=rw mc=3\nset_owner ipa=0x5000 size=12K owner=1\n")
    assert tree(seen, DEFAULT_MACHINE) == [
        "level 1 table 0x44000000 from ipa 0x0, 2 references",
        "  0x000000000000 table -> 0x44004000",
        "    level 2 table 0x44004000 from ipa 0x0, 2 references",
        "      0x000000000000 table -> 0x44003000",
        "        level 3 table 0x44003000 from ipa 0x0, 6 references",
        "          0x000000001000 page  pa=0x80001000 RW- normal AF  x2",
        "          0x000000005000 owner 1  x3",
        "level 1 table 0x44001000 from ipa 0x8000000000, 1 reference",
        "memcache holds 1: 0x44002000",
        "5 pages allocated, 0 freed, 5 in use",
    ]


def test_trees_of_several_tables() -> None:
    """One that two hold is shown once; a table that is not the only one is said whose it is."""
    observed = observe("map ipa=0x0 size=2M phys=0x80200000 prot=r mc=1\ncreate_unlinked phys=0x0 level=2 prot=r")
    root, unlinked = observed.roots
    both = replace(root, holders=(Holder(UNDER_TEST, 0), Holder(UNDER_TEST, 1)))
    other = replace(root, holders=(Holder(UNDER_TEST, 2),))
    cache = Cache(MEMCACHE, 2, (0x4400_0000,))
    alone = tree(replace(observed, roots=(root,)), DEFAULT_MACHINE)
    drawn = [f"  {line}" for line in takewhile(lambda line: not line.startswith("leaked"), alone)]
    lines = tree(replace(observed, roots=(both, other, unlinked), caches=(cache,)), DEFAULT_MACHINE)
    assert lines[: 2 * len(drawn) + 3] == [
        "table 0 under test, table 1 under test (m1), 40 bits of address:",
        *drawn,
        "table 2 under test (m2), 40 bits of address:",
        *drawn,
        "unlinked table t1, for an entry of level 2:",
    ]
    assert "memcache of table 2 holds 1: 0x44000000" in lines


def test_a_tree_without_a_root_and_with_leaks() -> None:
    seen = observe("map ipa=0x1000 size=4K phys=0x80001000 prot=rwx mc=3\ninit\n", pool_pages=5)
    assert tree(seen, DEFAULT_MACHINE) == [
        "no table",
        "leaked page 0x44000000: 2 references, 1 entry in use",
        "leaked page 0x44001000: 1 reference, 0 entries in use",
        "leaked page 0x44003000: 2 references, 1 entry in use",
        "leaked page 0x44004000: 2 references, 1 entry in use",
        "memcache holds 1: 0x44002000",
        "5 pages allocated, 0 freed, 5 in use",
    ]


def test_every_budget_can_be_shown() -> None:
    """An init that did not get to its end has a root, and no out-values."""
    for budget in range(1, 20):
        program = parse(f"s2 1\nbudget = {budget}\nmap ipa=0x1000 size=4K phys=0x80001000 prot=rwx mc=2\n")
        assert "pages allocated" in observation_text(program, Model().observe(program))


def test_equal_trees_have_no_rows() -> None:
    seen = observe("map ipa=0x1000 size=8K phys=0x80001000 prot=rw mc=2\n")
    assert side_by_side(seen, seen, DEFAULT_MACHINE, NAMES) == []
    elsewhere = observe("map ipa=0x1000 size=8K phys=0x80001000 prot=rw mc=2\n", pool_base=0)
    assert side_by_side(seen, elsewhere, DEFAULT_MACHINE, NAMES) == []


def test_a_model_of_other_files_is_noted() -> None:
    code, header, read = "arch/arm64/kvm/hyp/nvhe/tlb.c", "include/linux/align.h", "include/linux/new.h"

    def kernel(**changed: str) -> dict[str, str]:
        files = {code: "a" * 12, header: "b" * 12} | {name: changed[name] * 12 for name in changed}
        return {"linux": "6.12.1", "source": "Debian", HOSTED_FILES: ", ".join(file_lines(files))}

    model = {"version": "6.12", VERIFIED_FILES: "\n".join(file_lines({code: "a" * 64, header: "b" * 64}))}
    assert verified_against([model, kernel()]) == []
    for name, before in ((code, "a" * 12), (header, "b" * 12)):
        note = verified_against([model, kernel(**{name: "c"})])
        assert note[1:] == ["  Debian:", f"    {name}  {before}, here {'c' * 12}"], note
    assert verified_against([model, kernel(**{read: "c"})]) == [], "not known, and no part of the architecture's code"
    new = "arch/arm64/kvm/hyp/new.c"
    assert f"{new}  none, here " in verified_against([model, kernel(**{new: "c"})])[-1]
    many = {f"arch/arm64/{number}.h": "d" for number in range(20)}
    assert verified_against([model, kernel(**many)])[-1] == "    and 12 more"
    assert verified_against([kernel(), kernel(**many)]) == []
    assert verified_against([model, model]) == []
