"""The C that a finding carries: it compiles against each kernel, and fails where the bug is, and only there.

It is run: the test kernel hosts it in the place of its operations, beside the tree's pgtable.c.
"""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest
from planted import HERE, load

from fuzz.sides import choose_sides
from fuzz.triage.kunit.case import kunit_case
from fuzz.triage.kunit.detection import shown_instead
from harness.model.executor import Model
from harness.program.definition import Arg, Op, OpDef
from harness.program.granule import Granule
from harness.program.kinds import IPA, Kind
from harness.program.kunit import CForm, Returns, Unsayable
from harness.program.ops import FAMILIES, OPS, op_of
from harness.program.program import Program
from harness.program.text import parse
from harness.verdict.judge import Judge
from harness.verdict.verdicts import Verdict
from reference.build.declared import declared
from reference.build.image import Builder
from reference.build.objects import Recipe
from reference.build.own_files import OURS
from reference.build.sources import KernelChoice, prepare
from reference.build.tree import KernelTree
from reference.link.ram import RamLink
from reference.protocol import OBSERVATIONS, Message, decode_full, encode_program
from reference.tools import find_toolchain

PARTS = Path(__file__).parent / "kunit"
STRICT = ("-Wall", "-Werror", "-Wno-unused-parameter", "-Wno-unused-function", "-Wno-unused-variable")


class WithReproducer(Builder):
    """A test kernel that runs a reproducer."""

    def __init__(self, tree: KernelTree, reproducer: Path, granule: Granule) -> None:
        super().__init__(tree, "plain", find_toolchain(), lambda _: None, granule)
        self.reproducer = reproducer

    def _bridge(self, source: Path) -> Recipe:
        if source != OURS / "program.c":
            return super()._bridge(source)
        words = (
            *(f"-I{PARTS}/include", *self._bridge_flags(source), *self._ours, f"-I{self.generated_for_tree}"),
            *(f'-DS2FUZZ_REPRODUCER="{self.reproducer}"', *STRICT),
        )
        return self._objects.compiled("program", PARTS / "runner.c", words, self._misfit)


def run(source: str, program: Program, tree: KernelTree, work: Path) -> tuple[int, int]:
    """How many expectations a reproducer has, and how many fail on that tree."""
    path = work / "reproducer.c"
    path.write_text(source)
    image = WithReproducer(tree, path, program.machine.granule).image()
    with closing(RamLink(image.elf)) as link:
        link.start()
        link.send(Message("F", 1, encode_program(program)))
        reply = link.receive(20)
        assert reply.type in OBSERVATIONS, reply
        words, _ = decode_full(reply)
    expectations, failures = words
    return expectations, failures


def found(mutant: str, text: str, work: Path) -> tuple[Program, Verdict, KernelTree, KernelTree]:
    """A program that shows a planted bug, the verdict, and the trees with and without the bug."""
    bug = load(HERE / f"{mutant}.toml")
    linux = bug.kernels[0]
    plain = prepare(KernelChoice(linux))
    pgtable = work / "pgtable.c"
    pgtable.write_text(bug.apply(plain.pgtable.read_text()))
    program = parse(text)
    left, right = (side.open() for side in choose_sides(linux, pgtable=pgtable))
    with closing(left), closing(right):
        verdict = Judge(left, right).check(program)
    assert verdict is not None
    return program, verdict, prepare(KernelChoice(linux, (), pgtable)), plain


BUGS = {
    "merge-leaks-table": """
        s2 1
        map ipa=0x0 size=4K phys=0x0 prot=r mc=2
        map ipa=0x0 size=2M phys=0x0 prot=r
    """,
    "write-permission-lost": """
        s2 1
        ia_bits = 44
        pool_base = 0x50000000
        walk ipa=0x0 size=2M flags=leaf+table_post visitor=eagain@2
        fail_alloc nth=2
        map ipa=0x0 size=2M phys=0x0 prot=rw mc=1
        map ipa=0x40000000 size=2M phys=0x80000000 prot=rwx+sw1 mc=4 flags=shared
    """,
    "owner-reference-kept": """
        s2 1
        set_owner ipa=0x0 size=4K mc=2 owner=1
        map ipa=0x0 size=4K phys=0x0 prot=r
    """,
    "op-split-writable": """
        s2 1
        map ipa=0x0 size=2M phys=0x0 prot=r mc=1
        split ipa=0x0 size=2M mc=1
    """,
    "op-unlinked-forced-to-pages": """
        s2 1
        force_pte = always
        create_unlinked phys=0x0 level=1 prot=r mc=1
        free_unlinked table=0
    """,
    "hyp-unmapped-counts-pages": """
        s2 1
        stage = 1
        hyp_map va=0x0 size=2M phys=0x0 prot=r
        hyp_unmap va=0x0 size=2M
    """,
    "linux61-remap-not-refused": """
        s2 1
        map ipa=0x0 size=4K phys=0x0 prot=r mc=2
        is_young ipa=0x0
        map ipa=0x0 size=4K phys=0x0 prot=r mc=2
    """,
}


@pytest.mark.parametrize("mutant", BUGS)
def test_it_fails_with_the_bug_and_passes_without(mutant: str, tmp_path: Path) -> None:
    program, verdict, buggy, plain = found(mutant, BUGS[mutant].replace("        ", "").lstrip(), tmp_path)
    source = kunit_case(program, verdict, declared(plain.root).forms, {"seen on": "a planted bug */ here"})
    assert "*/ here" not in source and "NOT COMPLETE" not in source
    assert "IT CANNOT FAIL" not in source and not shown_instead(program, verdict)
    expectations, failures = run(source, program, buggy, tmp_path)
    assert expectations > len(program.prefix(verdict.record).ops)
    assert failures > 0
    assert run(source, program, plain, tmp_path) == (expectations, 0)


HIDDEN = {
    # A break without its invalidation: results, entries and references are the same.
    "event-bbm-tlbi-dropped": ("s2fuzz replay", "__kvm_tlb_flush", "a guest"),
    "event-init-dsb-domain": ("s2fuzz replay", "order of events"),
    "rcu-lock-in-exclusive-walks": ("s2fuzz replay", "CONFIG_PROVE_RCU"),
    "rcu-lock-kept-on-errors": ("s2fuzz replay", "CONFIG_PROVE_RCU"),
}
SHOWS_HIDDEN = """
    s2 1
    map ipa=0x0 size=2M phys=0x80000000 prot=r mc=2
    map ipa=0x0 size=4K phys=0x90000000 prot=rw mc=2
    walk ipa=0xffffff0000000000 size=4K flags=leaf+shared
"""


@pytest.mark.parametrize("mutant", HIDDEN)
def test_it_says_where_it_cannot_fail(mutant: str, tmp_path: Path) -> None:
    program, verdict, buggy, plain = found(mutant, SHOWS_HIDDEN.replace("    ", "").lstrip(), tmp_path)
    source = kunit_case(program, verdict, declared(plain.root).forms, {})
    head = source[: source.index("*/")]
    assert "IT CANNOT FAIL" in head
    assert all(shown in head for shown in HIDDEN[mutant])
    expectations, failures = run(source, program, buggy, tmp_path)
    assert (expectations > 0, failures) == (True, 0), "it failed, though it says that it cannot"
    assert [line for line in shown_instead(program, verdict) if line not in head] == []


EVERY_OP = """
s2 1
budget = 65536
force_pte = unless_rwx
cmos = dcache
map ipa=0x0 size=4M phys=0x80000000 prot=rwx+sw0 mc=4 flags=handle_fault+skip_cmo
get_leaf ipa=0x0
get_leaf ipa=0xffffffffffff
unmap ipa=0x1000 size=4K
set_owner ipa=0x5000 size=8K mc=2 owner=1
set_owner ipa=0x5000 size=8K mc=2 owner=200
walk ipa=0x0 size=4M flags=leaf+table_pre+table_post
walk ipa=0x0 size=4M flags=leaf visitor=e2big@4
wrprotect ipa=0x0 size=4K
mkyoung ipa=0x0
test_clear_young ipa=0x0 size=4K mkold=on
relax_perms ipa=0x0 prot=rw
flush ipa=0x0 size=4M
tlb_flush_vmid_range ipa=0x0 size=4M
pte_prot pte=0x7ff
split ipa=0x200000 size=2M mc=3
fail_alloc nth=1
map ipa=0x8000000000 size=4K phys=0x0 prot=r
create_unlinked phys=0x0 level=2 prot=rw mc=3
free_unlinked table=0
free_unlinked table=7
get_vtcr mmfr0=0x5 mmfr1=0x0 phys_shift=40
pgd_size vtcr=0x802d3558
flush_cpu_context
flush_vm_context
tlb_flush_vmid
destroy
init
"""
OLDER = """
s2 1
map ipa=0x0 size=2M phys=0x80000000 prot=rwx mc=4
mkold ipa=0x0
is_young ipa=0x0
get_leaf ipa=0x0
walk ipa=0x0 size=4M flags=leaf+table_post visitor=einval@3
unmap ipa=0x1000 size=4K
"""
HYP = """
s2 1
stage = 1
va_bits = 39
hyp_map va=0x0 size=2M phys=0x0 prot=r
hyp_pte_prot pte=0x7ff
hyp_unmap va=0x0 size=2M
get_leaf ipa=0x0
destroy
"""


def all_expected(program: Program, version: str) -> Verdict:
    """A verdict that says nothing but what the model does: what a test expects where nothing differs."""
    observation = Model(version).observe(program)
    return Verdict("divergence", "none", len(program.ops), None, observation, observation)


@pytest.mark.parametrize(("text", "version"), [(EVERY_OP, "6.12"), (HYP, "6.12"), (OLDER, "6.1")])
def test_every_operation_is_expected_to_do_what_the_kernel_does(text: str, version: str, tmp_path: Path) -> None:
    program, tree = parse(text.lstrip()), prepare(KernelChoice(version))
    source = kunit_case(program, all_expected(program, version), declared(tree.root).forms, {})
    expectations, failures = run(source, program, tree, tmp_path)
    assert expectations >= len(program.ops) // 2
    assert failures == 0


def test_every_operation_is_said_or_known_to_be_unsayable() -> None:
    ran = {op.name for text in (EVERY_OP, HYP, OLDER) for op in parse(text.lstrip()).ops}
    assert ran == {op.name for op in OPS if not isinstance(op.kunit, Unsayable)}
    beside_tables = {op.name for family in ("guest", "vm", "vmid", "memslot", "vcpu") for op in FAMILIES[family]}
    assert {op.name for op in OPS} - ran == {"plant", "link", "race"} | beside_tables


class Colour(Kind):
    """A kind of argument that nothing here knows."""

    def c_form(self, value: int) -> CForm | None:
        return CForm(f"COLOUR_{value}", {"twice": str(2 * value)}, pages=value) if value < 50 else None


def test_an_operation_says_itself() -> None:
    """Nothing but its definition and the kinds of its arguments is needed."""
    args = (Arg("ipa", IPA), Arg("in", Colour("colour")))
    paint = OpDef(200, "paint", args, "", 1, kunit=Returns("kvm_paint(&s2_pgt, $ipa, $in, ${in_twice})"))
    program = Program((Op(paint, (0x1000, 49)), Op(paint, (0, 50))))
    forms = dict.fromkeys(declared(prepare(KernelChoice()).root).forms, True)
    source = kunit_case(program, Verdict("divergence", "x", 2, None, None, None), forms, {})
    assert "\tkvm_paint(&s2_pgt, 0x1000ull, COLOUR_49, 98);\n" in source
    assert "objects[49];" in source
    assert "NOT COMPLETE" in source


def test_what_cannot_be_said_is_named() -> None:
    map_and_clear = "map ipa=0x0 size=4K phys=0x0 prot=r mc=2\nwalk ipa=0x0 size=4K flags=leaf visitor=clear"
    program = parse(f"s2 1\nrace nth=1 pte=0x0\n{map_and_clear}")
    forms = declared(prepare(KernelChoice()).root).forms
    source = kunit_case(program, all_expected(program, "6.12"), forms, {})
    assert "NOT COMPLETE" in source
    assert source.count("kvm_pgtable.h has no call for that") == 2


def test_the_shape_of_the_table_is_known_from_either_side() -> None:
    program = Program((op_of("unmap", ipa=0, size=4096),))
    right = Model("6.12").observe(program)
    forms = declared(prepare(KernelChoice()).root).forms
    source = kunit_case(program, Verdict("crash", "x", 1, None, None, right), forms, {})
    assert f"s2_mmu.vtcr = {right.records[0].outs[0]:#x};" in source


def test_a_death_and_no_left_side_leave_no_expectations() -> None:
    program = Program((op_of("unmap", ipa=0, size=4096),))
    source = kunit_case(
        program, Verdict("divergence", "x", 1, None, None, None), declared(prepare(KernelChoice()).root).forms, {}
    )
    assert re.findall(r"KUNIT_EXPECT", source) == []
    assert "kvm_pgtable_stage2_unmap(&s2_pgt, 0, 0x1000ull);" in source
