"""The kinds of arguments, each an object. To add one, define it in the module of its group and name it here."""

from harness.program.kinds.addresses import IPA, PAGEWISE_SIZE, PHYS, SIZE
from harness.program.kinds.entries import PLANTED, PTE, VISITOR
from harness.program.kinds.flags import HYP_PROT, MAP_FLAGS, PROT, VISIT_FLAGS
from harness.program.kinds.handles import MMU, UNLINKED, Handle
from harness.program.kinds.kind import Kind, Role, Unreadable
from harness.program.kinds.registers import ID_REGISTER, PHYS_SHIFT, VTCR
from harness.program.kinds.small import (
    ACCESS,
    BACKING,
    CPU,
    DATA,
    FEW_PAGES,
    IA_BITS,
    LEVEL,
    LOGGING,
    MEMCACHE,
    NTH,
    OWNER,
    OWNER_OF_VMID,
    SLOT,
    SLOT_PAGES,
    SPLIT_CACHE,
    SWITCH,
    VCPU,
    VMID,
)

__all__ = [
    "ACCESS",
    "BACKING",
    "CPU",
    "DATA",
    "FEW_PAGES",
    "HYP_PROT",
    "IA_BITS",
    "ID_REGISTER",
    "IPA",
    "LEVEL",
    "LOGGING",
    "MAP_FLAGS",
    "MEMCACHE",
    "MMU",
    "NTH",
    "OWNER",
    "OWNER_OF_VMID",
    "PAGEWISE_SIZE",
    "PHYS",
    "PHYS_SHIFT",
    "PLANTED",
    "PROT",
    "PTE",
    "SIZE",
    "SLOT",
    "SLOT_PAGES",
    "SPLIT_CACHE",
    "SWITCH",
    "UNLINKED",
    "VCPU",
    "VISITOR",
    "VISIT_FLAGS",
    "VMID",
    "VTCR",
    "Handle",
    "Kind",
    "Role",
    "Unreadable",
]
