"""The hand-written programs: well formed, agreed on by both sides, and showing what their comments say."""

from __future__ import annotations

import re
from array import array
from dataclasses import replace
from pathlib import Path

import pytest
from observations import changed
from seeds import SEEDS, refusal

from harness.findings.report import observation_text, verdict_report
from harness.model.executor import MODELLED, Model
from harness.observation.descriptors import entry_address
from harness.observation.events import DCACHE, ICACHE, TLBI, each_event, events_of
from harness.observation.execution import Shape
from harness.observation.layout import EVENT_WORDS, Observation, observation_of
from harness.observation.tables import leaked, paired_entries
from harness.observation.tlbi import Target, invalidation_of
from harness.program.capabilities import EVERYTHING
from harness.program.codec import decode, dialect_for, encode
from harness.program.kinds import UNLINKED
from harness.program.kinds.flags import PROT_BITS
from harness.program.machine import KNOBS_BY_NAME
from harness.program.ops import OPS, STANDARD
from harness.program.program import Program
from harness.program.text import format_program, parse, read, reformat
from harness.verdict.compare.differences import differences
from harness.verdict.judge import Judge
from harness.verdict.tiers import Tier
from harness.verdict.verdicts import Verdict
from pgtable.pte import LOCKED
from reference.link.executor import ByGranule, Reference

CORPORA = Path(__file__).parents[2] / "corpora"
every_seed = pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.stem)


def run(name: str, version: str = "6.12") -> tuple[Shape, Observation]:
    """What a seed does to the tree, and what is observed, on the model."""
    model, program = Model(version), read(CORPORA / "seeds" / f"{name}.s2")
    model.start(program)
    feedback = model.finish().feedback
    assert feedback is not None
    return feedback.shape, model.observe(program)


def returns(name: str, version: str = "6.12") -> list[int | None]:
    """The return codes of a seed's ops, without the implicit init."""
    return [record.ret for record in run(name, version)[1].records[1:]]


def leaves(name: str) -> list[tuple[int, int]]:
    """(pte, level) of every get_leaf that succeeded."""
    records = run(name)[1].records
    return [(r.outs[0], r.outs[1]) for r in records if r.definition.name == "get_leaf" and r.ret == 0]


def visits(name: str) -> list[list[tuple[int, ...]]]:
    """Of every walk, its visits: (visit, level, ipa, pte)."""
    walks = [record.outs for record in run(name)[1].records if record.definition.name == "walk"]
    return [[outs[at : at + 4] for at in range(0, len(outs), 4)] for outs in walks]


# All of them


def test_there_are_enough() -> None:
    assert len(SEEDS) >= 15


@every_seed
def test_form(path: Path) -> None:
    text = path.read_text()
    assert reformat(text) == text, "run `s2fuzz fmt` on it"
    comment = parse(text).comment.replace("\n", " ")
    assert text.startswith("# ")
    assert comment.endswith(".")
    assert 1 <= len(re.findall(r"\.(?= [A-Z]|$)", comment)) <= 5, "one to four sentences, or five short ones"
    assert max(map(len, text.splitlines())) <= 120


@every_seed
def test_round_trips(path: Path) -> None:
    program = read(path)
    assert parse(format_program(program)) == program
    dialect = dialect_for(EVERYTHING, program.machine.granule)
    assert decode(encode(program, dialect), dialect) == Program(program.ops, program.machine)


@every_seed
def test_both_sides_agree(path: Path, linux: str, every_kernel: ByGranule) -> None:
    program, model = read(path), Model(linux)
    if refused := refusal(model, program):
        assert refusal(every_kernel, program) == refused.replace("model:", "kernel:")
        return
    judge = Judge(model, every_kernel)
    assert judge.check(program) is None
    assert judge.agree(program), "they agree only up to renaming"


@every_seed
def test_some_kernel_can_run_it(path: Path) -> None:
    refused = {version for version in MODELLED if refusal(Model(version), read(path))}
    assert refused < set(MODELLED)
    assert "6.12" not in refused or read(path).requires, "what the default kernel cannot run says what it requires"


def test_together_they_use_everything_a_program_can_say() -> None:
    programs = list(map(read, SEEDS))
    ops = [op for program in programs for op in program.ops]
    assert {op.name for op in ops} == {op.name for op in OPS}
    prots = [op.args[3] for op in ops if op.name == "map"]
    assert all(any(prot & bit for prot in prots) for bit in PROT_BITS.values())
    assert {op.args[2] for op in ops if op.name == "walk"} >= set(range(8))
    for kind in STANDARD.kinds:
        used = [v for op in ops for arg, v in zip(op.definition.args, op.args, strict=True) if arg.kind is kind]
        assert all(any(flags & bit for flags in used) for bit in kind.bits.values()), kind.name
    changed = {name for program in programs for name in program.machine.changed()}
    assert changed >= set(KNOBS_BY_NAME) - {"pool_base"}


def outs(name: str, op: str, version: str = "6.12") -> list[tuple[int, ...]]:
    """What every op of that name yielded."""
    return [record.outs for record in run(name, version)[1].records if record.definition.name == op]


# What some of them say


def test_vm_life_leaves_only_the_memcache() -> None:
    shape, seen = run("vm_life")
    assert set(returns("vm_life")) == {0}
    assert (seen.root, leaked(seen)) == (None, [])
    assert set(seen.pages) == set(seen.memcache)
    assert (shape.splits, shape.merges) == (2, 1)


def test_block_split_loses_the_rest_of_the_block() -> None:
    assert leaves("block_split") == [(0, 3), (0x9000_07DB, 3), (0, 2)]
    assert run("block_split")[0].splits == 2


@pytest.mark.parametrize(("name", "freed"), [("merge_2m", 1), ("merge_1g", 4)])
def test_a_merge_frees_the_tables_it_says(name: str, freed: int) -> None:
    shape, seen = run(name)
    assert (seen.frees, shape.merges, leaked(seen), seen.memcache) == (freed, 1, [], ())
    walked = read(CORPORA / "seeds" / f"{name}.s2").ops
    merge = next(op for op in reversed(walked) if op.name == "map")
    assert merge.args[4] == 0, "it is said to need no memcache"


def test_merge_2m_merges_a_full_table() -> None:
    program = read(CORPORA / "seeds" / "merge_2m.s2")
    before = Model().observe(program.prefix(3))
    assert max(page.refcount for page in before.pages.values()) == 513


def test_owners_are_forgotten_with_and_without_their_tables() -> None:
    kept, gone = visits("owner_handover")
    assert [level for _, level, _, _ in kept] == [1, 2, 3, 3]
    assert [level for _, level, _, _ in gone] == [1]
    assert [pte for pte, _ in leaves("owner_handover")] == [4, 0x8000_17DB, 4]
    assert leaves("owner_zero_or_unmap") == [(0, 3), (0, 2)]


def test_owner_ids_above_the_maximum() -> None:
    assert returns("owner_ids") == [0, 0, -22, -22, -22, -34, 0]


def test_walk_visits_are_all_combinations() -> None:
    kinds = [{visit for visit, _, _, _ in walk} for walk in visits("walk_visits")]
    assert kinds == [{1}, {2}, {4}, {1, 2}, {1, 4}, {2, 4}, {1, 2, 4}, set()]
    assert [len(walk) for walk in visits("walk_visits")] == [8, 4, 4, 12, 12, 8, 16, 0]
    *_, everything, _ = visits("walk_visits")
    met = {(level, pte & 3, pte == 0) for _, level, _, pte in everything}
    tables, blocks, pages = {(1, 3), (2, 3)}, {(1, 1), (2, 1)}, {(3, 3)}
    assert {(level, kind) for level, kind, empty in met if not empty} == tables | blocks | pages | {(3, 0)}
    assert {level for level, _, empty in met if empty} == {1, 2, 3}


def test_memcache_exhausted_fails_and_goes_on() -> None:
    enomem = -12
    assert returns("memcache_exhausted") == [enomem, enomem, 0, enomem, 0, 0, enomem, 0, enomem, 0, enomem, 0]
    assert run("memcache_exhausted")[1].memcache == ()


def test_memcache_after_break() -> None:
    assert leaves("memcache_after_break") == [(0x8020_07D9, 2), (0, 2)]


def test_fault_granule_needs_pages_in_one_situation_only() -> None:
    assert returns("fault_granule") == [-12, 0, 0, 0, 0, -12, 0, 0, 0, 0, 0]
    seen = run("fault_granule")[1]
    assert (seen.allocs, seen.frees) == (5, 1)


def test_the_limit_itself_is_in_range() -> None:
    erange = -34
    assert returns("range_limit") == [0, 0, 0, 0, 0, 0, 0, *[erange] * 6, 0, 0, 0]


def test_wrapping_sizes_do_nothing() -> None:
    assert returns("range_wrapping") == [0] * 8 + [-34] * 4
    assert leaves("range_wrapping") == [(0, 3), (0x8000_17DB, 3)]
    assert returns("unmap_wrapping_budget") == [0, None]


@pytest.mark.parametrize(
    ("bits", "start_level", "root_pages"), [(32, 2, 4), (40, 1, 2), (43, 1, 16), (44, 0, 1), (48, 0, 1)]
)
def test_roots(bits: int, start_level: int, root_pages: int) -> None:
    records = run(f"root_{bits}_bits")[1].records
    assert records[0].outs[1:] == (bits, start_level, root_pages)
    beyond = [record.ret for record in records if record.definition.name == "get_leaf"]
    assert bits == 40 or beyond == [*[0] * (len(beyond) - 1), -34]


def test_remapping_is_eagain_only_with_handle_fault() -> None:
    for name in ("remap_same_page", "permission_change", "software_bits"):
        program = read(CORPORA / "seeds" / f"{name}.s2")
        refused = [op.args[5] for op, ret in zip(program.ops, returns(name), strict=True) if ret]
        assert refused
        assert set(refused) == {16}
        assert set(returns(name)) == {0, -11}


def test_physical_addresses_beyond_2_to_the_48_clear() -> None:
    by_page, by_block, device = visits("phys_crossing")
    for walk in (by_page, by_block, device):
        half = len(walk) // 2
        assert all(pte & 1 for _, _, _, pte in walk[:half])
        assert all(pte == 0 for _, _, _, pte in walk[half:])
    assert run("phys_limit")[1].frees == 1


def test_prot_invalid() -> None:
    assert returns("prot_invalid") == [-22] * 5 + [-34] + [0] * 6


def test_features_off() -> None:
    for name in ("no_hw_af", "ac03_workaround"):
        assert run(name)[1].records[0].outs[0] ^ run("vm_life")[1].records[0].outs[0] == 1 << 21
    (entries,) = visits("no_fwb")
    assert [pte >> 2 & 15 for _, _, _, pte in entries] == [15, 15, 1, 5]
    for name in ("no_fwb", "no_tlb_range"):
        assert set(returns(name)) == {0}, "a size that wraps should cost nothing there"


def test_programs_that_end_early() -> None:
    assert run("tiny_pool")[1].records[0].ret == -12
    assert len(run("tiny_pool")[1].records) == 1
    assert returns("small_budget") == [None]
    assert any(LOCKED in page.entries for page in run("small_budget")[1].pages.values())
    assert returns("unmap_out_of_range_tlbi") == [-34, None]
    assert returns("reinit_without_memory") == [0, -12]
    assert len(leaked(run("reinit_without_memory")[1])) == len(leaked(run("reinit")[1])) == 4


def test_after_destroy() -> None:
    einval = -22
    assert returns("after_destroy") == [0, 0, *[einval] * 5, -34, einval, 0]
    last = run("after_destroy")[1].records[-1]
    assert [str(one) for one in last.complaints] == ["WARN", "pool: bad-free 0x0"]


def test_dirty_logging() -> None:
    assert returns("dirty_logging") == [0] * 12 + [-34]
    (entries,) = visits("dirty_logging")
    assert [pte & 0x81 for *_, pte in entries] == [1, 1, 0, 1]
    assert [pte >> 7 & 1 for pte, _ in leaves("dirty_logging")] == [0, 1, 0]


def test_access_flag() -> None:
    young = [seen for (seen,) in outs("access_flag", "test_clear_young")]
    assert young == [1, 1, 0, 0, 1, 1, 0, 1]
    assert [bool(pte) for (pte,) in outs("access_flag", "mkyoung")] == [True, True, True, False, False, False]
    complaints = [record.complaints for record in run("access_flag")[1].records if record.complaints]
    assert [str(one) for (one,) in complaints] == ["WARN"]
    assert set(returns("access_flag")) == {0}, "no EAGAIN where the access flag differs"


def test_relax_permissions() -> None:
    assert [ret for ret in returns("relax_permissions") if ret] == [-22, -11, -11, -34, -22, -22]
    *_, (device, _) = leaves("relax_permissions")
    assert device & 1 << 54 == 0
    assert device >> 2 & 15 == 1


def test_map_flags() -> None:
    assert returns("map_flags") == [0] * 3 + [-11] + [0] * 7 + [None]
    assert [pte & 0x3FF for pte, _ in leaves("map_flags")] == [0x3DB, 0x3D9]


def test_eager_split() -> None:
    assert returns("eager_split") == [0, -12, 0, 0, 0, 0, 0, -12, 0, 0, 0, -34, 0, -22]
    assert run("eager_split")[0].splits == 4
    (pages, level_1) = visits("eager_split")
    assert [(visit, level) for visit, level, _, _ in pages] == [(2, 1), (2, 2), (1, 3), (1, 2)]
    assert pages[2][3] == 1 << 55 | 0x803F_F75B
    assert [(visit, level) for visit, level, _, _ in level_1] == [(2, 1), (2, 2), (1, 3)]
    assert [level for _, level in leaves("eager_split")] == [2, 2]


def test_split_forgets_the_memory_type_and_the_access_flag() -> None:
    assert [pte >> 2 & 15 for pte, _ in leaves("split_forgets")] == [1, 6, 5, 6]
    assert outs("split_forgets", "test_clear_young") == [(1,), (1,)]


def test_unlinked_tables() -> None:
    ebadf, enomem = -9, -12
    expected = [0, 0, 0, 0, ebadf, ebadf, enomem, ebadf, 0, enomem, 0, 0, 0, 0, 0]
    assert returns("unlinked") == expected
    seen = run("unlinked")[1]
    assert [(number, root.level) for number, root in seen.held(UNLINKED.number).items()] == [(6, 3)]
    assert leaked(seen) == []
    assert returns("unlinked_refused") == [*[-22] * 3, 0, enomem, *[-22] * 3, 0, 0, 0, ebadf]
    assert [len(record.complaints) for record in run("unlinked_refused")[1].records[6:9]] == [2, 1, 0]


def test_a_stage_2_without_fwb() -> None:
    assert returns("nofwb_stage2") == [0] * 7 + [-34, 0, 0, 0]
    assert [pte >> 2 & 15 for pte, _ in leaves("nofwb_stage2")] == [15, 1, 5, 15]


def test_identity_only() -> None:
    assert returns("identity_only") == [0, *[-22] * 3, 0, 0, 0, 0, 0]
    warned = [len(record.complaints) for record in run("identity_only")[1].records[1:]]
    assert warned == [0, 1, 1, 1, 0, 0, 0, 0, 0]


def test_force_pte() -> None:
    assert [level for _, level in leaves("force_pte")] == [2, 3, 3, 2]
    assert run("force_pte")[0].merges == 1
    assert [level for _, level in leaves("force_pte_always")] == [3, 3]
    assert returns("force_pte_always") == [-12, 0, 0, 0, -22, -34]


def test_flush() -> None:
    assert returns("flush") == [0, 0, 0, 0, 0, -34, None]
    assert set(returns("flush_with_fwb")) == {0}


def test_tlb_flush_range() -> None:
    assert returns("tlb_flush_range") == [0, 0, 0, 0, None]


def test_pte_prot() -> None:
    assert [prot for (prot,) in outs("pte_prot", "pte_prot")] == [0, 0, 0, 1, 7, 7, 6 | 15 << 55]


def test_aging_by_page() -> None:
    seed = "aging_by_page"
    assert set(returns(seed, "6.1")) == {0}
    assert [young for (young,) in outs(seed, "is_young", "6.1")] == [0, 1, 0, 1, 0, 1, 0, 0, 1, 0]
    assert [bool(pte) for (pte,) in outs(seed, "mkold", "6.1")] == [True, True, True, False, False, False]


def test_kernels_differ() -> None:
    eagain, seed = -11, "kernels_differ"
    old, new = (returns(seed, version) for version in ("6.1", "6.12"))
    assert [(index, ret) for index, ret in enumerate(old) if ret] == [(2, eagain)]
    assert [(index, ret) for index, ret in enumerate(new) if ret] == [(6, eagain)]
    assert outs(seed, "get_leaf", "6.1") == [(0, 3)]
    assert outs(seed, "get_leaf", "6.12") == [(0x8000_17DB, 3)]


def test_hyp_s_life() -> None:
    seen = run("hyp_life")[1]
    assert set(returns("hyp_life")) == {0}
    assert outs("hyp_life", "hyp_unmap") == [(0x4000,), (0x20_0000,)]
    assert [level for _, level in leaves("hyp_life")] == [2, 3, 3, 3]
    assert leaked(seen) == []
    assert not seen.pages


def test_hyp_s_protections() -> None:
    expected = [*[-22] * 4, *[0] * 12]
    assert returns("hyp_protections") == returns("hyp_hvhe") == expected
    guarded, sw = 1 << 50, 55
    assert [pte >> 6 & 3 for pte, _ in leaves("hyp_protections")] == [3, 1, 3, 1]
    assert [pte >> 6 & 3 for pte, _ in leaves("hyp_hvhe")] == [2, 0, 2, 0]
    assert [bool(pte & guarded) for pte, _ in leaves("hyp_protections")] == [False, False, True, False]
    assert not any(pte & guarded for pte, _ in leaves("hyp_hvhe"))
    assert [pte >> 2 & 7 for pte, _ in leaves("hyp_hvhe")] == [0, 0, 0, 4]
    assert [prot for (prot,) in outs("hyp_protections", "hyp_pte_prot")] == [0, 1 << sw | 5, 6, 1]
    assert [prot for (prot,) in outs("hyp_hvhe", "hyp_pte_prot")] == [0, 1 << sw | 1, 0, 7]


def test_hyp_maps_again() -> None:
    assert returns("hyp_map_again") == [0, 0, 0, 0, -22, -22, 0, 0, 0]
    assert [len(record.complaints) for record in run("hyp_map_again")[1].records[1:7]] == [0, 0, 0, 0, 2, 2]
    assert [pte & 1 for pte, _ in leaves("hyp_map_again")] == [1, 1, 0]


def test_hyp_maps_over_a_block() -> None:
    shape, seen = run("hyp_map_over_block")
    assert set(returns("hyp_map_over_block")) == {0}
    assert leaves("hyp_map_over_block") == [(0, 3)]
    assert [len(record.complaints) for record in seen.records[1:]] == [0, 0, 0, 0, 0, 1, 0]
    assert shape.splits == 2
    kept = [page for page in seen.pages.values() if page.refcount == 2 and not any(page.entries)]
    assert len(kept) == 1, "an empty table that counts as used"


def test_hyp_unmap_ends() -> None:
    assert set(returns("hyp_unmap_ends")) == {0}
    page, block = 1 << 12, 1 << 21
    assert [size for (size,) in outs("hyp_unmap_ends", "hyp_unmap")] == [2 * page, block, 0, block, 0, 0]
    assert [bool(pte) for pte, _ in leaves("hyp_unmap_ends")] == [True, False]


def test_hyp_s_address_sizes() -> None:
    assert returns("hyp_va_57") == [-34, 0, 0, 0]
    assert run("hyp_va_57")[1].records[0].outs == (0, 57, (1 << 64) - 1, 1)
    assert [record.ret for record in run("hyp_va_58")[1].records] == [-22]


def test_hyp_s_memory() -> None:
    assert returns("hyp_memory") == [0, 0, -12, 0, 0]
    assert len(run("hyp_memory")[1].records[-1].complaints) == 2
    assert [level for _, level in leaves("hyp_phys_limit")] == [2, 2, 2, 3]


@pytest.mark.parametrize("folder", ["seeds", "regressions", "violations"])
def test_folders_hold_programs_only(folder: str) -> None:
    beside = {".s2", ".toml"} if folder == "violations" else {".s2"}
    names = [path.name for path in (CORPORA / folder).iterdir() if path.suffix not in beside]
    assert names in ([], ["README.md"])
    assert f"`{folder}/`" in (CORPORA / "README.md").read_text()


@pytest.mark.parametrize("folder", ["regressions", "violations"])
def test_other_corpora_are_programs_too(folder: str) -> None:
    for path in (CORPORA / folder).glob("*.s2"):
        assert reformat(path.read_text()) == path.read_text()
        assert read(path).comment


def test_no_seed_diverges_in_any_tier(kernel: Reference) -> None:
    """Each tier on its own: none of them may be blind to what the others see."""
    program = read(CORPORA / "seeds" / "vm_life.s2")
    for tier in Tier:
        assert Judge(Model(), kernel, frozenset({tier})).verdict(program) is None


@pytest.mark.parametrize(("name", "block"), [("1g", 1 << 30), ("16k", 32 << 20), ("64k", 512 << 20)])
def test_a_whole_block_is_split_to_its_last_page(name: str, block: int) -> None:
    seed = f"split_whole_block_{name}"
    shape, seen = run(seed)
    assert returns(seed) == [0] * 4, "no budget ends it"
    granule = seen.machine.granule
    map_op = read(CORPORA / "seeds" / f"{seed}.s2").ops[0]
    ipa, size, phys = map_op.args[:3]
    assert size == block
    leaves_of = [(entry, at) for at, level, entry, _ in paired_entries(seen, seen) if level == 3]
    assert [at - ipa for _, at in leaves_of] == list(range(0, block, granule.page))
    assert [entry_address(entry, seen.machine) - phys for entry, _ in leaves_of] == list(range(0, block, granule.page))
    (last,) = leaves(seed)
    assert last == (leaves_of[-1][0], 3)
    assert shape.splits == 1


def test_a_whole_block_is_split_without_fwb() -> None:
    seed = "split_whole_block_no_fwb"
    assert returns(seed) == [0] * 5
    _, seen = run(seed)
    kinds = [{event.kind for event in each_event(record.events)} for record in seen.records]
    assert DCACHE in kinds[1]
    assert not kinds[2] & {DCACHE, ICACHE}
    assert DCACHE in kinds[4]
    assert (seen.frees, leaked(seen), leaves(seed)) == (1, [], [(0, 2)])


def test_a_million_events_are_reported() -> None:
    """One of them differs, and the last entry of the last table: found, and told with its place."""
    program = read(CORPORA / "seeds" / "split_whole_block_1g.s2")
    left = Model().observe(program)
    records, pages = [*left.records], dict(left.pages)
    events = array("Q", records[2].events)
    assert len(events) > EVENT_WORDS * 786432
    (at,) = (index for index in range(2, len(events), EVENT_WORDS) if events[index] == 0xC0_0001_7FFF_F7DB)
    last = entry_address(next(entry for _, level, entry, _ in reversed([*paired_entries(left, left)]) if level == 2))
    entries = array("Q", pages[last].entries)
    entries[-1] = events[at] = 0
    records[2] = replace(records[2], events=events)
    pages[last] = replace(pages[last], entries=entries)
    right = changed(left, records=tuple(records), pages=pages)
    right = observation_of(right.words, (), program.machine)
    found = differences(left, right)
    assert [one.bucket for one in found] == ["tables-walk-entry-level3", "events-split-store_release"]
    verdict = Verdict("divergence", found[0].bucket, 2, found[0], left, right)
    report = verdict_report(program, verdict, ("model", "kernel"))
    assert "0x7ffff000: 0xc000017ffff7db" in report
    assert "equal events" in report
    text = observation_text(program, right, True, 1000)
    assert "… 787,498 more events" in text
    assert len(text.splitlines()) < 5000


# Granules and large tables


def test_every_granule_has_programs() -> None:
    granules = [read(path).machine.granule.name for path in SEEDS]
    assert min(granules.count(name) for name in ("16k", "64k")) >= 8


@pytest.mark.parametrize(
    ("name", "bits", "root_pages", "top_entries"),
    [
        ("destroy_44_bits", 44, 1, [0, 1, 2, 15, 31]),
        ("destroy_48_bits", 48, 1, [0, 256, 511]),
        ("destroy_52_bits", 52, 16, [0, 1, 4095, 4096, 8176, 8191]),
        ("destroy_16k", 48, 2, [0, 1, 2047, 2048, 4095]),
        ("destroy_64k", 52, 1, [0, 1, 511, 1023]),
    ],
)
def test_large_tables_are_torn_down(name: str, bits: int, root_pages: int, top_entries: list[int]) -> None:
    """With several entries of the root leading to tables, and nothing left afterwards."""
    program = read(CORPORA / "seeds" / f"{name}.s2")
    model = Model()
    before = model.observe(program.prefix(len(program.ops) - 1))
    granule = program.machine.granule
    assert before.root is not None
    assert (program.machine["ia_bits"], before.root.pages) == (bits, root_pages)
    tables = [before.pages[before.root.pa + number * granule.page].entries for number in range(root_pages)]
    assert [n for n, entry in enumerate(entry for table in tables for entry in table) if entry] == top_entries
    after = model.observe(program)
    assert program.ops[-1].name == "destroy"
    assert (len(after.pages), after.frees) == (0, after.allocs)


def test_1g_from_an_unaligned_start() -> None:
    assert [bool(pte) for pte, _ in leaves("unmap_1g_unaligned")] == [
        *(False, False),
        *(True, False, False),
        *(True, False, False, True, False),
    ]


@pytest.mark.parametrize(("name", "page"), [("tlb_ranges_lpa2", 0x1000), ("tlb_ranges_lpa2_16k", 0x4000)])
def test_ranges_with_lpa2_start_at_64k(name: str, page: int) -> None:
    """What lies before is invalidated page by page."""
    records = run(name)[1].records
    tlbis = [event for event in events_of(records[2].events) if event.instruction == TLBI]
    found = [one for event in tlbis if (one := invalidation_of(event.a, event.b, lpa2=True)) is not None]
    stage_2 = [one for one in found if one.operation.target is Target.STAGE_2]
    start = read(CORPORA / "seeds" / f"{name}.s2").ops[1].args[0]
    alone = (0x10000 - start % 0x10000) // page
    assert alone >= 1
    assert [one.operation.is_range for one in stage_2][: alone + 1] == [False] * alone + [True]
    assert all(one.start is not None and one.start % 0x10000 == 0 for one in stage_2 if one.operation.is_range)
