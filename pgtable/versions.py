"""The Linux versions the model knows, and the facts in which they differ.

Code that depends on a version asks here; nothing else names a version. What is too large for a
field, how an entry is replaced, is `mapping.Mapper` and its variant `clearing.ClearingMapper`.
"""

from dataclasses import dataclass
from typing import Final

from pgtable.errnos import EAGAIN
from pgtable.hooks import TLBI_TTL_UNKNOWN
from pgtable.pte import Prot
from pgtable.verified import FILES_6_1, FILES_6_12
from pgtable.walker import WalkFlags

_MAX_U32: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class LinuxVersion:
    """One version of the kernel's page-table code.

    name: as users write it, for example "6.12".
    files: the files of Linux that the model was verified against (`verified.py`). Others of the same
        version may behave differently.
    lacks: operations that other versions have, as kvm_pgtable.h calls them without the prefix.
    never: calls of `Hooks` and `MmOps`, and kinds of store, that it never makes though others do.
    lpa2: whether it knows FEAT_LPA2's descriptors, and with them level -1. Otherwise levels are unsigned,
        and -1 is beyond the last.
    prots: the bits of enum kvm_pgtable_prot. Others are ignored.
    walk_flags: those of enum kvm_pgtable_walk_flags. A version without HANDLE_FAULT ends its walks
        with any error of a visitor; one without SHARED has no need to compare and exchange.
    rereads_tables: whether a walk reads an entry again after its TABLE_PRE visit, as after that of a
        leaf. Otherwise it goes into the table as it was, and shows the entry afterwards as it then is.
    max_owner_id: the highest owner id that `set_owner` accepts (KVM_MAX_OWNER_ID, kvm_pgtable.h).
    range_tlbi: whether the code invalidates by range where the CPU can; only then does unmap put
        off the invalidation of leaves until its walk is over.
    locks_entries: whether an entry holds a lock between break and make, and a table is replaced
        whole and freed after. Otherwise entries are cleared, and the walk goes on into the table
        that was taken out.
    table_tlbi_level: the level that is hinted when an entry that was a table is invalidated.
    absent_leaf: what changing the attributes of an invalid entry is to the walk.
    relaxes_locally: whether `relax_perms` invalidates the TLB of this CPU only, also for an entry
        that turned out to be invalid.
    tlb_asks_who_runs: whether the TLB functions may be called while any vCPU runs, and leave its context alone where
        they can. Otherwise they return to the host's, and level 0 is no hint to them.
    hyp_modes: whether hyp's stage 1 knows hVHE and guarded pages (BTI).
    mkyoung_always_syncs: whether `mkyoung` ends with a barrier even where its walk failed.
    mmu_has_vtcr: whether VTCR_EL2's value is an MMU's own. Otherwise it is the VM's, and so are the bits of address.
    nested_again_is_fine: whether another initialisation of an MMU that is not the VM's first is no error.
    reaches_nested_mmus: whether what changes memory slots knows of MMUs that are not the VM's first.
    """

    name: str
    files: str
    lacks: frozenset[str]
    never: frozenset[str]
    lpa2: bool
    prots: Prot
    walk_flags: WalkFlags
    rereads_tables: bool
    max_owner_id: int
    range_tlbi: bool
    locks_entries: bool
    table_tlbi_level: int
    absent_leaf: int
    relaxes_locally: bool
    tlb_asks_who_runs: bool
    hyp_modes: bool
    mkyoung_always_syncs: bool
    mmu_has_vtcr: bool
    nested_again_is_fine: bool
    reaches_nested_mmus: bool

    def level(self, level: int) -> int:
        """The level of a root as the code holds it."""
        return level if self.lpa2 else level & _MAX_U32

    def require(self, operation: str) -> None:
        """Raise ValueError when this version has no such operation."""
        if operation in self.lacks:
            raise ValueError(f"Linux {self.name} has no {operation}")


LINUX_6_1: Final = LinuxVersion(
    name="6.1",
    files=FILES_6_1,
    lacks=frozenset(
        {"create_unlinked", "free_unlinked", "pgd_size", "split", "test_clear_young", "tlb_flush_vmid_range"}
    ),
    never=frozenset(
        {
            *("cmpxchg", "free_unlinked_table", "tlbi_vmid_ipa_nsh", "tlbi_vmid_range"),
            *("rcu_read_lock", "rcu_read_unlock"),
        }
    ),
    lpa2=False,
    prots=~Prot.NORMAL_NC,
    walk_flags=WalkFlags.LEAF | WalkFlags.TABLE_PRE | WalkFlags.TABLE_POST,
    rereads_tables=False,
    max_owner_id=1,
    range_tlbi=False,
    locks_entries=False,
    table_tlbi_level=0,
    absent_leaf=0,
    relaxes_locally=False,
    tlb_asks_who_runs=False,
    hyp_modes=False,
    mkyoung_always_syncs=True,
    mmu_has_vtcr=False,
    nested_again_is_fine=False,
    reaches_nested_mmus=False,
)

LINUX_6_12: Final = LinuxVersion(
    name="6.12",
    files=FILES_6_12,
    lacks=frozenset({"is_young", "mkold"}),
    never=frozenset(),
    lpa2=True,
    prots=~Prot(0),
    walk_flags=~WalkFlags(0),
    rereads_tables=True,
    max_owner_id=1,
    range_tlbi=True,
    locks_entries=True,
    table_tlbi_level=TLBI_TTL_UNKNOWN,
    absent_leaf=-EAGAIN,
    relaxes_locally=True,
    tlb_asks_who_runs=True,
    hyp_modes=True,
    mkyoung_always_syncs=False,
    mmu_has_vtcr=True,
    nested_again_is_fine=True,
    reaches_nested_mmus=True,
)

VERSIONS: Final[dict[str, LinuxVersion]] = {version.name: version for version in (LINUX_6_1, LINUX_6_12)}
NEWEST: Final = LINUX_6_12
"""The nearest to a kernel that is none of them."""
