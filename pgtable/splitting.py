"""The visitor that replaces blocks by full tables, ahead of need: dirty logging then finds pages to log.

Unlike a map of one page inside a block, nothing is lost: the table maps all that the block did
before it takes the block's place.
"""

from collections.abc import Callable
from typing import Final

from pgtable import pte
from pgtable.entry import EntryWriter
from pgtable.errnos import EAGAIN, EINVAL, ENOMEM
from pgtable.geometry import LAST_LEVEL, Geometry
from pgtable.memory import Memcache
from pgtable.walker import Walk

_FIRST_LEVEL: Final = 1
"""The first of which stage2_block_get_nr_page_tables() knows how many pages a split takes, whatever the granule."""

CreateUnlinked = Callable[[int, int, int, Memcache, bool], int]
"""(phys, level, prot, cache, force_pages): the table's address, or a negative errno."""


class Splitter:
    """Splits every block of a range, as far as the cache's pages go.

    With pages enough for a whole tree, a block becomes pages at once. With fewer, one page turns it
    into a table of smaller blocks, those of the range are then split themselves, and so on.
    What stays of a block's attributes is what `pte.leaf_prot` knows: the new leaves are young, and
    normal memory, whatever the block was.
    """

    __slots__ = ("_address", "_cache", "_create", "_entry", "_free", "_geometry", "_warn_once")

    def __init__(
        self,
        entry: EntryWriter,
        geometry: Geometry,
        address: pte.AddressFormat,
        cache: Memcache,
        create_unlinked: CreateUnlinked,
        free_unlinked: Callable[[int, int], None],
        warn_once: Callable[[str], None],
    ) -> None:
        self._entry = entry
        self._geometry = geometry
        self._address = address
        self._cache = cache
        self._create = create_unlinked
        self._free = free_unlinked
        self._warn_once = warn_once

    def visit(self, walk: Walk, visit: int) -> int:
        """The visitor, for LEAF. -ENOMEM when the cache runs out; what was split until then stays.

        -EINVAL, with a warning, for a leaf of level 0 or above, which somebody else must have put there. One of level 1
        is split, even where the granule has no such blocks.
        """
        old, level = walk.old, walk.level
        if level == LAST_LEVEL or not pte.is_valid(old):
            return 0
        if level < _FIRST_LEVEL:
            self._warn_once("stage2_block_get_nr_page_tables")
            return -EINVAL
        pages = len(self._cache.pages)
        if not pages:
            return -ENOMEM
        force_pages = pages >= self._pages_of_tree(level)
        child = self._create(self._address.to_phys(old), level, pte.leaf_prot(old), self._cache, force_pages)
        if child < 0:
            return child
        if not self._entry.try_break(walk):
            self._free(child, level)
            return -EAGAIN
        self._entry.make(walk, pte.table_pte(self._address.to_pte(child)))
        return 0

    def _pages_of_tree(self, level: int) -> int:
        """Table pages that map what one entry of this level does, page by page."""
        return sum(self._geometry.entries**depth for depth in range(LAST_LEVEL - level))
