"""Memory slots of the VM in use, as user space changes them by ioctls, and their logs of dirty pages.

A slot is memory behind a range of the guest's addresses: `phys` stands for the host's own address of it and for the
memory there. Tables are filled by aborts (`memslot_handle`); what these ops change reaches every MMU of the VM. They
need the table of its first MMU (-EINVAL), and are none of the host's own stage 2 (-EOPNOTSUPP). docs/memslots.md says
what of this is Linux's.
"""

from __future__ import annotations

from typing import Final

from harness.program.definition import Arg, OpDef
from harness.program.kinds import BACKING, IPA, LOGGING, PHYS, SIZE, SLOT, SLOT_PAGES, SWITCH
from harness.program.ops.common import AT_IPA, RANGE
from harness.program.results import Result

_SLOT: Final = Arg("slot", SLOT)
_PAGES: Final = (Result("pages"),)
_YOUNG: Final = (Result("young"),)
_NEEDS: Final = ("map", "unmap", "wrprotect")
_KVM: Final = "struct kvm *, struct kvm_memory_slot *"
_FUNCTIONS: Final = {
    "kvm_arch_prepare_memory_region": (f"int ({_KVM}, struct kvm_memory_slot *, enum kvm_mr_change)",),
    "kvm_arch_commit_memory_region": (f"void ({_KVM}, struct kvm_memory_slot *, enum kvm_mr_change)",),
    "kvm_arch_flush_shadow_memslot": (f"void ({_KVM})",),
    "kvm_arch_mmu_enable_log_dirty_pt_masked": (f"void ({_KVM}, gfn_t, unsigned long)",),
}
"""Of mmu.c, as linux/kvm_host.h declares them; where a tree's are otherwise, it has none of these ops."""
_NOTIFIED: Final = "bool (struct kvm *, struct kvm_gfn_range *)"
"""What the MMU notifier calls; the same header."""

OPS: Final = (
    OpDef(
        70,
        "memslot_add",
        (
            _SLOT,
            AT_IPA,
            Arg("size", SIZE),
            Arg("phys", PHYS),
            Arg("backing", BACKING, default=0),
            Arg("logging", SWITCH, default=0),
            Arg("readonly", SWITCH, default=0),
        ),
        "give the guest memory; of a slot that is there: move it, or have its pages logged, or not",
        weight=2,
        functions=_FUNCTIONS,
        needs=_NEEDS,
        scenario="use_memslot",
    ),
    OpDef(
        71,
        "memslot_remove",
        (_SLOT,),
        "take a slot away, and its memory out of every table",
        weight=1,
        functions=_FUNCTIONS,
        needs=_NEEDS,
        scenario="use_memslot",
    ),
    OpDef(
        72,
        "memslot_move",
        (_SLOT, AT_IPA),
        "move a slot to another address: where it was, nothing is left",
        weight=1,
        functions=_FUNCTIONS,
        needs=_NEEDS,
        scenario="change_memslots",
    ),
    OpDef(
        73,
        "memslot_log",
        (_SLOT, Arg("logging", SWITCH)),
        "begin to log which pages of a slot are written, or end it",
        weight=2,
        functions=_FUNCTIONS,
        needs=_NEEDS,
        scenario="log_memslot",
    ),
    OpDef(
        74,
        "memslot_flush",
        (_SLOT,),
        "take a slot's memory out of every table, and leave the slot (kvm_arch_flush_shadow_memslot)",
        weight=1,
        functions=_FUNCTIONS,
        needs=_NEEDS,
        scenario="use_memslot",
    ),
    OpDef(
        75,
        "memslot_mode",
        (Arg("logging", LOGGING), Arg("split", SWITCH, default=0)),
        "how logs work from now on: cleared as they are read, or by memslot_clear, with no page or with all in them to"
        " begin with; and whether blocks are split as pages are write-protected (before there are slots)",
        weight=1,
        functions=_FUNCTIONS,
        needs=_NEEDS,
        scenario="log_memslot",
    ),
    OpDef(
        76,
        "memslot_dirty",
        (_SLOT,),
        "read a slot's log; pages: how many are in it, each an event",
        weight=2,
        results=_PAGES,
        functions=_FUNCTIONS,
        needs=_NEEDS,
        scenario="log_memslot",
    ),
    OpDef(
        77,
        "memslot_clear",
        (_SLOT, Arg("first", SLOT_PAGES, default=0), Arg("pages", SLOT_PAGES, default=0)),
        "clear, of so many pages (0: all) from the first on, what the log told last; pages: how many that were",
        weight=1,
        results=_PAGES,
        functions=_FUNCTIONS,
        needs=_NEEDS,
        scenario="log_memslot",
    ),
    OpDef(
        78,
        "memslot_handle",
        (Arg("l1", IPA, default=0),),
        "handle the abort that the vCPU keeps with the memory of its slot; of another table than the first MMU's, l1 is"
        " the address in that one's; dirty: whether the page was marked",
        weight=2,
        results=(Result("size"), Result("topped_up"), Result("added"), Result("used"), Result("dirty")),
        functions=_FUNCTIONS,
        needs=(*_NEEDS, "relax_perms", "mkyoung"),
        scenario="use_memslot",
    ),
    OpDef(
        100,
        "memslot_unmap",
        RANGE,
        "the host takes memory away (its MMU notifier invalidates): what slots have of the range leaves every table",
        weight=2,
        functions={**_FUNCTIONS, "kvm_unmap_gfn_range": (_NOTIFIED,)},
        needs=_NEEDS,
        scenario="page_out_memslot",
    ),
    OpDef(
        101,
        "memslot_age",
        (*RANGE, Arg("flush", SWITCH, default=0)),
        "the host asks which memory is in use (clear_young, with flush clear_flush_young): access flags of slots in the"
        " range are cleared, in the first MMU's table; young: whether any was set",
        weight=2,
        results=_YOUNG,
        functions={**_FUNCTIONS, "kvm_age_gfn": (_NOTIFIED,)},
        needs=_NEEDS,
        scenario="age_memslot",
    ),
    OpDef(
        102,
        "memslot_test_age",
        RANGE,
        "the host only looks at access flags (test_young); young: whether any is set",
        weight=1,
        results=_YOUNG,
        functions={**_FUNCTIONS, "kvm_test_age_gfn": (_NOTIFIED,)},
        needs=_NEEDS,
        scenario="age_memslot",
    ),
)
