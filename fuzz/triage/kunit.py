"""A finding's program as a KUnit test case in C, to be pasted into a mail: it needs kvm_pgtable.h and nothing of ours.

Expected is what the left side does: the model, or the kernel before a change. Pages come from a pool in the file, by
the rules of the harness and at its addresses, so that entries can be compared as they are. What cannot be said through
kvm_pgtable.h, the test says in a comment. What it cannot see at all (a TLB invalidation that is missing), it says at
its top, with what would show it.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping
from string import Template
from typing import Final

from harness.observation.descriptors import is_table_entry
from harness.observation.events import EVENTS_BY_NUMBER, events_of
from harness.observation.layout import LOCKING_REPORTS, UBSAN_REPORTS, Observation, Record
from harness.outside import printable
from harness.program.definition import Op
from harness.program.kinds import HYP_PROT, MAP_FLAGS, MEMCACHE, PROT, SPLIT_CACHE, SWITCH, VISITOR, Kind
from harness.program.kinds.entries import VISITOR_BITS, VISITORS
from harness.program.kinds.small import CACHE_CAPACITY
from harness.program.ops import op_of
from harness.program.program import Program
from harness.program.text import format_knob, format_op
from harness.verdict.compare import Tier, paired_entries, paired_tables
from harness.verdict.judge import Verdict

_CALLS: Final[Mapping[str, str]] = {
    "init": "s2_init()",
    "map": "${mc_topup}kvm_pgtable_stage2_map(&s2_pgt, $ipa, $size, $phys, $prot, $mc$map_flags)",
    "unmap": "kvm_pgtable_stage2_unmap(&s2_pgt, $ipa, $size)",
    "set_owner": "${mc_topup}kvm_pgtable_stage2_set_owner(&s2_pgt, $ipa, $size, $mc, $owner)",
    "walk": "s2_walk($ipa, $size, $flags, $visitor)",
    "wrprotect": "kvm_pgtable_stage2_wrprotect(&s2_pgt, $ipa, $size)",
    "relax_perms": "kvm_pgtable_stage2_relax_perms(&s2_pgt, $ipa, $prot)",
    "flush": "kvm_pgtable_stage2_flush(&s2_pgt, $ipa, $size)",
    "split": "s2_split($ipa, $size, $mc_pages)",
    "create_unlinked": "s2_create_unlinked($phys, $level, $prot, $mc, $mc_pages, $force_pte)",
    "free_unlinked": "s2_free_unlinked($table)",
    "fail_alloc": "s2_fail_alloc($nth)",
    "hyp_map": "kvm_pgtable_hyp_map(&s2_pgt, $va, $size, $phys, $prot)",
}
"""Operations whose result is a return code."""

_VALUES: Final[Mapping[str, str]] = {
    "mkyoung": "kvm_pgtable_stage2_mkyoung(&s2_pgt, $ipa)",
    "mkold": "kvm_pgtable_stage2_mkold(&s2_pgt, $ipa)",
    "is_young": "kvm_pgtable_stage2_is_young(&s2_pgt, $ipa)",
    "test_clear_young": "kvm_pgtable_stage2_test_clear_young(&s2_pgt, $ipa, $size, $mkold)",
    "pte_prot": "kvm_pgtable_stage2_pte_prot($pte)",
    "hyp_pte_prot": "kvm_pgtable_hyp_pte_prot($pte)",
    "hyp_unmap": "kvm_pgtable_hyp_unmap(&s2_pgt, $va, $size)",
    "get_vtcr": "kvm_get_vtcr($mmfr0, $mmfr1, $phys_shift)",
    "pgd_size": "kvm_pgtable_stage2_pgd_size($vtcr)",
}
"""Operations that return a value."""

_STATEMENTS: Final[Mapping[str, str]] = {
    "destroy": "$destroy(&s2_pgt)",
    "tlb_flush_vmid_range": "kvm_tlb_flush_vmid_range(&s2_mmu, $ipa, $size)",
    "flush_cpu_context": "kvm_call_hyp(__kvm_flush_cpu_context, &s2_mmu)",
    "flush_vm_context": "kvm_call_hyp(__kvm_flush_vm_context)",
}
"""Operations that return nothing."""

UNSAYABLE: Final = ("plant", "link", "race")
"""Operations that write entries behind the code's back."""
_UNSAYABLE_VISITORS: Final = ("clear", "lock", "table")

_PROT_PREFIX: Final = "KVM_PGTABLE_PROT_"
_WALK_PREFIX: Final = "KVM_PGTABLE_WALK_"
_PROT_NAMES: Final = {"device": "DEVICE", "nc": "NORMAL_NC", **{f"sw{n}": f"SW{n}" for n in range(4)}}
_IN_THE_TEST: Final = ("pool_base", "pool_pages", "ia_bits", "va_bits", "nofwb", "idmap", "force_pte", "stage", "cmos")
_SEEN_BY_MM_OPS: Final = ("get_page", "put_page", "dcache_clean_inval_poc", "icache_inval_pou")
_FORCE_PTE: Final = ("NULL", "s2_force_always", "s2_force_unless_rwx")


def kunit_case(program: Program, verdict: Verdict, forms: Mapping[str, bool], about: Mapping[str, str]) -> str:
    """The file. `forms` says how the tree's header has what differs between versions (`reference.build.declared`),
    `about` is printed on top of it."""
    return _Case(program.prefix(verdict.record), verdict, forms, about).text()


def shown_instead(program: Program, verdict: Verdict) -> list[str]:
    """Where the test would pass on the kernel with the bug, that it would, and what shows the bug instead: one line
    each. Empty where an expectation fails."""
    beginning = program.prefix(verdict.record)
    if verdict.died is not None or _told_apart(beginning, verdict):
        return []
    if verdict.left is None or verdict.right is None:
        return ["IT MAY PASS with the bug: what the sides did was not kept.", _REPLAY]
    return [
        "IT CANNOT FAIL: it sees results, entries, and calls of mm_ops, all of which are the same with the bug.",
        "What shows the bug instead:",
        f"- {_REPLAY}",
        *(f"- {line}" for line in _instead(verdict)),
    ]


_REPLAY: Final = "`s2fuzz replay` of the finding's directory, whose report.txt has both sides' events"
_BY_EVENT: Final[Mapping[str, tuple[str, ...]]] = {
    "tlb": (
        "a trace of TLB maintenance, as of ftrace's function tracer with `__kvm_tlb_flush_*` as its filter",
        "a guest that accesses the range before the last operation and after it: it may still reach what was there",
    ),
    "dsb": ("nothing but the order of events: a barrier that is missing has an effect by chance alone",),
    "rcu": ("lockdep: the same calls on a kernel with CONFIG_PROVE_RCU and CONFIG_DEBUG_ATOMIC_SLEEP",),
    "WARN": ("the kernel's log, in which there is a warning of one of them only",),
    "cache": ("a guest whose caches or FWB are off, which reads the range's memory right after the last operation",),
}


def _instead(verdict: Verdict) -> tuple[str, ...]:
    if verdict.problem is not None or (verdict.difference and verdict.difference.tier is Tier.INSTRUCTIONS):
        return _BY_EVENT["tlb"]
    if verdict.difference is None:
        return ()
    what = verdict.difference.what
    texts = f"{what} {verdict.difference.left} {verdict.difference.right}"
    if what in ("WARN", *UBSAN_REPORTS.values()):
        return _BY_EVENT["WARN"]
    if "rcu_" in texts or what in LOCKING_REPORTS.values():
        return _BY_EVENT["rcu"]
    if "tlbi_" in texts or "flush_" in texts:
        return _BY_EVENT["tlb"]
    if "cache_" in texts:
        return _BY_EVENT["cache"]
    return _BY_EVENT["dsb"] if "dsb" in texts else ()


def _told_apart(program: Program, verdict: Verdict) -> bool:
    """Whether an expectation of the test is of something that is not the same on the right side."""
    left, right = verdict.left, verdict.right
    if left is None or right is None:
        return False
    ops = (op_of("init"), *program.ops)
    for op, mine, theirs in zip(ops, left.records, right.records, strict=False):
        if _is_sayable(op) and mine.ret is not None and theirs.ret is not None and _expected(mine) != _expected(theirs):
            return True
    return any(_state(program, verdict))


def _expected(record: Record) -> tuple[object, ...]:
    """What is expected of an operation, as far as the test sees it."""
    name = record.definition.name
    if name in _STATEMENTS:
        return ()
    if name in _VALUES:
        return record.outs[:1]
    if name == "get_leaf":
        return (record.ret, *(record.outs if record.ret == 0 else ()))
    visits = len(record.outs) // len(record.definition.results) if name == "walk" else 0
    return record.ret, visits


class _Case:
    def __init__(self, program: Program, verdict: Verdict, forms: Mapping[str, bool], about: Mapping[str, str]) -> None:
        self.program = program
        self.machine = program.machine
        self.verdict = verdict
        self.forms = forms
        self.about = about
        self.expected = verdict.left
        self.is_hyp = self.machine["stage"] == 1

    def text(self) -> str:
        name = re.sub(r"\W", "_", f"s2fuzz_{self.verdict.bucket}")[:80]
        body = [f"\t{line}" if line else "" for line in self._body()]
        head = [*_comment(self._introduction()), "", *_INCLUDES, ""]
        test = [f"static void {name}(struct kunit *test)", "{", *body, "}", ""]
        suite = Template(_SUITE).substitute(name=name).splitlines()
        parts = self._helpers("\n".join(test))
        return "\n".join([*head, *parts, *test, *suite]) + "\n"

    def _introduction(self) -> Iterator[str]:
        yield f"{self.verdict.kind}: {self.verdict.bucket}"
        yield ""
        for key, value in self.about.items():
            yield f"{key}: {value}"
        machine = {name: value for name, value in self.machine.changed().items() if name not in _IN_THE_TEST}
        if machine:
            settings = ", ".join(f"{name} = {format_knob(name, value)}" for name, value in machine.items())
            yield f"To be run where {settings} (these are settings of s2fuzz)."
        if self.verdict.died is not None:
            yield f"The last call does not return: {self.verdict.died.kind}: {self.verdict.died.headline}"
        elif self.verdict.difference is not None:
            found = self.verdict.difference
            yield f"Expected {found.left}, but seen was {found.right} ({found.tier.name.lower()}: {found.what})."
        if self.verdict.problem is not None:
            yield f"{self.verdict.problem.call.event}: {self.verdict.problem.text}"
        instead = shown_instead(self.program, self.verdict)
        if instead:
            yield ""
            yield from instead
        unsaid = [op for op in self.program.ops if not _is_sayable(op)]
        if unsaid:
            yield "NOT COMPLETE: what writes entries behind the code's back is left out, see the comments."

    # The test itself

    def _body(self) -> Iterator[str]:
        yield from self._op(op_of("init"), 0)
        for number, op in enumerate(self.program.ops, start=1):
            yield ""
            yield f"/* {format_op(op)} */"
            yield from self._op(op, number)
        state = list(_state(self.program, self.verdict))
        if state:
            yield from ("", "/* The state that should result. */", *state)

    def _op(self, op: Op, number: int) -> Iterator[str]:
        if not _is_sayable(op):
            yield "/* kvm_pgtable.h has no call for that. */"
            return
        record = None
        if self.expected is not None and number < len(self.expected.records):
            record = self.expected.records[number]
        if op.name == "get_leaf":
            yield from self._leaf(op, record)
        elif op.name in _STATEMENTS:
            yield f"{self._call(_STATEMENTS[op.name], op)};"
        elif op.name in _VALUES:
            call = self._call(_VALUES[op.name], op)
            if record is None or not record.outs:
                yield f"{call};"
            else:
                yield f"KUNIT_EXPECT_EQ(test, (u64){call}, {record.outs[0]:#x}ull);"
        else:
            call = self._call(_CALLS[op.name], op)
            if record is None or record.ret is None:
                yield f"{call};"
                return
            yield f"KUNIT_EXPECT_EQ(test, {call}, {_error(record.ret)});"
            if op.name == "walk":
                visits = len(record.outs) // len(record.definition.results)
                yield f"KUNIT_EXPECT_EQ(test, s2_visits, {visits});"

    @staticmethod
    def _leaf(op: Op, record: Record | None) -> Iterator[str]:
        address = _number(op.args[0])
        if record is None or record.ret is None:
            yield f"s2_get_leaf({address});"
            return
        yield f"KUNIT_EXPECT_EQ(test, s2_get_leaf({address}), {_error(record.ret)});"
        if record.ret == 0:
            yield f"KUNIT_EXPECT_EQ(test, s2_leaf, {record.outs[0]:#x}ull);"
            yield f"KUNIT_EXPECT_EQ(test, (int)s2_leaf_level, {_signed(record.outs[1])});"

    def _call(self, template: str, op: Op) -> str:
        values: dict[str, str] = {
            "destroy": "kvm_pgtable_hyp_destroy" if self.is_hyp else "kvm_pgtable_stage2_destroy",
            "map_flags": "",
        }
        for arg, value in zip(op.definition.args, op.args, strict=True):
            values[arg.name] = _argument(arg.kind, value)
            if arg.kind is MAP_FLAGS and self.forms["MAP_FLAGS"]:
                values["map_flags"] = f", {values[arg.name]}"
            if arg.kind is MEMCACHE:
                values["mc"] = "&s2_cache" if value else "NULL"
                values["mc_pages"] = str(max(0, value - 1))
                values["mc_topup"] = f"s2_topup(&s2_cache, {value - 1}) ?: " if value else ""
            if arg.kind is SPLIT_CACHE:
                values["mc_pages"] = str(value)
            if arg.kind is VISITOR:
                action = VISITORS[value & (1 << VISITOR_BITS) - 1]
                result = "0" if action == "look" else f"-{action.upper()}"
                values["visitor"] = f"{result}, {value >> VISITOR_BITS}"
        return Template(template).substitute(values)

    # What it needs

    def _helpers(self, test: str) -> list[str]:
        values = {
            "pool_base": f"{self.machine['pool_base']:#x}",
            "pool_pages": str(self.machine["pool_pages"]),
            "cache_pages": str(self._cache_pages()),
            "init": self._init(),
            "free_unlinked_table": "",
            "optional": self._optional(),
            "visit": _VISIT if self.forms["VISIT_CTX"] else _OLD_VISIT,
            "unlinked": str(max(1, sum(op.name == "create_unlinked" for op in self.program.ops))),
            "level": "s8" if self.forms["SIGNED_LEVELS"] else "u32",
        }
        if self.forms["FREE_UNLINKED_TABLE"]:
            values["free_unlinked_table"] = "\n\t.free_unlinked_table = s2_free_unlinked_table,"
        optional = [Template(one).substitute(values) for one in _OPTIONAL]
        chosen: list[str] = []
        for helper in reversed(optional):
            names = re.findall(r"\bs2_\w+", "\n".join(re.findall(r"^static .*", helper, re.MULTILINE)))
            if any(re.search(rf"\b{name}\b", "\n".join([test, *chosen])) for name in names):
                chosen.insert(0, helper)
        pool = _POOL if self.forms["FREE_UNLINKED_TABLE"] else _POOL.replace(_FREE_UNLINKED_TABLE, "")
        return Template(pool).substitute(values).splitlines() + [line for one in chosen for line in one.splitlines()]

    def _cache_pages(self) -> int:
        """What a cache has room for: a memcache's pages, or as many as an op wants in its split cache."""
        asked = [
            value
            for op in self.program.ops
            for arg, value in zip(op.definition.args, op.args, strict=True)
            if arg.kind is SPLIT_CACHE
        ]
        return max([CACHE_CAPACITY, *asked])

    def _optional(self) -> str:
        cmos = self.machine["cmos"]
        lines = [] if self.is_hyp and not self.machine["page_count"] else ["\t.page_count = s2_page_count,"]
        if cmos in (0, 1):
            lines.append("\t.dcache_clean_inval_poc = s2_dcache_clean_inval_poc,")
        if cmos in (0, 2):
            lines.append("\t.icache_inval_pou = s2_icache_inval_pou,")
        return "\n".join(lines)

    def _init(self) -> str:
        if self.is_hyp:
            return f"\treturn kvm_pgtable_hyp_init(&s2_pgt, {self.machine['va_bits']}, &s2_mm_ops);"
        flags = [f"KVM_PGTABLE_S2_{name.upper()}" for name in ("nofwb", "idmap") if self.machine[name]]
        sides = (side for side in (self.verdict.left, self.verdict.right) if side is not None)
        vtcr = next((side.records[0].outs[0] for side in sides if side.records[0].outs), 0)
        where = "s2_mmu.vtcr" if self.forms["PGD_SIZE"] else "s2_arch.vtcr"
        force = _FORCE_PTE[self.machine["force_pte"]]
        return "\n".join(
            [
                f"\t{where} = {vtcr:#x}; /* kvm_get_vtcr() for {self.machine['ia_bits']} bits */",
                "\ts2_mmu.arch = &s2_arch;",
                "\ts2_mmu.pgt = &s2_pgt;",
                f"\treturn __kvm_pgtable_stage2_init(&s2_pgt, &s2_mmu, &s2_mm_ops, {' | '.join(flags) or 0}, {force});",
            ]
        )


def _is_sayable(op: Op) -> bool:
    for arg, value in zip(op.definition.args, op.args, strict=True):
        if arg.kind is VISITOR and VISITORS[value & (1 << VISITOR_BITS) - 1] in _UNSAYABLE_VISITORS:
            return False
    return op.name not in UNSAYABLE


def _state(program: Program, verdict: Verdict) -> Iterator[str]:
    """What differs in the end, as far as mm_ops and kvm_pgtable_get_leaf() tell, as expectations."""
    left, right, machine = verdict.left, verdict.right, program.machine
    if left is None or right is None:
        return
    yield from _leaves(left, right)
    for what, mine, theirs in (("allocs", left.allocs, right.allocs), ("frees", left.frees, right.frees)):
        if mine != theirs:
            yield f"KUNIT_EXPECT_EQ(test, s2_{what}, {mine});"
    for _, _, page, other in paired_tables(left, right):
        if page.refcount != other.refcount and page.pa == other.pa:
            index = (page.pa - machine["pool_base"]) // machine.granule.page
            yield f"KUNIT_EXPECT_EQ(test, s2_refs[{index}], {page.refcount});"
    mine_seen, theirs_seen = _mm_calls(left), _mm_calls(right)
    for name in _SEEN_BY_MM_OPS:
        if mine_seen[name] != theirs_seen[name]:
            yield f"KUNIT_EXPECT_EQ(test, s2_calls_{name}, {mine_seen[name]});"


def _leaves(left: Observation, right: Observation) -> Iterator[str]:
    """The first entry that is a leaf on either side, and not the same."""
    for ipa, level, mine, theirs in paired_entries(left, right):
        if mine == theirs or (is_table_entry(mine, level) and is_table_entry(theirs, level)):
            continue
        if is_table_entry(mine, level):
            yield f"KUNIT_EXPECT_EQ(test, s2_get_leaf({ipa:#x}ull), 0);"
            yield f"KUNIT_EXPECT_GT(test, (int)s2_leaf_level, {level});"
        else:
            yield f"KUNIT_EXPECT_EQ(test, s2_get_leaf({ipa:#x}ull), 0);"
            yield f"KUNIT_EXPECT_EQ(test, s2_leaf, {mine:#x}ull);"
            yield f"KUNIT_EXPECT_EQ(test, (int)s2_leaf_level, {level});"
        return


def _mm_calls(observation: Observation) -> dict[str, int]:
    counts = dict.fromkeys(_SEEN_BY_MM_OPS, 0)
    for record in observation.records:
        for event in events_of(record.events):
            definition = EVENTS_BY_NUMBER.get(event.kind)
            if definition is not None and definition.name in counts:
                counts[definition.name] += 1
    return counts


def _argument(kind: Kind, value: int) -> str:
    if kind.bits:
        is_prot = kind in (PROT, HYP_PROT)
        names = [name for name, bit in kind.bits.items() if value & bit]
        if is_prot:
            return " | ".join(_PROT_PREFIX + _PROT_NAMES.get(name, name.upper()) for name in names) or "0"
        return " | ".join(_WALK_PREFIX + name.upper() for name in names) or "0"
    if kind is SWITCH:
        return ("false", "true")[value]
    return _number(value)


def _number(value: int) -> str:
    return str(value) if value < 10 else f"{value:#x}ull"


def _error(ret: int | None) -> str:
    if ret is None or ret >= 0:
        return str(ret)
    return f"-{errno.errorcode[-ret]}" if -ret in errno.errorcode else str(ret)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _comment(lines: Iterator[str]) -> list[str]:
    text = [printable(line).replace("*/", "* /") for line in lines]
    return ["// SPDX-License-Identifier: GPL-2.0-only", "/*", *(f" * {line}".rstrip() for line in text), " */"]


_INCLUDES: Final = (
    "#include <kunit/test.h>",
    "#include <linux/kvm_host.h>",
    "#include <linux/string.h>",
    "#include <asm/kvm_pgtable.h>",
)

_FREE_UNLINKED_TABLE: Final = """\
static struct kvm_pgtable_mm_ops s2_mm_ops;

static void s2_free_unlinked_table(void *table, s8 level)
{
	kvm_pgtable_stage2_free_unlinked(&s2_mm_ops, table, level);
}

"""

_POOL: Final = (
    """\
/* Pages for tables: the lowest free one first. Where they seem to lie is where nothing else does. */
#define S2_POOL_BASE ${pool_base}ul
#define S2_POOL_PAGES $pool_pages

static u8 s2_pool[S2_POOL_PAGES][PAGE_SIZE] __aligned(PAGE_SIZE);
static int s2_refs[S2_POOL_PAGES], s2_allocs, s2_frees, s2_fail_nth;
static int s2_calls_get_page, s2_calls_put_page, s2_calls_dcache_clean_inval_poc, s2_calls_icache_inval_pou;

struct s2_cache {
	int nobjs;
	void *objects[$cache_pages];
};

static struct kvm_pgtable s2_pgt;
static struct kvm_s2_mmu s2_mmu;
static struct kvm_arch s2_arch;
static struct s2_cache s2_cache, s2_split_cache;

static phys_addr_t s2_virt_to_phys(void *addr)
{
	return S2_POOL_BASE + ((unsigned long)addr - (unsigned long)s2_pool);
}

static void *s2_phys_to_virt(phys_addr_t phys)
{
	return (void *)((unsigned long)s2_pool + (unsigned long)(phys - S2_POOL_BASE));
}

static int s2_index(void *addr)
{
	return ((unsigned long)addr - (unsigned long)s2_pool) / PAGE_SIZE;
}

static void *s2_take(int pages)
{
	int step = 1, first, i;

	while (step < pages)
		step *= 2;
	for (first = 0; first + pages <= S2_POOL_PAGES; first += step) {
		for (i = 0; i < pages && !s2_refs[first + i]; i++)
			;
		if (i < pages)
			continue;
		for (i = 0; i < pages; i++)
			s2_refs[first + i] = 1;
		s2_allocs += pages;
		memset(s2_pool[first], 0, pages * PAGE_SIZE);
		return s2_pool[first];
	}
	return NULL;
}

static bool s2_fails_now(void)
{
	return s2_fail_nth && !--s2_fail_nth;
}

static void *s2_zalloc_page(void *mc)
{
	struct s2_cache *cache = mc;

	if (s2_fails_now())
		return NULL;
	if (!mc)
		return s2_take(1);
	if (mc == &s2_mmu.split_page_cache) {
		s2_mmu.split_page_cache.nobjs--;
		cache = &s2_split_cache;
	}
	return cache->nobjs ? cache->objects[--cache->nobjs] : NULL;
}

static void *s2_zalloc_pages_exact(size_t size)
{
	return s2_fails_now() ? NULL : s2_take(DIV_ROUND_UP(size, PAGE_SIZE));
}

static void s2_drop(int index)
{
	if (!--s2_refs[index])
		s2_frees++;
}

static void s2_free_pages_exact(void *addr, size_t size)
{
	int i;

	for (i = 0; i < DIV_ROUND_UP(size, PAGE_SIZE); i++)
		s2_drop(s2_index(addr) + i);
}

static void s2_get_page(void *addr)
{
	s2_calls_get_page++;
	s2_refs[s2_index(addr)]++;
}

static void s2_put_page(void *addr)
{
	s2_calls_put_page++;
	s2_drop(s2_index(addr));
}

static int __maybe_unused s2_page_count(void *addr)
{
	return s2_refs[s2_index(addr)];
}

static void __maybe_unused s2_dcache_clean_inval_poc(void *addr, size_t size)
{
	s2_calls_dcache_clean_inval_poc++;
}

static void __maybe_unused s2_icache_inval_pou(void *addr, size_t size)
{
	s2_calls_icache_inval_pou++;
}

"""
    + _FREE_UNLINKED_TABLE
    + """\
static struct kvm_pgtable_mm_ops s2_mm_ops = {
	.zalloc_page = s2_zalloc_page,
	.zalloc_pages_exact = s2_zalloc_pages_exact,
	.free_pages_exact = s2_free_pages_exact,$free_unlinked_table
	.get_page = s2_get_page,
	.put_page = s2_put_page,
	.phys_to_virt = s2_phys_to_virt,
	.virt_to_phys = s2_virt_to_phys,
$optional
};

"""
)

_VISIT: Final = """\
static int s2_visit(const struct kvm_pgtable_visit_ctx *ctx, enum kvm_pgtable_walk_flags visit)
"""
_OLD_VISIT: Final = """\
static int s2_visit(u64 addr, u64 end, u32 level, kvm_pte_t *ptep, enum kvm_pgtable_walk_flags flag, void * const arg)
"""

_OPTIONAL: Final = (
    """\
static bool s2_force_always(u64 addr, u64 end, enum kvm_pgtable_prot prot)
{
	return true;
}

""",
    """\
static bool s2_force_unless_rwx(u64 addr, u64 end, enum kvm_pgtable_prot prot)
{
	return prot != (KVM_PGTABLE_PROT_R | KVM_PGTABLE_PROT_W | KVM_PGTABLE_PROT_X);
}

""",
    """\
static int s2_init(void)
{
$init
}

""",
    """\
static int s2_topup(struct s2_cache *cache, int pages)
{
	while (cache->nobjs < pages) {
		void *page = s2_take(1);

		if (!page)
			return -ENOMEM;
		cache->objects[cache->nobjs++] = page;
	}
	return 0;
}

""",
    """\
static kvm_pte_t s2_leaf;
static $level s2_leaf_level;

static int s2_get_leaf(u64 addr)
{
	return kvm_pgtable_get_leaf(&s2_pgt, addr, &s2_leaf, &s2_leaf_level);
}

""",
    """\
static int s2_visits, s2_visit_nth, s2_visit_result;

${visit}{
	s2_visits++;
	return !s2_visit_nth || s2_visit_nth == s2_visits ? s2_visit_result : 0;
}

static int s2_walk(u64 addr, u64 size, enum kvm_pgtable_walk_flags flags, int result, int nth)
{
	struct kvm_pgtable_walker walker = { .cb = s2_visit, .flags = flags };

	s2_visits = 0;
	s2_visit_nth = nth;
	s2_visit_result = result;
	return kvm_pgtable_walk(&s2_pgt, addr, size, &walker);
}

""",
    """\
static int s2_fail_alloc(int nth)
{
	s2_fail_nth = nth;
	return 0;
}

""",
    """\
static int s2_split(u64 addr, u64 size, int pages)
{
	int ret = s2_topup(&s2_split_cache, pages);

	s2_mmu.split_page_cache.nobjs = s2_split_cache.nobjs;
	return ret ?: kvm_pgtable_stage2_split(&s2_pgt, addr, size, &s2_mmu.split_page_cache);
}

""",
    """\
static kvm_pte_t *s2_unlinked[$unlinked];
static s8 s2_unlinked_level[$unlinked];
static int s2_unlinked_made;

static int s2_create_unlinked(u64 phys, s8 level, enum kvm_pgtable_prot prot, void *mc, int pages, bool force_pte)
{
	int made = s2_unlinked_made++;
	kvm_pte_t *table;

	if (mc && s2_topup(mc, pages))
		return -ENOMEM;
	table = kvm_pgtable_stage2_create_unlinked(&s2_pgt, phys, level, prot, mc, force_pte);
	if (IS_ERR(table))
		return PTR_ERR(table);
	s2_unlinked[made] = table;
	s2_unlinked_level[made] = level;
	return 0;
}

static int s2_free_unlinked(int number)
{
	kvm_pte_t *table = number < s2_unlinked_made ? s2_unlinked[number] : NULL;

	if (!table)
		return -EBADF;
	s2_unlinked[number] = NULL;
	kvm_pgtable_stage2_free_unlinked(&s2_mm_ops, table, s2_unlinked_level[number]);
	return 0;
}

""",
)
"""Helpers in order, each as far as it is used."""

_SUITE: Final = """\
static struct kunit_case s2fuzz_cases[] = {
	KUNIT_CASE($name),
	{}
};

static struct kunit_suite s2fuzz_suite = {
	.name = "$name",
	.test_cases = s2fuzz_cases,
};

kunit_test_suite(s2fuzz_suite);
"""
