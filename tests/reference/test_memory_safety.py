"""What pgtable.c does wrong is seen: crashes, hangs, misuse of pages, undefined behaviour, WARNs and BUGs."""

from __future__ import annotations

import re
import zlib

import pytest
from altered_tree import AFTER_TABLE_IS_FREED, HANGS_SOON, IN_MAP, IN_UNMAP, MAP_SIGNATURE, before, line_of
from sample_programs import BLOCK, DESTROY, ONE_PAGE, map_op, random_programs, unmap_op
from thinning import every

from harness.errors import BadInput
from harness.model.executor import Model
from harness.observation.executor import CrashReport, TargetDied
from harness.observation.layout import POOL_MISUSE, POOL_MISUSES, UBSAN, UBSAN_REPORTS, WARN, Complaint, Observation
from harness.program.program import Program
from harness.verdict.judge import Judge
from reference.link.executor import Reference

MERGE = Program((map_op(0x3000), map_op(0, BLOCK)))
"""A table is replaced by a block, and freed."""


def death(kernel: Reference, program: Program) -> CrashReport:
    with pytest.raises(TargetDied) as caught:
        kernel.observe(program)
    return caught.value.report


def crash(kernel: Reference, program: Program) -> CrashReport:
    report = death(kernel, program)
    assert report.kind == "crash"
    return report


def complaints(observation: Observation, kind: int) -> list[Complaint]:
    """All complaints of a kind, in order."""
    parts = [record.complaints for record in observation.records] + [observation.final_complaints]
    return [complaint for part in parts for complaint in part if complaint.kind == kind]


def misuses(observation: Observation) -> list[str]:
    return [POOL_MISUSES[complaint.code] for complaint in complaints(observation, POOL_MISUSE)]


@pytest.mark.parametrize(
    ("code", "access"),
    every(
        3,
        [
            ("*(volatile u64 *)0 = 1;", "data abort on write"),
            ("(void)*(volatile u64 *)0;", "data abort on read"),
            ("*(volatile u64 *)kvm_pgtable_stage2_map = 1;", "data abort on write"),
            ("((void (*)(void))&map_data)();", "instruction abort"),
            ("BUG();", "BUG (no exception)"),
            ("BUG_ON(size == 0x1000);", "BUG (no exception)"),
        ],
    ),
)
def test_a_crash_is_reported_with_its_place(altered, code: str, access: str) -> None:
    with altered(before(IN_MAP, code)) as kernel:
        report = crash(kernel, ONE_PAGE)
        line = line_of(kernel.image.tree, code)
        assert access in report.headline
        if access != "instruction abort":  # which is where the jump went
            assert report.headline.endswith(" in kvm_pgtable_stage2_map")
            assert f"at kvm_pgtable_stage2_map (pgtable.c:{line})" in report.details
        assert re.search(r"called from op_map \(table\.c:\d+\)", report.details)
        assert kernel.observe(Program(())).records[0].ret == 0, "the next program runs on a fresh kernel"
        assert kernel.boots == 2


def test_running_out_of_stack(altered) -> None:
    recursion = "static noinline u64 s2fuzz_deeper(volatile u64 n) { return s2fuzz_deeper(n + 1) + n; } "
    code = "if (s2fuzz_deeper(0)) return 1;"
    with altered({MAP_SIGNATURE: recursion + MAP_SIGNATURE, **before(IN_MAP, code)}) as kernel:
        report = crash(kernel, ONE_PAGE)
        guard = kernel.symbols.address("stack_start") - 4096
    assert report.headline == "synchronous exception (data abort on write) in s2fuzz_deeper"
    far = int(re.search(r"FAR (0x[0-9a-f]+)", report.details)[1], 16)
    assert guard <= far < guard + 4096
    assert report.details.count("called from s2fuzz_deeper") > 5


def test_an_endless_loop_is_a_hang(altered) -> None:
    code = 'for (;;) asm volatile("");'
    with altered(before(IN_MAP, code)) as kernel:
        kernel.work = HANGS_SOON
        verdict = Judge(Model(), kernel).check(Program((unmap_op(0), map_op(0), unmap_op(0))))
        line = line_of(kernel.image.tree, code)
    assert verdict is not None
    assert (verdict.kind, verdict.record, verdict.died_side) == ("hang", 2, "kernel:altered")
    assert verdict.bucket == "hang-map-kvm_pgtable_stage2_map"
    assert f"pgtable.c:{line}" in verdict.died.details
    assert verdict.left is not None
    assert verdict.right is None


def test_an_endless_loop_over_several_functions_is_one_hang(altered) -> None:
    """Wherever in it the kernel is found, on whatever of the fresh ones."""
    functions = "".join(
        f'static noinline void s2fuzz_wait_{letter}(void) {{ for (int i = 0; i < 10000; i++) asm volatile(""); }} '
        for letter in "abcdefgh"
    )
    calls = " ".join(f"s2fuzz_wait_{letter}();" for letter in "abcdefgh")
    with altered({MAP_SIGNATURE: functions + MAP_SIGNATURE, **before(IN_MAP, f"for (;;) {{ {calls} }}")}) as kernel:
        kernel.work = HANGS_SOON
        places = set()
        for _ in range(8):
            report = death(kernel, ONE_PAGE)
            assert (report.kind, report.place) == ("hang", "kvm_pgtable_stage2_map")
            places.add(report.details.split()[0])
        assert len(places) > 1, "it was found at one place only, so this test shows nothing"
        verdict = Judge(Model(), kernel).check(ONE_PAGE)
    assert verdict is not None
    assert (verdict.kind, verdict.bucket, verdict.confirmed) == ("hang", "hang-map-kvm_pgtable_stage2_map", 3)


def test_endless_work_that_no_budget_counts_is_a_hang(altered) -> None:
    """Without waiting for a time-out."""
    with altered(before(IN_MAP, "for (;;) pgt->mm_ops->page_count((void *)pgt->pgd);")) as kernel:
        report = death(kernel, ONE_PAGE)
    assert (report.kind, report.place) == ("hang", "kvm_pgtable_stage2_map")
    assert report.headline.startswith("endless: ")


def test_a_call_of_nothing_is_its_caller_s(altered) -> None:
    code = "((void (*volatile)(void))NULL)();"
    with altered(before(IN_MAP, code)) as kernel:
        verdict = Judge(Model(), kernel).check(ONE_PAGE)
    assert verdict is not None
    assert (verdict.kind, verdict.bucket) == ("crash", "crash-map-kvm_pgtable_stage2_map")


def test_an_endless_loop_with_events_is_cut_by_the_budget(altered) -> None:
    with altered(before(IN_MAP, "for (;;) dsb(ishst);")) as kernel:
        observation = kernel.observe(ONE_PAGE)
        assert [record.ret for record in observation.records] == [0, None]
        verdict = Judge(Model(), kernel).check(ONE_PAGE)
        assert verdict is not None
        assert (verdict.kind, verdict.record, verdict.bucket) == ("flood", 1, "flood-map")
        assert kernel.observe(Program(())).records[0].ret == 0
        assert kernel.boots == 5  # the judge takes three fresh ones to be sure, and one for what it shows


def test_a_write_to_a_freed_page(altered) -> None:
    with altered({AFTER_TABLE_IS_FREED: f"{AFTER_TABLE_IS_FREED} ((volatile u64 *)childp)[7] = 0;"}) as kernel:
        observation = kernel.observe(MERGE)
        assert misuses(observation) == ["poison"]
        freed = observation.final_complaints[0].value
        assert freed not in observation.pages
        assert misuses(kernel.observe(ONE_PAGE)) == [], "what was damaged is whole again"


def test_a_damaged_page_that_is_allocated_anew(altered) -> None:
    with altered({AFTER_TABLE_IS_FREED: f"{AFTER_TABLE_IS_FREED} ((volatile u64 *)childp)[7] = 0;"}) as kernel:
        observation = kernel.observe(Program((*MERGE.ops, map_op(0x5000, mc=41))))
    assert [POOL_MISUSES[complaint.code] for complaint in observation.records[3].complaints] == ["poison"]
    assert observation.final_complaints == ()


def test_a_freed_table_that_is_followed(altered) -> None:
    """Poison reads as a table far away, and there is no memory to find it in."""
    follow = "(void)*(volatile u64 *)kvm_pte_follow(*(volatile u64 *)childp, mm_ops);"
    with altered({AFTER_TABLE_IS_FREED: f"{AFTER_TABLE_IS_FREED} {follow}"}) as kernel:
        report = crash(kernel, MERGE)
    assert "data abort on read" in report.headline
    assert "pgtable.c:" in report.details


def test_a_reference_that_is_put_twice(altered) -> None:
    with altered({IN_UNMAP: f"{IN_UNMAP} mm_ops->put_page(ctx->ptep);"}) as kernel:
        observation = kernel.observe(Program((*ONE_PAGE.ops, unmap_op(0x1000), DESTROY)))
        assert "bad-put" in misuses(observation)
        record = next(note.record for note in observation.notes if note.text == "pool bad-put")
        assert observation.records[record].complaints


def test_a_reference_to_a_free_page(altered) -> None:
    with altered(
        {AFTER_TABLE_IS_FREED: f"{AFTER_TABLE_IS_FREED} mm_ops->get_page(childp); mm_ops->page_count(0);"}
    ) as kernel:
        assert misuses(kernel.observe(MERGE)) == ["bad-get", "bad-count"]


def test_pages_that_are_no_pages(altered) -> None:
    """The address is kept as it is, so that both sides' complaints can be equal."""
    with altered(before(IN_MAP, "pgt->mm_ops->free_pages_exact((void *)(0x123000 | 1ul << 63), 0x2000);")) as kernel:
        found = complaints(kernel.observe(ONE_PAGE), POOL_MISUSE)
    assert [(POOL_MISUSES[each.code], each.value) for each in found] == [("bad-free", 0x123000), ("bad-free", 0x124000)]


def test_a_warning_names_its_place(altered) -> None:
    code = "WARN_ON(size == 0x2000);"
    with altered(before(IN_MAP, code)) as kernel:
        observation = kernel.observe(Program((map_op(0, 0x1000), map_op(0x1000, 0x2000))))
        line = line_of(kernel.image.tree, code)
        assert Judge(Model(), kernel).check(ONE_PAGE) is None
        verdict = Judge(Model(), kernel).check(Program((map_op(0x1000, 0x2000),)))
    assert [record.complaints for record in observation.records] == [
        (),
        (),
        (Complaint(WARN, zlib.crc32(b"kvm_pgtable_stage2_map"), 0),),
    ]
    assert [(note.record, note.text) for note in observation.notes] == [
        (2, f"WARN at kvm_pgtable_stage2_map (pgtable.c:{line})")
    ]
    assert verdict is not None
    assert verdict.kind == "divergence"


def test_more_complaints_than_are_kept(altered) -> None:
    with altered(before(IN_MAP, "for (int i = 0; i < 400; i++) WARN_ON(1);")) as kernel:
        assert len(complaints(kernel.observe(ONE_PAGE), WARN)) == 16


@pytest.mark.parametrize(
    ("code", "report"),
    [
        ("volatile u32 far = 64; volatile u64 result = 1ul << far;", "shift-out-of-bounds"),
        ("volatile u32 at = 9; static struct { u64 few[4], more[60]; } all; all.few[at] = 0;", "out-of-bounds"),
        ("volatile u64 two = 2; bool both = *(volatile bool *)&two; WARN_ON(both != both);", "invalid-value"),
    ],
)
def test_undefined_behaviour_is_reported(altered, code: str, report: str) -> None:
    changes = before(IN_MAP, f"{{ {code} }}")
    with altered(changes, "ubsan") as kernel:
        observation = kernel.observe(ONE_PAGE)
        line = line_of(kernel.image.tree, code)
    assert [UBSAN_REPORTS[complaint.code] for complaint in complaints(observation, UBSAN)] == [report]
    assert [note.text for note in observation.notes] == [f"UBSan {report} at kvm_pgtable_stage2_map (pgtable.c:{line})"]


def test_undefined_behaviour_is_not_reported_by_the_plain_flavour(altered) -> None:
    code = "{ volatile u32 far = 64; volatile u64 result = 1ul << far; }"
    with altered(before(IN_MAP, code)) as kernel:
        assert kernel.observe(ONE_PAGE).notes == ()


def test_the_packaged_kernel_has_no_undefined_behaviour(ubsan_kernel: Reference) -> None:
    programs = random_programs(seed=300, count=300, longest=25)
    assert [program for program in programs if complaints(ubsan_kernel.observe(program), UBSAN)] == []


# Pages 20 and 40 of the pool: the first is free in every program here, the second is beyond the 32 there are.
STRAY = "if (size == 0x2000) *((volatile u64 *)pgt->pgd + 20 * 512) = 0x1234;"
BEYOND = "if (size == 0x2000) *((volatile u64 *)pgt->pgd + 40 * 512) = 0x1234;"
TRIGGER = Program((map_op(0x1000, 0x2000),))


def test_a_write_to_a_page_that_was_never_used(altered) -> None:
    """It shows in the program that does it, and not in the next."""
    with altered(before(IN_MAP, STRAY)) as kernel:
        assert misuses(kernel.observe(TRIGGER)) == ["poison"]
        assert misuses(kernel.observe(ONE_PAGE)) == []
        assert kernel.boots == 1


def test_a_write_beyond_the_machine_s_pool_is_an_abort(altered) -> None:
    with altered(before(IN_MAP, BEYOND)) as kernel:
        assert "data abort on write" in crash(kernel, TRIGGER).headline


def test_data_that_nobody_would_restore_is_refused(altered) -> None:
    """A section that the linker script does not place would keep state from program to program."""
    code = 'static int kept __attribute__((section(".init.data"))) = 1; kept++;'
    with pytest.raises(BadInput, match=r"(?s)does not fit the test kernel.*\.init\.data"):
        altered({IN_MAP: f"	{{ {code} }}{IN_MAP}"})
