"""Linux's KVM/arm64 page tables, a guest's stage 2 and hyp's stage 1, in Python: an executable specification.

Depends on nothing. Every store, TLB invalidation and reference is announced to `Hooks` or done
through `MmOps`, in the kernel's order.

>>> pool, cache = PagePool(base=0x4000_0000, pages=16), Memcache()
>>> s2 = Stage2(get_vtcr(ia_bits=40), pool)
>>> [s2.init(), cache.topup(pool, 2), s2.map(0x1000, 4096, 0x8000_1000, Prot.R | Prot.W, cache)]
[0, 0, 0]
>>> ret, pte, level = s2.get_leaf(0x1234)
>>> describe(pte, level)
'page  pa=0x80001000 RW- normal AF'
"""

from pgtable.features import Features
from pgtable.geometry import GRANULE_4K, GRANULE_16K, GRANULE_64K, Geometry
from pgtable.hooks import TLBI_TTL_UNKNOWN, Hooks, LeafRun, NullHooks
from pgtable.hyp import HypStage1
from pgtable.memory import Entries, Memcache, MmOps, PagePool, WildAccess
from pgtable.objects import HOST, HYP, OBJECTS, KernelObject
from pgtable.ownership import OWNERSHIPS, Ownership, OwnershipStage2
from pgtable.pte import AddressFormat, Prot, describe, describe_hyp, hyp_leaf_prot, leaf_prot
from pgtable.stage2 import ForcePages, Stage2, Stage2Flags
from pgtable.table import PageTable
from pgtable.translation import (
    Access,
    AccessFlag,
    Fault,
    FaultKind,
    Stage1Registers,
    Stage2Registers,
    Translation,
    translate,
)
from pgtable.vcpu import Cpus
from pgtable.versions import LINUX_6_1, LINUX_6_12, NEWEST, VERSIONS, LinuxVersion
from pgtable.vm import S2Mmu, Vms
from pgtable.vtcr import get_vtcr, ia_bits_of, ipa_limit, root_size, start_level_of, vtcr_for
from pgtable.walker import Walk, WalkFlags

__all__ = [
    "GRANULE_4K",
    "GRANULE_16K",
    "GRANULE_64K",
    "HOST",
    "HYP",
    "LINUX_6_1",
    "LINUX_6_12",
    "NEWEST",
    "OBJECTS",
    "OWNERSHIPS",
    "TLBI_TTL_UNKNOWN",
    "VERSIONS",
    "Access",
    "AccessFlag",
    "AddressFormat",
    "Cpus",
    "Entries",
    "Fault",
    "FaultKind",
    "Features",
    "ForcePages",
    "Geometry",
    "Hooks",
    "HypStage1",
    "KernelObject",
    "LeafRun",
    "LinuxVersion",
    "Memcache",
    "MmOps",
    "NullHooks",
    "Ownership",
    "OwnershipStage2",
    "PagePool",
    "PageTable",
    "Prot",
    "S2Mmu",
    "Stage1Registers",
    "Stage2",
    "Stage2Flags",
    "Stage2Registers",
    "Translation",
    "Vms",
    "Walk",
    "WalkFlags",
    "WildAccess",
    "describe",
    "describe_hyp",
    "get_vtcr",
    "hyp_leaf_prot",
    "ia_bits_of",
    "ipa_limit",
    "leaf_prot",
    "root_size",
    "start_level_of",
    "translate",
    "vtcr_for",
]
