"""Entries: every encoding, for every granule and 48- or 52-bit physical addresses.

What is not named S1 or hyp is stage 2's; validity, type, address, AF, SH, XN and software bits are the same in both.

Valid entries follow the Arm ARM ("VMSAv8-64 translation table format descriptors"); what KVM keeps
in invalid ones is its own (kvm_pgtable.h). MEMATTR values are memory.h's MT_S2_*.
"""

import enum
import functools
from dataclasses import dataclass, field
from typing import Final

from pgtable.errnos import EINVAL
from pgtable.geometry import LAST_LEVEL, U64

VALID: Final = 1 << 0
TYPE: Final = 1 << 1
"""Set in tables and in pages, clear in blocks."""

ATTR_LO: Final = 0xFFC
ATTR_HI: Final = U64 & ~((1 << 50) - 1)
MEMATTR: Final = 0xF << 2
S2AP_R: Final = 1 << 6
S2AP_W: Final = 1 << 7
SH: Final = 3 << 8
SH_INNER: Final = 3 << 8
AF: Final = 1 << 10
XN: Final = 1 << 54
"""Of stage 2, its upper bit, with FEAT_XNX, which has XN_LOW as well. Of stage 1 in a regime with EL0 (EL2&0), UXN."""
XN_LOW: Final = 1 << 53
SW: Final = 0xF << 55
SW_SHIFT: Final = 55
PBHA: Final = 0xF << 59
PBHA_SHIFT: Final = 59
"""Of leaves: ignored, or page-based hardware attributes (FEAT_HPDS2)."""
HARDWARE: Final = U64 & ~SW
"""What the hardware looks at; the rest is for software."""
PERMS: Final = S2AP_R | S2AP_W | XN

MEMATTR_NORMAL: Final = 0xF << 2
MEMATTR_NORMAL_FWB: Final = 0x6 << 2
MEMATTR_NORMAL_NC: Final = 0x5 << 2
"""The same with and without FWB, as is the next."""
MEMATTR_DEVICE_NGNRE: Final = 0x1 << 2

S1_ATTRIDX: Final = 0x7 << 2
S1_NORMAL: Final = 0 << 2
"""Indices into MAIR_EL2, in place, as memory.h has them (MT_NORMAL, MT_DEVICE_nGnRE)."""
S1_DEVICE_NGNRE: Final = 4 << 2
S1_AP: Final = 3 << 6
S1_AP_EL0: Final = 1 << 6
"""AP[1]: EL0 may access, in a regime that has one; RES1 in the others."""
S1_AP_READ_ONLY: Final = 2 << 6
"""AP[2]."""
S1_PXN: Final = 1 << 53
"""EL2 must not execute, in a regime with EL0; RES0 in the others, which have XN."""
S1_GP: Final = 1 << 50
"""Guarded page (FEAT_BTI)."""

OWNER_SHIFT: Final = 2
OWNER_MASK: Final = 0xFF << OWNER_SHIFT
"""In an invalid entry: the id of the page's owner; 0 is the owner of the table."""
LOCKED: Final = 1 << 10
"""In an invalid entry: somebody is between break and make."""

PHYS_INVALID: Final = U64
"""A physical address that no machine has: "no page, record an owner"."""


class Prot(enum.IntFlag):
    """What a mapping allows, its memory type, and its software bits (enum kvm_pgtable_prot).

    Neither DEVICE nor NORMAL_NC means normal cacheable memory.
    """

    X = 1 << 0
    W = 1 << 1
    R = 1 << 2
    DEVICE = 1 << 3
    NORMAL_NC = 1 << 4
    SW0 = 1 << 55
    SW1 = 1 << 56
    SW2 = 1 << 57
    SW3 = 1 << 58


_MAX_PA_BITS: Final = 52
_LPA2_HIGH: Final = 50
_LPA2_HIGH_AT: Final = 8
_LPA_HIGH: Final = 48
_LPA_HIGH_AT: Final = 12


@dataclass(frozen=True, slots=True)
class AddressFormat:
    """Where an entry keeps its output address (Arm ARM, the descriptor formats of each granule).

    Up to bit 47 in place. Beyond that: nothing with 4K and 16K pages; with 64K pages bits 51:48 in
    15:12, which no address of a 64K page uses; with LPA2 (4K and 16K) bits 49:48 in place and 51:50
    in 9:8, where the shareability is otherwise. What lies beyond is dropped.
    """

    page_shift: int
    lpa2: bool = False
    mask: int = field(init=False)
    """The bits of an entry that the address takes."""
    in_place: int = field(init=False)
    """Those at their own place: an address within is its own encoding."""

    _high: int = field(init=False, repr=False, compare=False)
    """The mask of the others, at their place in the entry; _up is how far from there they belong."""
    _up: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        top, at = _LPA_HIGH, _LPA_HIGH
        if self.lpa2:
            top, at = _LPA2_HIGH, _LPA2_HIGH_AT
        elif self.page_shift == _LPA_HIGH_AT + 4:
            at = _LPA_HIGH_AT
        in_place = (1 << top) - (1 << self.page_shift)
        high = 0 if at == top else (1 << at + _MAX_PA_BITS - top) - (1 << at)
        for name, value in {"mask": in_place | high, "in_place": in_place, "_high": high, "_up": top - at}.items():
            object.__setattr__(self, name, value)

    def to_phys(self, pte: int) -> int:
        """The physical address in a valid entry."""
        return pte & self.in_place | (pte & self._high) << self._up

    def to_pte(self, phys: int) -> int:
        """The bits of an entry that hold this address."""
        return phys & self.in_place | phys >> self._up & self._high


@functools.cache
def address_format(page_shift: int, lpa2: bool = False) -> AddressFormat:
    """The format of that granule; one object each."""
    return AddressFormat(page_shift, lpa2)


FORMAT_4K: Final = address_format(12)
"""4K pages without LPA2."""


# Enum members are slow to combine, and these are used for every entry.
_X, _W, _R = int(Prot.X), int(Prot.W), int(Prot.R)
_DEVICE, _NORMAL_NC = int(Prot.DEVICE), int(Prot.NORMAL_NC)


def is_valid(pte: int) -> bool:
    """Whether the hardware translates through this entry."""
    return pte & VALID != 0


def is_table(pte: int, level: int) -> bool:
    """Whether the entry points to a table; at level 3 the same bits make a page."""
    return level != LAST_LEVEL and pte & (VALID | TYPE) == VALID | TYPE


def is_counted(pte: int) -> bool:
    """Whether the entry holds a reference to its table page: valid, or foreign-owned."""
    return pte != 0


def is_locked(pte: int) -> bool:
    """Whether somebody is between break and make here."""
    return pte & (VALID | LOCKED) == LOCKED


def is_cacheable(pte: int, fwb: bool) -> bool:
    """Whether the entry maps normal cacheable memory."""
    return pte & (VALID | MEMATTR) == VALID | normal_memattr(fwb)


def is_executable(pte: int) -> bool:
    """Whether the entry lets the guest execute."""
    return pte & (VALID | XN) == VALID


def normal_memattr(fwb: bool) -> int:
    """MEMATTR, in place, of normal cacheable memory."""
    return MEMATTR_NORMAL_FWB if fwb else MEMATTR_NORMAL


def table_pte(address: int) -> int:
    """An entry that points to a table page; address as `AddressFormat.to_pte` gives it."""
    return address | TYPE | VALID


def leaf_pte(address: int, attrs: int, level: int) -> int:
    """A block or page entry; address as `AddressFormat.to_pte` gives it. Bits of attrs outside their fields are
    dropped."""
    kind = TYPE if level == LAST_LEVEL else 0
    return address | attrs & (ATTR_LO | ATTR_HI) | kind | VALID


def owner_pte(owner_id: int) -> int:
    """An invalid entry that records an owner; owner 0 gives 0."""
    return owner_id << OWNER_SHIFT & OWNER_MASK


def leaf_attrs(prot: int, fwb: bool, lpa2: bool = False) -> int:
    """The attributes of a leaf with these Prot bits; unknown bits are ignored.

    With LPA2 shareability is VTCR's, for the address needs its bits.
    -EINVAL for two memory types at once and for executable memory that is not normal cacheable.
    """
    kind = prot & (_DEVICE | _NORMAL_NC)
    if kind == _DEVICE | _NORMAL_NC or (kind and prot & _X):
        return -EINVAL
    if kind == _DEVICE:
        attrs = MEMATTR_DEVICE_NGNRE
    elif kind == _NORMAL_NC:
        attrs = MEMATTR_NORMAL_NC
    else:
        attrs = normal_memattr(fwb)
    if not prot & _X:
        attrs |= XN
    if prot & _R:
        attrs |= S2AP_R
    if prot & _W:
        attrs |= S2AP_W
    return attrs | (0 if lpa2 else SH_INNER) | AF | prot & SW


def relaxing(prot: int) -> tuple[int, int]:
    """What gives a leaf these permissions besides those it has: (bits to set, bits to clear)."""
    read = S2AP_R if prot & _R else 0
    write = S2AP_W if prot & _W else 0
    return read | write, XN if prot & _X else 0


def leaf_prot(pte: int) -> int:
    """The permissions and software bits of an entry, as Prot bits; of an invalid one, the software bits.

    The memory type is not among them: of a device page nothing says that it is one.
    """
    prot = pte & SW
    if not is_valid(pte):
        return prot
    if pte & S2AP_R:
        prot |= _R
    if pte & S2AP_W:
        prot |= _W
    return prot if pte & XN else prot | _X


def hyp_ap(writable: bool, hvhe: bool) -> int:
    """AP, in place, of what hyp may read and perhaps write.

    With hVHE the translation regime has two privilege levels, and bit 6 lets EL0 in; without, the bit is RES1.
    """
    return (0 if writable else S1_AP_READ_ONLY) | (0 if hvhe else S1_AP_EL0)


def hyp_leaf_attrs(prot: int, *, hvhe: bool, bti: bool, lpa2: bool = False) -> int:
    """The attributes of a stage-1 leaf with these Prot bits; unknown bits and NORMAL_NC are ignored.

    With LPA2 shareability is TCR's, for the address needs its bits.

    -EINVAL for what cannot be read, and for what is executable and writable or a device.
    """
    if not prot & _R or (prot & _X and prot & (_W | _DEVICE)):
        return -EINVAL
    attrs = S1_DEVICE_NGNRE if prot & _DEVICE else S1_NORMAL
    if not prot & _X:
        attrs |= XN
    elif bti:
        attrs |= S1_GP
    return attrs | hyp_ap(prot & _W != 0, hvhe) | (0 if lpa2 else SH_INNER) | AF | prot & SW


def hyp_leaf_prot(pte: int, hvhe: bool) -> int:
    """The permissions and software bits of a stage-1 entry, as `leaf_prot` gives them: what KVM takes it for, which
    with hVHE is not what the CPU does (`describe_hyp`).

    Permissions that hyp never uses in this mode are none at all, but for execution.
    """
    prot = pte & SW
    if not is_valid(pte):
        return prot
    if not pte & XN:
        prot |= _X
    ap = pte & S1_AP
    if ap == hyp_ap(False, hvhe):
        return prot | _R
    return prot | _R | _W if ap == hyp_ap(True, hvhe) else prot


def describe(pte: int, level: int, fwb: bool = True, address: AddressFormat = FORMAT_4K) -> str:
    """The entry in words, on one line and without loss; "-" for zero.

    What it allows is what the architecture makes of it. Bits that KVM does not set show by the architecture's names,
    those without one as a trailing "+0x...". "reserved" is what the architecture gives no meaning at this level.
    """
    return _describe_other(pte, level, address, {}) or _describe_leaf(pte, level, fwb, address)


def describe_hyp(pte: int, level: int, hvhe: bool = False, address: AddressFormat = FORMAT_4K) -> str:
    """A stage-1 entry in words, like `describe`: RWX is what EL2 may do, "el0=RWX" what EL0 may, where it may
    anything and the regime has an EL0 (hvhe)."""
    return _describe_other(pte, level, address, _S1_TABLE_NAMES) or _describe_hyp_leaf(pte, level, hvhe, address)


# Arm ARM, "VMSAv8-64 translation table format descriptors" (D8.3): fields that KVM leaves alone.
_S2_NAMES: Final = {1 << 11: "FnXS", 1 << 51: "DBM", 1 << 52: "contiguous"}
_S1_NAMES: Final = {1 << 5: "NS", 1 << 11: "nG", 1 << 51: "DBM", 1 << 52: "contiguous"}
_S1_TABLE_NAMES: Final = {
    1 << 59: "PXNTable",
    1 << 60: "XNTable",
    1 << 61: "APTable[0]",
    1 << 62: "APTable[1]",
    1 << 63: "NSTable",
}


def _describe_other(pte: int, level: int, address: AddressFormat, names: dict[int, str]) -> str | None:
    """What is no leaf; `names` are those of a table's bits."""
    if not is_valid(pte):
        return _describe_invalid(pte)
    if is_table(pte, level):
        return f"table -> {address.to_phys(pte):#x}" + _rest(pte & ~(address.mask | TYPE | VALID), names)
    if level < _first_block_level(address) or (level == LAST_LEVEL and not pte & TYPE):
        return f"reserved {pte:#x}"
    return None


def _first_block_level(address: AddressFormat) -> int:
    """The architecture's, not KVM's: large physical addresses bring larger blocks."""
    if address.page_shift == FORMAT_4K.page_shift:
        return 0 if address.lpa2 else 1
    return 1 if address.lpa2 or address.page_shift == _LPA_HIGH_AT + 4 else 2


def _describe_invalid(pte: int) -> str:
    if pte == 0:
        return "-"
    if pte & ~OWNER_MASK == 0:
        return f"owner {pte >> OWNER_SHIFT}"
    return "locked" if pte == LOCKED else f"invalid {pte:#x}"


def _describe_leaf(pte: int, level: int, fwb: bool, address: AddressFormat) -> str:
    memory = {
        normal_memattr(fwb): "normal",
        MEMATTR_NORMAL_NC: "normal-nc",
        MEMATTR_DEVICE_NGNRE: "device",
    }
    memattr = pte & MEMATTR
    text = "R" if pte & S2AP_R else "-"
    text += "W" if pte & S2AP_W else "-"
    text += "-" if pte & (XN | XN_LOW) == XN else "X"
    if pte & XN_LOW:  # FEAT_XNX
        text += " (EL1 only)" if pte & XN else " (EL0 only)"
    text += " " + memory.get(memattr, f"memattr={memattr >> 2:#x}")
    return _leaf_text(pte, level, address, text, MEMATTR | PERMS | XN_LOW, _S2_NAMES)


def _describe_hyp_leaf(pte: int, level: int, hvhe: bool, address: AddressFormat) -> str:
    """The Arm ARM's D8.4, "Memory access control", for the EL2 regime, or (hvhe) EL2&0; with SCTLR_EL2.WXN, which Linux
    sets: what is writable cannot be executed."""
    memory = {S1_NORMAL: "normal", S1_DEVICE_NGNRE: "device"}
    attridx = pte & S1_ATTRIDX
    writable = not pte & S1_AP_READ_ONLY
    if hvhe:
        for_el0 = pte & S1_AP_EL0 != 0
        executable = not (pte & S1_PXN or writable)
        el0 = _rwx(for_el0, for_el0 and writable, not (pte & XN or (for_el0 and writable)))
        names = (XN, "UXN"), (S1_PXN, "PXN")
        notes = [name for bit, name in names if pte & bit] + ([f"el0={el0}"] if el0 != "---" else [])
    else:
        executable = not (pte & XN or writable)
        odd = {"XN=0": writable and not pte & XN, "AP[1]=0": not pte & S1_AP_EL0, "PXN": pte & S1_PXN}
        notes = [note for note, is_so in odd.items() if is_so]
    text = _rwx(True, writable, executable)
    text += " " + memory.get(attridx, f"attridx={attridx >> 2}")
    if pte & S1_GP:
        notes.append("GP")
    text = " ".join([text, *notes])
    return _leaf_text(pte, level, address, text, S1_ATTRIDX | S1_AP | S1_GP | XN | S1_PXN, _S1_NAMES)


def _rwx(readable: bool, writable: bool, executable: bool) -> str:
    return ("R" if readable else "-") + ("W" if writable else "-") + ("X" if executable else "-")


def _leaf_text(pte: int, level: int, address: AddressFormat, attrs: str, known: int, names: dict[int, str]) -> str:
    """A leaf whose attributes that depend on the stage are in words already; `known` are their bits, `names` those of
    bits that are not expected."""
    text = "page  " if level == LAST_LEVEL else "block "
    text += f"pa={address.to_phys(pte):#x} {attrs}"
    if pte & AF:
        text += " AF"
    if not address.lpa2 and pte & SH != SH_INNER:
        text += f" sh={(pte & SH) >> 8}"
    if pte & SW:
        text += f" sw={(pte & SW) >> SW_SHIFT}"
    known |= VALID | address.mask | SH | AF | SW
    rest = pte & ~(known | (TYPE if level == LAST_LEVEL else 0))
    if rest & PBHA:
        text += f" pbha={(rest & PBHA) >> PBHA_SHIFT}"
    return text + _rest(rest & ~PBHA, names)


def _rest(bits: int, names: dict[int, str]) -> str:
    named = "".join(f" {name}" for bit, name in names.items() if bits & bit)
    rest = bits & ~sum(names)
    return named + (f" +{rest:#x}" if rest else "")
