"""Several MMUs of a VM, and several VMs: what the model makes of them, and who notices when they are not kept apart."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest
from observations import with_events

from harness.model.executor import MODELLED, Model
from harness.observation.calls import calls_of
from harness.observation.events import FOR_MMU, MSR, SYSREGS, TLB_CALLS, TLBI_VMID_IPA, Event, events_of
from harness.observation.layout import FIRST_MMU, MEMCACHE, SPLIT_CACHE, UNDER_TEST, Holder, Observation
from harness.observation.mmus import mmus_at_end, root_in_use
from harness.program.program import Program
from harness.program.text import parse
from harness.verdict.contracts.families import violations
from harness.verdict.invalidation import problems
from harness.verdict.judge import Judge
from harness.verdict.tlb.judge import stale_problems
from reference.link.executor import ByGranule

PAGE = "map ipa=0x1000 size=4K phys=0x80001000 prot=rw mc=3"
GONE = "unmap ipa=0x1000 size=4K"
NESTED = f"{PAGE}\nmmu_init vmid=2\nmmu_use mmu=m1\n{PAGE}\n"
SHARED = f"{PAGE}\nmmu_share vmid=2\n"
AT = 3
"""The record of what follows SHARED."""
BLOCK = "map ipa=0x0 size=2M phys=0x80000000 prot=rwx mc=3\nmmu_share vmid=2\n"


def program_of(text: str, settings: str = "") -> Program:
    return parse(f"s2 1\n{settings}\n{text}\n")


def observed(text: str, version: str = "6.12", settings: str = "") -> Observation:
    return Model(version).observe(program_of(text, settings))


def results(text: str, version: str = "6.12", settings: str = "") -> list[int | None]:
    return [one.ret for one in observed(text, version, settings).records[1:]]


def whats(program: Program, seen: Observation) -> set[str]:
    return {one.what for one in stale_problems(program, seen)}


def of_sharers(events: Sequence[Event]) -> tuple[list[Event], list[Event]]:
    """The events without the calls for others, and those."""
    own: list[Event] = []
    others: list[Event] = []
    is_other, was_for = False, False
    for event in events:
        if event.kind == FOR_MMU:
            is_other = was_for = True
        elif not event.is_in_call and not was_for:
            is_other = False
        elif event.kind in TLB_CALLS:
            was_for = False
        (others if is_other else own).append(event)
    return own, others


@pytest.mark.parametrize(("version", "again", "bits"), [("6.1", -errno.EINVAL, -errno.EINVAL), ("6.12", 0, 0)])
def test_versions_differ_in_a_second_initialisation_and_in_whose_vtcr_is(version: str, again: int, bits: int) -> None:
    assert results("mmu_again\nmmu_init vmid=2\nmmu_use mmu=m1\nmmu_again", version) == [-errno.EINVAL, 0, 0, again]
    assert results("mmu_init vmid=2 ia_bits=32\nmmu_init vmid=3 ia_bits=41", version) == [bits, -errno.EINVAL]


def test_a_vmid_stays_taken() -> None:
    """As far as the CPU has bits for it, and when its MMU is gone."""
    text = "mmu_init vmid=257\nmmu_init vmid=2\nmmu_free mmu=m2\nmmu_share vmid=2\nmmu_share vmid=3"
    assert results(text, settings="vmid_bits = 8\n") == [-errno.EBUSY, 0, 0, -errno.EBUSY, 0]
    assert results(text) == [0, 0, 0, -errno.EBUSY, 0]
    assert results("mmu_init vmid=2\nmmu_init vmid=3", settings="vcpu = foreign\n") == [-errno.EBUSY, 0]


def test_there_are_sixteen_mmus_and_none_of_the_host_s() -> None:
    many = "\n".join(f"mmu_share vmid={2 + number}" for number in range(17))
    assert results(many) == [0] * 15 + [-errno.ENOSPC] * 2
    host = results("mmu_init vmid=2\nmmu_share vmid=3", settings="kvm_mode = pkvm_host\n")
    assert host == [-errno.EOPNOTSUPP] * 2


@pytest.mark.parametrize("version", MODELLED)
def test_maintenance_names_its_mmu(version: str) -> None:
    seen = observed(NESTED + f"{GONE}\nmmu_first\n{GONE}", version)
    root_of = {number: root.pa for number, root in seen.held(UNDER_TEST).items()}
    for record, mmu, vmid in ((5, 1, 2), (7, FIRST_MMU, 1)):
        written = {
            (event.b >> 48, event.b & 0xFFFF_FFFF_FFFE)
            for event in events_of(seen.records[record].events)
            if event.instruction == MSR and event.a == SYSREGS["vttbr_el2"] and event.b
        }
        assert written == {(vmid, root_of[mmu])}


def test_an_observation_has_every_mmu() -> None:
    seen = observed(NESTED + "mmu_share vmid=3\nmmu_free mmu=m1")
    assert [root.holders for root in seen.roots] == [(Holder(UNDER_TEST, 0),), (Holder(UNDER_TEST, 2),)]
    assert [(one.kind, one.number) for one in seen.caches] == [(MEMCACHE, 0), (SPLIT_CACHE, 0), (SPLIT_CACHE, 2)]
    assert {page.table for page in seen.pages.values()} == {0, 1}
    both = observed(SHARED)
    assert [root.holders for root in both.roots] == [(Holder(UNDER_TEST, 0), Holder(UNDER_TEST, 1))]


def test_what_lives_at_the_end_is_told_by_the_records() -> None:
    seen = observed(NESTED + "mmu_share vmid=3\nmmu_use mmu=m2")
    mmus = mmus_at_end(seen)
    assert (list(mmus), mmus.in_use, mmus.table, mmus.sharing(1), mmus.vmid()) == ([0, 1, 2], 2, 1, [1, 2], 3)
    assert root_in_use(seen) == seen.held(UNDER_TEST)[2] != seen.root
    freed = mmus_at_end(observed(NESTED + "mmu_free mmu=m1"))
    assert (list(freed), freed.in_use) == ([0], FIRST_MMU)


@pytest.mark.parametrize("text", [SHARED, SHARED + "mmu_use mmu=m1\n"])
def test_each_mmu_that_shares_is_told_at_once(text: str) -> None:
    calls = [one for one in calls_of(observed(text + GONE)) if one.event.kind == TLBI_VMID_IPA]
    assert calls
    own = [one for one in calls if one.mmu is None]
    others = [one for one in calls if one.mmu is not None]
    assert [one.event for one in own] == [one.event for one in others]
    assert {one.whose.vmid for one in calls if one.whose is not None} == {1, 2}


@pytest.mark.parametrize("program", [program_of(SHARED + GONE), program_of(NESTED + GONE), program_of(BLOCK + PAGE)])
@pytest.mark.parametrize("version", MODELLED)
def test_what_the_model_does_is_right(program: Program, version: str) -> None:
    seen = Model(version).observe(program)
    found = [one.what for call in calls_of(seen) for one in problems(call, program.machine)]
    assert not set(found) - ({"walks-under-way"} if version == "6.1" else set())
    assert whats(program, seen) == set()


def test_the_model_tells_calls_as_its_observation_does() -> None:
    """Also of a VMID that has more bits than the CPU."""
    program, model = program_of(NESTED.replace("vmid=2", "vmid=258") + GONE, "vmid_bits = 8\n"), Model()
    model.start(program)
    told = model.finish().new_calls
    assert told
    assert {one.whose for one in told} == {one.whose for one in calls_of(model.observe(program))}
    assert not [found for call in told for found in problems(call, program.machine)]


@pytest.mark.parametrize(
    ("text", "what"), [(SHARED + GONE, "freed-other-context"), (BLOCK + PAGE, "bbm-other-context")]
)
def test_a_fan_out_after_the_op_comes_too_late(text: str, what: str) -> None:
    program = program_of(text)
    seen = Model().observe(program)
    own, others = of_sharers(events_of(seen.records[AT].events))
    late = with_events(seen, AT, [*own, *others])
    assert others
    assert what in whats(program, late)
    assert all("of MMU m1" in one.text for one in stale_problems(program, late))


def test_a_fan_out_that_misses_one_leaves_it_stale() -> None:
    text = f"{SHARED}mmu_use mmu=m1\n{GONE}"
    program = program_of(text)
    seen = Model().observe(program)
    own, _ = of_sharers(events_of(seen.records[AT + 1].events))
    missed = with_events(seen, AT + 1, own)
    assert "left-other-context" in whats(program, missed)
    broken = {one.contract.name for one in violations(program, missed)}
    assert "each-mmu-that-shares-a-table-is-told" in broken


def test_an_invalidation_for_another_mmu_is_none() -> None:
    """Its VMID is the other's, and its root is right."""
    program = program_of(NESTED + GONE)
    seen = Model().observe(program)
    wrong = with_events(
        seen,
        5,
        [
            event._replace(b=event.b ^ 3 << 48)
            if event.instruction == MSR and event.a == SYSREGS["vttbr_el2"] and event.b
            else event
            for event in events_of(seen.records[5].events)
        ],
    )
    assert {"freed-other-context", "left-other-context"} & whats(program, wrong)
    assert {one.what for call in calls_of(wrong) for one in problems(call, program.machine)} == {"vmid"}


def test_without_instructions_a_call_is_for_whom_it_says() -> None:
    program = program_of(SHARED + GONE)
    seen = Model().observe(program)
    silent = seen
    for number, record in enumerate(seen.records):
        silent = with_events(silent, number, [one for one in events_of(record.events) if not one.is_in_call])
    assert whats(program, silent) == set()
    own, _ = of_sharers(events_of(silent.records[AT].events))
    assert whats(program, with_events(silent, AT, own))


VMS = f"{PAGE}\nvm_create vmid=2\nmmu_use mmu=m1\n{PAGE}\n"
SLOT = "memslot_add slot=0 ipa=0x0 size=2M phys=0x80000000"


@pytest.mark.parametrize("version", MODELLED)
def test_a_vm_has_bits_of_address_of_its_own(version: str) -> None:
    """As many as the CPU has bits of physical address; and its other MMUs no more than the first."""
    bits = "vm_create vmid=2 ia_bits=31\nvm_create vmid=3 ia_bits=45\nvm_create vmid=4 ia_bits=44\nvm_create vmid=5"
    assert results(bits, version, "parange = 44\n") == [-errno.EINVAL, -errno.EINVAL, 0, 0]
    seen = observed("vm_create vmid=2 ia_bits=48\nvm_create vmid=3", version)
    assert [seen.held(UNDER_TEST)[mmu].ia_bits for mmu in (0, 1, 2)] == [40, 48, 40]
    nested = "vm_create vmid=2 ia_bits=36\nmmu_use mmu=m1\nmmu_init vmid=3 ia_bits=40\nmmu_init vmid=4 ia_bits=36"
    assert results(nested, version) == [0, 0, -errno.EINVAL, 0]


@pytest.mark.parametrize("version", MODELLED)
def test_a_vm_is_refused_a_vmid_that_any_has_or_had(version: str) -> None:
    text = "vm_create vmid=1\nvm_create vmid=2\nmmu_init vmid=2\nmmu_init vmid=3\nvm_create vmid=3\n"
    ended = "vm_end mmu=m2\nvm_create vmid=2\nmmu_share vmid=2\nvm_create vmid=4"
    expected = [-errno.EBUSY, 0, -errno.EBUSY, 0, -errno.EBUSY, 0, -errno.EBUSY, -errno.EBUSY, 0]
    assert results(text + ended, version) == expected
    host = results("vm_create vmid=2", version, "kvm_mode = pkvm_host\n")
    assert host == [-errno.EOPNOTSUPP]
    many = "\n".join(f"vm_create vmid={2 + number}\nvm_end mmu=m{1 + number}" for number in range(16))
    assert results(many, version) == [0] * 30 + [-errno.ENOSPC, -errno.EBADF]


def test_the_first_vm_has_no_end_and_no_vm_s_first_mmu_is_freed_alone() -> None:
    assert results("mmu_init vmid=2\nvm_end mmu=m1") == [0, -errno.EBUSY]
    assert results("vm_create vmid=2\nmmu_free mmu=m1\nvm_end mmu=m1\nvm_end mmu=m1") == [
        *(0, -errno.EINVAL, 0, -errno.EBADF)
    ]


@pytest.mark.parametrize("version", MODELLED)
def test_all_of_a_vm_ends_with_it(version: str) -> None:
    """Whichever of its MMUs names it, also one that is not in use; and what is another's goes on."""
    text = f"{VMS}mmu_share vmid=3\nmmu_init vmid=4\nmmu_use mmu=m3\n{PAGE}\n{SLOT}\nvm_create vmid=5\n"
    gone = observed(text + "vm_end mmu=m2\nmmu_use mmu=m3\nget_leaf ipa=0x1000", version)
    assert [one.ret for one in gone.records[-3:]] == [0, -errno.EBADF, 0]
    assert sorted(gone.held(UNDER_TEST)) == [0, 4]
    assert {page.table for page in gone.pages.values()} == {0, 4}
    mmus = mmus_at_end(gone)
    assert (list(mmus), mmus.in_use, mmus.vm, mmus.ended_vmids) == ([0, 4], FIRST_MMU, 0, {2, 3, 4})
    other = mmus_at_end(observed(text + "mmu_use mmu=m4\nvm_end mmu=m1", version))
    assert (list(other), other.in_use, other.vm) == ([0, 4], 4, 4)


def test_what_is_said_of_a_vm_follows_from_the_mmu_in_use() -> None:
    mmus = mmus_at_end(observed(f"{VMS}mmu_init vmid=3\nmmu_share vmid=4\nmmu_use mmu=m2\nmmu_first"))
    assert (mmus.in_use, mmus.first, mmus.of(1), mmus.of(0), mmus.sharing(1)) == (1, 1, [1, 2, 3], [0], [1, 3])
    freed = mmus_at_end(observed(f"{VMS}mmu_init vmid=3\nmmu_use mmu=m2\nmmu_free mmu=m2"))
    assert (freed.in_use, list(freed)) == (1, [0, 1])


@pytest.mark.parametrize("version", MODELLED)
def test_a_second_initialisation_is_an_error_of_each_vm_s_first(version: str) -> None:
    assert results("vm_create vmid=2\nmmu_use mmu=m1\nmmu_again", version)[-1] == -errno.EINVAL


@pytest.mark.parametrize("version", MODELLED)
def test_slots_are_each_vm_s_own(version: str) -> None:
    """The same slot at the same addresses; one is removed, and the other VM's table and slot stay."""
    text = (
        f"mmu_share vmid=9\n{SLOT}\n{PAGE}\nvm_create vmid=2\nmmu_use mmu=m2\n{SLOT}\n{PAGE}\nmemslot_remove slot=0\n"
    )
    seen = observed(
        f"{text}get_leaf ipa=0x1000\nmmu_use mmu=m1\nget_leaf ipa=0x1000\n{SLOT}\nmemslot_remove slot=0", version
    )
    leaves = [one.outs[0] for one in seen.records if one.definition.name == "get_leaf"]
    assert leaves[0] == 0 != leaves[1]
    assert [one.ret for one in seen.records[-2:]] == [0, 0]
    calls = [one for one in calls_of(seen) if one.record == 8]
    assert {one.whose.vmid for one in calls if one.whose is not None} == {2}


@pytest.mark.parametrize("version", MODELLED)
def test_a_vcpu_is_its_vm_s(version: str) -> None:
    """Both VMs' vCPU 0 may be loaded at once; and while one is, its VM does not end."""
    text = (
        "vm_create vmid=2\nvcpu_load_first cpu=0 vcpu=0\nvcpu_load cpu=1 vcpu=0 mmu=m1\nvm_end mmu=m1\nvcpu_put cpu=1\n"
    )
    assert results(f"{text}vm_end mmu=m1", version) == [0, 0, 0, -errno.EBUSY, 0, 0]
    seen = observed("vm_create vmid=2\nmmu_use mmu=m1\nvcpu_load_first cpu=0 vcpu=0", version)
    assert seen.records[-1].outs[3] == 2


@pytest.mark.parametrize("version", MODELLED)
def test_what_the_model_does_with_several_vms_is_right(version: str) -> None:
    text = f"{VMS}mmu_share vmid=3\n{GONE}\n{PAGE}\n{SLOT}\nmemslot_log slot=0 logging=on\nvm_end mmu=m2\n{GONE}"
    program = program_of(text)
    seen = Model(version).observe(program)
    assert whats(program, seen) == set()
    broken = {one.contract.name for one in violations(program, seen)}
    assert not broken - ({"walks-are-over-before-the-context-changes"} if version == "6.1" else set())
    found = [one.what for call in calls_of(seen) for one in problems(call, program.machine)]
    assert not set(found) - ({"walks-under-way"} if version == "6.1" else set())


def test_maintenance_for_another_vm_breaks_a_contract() -> None:
    program = program_of(f"{VMS}mmu_share vmid=3\n{GONE}")
    seen = Model().observe(program)
    wrong = with_events(
        seen, 6, [one._replace(a=0) if one.kind == FOR_MMU else one for one in events_of(seen.records[6].events)]
    )
    broken = {one.contract.name for one in violations(program, wrong)}
    assert "maintenance-is-for-the-vm-s-own-mmus" in broken


@pytest.mark.parametrize(
    "text",
    [
        f"{VMS}mmu_share vmid=3\nmmu_init vmid=4\n{SLOT}\nmmu_use mmu=m3\n{PAGE}\n"
        f"memslot_remove slot=0\nvm_end mmu=m3\n{GONE}",
        f"mmu_share vmid=9\n{SLOT}\n{VMS.replace('m1', 'm2')}{SLOT}\nmmu_use mmu=m1\n"
        "memslot_flush slot=0\nvm_end mmu=m2",
        "vm_create vmid=2 ia_bits=48\nvcpu_load cpu=1 vcpu=0 mmu=m1\nvcpu_load_first cpu=0 vcpu=0\nvm_end mmu=m1\n"
        "vcpu_put cpu=1\nvm_end mmu=m1\nmmu_share vmid=2",
        # What fails to be made leaves nothing, and what nobody ends is ended when the program is over.
        f"fail_alloc nth=1\nvm_create vmid=2\n{VMS.replace('vmid=2', 'vmid=3').replace('m1', 'm2')}mmu_share vmid=4",
    ],
)
def test_both_sides_agree_on_several_vms(text: str, every_kernel: ByGranule, linux: str) -> None:
    for mode in ("nvhe", "vhe", "pkvm_guest"):
        runs = "vcpu = own\n" if Model(linux).capabilities.has("vcpu") else ""
        program = program_of(text, f"kvm_mode = {mode}\n{runs}")
        verdict = Judge(Model(linux), every_kernel).check(program)
        assert verdict is None, verdict
