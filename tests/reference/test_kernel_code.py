"""Ordinary kernel code in a hosted file: it compiles, does what it says, prints into the report, and changes nothing
else; what it does wrong with locks is told; and what the shim lacks is named as that."""

from __future__ import annotations

from contextlib import closing
from difflib import unified_diff
from pathlib import Path

import pytest
from altered_tree import IN_MAP, before, with_changes, with_pgtable
from sample_programs import ONE_PAGE, SPECIAL
from thinning import every

from harness.errors import BadInput
from harness.findings.report import run_report, verdict_report
from harness.model.executor import Model
from harness.observation.events import events_of
from harness.observation.executor import TargetDied
from harness.observation.layout import LOCKING
from harness.program.granule import GRANULE_4K, Granule, granule_named
from harness.program.program import Program
from harness.program.text import parse
from harness.verdict.compare.differences import differences
from harness.verdict.judge import Judge
from harness.verdict.tiers import Tier
from harness.verdict.verdicts import Verdict
from reference.build.image import Image, build
from reference.build.sources import KernelChoice, prepare
from reference.build.tree import KernelTree
from reference.link.executor import Reference

GRANULE_16K, GRANULE_64K = granule_named("16k"), granule_named("64k")
CODE = (Path(__file__).parent / "kernel_code.c").read_text()
BEFORE_CODE = "struct kvm_pgtable_walk_data {"
CALLED = "\treturn (data->addr >> shift) & mask;"
PRINTED = [
    "info -1 1 -2 2",
    "err ab 0xab 000000ab abc abcd",
    "warn text|   right|left    |cu",
    "notice c%",
    "debug 0000000000001234",
    "err once",
    "info once",
    "ratelimited",
    "no level    42|42   |00042",
    "with level 0x10 0x20 0x30 0x40",
    "once",
    "trace 8    7",
    "kvm [0]: err 3",
    "kvm [0]: info",
    "kvm [0]: debug",
]
SHARED = parse("s2 1\nmap ipa=0x0 size=4K phys=0x0 prot=r mc=4 flags=shared\n")
WALK = parse("s2 1\nwalk ipa=0x0 size=4K flags=leaf\nwalk ipa=0x0 size=4K flags=leaf\n")


def with_code(tree: KernelTree, path: Path, code: str, call: str) -> KernelTree:
    """`tree` with `code` before its walker, and a call in each table's walk."""
    text = tree.pgtable.read_text()
    assert text.count(BEFORE_CODE) == text.count(CALLED) == 1
    return with_pgtable(
        tree, path, text.replace(BEFORE_CODE, f"{code}\n{BEFORE_CODE}").replace(CALLED, f"\t{call}\n{CALLED}")
    )


def of_granule(granule: Granule) -> list[Program]:
    """Programs that a kernel for that granule can run, and something happens in."""
    if granule is not GRANULE_4K:
        return [
            parse(
                f"s2 1\ngranule = {granule.name}\nmap ipa=0x0 size=64K phys=0x0 prot=rw mc=4\nunmap ipa=0x0 size=64K\n"
            )
        ]
    return [ONE_PAGE, *SPECIAL.values()]


@pytest.mark.parametrize(
    ("linux", "flavour", "granule", "kernel_object"),
    every(
        3,
        [
            ("6.12", "plain", GRANULE_4K, "host"),
            ("6.12", "ubsan", GRANULE_4K, "host"),
            ("6.12", "lines", GRANULE_4K, "host"),
            ("6.12", "calls", GRANULE_4K, "host"),
            ("6.12", "plain", GRANULE_4K, "hyp"),
            ("6.12", "plain", GRANULE_16K, "host"),
            ("6.12", "plain", GRANULE_64K, "hyp"),
            ("6.1", "plain", GRANULE_4K, "host"),
            ("6.1", "plain", GRANULE_16K, "hyp"),
            ("6.1", "ubsan", GRANULE_64K, "host"),
        ],
    ),
    ids=lambda value: value.name if isinstance(value, Granule) else value,
)
def test_kernel_code_changes_nothing(
    linux: str, flavour: str, granule: Granule, kernel_object: str, tmp_path: Path
) -> None:
    plain = prepare(KernelChoice(linux))
    changed = with_code(plain, tmp_path / "pgtable.c", CODE, "everything();")
    images = [build(tree, flavour, granule=granule, kernel_object=kernel_object) for tree in (plain, changed)]
    ran = printed = 0
    with closing(Reference(images[0], "plain")) as left, closing(Reference(images[1], "changed")) as right:
        for program in of_granule(granule):
            try:
                left.capabilities.check(program, left.name)
            except BadInput:  # for another version, or for another object
                continue
            mine, theirs = left.observe(program), right.observe(program)
            assert mine.words == theirs.words, program
            assert left.capabilities == right.capabilities
            printed += sum(note.is_printed for note in theirs.notes)
            ran += 1
    assert ran and printed


def test_what_is_printed_is_told_at_its_op(image: Image, tmp_path: Path) -> None:
    tree = with_code(image.tree, tmp_path / "pgtable.c", CODE, "messages();")
    with closing(Reference(build(tree), "kernel:changed")) as kernel:
        seen = kernel.observe(WALK)
    first = [note for note in seen.notes if note.record == 1]
    assert [note.text for note in first[: len(PRINTED)]] == [f"printed: {text}" for text in PRINTED]
    assert first[len(PRINTED)].text.startswith("printed: dump_stack() at messages (pgtable.c:")
    second = [note.text for note in seen.notes if note.record == 2]
    assert f"printed: {PRINTED[0]}" in second
    assert "printed: once" not in second
    assert seen.words == Model().observe(WALK).words
    lines = run_report(WALK, seen)
    at = next(number for number, line in enumerate(lines) if line.startswith("  2 walk"))
    assert lines[at + 1] == f"      printed: {PRINTED[0]}"
    report = verdict_report(WALK, Verdict("divergence", "x", 1, None, None, seen), ("model", "kernel:changed"))
    assert f"  kernel:changed printed:\n    op 1: printed: {PRINTED[0]}\n" in report


def test_messages_are_bounded(image: Image, tmp_path: Path) -> None:
    code = 'static void chatter(void) { for (int i = 0; i < 1000; i++) printk("%0300d\\nsecond \\x1b line", i); }'
    tree = with_code(image.tree, tmp_path / "pgtable.c", code, "chatter();")
    with closing(Reference(build(tree), "kernel:chatter")) as kernel:
        seen = kernel.observe(Program(WALK.ops * 100))
    assert seen.words == Model().observe(Program(WALK.ops * 100)).words
    first = [note.text for note in seen.notes if note.record == 1]
    assert first[-1] == "printed: 968 more, not kept"
    assert len(first) == 33 and all(len(text) <= len("printed: ") + 256 for text in first)
    assert sum(note.is_printed for note in seen.notes) <= 512 + 200


def test_several_lines_and_control_characters(image: Image, tmp_path: Path) -> None:
    tree = with_code(image.tree, tmp_path / "pgtable.c", "", 'printk("one\\n\\x1b[31mtwo\\n");')
    with closing(Reference(build(tree), "kernel:lines")) as kernel:
        seen = kernel.observe(WALK.prefix(1))
    assert [note.text for note in seen.notes[:2]] == ["printed: one", "printed: ?[31mtwo"]


def test_the_last_words_before_a_crash(image: Image, tmp_path: Path) -> None:
    code = 'pr_err("going down\\n"); BUG();'
    tree = with_code(image.tree, tmp_path / "pgtable.c", "", code)
    with closing(Reference(build(tree), "kernel:bug")) as kernel, pytest.raises(TargetDied) as died:
        kernel.observe(WALK)
    assert "printed: going down" in died.value.report.details


@pytest.mark.parametrize(
    ("code", "told"),
    every(
        3,
        [
            ("might_sleep();", "sleeps-in-atomic"),
            ("cond_resched();", "sleeps-in-atomic"),
            ("synchronize_rcu();", "sleeps-in-atomic"),
            ("static DEFINE_MUTEX(m); mutex_lock(&m); mutex_unlock(&m);", "sleeps-in-atomic"),
            ("rcu_read_lock();", "left-held"),
            ("rcu_read_unlock(); rcu_read_unlock();", "unbalanced-unlock"),
            ("static DEFINE_SPINLOCK(s); spin_lock(&s); spin_lock(&s); spin_unlock(&s);", "deadlock"),
            ("static DEFINE_SPINLOCK(s); spin_unlock(&s);", "unbalanced-unlock"),
            ("static DEFINE_SPINLOCK(s); lockdep_assert_held(&s);", "lock-not-held"),
            ("preempt_disable();", "left-held"),
            ("rcu_read_unlock(); (void)rcu_dereference_check(data, 0); rcu_read_lock();", "suspicious-rcu"),
            ("lockdep_assert_irqs_disabled();", "lock-not-held"),
        ],
    ),
)
def test_what_lockdep_would_say(image: Image, tmp_path: Path, code: str, told: str) -> None:
    """In a walk under RCU's lock."""
    tree = with_code(image.tree, tmp_path / "pgtable.c", "", f"if (data->walker->flags & 8) {{ {code} }}")
    with closing(Reference(build(tree), "kernel:locks")) as kernel:
        seen = kernel.observe(SHARED)
    complaints = [str(one) for one in seen.records[1].complaints if one.kind == LOCKING]
    assert f"locking: {told}" in complaints
    found = [one for one in differences(Model().observe(SHARED), seen) if told in one.bucket or "rcu" in one.bucket]
    assert found and found[0].tier is Tier.EVENTS
    assert any(note.text.startswith(f"locking {told}") for note in seen.notes)


def test_rcu_shows_in_shared_walks_alone(kernel: Reference) -> None:
    for flags, expected in (("leaf+shared", ["rcu_read_lock", "rcu_read_unlock"]), ("leaf", [])):
        program = parse(
            f"s2 1\nwalk ipa=0x0 size=4K flags={flags}\nwalk ipa=0xffffff0000000000 size=4K flags={flags}\n"
        )
        seen = kernel.observe(program)
        for record in seen.records[1:]:
            events = [str(event) for event in events_of(record.events)]
            assert events == expected


# kern_hyp_va()

NVHE_TLB = "arch/arm64/kvm/hyp/nvhe/tlb.c"
FLUSH = "s2 1\nkvm_mode = {mode}\nflush_cpu_context\n"
MODES = ("nvhe", "vhe", "pkvm_guest", "pkvm_host")
CONVERTED = "kern_hyp_va(mmu->arch)"


def hyp_kernel(linux: str, argument: str, work: Path) -> Image:
    """A kernel whose __load_stage2() is given that, in hyp code without VHE."""
    plain = prepare(KernelChoice(linux))
    patch = work / "hyp.patch"
    text = (plain.root / NVHE_TLB).read_text()
    assert CONVERTED in text
    changed = text.replace(CONVERTED, argument)
    names = (f"a/{NVHE_TLB}", f"b/{NVHE_TLB}")
    patch.write_text("".join(unified_diff(text.splitlines(True), changed.splitlines(True), *names)))
    return build(prepare(KernelChoice(linux, (patch,))))


def test_a_pointer_converted_twice_is_the_same(tmp_path: Path) -> None:
    image = hyp_kernel("6.1", "kern_hyp_va(kern_hyp_va(mmu->arch))", tmp_path)
    with closing(Reference(image, "kernel:twice")) as kernel:
        for mode in MODES:
            program = parse(FLUSH.format(mode=mode))
            assert kernel.observe(program).words == Model("6.1").observe(program).words


def test_a_pointer_that_is_not_converted_faults(tmp_path: Path) -> None:
    with closing(Reference(hyp_kernel("6.1", "mmu->arch", tmp_path), "kernel:not")) as kernel:
        died = []
        for mode in MODES:
            program = parse(FLUSH.format(mode=mode))
            try:
                assert kernel.observe(program).words == Model("6.1").observe(program).words
                died.append(False)
            except TargetDied as error:
                assert "data abort on read" in error.report.headline
                died.append(True)
    # VHE converts nothing; and the host's MMU is pKVM's own, which has hyp's pointers.
    assert died == [True, False, True, False]


# What the shim lacks


def broken(image: Image, path: Path, code: str) -> str:
    with pytest.raises(BadInput) as caught:
        build(with_pgtable(image.tree, path, f"{image.tree.pgtable.read_text()}\n{code}\n"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("code", "named"),
    every(3, [
        ("void *f(void) { return kmalloc(8, GFP_KERNEL); }", "`GFP_KERNEL`, `kmalloc` are"),
        ("void f(struct kvm *kvm) { (void)&kvm->slots_lock; }", "`struct kvm.slots_lock` is"),
        ("struct task_struct task;", "`struct task_struct` is"),
        ("struct page *f(struct page *page) { return page + 1; }", "`struct page` is"),
        ("void f(void) { synchronize_srcu(0); }", "`synchronize_srcu` is"),
        ("wait_queue_head_t *f(void);", "`wait_queue_head_t` is"),
        ("int vcpu_load_nothing(void); void kvm_vcpu_kick(struct kvm_vcpu *); "
         "void f(struct kvm_vcpu *v) { kvm_vcpu_kick(v); }", "`kvm_vcpu_kick` is"),
    ]),
)  # fmt: skip
def test_what_the_kernel_has_and_the_shim_does_not(image: Image, tmp_path: Path, code: str, named: str) -> None:
    message = broken(image, tmp_path / "pgtable.c", code)
    assert f"{named} not in s2fuzz's shim" in message
    assert "does not compile" not in message
    assert "S2FUZZ_PAGE_SHIFT" in message and "docs/kernels.md" in message


@pytest.mark.parametrize(
    "code",
    [
        "int f(void) { return 1 }",
        "int here = there;",  # a word of many comments
        "int f(void) { return adr; }",
        "void f(struct kvm *kvm) { kvm->no_such_member = 1; }",
        "int f(void) { return stage2_nothing_of_that_name(); }",
        "#include <linux/no_such_header.h>",
        "int f(void) { return addr; }",  # the name of many parameters
    ],
)
def test_a_mistake_is_still_one(image: Image, tmp_path: Path, code: str) -> None:
    message = broken(image, tmp_path / "pgtable.c", code)
    assert f"{tmp_path / 'pgtable.c'} does not compile:" in message
    assert "shim" not in message.replace("/shim/", "")


def test_a_message_reaches_the_report_of_a_finding(image: Image, tmp_path: Path) -> None:
    changes = before(IN_MAP, 'pr_info("map of %llx\\n", addr); if (size == 4096) return -EINVAL;')
    tree = with_changes(image.tree, tmp_path / "pgtable.c", changes)
    with closing(Model()) as left, closing(Reference(build(tree), "kernel:changed")) as right:
        verdict = Judge(left, right).check(ONE_PAGE)
        assert isinstance(verdict, Verdict)
        report = verdict_report(ONE_PAGE, verdict, (left.name, right.name))
    address = ONE_PAGE.ops[0].args[0]
    assert f"op 1: printed: map of {address:x}" in report
