"""Ways to record in a stage 2 who owns a page: Linux's, and those that were weighed before it.

All of them keep the owner in an invalid entry, and use map's walker to put it there. They differ in how the walker is
told that it is to record and not to map, in what its check for blocks then makes of the physical address, and in what
owner 0 means. They come from the thread "KVM: arm64: Use page-table to track page ownership", 2021-03;
docs/ownership.md compares them.
"""

import enum
from dataclasses import dataclass
from typing import Final

from pgtable import pte
from pgtable.errnos import EINVAL
from pgtable.features import ANY_CPU, Features
from pgtable.geometry import GRANULE_4K, LAST_LEVEL, U64, Geometry
from pgtable.hooks import NO_HOOKS, Hooks
from pgtable.mapping import Mapper
from pgtable.memory import Memcache, MmOps
from pgtable.objects import HOST, KernelObject
from pgtable.stage2 import ForcePages, Stage2
from pgtable.versions import LINUX_6_12, LinuxVersion
from pgtable.walker import LEAF, TABLE_PRE, Walk

BIT_63: Final = 1 << 63
PROT_NONE: Final = 1 << pte.SW_SHIFT
"""The software bit that says that a page is somebody else's."""


class Tells(enum.Enum):
    """How the walker knows that a leaf is to record an owner."""

    ADDRESS = "an address that no machine has"
    FLAG = "a flag, with owner and address in a union"
    OWNER = "an owner that is not 0"
    PROT = "a protection of its own, with the address of a mapping"


class Zero(enum.Enum):
    """What `set_owner` does for owner 0, who owns everything by default."""

    RECORD = "what it does for every owner: entries become 0"
    UNMAP = "unmap"
    MAP = "it maps, address 0 with no attributes, for nobody has filled those in"


@dataclass(frozen=True, slots=True)
class Ownership:
    """One way to record owners.

    name: how people choose it, for example with `s2fuzz weigh`. what: in words.
    address: the one to record with, where Tells is ADDRESS.
    advances: whether the walker adds the distance from the range's start to any address, wrapping at 2^64; otherwise
        only to a real one.
    must_align: whether any address must be aligned to a leaf's size; otherwise only a real one.
    by_page: whether owners are recorded in pages only.
    unmaps_by_owner: whether `unmap` is a `set_owner` of 0 (without a memcache, for unmap has none).
    cleans: whether it then has "the right CMOs": without FWB it cleans what it removes, as Linux's unmap does.
    """

    name: str
    what: str
    tells: Tells = Tells.ADDRESS
    address: int = pte.PHYS_INVALID
    advances: bool = False
    must_align: bool = False
    by_page: bool = False
    zero: Zero = Zero.RECORD
    unmaps_by_owner: bool = False
    cleans: bool = False


OWNERSHIPS: Final[dict[str, Ownership]] = {
    one.name: one
    for one in (
        Ownership("linux", "as Linux has it: address -1, pages only", by_page=True),
        Ownership("prot-none", "PROT_NONE entries: one bit, the address stays", Tells.PROT, zero=Zero.UNMAP),
        Ownership("flag", "a valid flag, owner and address in a union", Tells.FLAG),
        Ownership(
            "flag-unchecked",
            "the same, block checks not taught of the flag",
            Tells.FLAG,
            advances=True,
            must_align=True,
        ),
        Ownership("minus-one", "address -1, block checks taught of it"),
        Ownership("minus-one-unchecked", "address -1, block checks as they were", advances=True, must_align=True),
        Ownership("minus-one-advanced", "address -1, block checks taught, but the offset added to it", advances=True),
        Ownership("bit-63", "address BIT(63), block checks taught of it", address=BIT_63),
        Ownership(
            "bit-63-unchecked",
            "address BIT(63), block checks as they were",
            address=BIT_63,
            advances=True,
            must_align=True,
        ),
        Ownership(
            "nonzero",
            "owner non-zero means invalid",
            Tells.OWNER,
            advances=True,
            must_align=True,
            zero=Zero.MAP,
        ),
        Ownership(
            "nonzero-unmap",
            "the same, set_owner(0) calls unmap",
            Tells.OWNER,
            advances=True,
            must_align=True,
            zero=Zero.UNMAP,
        ),
        Ownership("zero-unmaps", "as Linux, set_owner(0) calls unmap", by_page=True, zero=Zero.UNMAP),
        Ownership("unmap-by-owner", "minus-one, unmap calls set_owner(0)", unmaps_by_owner=True),
        Ownership(
            "unmap-by-owner-cleaned",
            "the same, and cleans what it removes",
            unmaps_by_owner=True,
            cleans=True,
        ),
    )
}
"""By name."""


class _OwnershipMapper(Mapper):
    """A Mapper that asks how owners are recorded. It does without the short cuts."""

    __slots__ = ("ownership", "records")

    ownership: Ownership
    records: bool
    """Whether set_owner walks, and not map."""

    def visit(self, walk: Walk, visit: int) -> int:
        if visit != LEAF:
            return super().visit(walk, visit)
        if self._fits(walk):
            return self._replace(walk)
        if walk.level == LAST_LEVEL:
            self._hooks.warn("stage2_map_walk_leaf")
            return -EINVAL
        return self._install_table(walk)

    def _fits(self, walk: Walk) -> bool:
        size, addr = walk.size, walk.addr
        if walk.level < self._first_level or size > walk.end - addr or addr & (size - 1):
            return False
        phys = self._phys_at(walk)
        return not phys & (size - 1) or not (self.ownership.must_align or self._is_page(phys))

    def _replace(self, walk: Walk) -> int:
        phys = self._phys_at(walk)
        if not self._is_page(phys):
            return self._put(walk, self._owner, None)
        new = self._format.to_pte(phys) | (self._page if walk.level == LAST_LEVEL else self._block)
        # An entry of PROT_NONE is all that a leaf is, but for being valid.
        return (
            self._put(walk, new & ~pte.VALID, None) if self.records else self._put(walk, new, self._format.to_phys(new))
        )

    def _phys_at(self, walk: Walk) -> int:
        """Of the leaf to come, real or not."""
        if self.ownership.advances or self._is_page(self._phys):
            return self._phys + walk.addr - walk.start & U64
        return self._phys

    def _is_page(self, phys: int) -> bool:
        """Whether it is the address of memory, as far as this way can tell."""
        if self.ownership.tells is Tells.ADDRESS:
            return phys < self._phys_end
        return self.ownership.tells is Tells.PROT or not self.records


class OwnershipStage2(Stage2):
    """A stage 2 that records owners in the way given; all else is as in `Stage2`, whose arguments it takes.

    Where an entry of level 3 does not suit the way's own checks, operations warn and return -EINVAL.
    """

    __slots__ = ("_ownership",)
    _mapper_class = _OwnershipMapper

    def __init__(
        self,
        vtcr: int,
        mm_ops: MmOps,
        hooks: Hooks = NO_HOOKS,
        features: Features = ANY_CPU,
        version: LinuxVersion = LINUX_6_12,
        geometry: Geometry = GRANULE_4K,
        *,
        ownership: Ownership,
        flags: int = 0,
        force_pages: ForcePages | None = None,
        kernel_object: KernelObject = HOST,
    ) -> None:
        super().__init__(
            vtcr,
            mm_ops,
            hooks,
            features,
            version,
            geometry,
            flags=flags,
            force_pages=force_pages,
            kernel_object=kernel_object,
        )
        self._ownership = ownership

    def unmap(self, addr: int, size: int) -> int:
        """As in `Stage2`, or by recording owner 0."""
        if not self._ownership.unmaps_by_owner:
            return super().unmap(addr, size)
        memory = self._cacheable(addr, size) if self._ownership.cleans and not self._fwb else []
        ret = self._record_owner(addr, size, None, 0)
        if clean := self._mm_ops.dcache_clean_inval_poc:
            for phys, length in memory:
                clean(phys, length)
        return ret

    def _cacheable(self, addr: int, size: int) -> list[tuple[int, int]]:
        """Address and size of the memory of each leaf of the range that is mapped cacheable."""
        found = []

        def note(walk: Walk, _visit: int) -> int:
            if pte.is_cacheable(walk.old, fwb=False):
                found.append((self._address.to_phys(walk.old), walk.size))
            return 0

        self._run(note, LEAF, addr, size, skip_empty=True)
        return found

    def _record_owner(self, addr: int, size: int, cache: Memcache | None, owner_id: int) -> int:
        ownership = self._ownership
        if not owner_id and ownership.zero is Zero.UNMAP:
            return super().unmap(addr, size)
        phys = {
            Tells.ADDRESS: ownership.address,
            Tells.FLAG: owner_id,
            Tells.OWNER: 0,
            # As in the host's stage 2, which it was for: addresses map to themselves.
            Tells.PROT: self._geometry.page_align_down(addr),
        }[ownership.tells]
        attrs = pte.normal_memattr(self._fwb) | PROT_NONE if ownership.tells is Tells.PROT else 0
        mapper = self._mapper(cache, phys, attrs=attrs, owner_id=owner_id, force_pages=ownership.by_page)
        mapper.records = ownership.zero is not Zero.MAP or owner_id != 0
        return self._run(mapper.visit, TABLE_PRE | LEAF, addr, size)

    def _mapper(
        self, cache: Memcache | None, phys: int, *, attrs: int = 0, owner_id: int = 0, force_pages: bool = False
    ) -> _OwnershipMapper:
        mapper = super()._mapper(cache, phys, attrs=attrs, owner_id=owner_id, force_pages=force_pages)
        assert isinstance(mapper, _OwnershipMapper)
        mapper.ownership, mapper.records = self._ownership, False
        return mapper
