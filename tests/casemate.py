"""casemate's offline checker, as far as its documentation and examples tell what it reads and minds: for the tests of
the traces that are written for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_NUMBER: Final = r"0x[0-9a-f]+"
_FIELDS: Final = {
    "mem-init": rf"\(address {_NUMBER}\) \(size {_NUMBER}\)",
    "mem-set": rf"\(address {_NUMBER}\) \(size {_NUMBER}\) \(value {_NUMBER}\)",
    "mem-read": rf"\(address {_NUMBER}\) \(value {_NUMBER}\)",
    "mem-write": rf"\(mem-order (?:plain|release)\) \(address {_NUMBER}\) \(value {_NUMBER}\)",
    "barrier": r"(?:isb|dsb \(kind (?:ish|ishst|nsh)\))",
    "tlbi": rf"(?:vmalls12e1(?:is)?|vmalle1(?:is)?|alle[12](?:is)?|(?:ipas2e1is|vae2is|vale2is) \(value {_NUMBER}\))",
    "sysreg-write": rf"\(sysreg (?:vttbr_el2|vtcr_el2|hcr_el2)\) \(value {_NUMBER}\)",
    "hint": rf"\(kind (?:set_root_lock|set_owner_root|release_table)\) \(location {_NUMBER}\) \(value {_NUMBER}\)",
    "lock": rf"\(address {_NUMBER}\)",
    "unlock": rf"\(address {_NUMBER}\)",
}
_RECORD: Final = re.compile(r'\(([a-z-]+) \(id (\d+)\) \(tid 0\) (.*) \(src "[^":]+:(\d+)"\)\)')


def records(trace: str) -> Iterator[tuple[str, str, dict[str, int]]]:
    """(name, fields as text, numbers among them by name) of each record. AssertionError for what the grammar has
    not."""
    for number, line in enumerate(trace.splitlines()):
        match = _RECORD.fullmatch(line)
        assert match, line
        name, text = match[1], match[3]
        assert int(match[2]) == number, line
        assert re.fullmatch(_FIELDS[name], text), line
        yield name, text, {key: int(value, 16) for key, value in re.findall(rf"\(([a-z-]+) ({_NUMBER})\)", text)}


class Objection(Exception):
    """The checker would object."""


@dataclass
class Checker:
    """Follows a trace: memory, locks, roots by VMID, and of each entry whether its break is complete.

    Where the checker goes by all entries of a table, this goes by the one that was written: enough for programs that
    end no tables.
    """

    memory: dict[int, int] = field(default_factory=dict)
    held: set[int] = field(default_factory=set)
    locks: dict[int, int] = field(default_factory=dict)
    owners: dict[int, int] = field(default_factory=dict)
    ids: dict[int, int] = field(default_factory=dict)
    current: int | None = None
    broken: dict[int, str] = field(default_factory=dict)
    """Of an entry that was valid and is not: how far its invalidation is."""

    def follow(self, trace: str) -> None:
        """Raises Objection."""
        for name, text, numbers in records(trace):
            getattr(self, "_" + name.replace("-", "_"))(text, numbers)

    def _mem_init(self, _text: str, numbers: dict[str, int]) -> None:
        for pa in range(numbers["address"], numbers["address"] + numbers["size"], 8):
            if self.memory.setdefault(pa, 0):
                raise Objection("initialises used memory")

    def _mem_set(self, _text: str, numbers: dict[str, int]) -> None:
        for pa in range(numbers["address"], numbers["address"] + numbers["size"], 8):
            self.memory[pa] = numbers["value"]

    def _mem_read(self, _text: str, numbers: dict[str, int]) -> None:
        if self.memory.get(numbers["address"]) != numbers["value"]:
            raise Objection("reads what nobody wrote")

    def _mem_write(self, _text: str, numbers: dict[str, int]) -> None:
        pa, new = numbers["address"], numbers["value"]
        old = self.memory.get(pa)
        if old is None:
            raise Objection("writes to memory that is not initialised")
        if self.locks.get(self.owners.get(pa & -4096, pa & -4096)) not in self.held:
            raise Objection("writes without the lock")
        if new & 1:
            if pa in self.broken:
                raise Objection("BBM: invalid and not clean, then valid")
            if old & 1 and (old ^ new) & ~(0xF << 55):
                raise Objection("BBM: valid, then another valid")
        elif old & 1:
            self.broken[pa] = "written"
        self.memory[pa] = new

    def _barrier(self, text: str, _numbers: dict[str, int]) -> None:
        if text == "isb":
            return
        for pa, state in list(self.broken.items()):
            if state == "written":
                self.broken[pa] = "stored"
            elif state == "by ipa" and "ish)" in text:
                self.broken[pa] = "by ipa, done"
            elif state == "invalidated" and "ish)" in text:
                del self.broken[pa]

    def _tlbi(self, text: str, _numbers: dict[str, int]) -> None:
        for pa, state in self.broken.items():
            root = self.owners.get(pa & -4096, pa & -4096)
            if root != self.current:
                continue
            if state == "stored" and text.startswith("ipas2"):
                self.broken[pa] = "by ipa"
            elif (state == "stored" and text.startswith(("vmalls12", "alle1"))) or (
                state == "by ipa, done" and text.startswith("vmalle1")
            ):
                self.broken[pa] = "invalidated"

    def _sysreg_write(self, text: str, numbers: dict[str, int]) -> None:
        if "vttbr_el2" not in text:
            return
        root, vmid = numbers["value"] & (1 << 48) - 2, numbers["value"] >> 48
        if self.ids.setdefault(vmid, root) != root or list(self.ids.values()).count(root) > 1:
            raise Objection("a VMID of two roots, or a root of two VMIDs")
        if root not in self.memory:
            raise Objection("a root that is not initialised")
        self.current = root

    def _hint(self, text: str, numbers: dict[str, int]) -> None:
        if "set_root_lock" in text:
            self.locks[numbers["location"]] = numbers["value"]
        elif "set_owner_root" in text:
            self.owners[numbers["location"]] = numbers["value"]
        else:
            if self.current == numbers["location"]:
                raise Objection("releases a table in use")
            self.ids = {vmid: root for vmid, root in self.ids.items() if root != numbers["location"]}

    def _lock(self, _text: str, numbers: dict[str, int]) -> None:
        if numbers["address"] in self.held:
            raise Objection("locks what is held")
        self.held.add(numbers["address"])

    def _unlock(self, _text: str, numbers: dict[str, int]) -> None:
        if numbers["address"] not in self.held:
            raise Objection("unlocks what is not held")
        self.held.remove(numbers["address"])
