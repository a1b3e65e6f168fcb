"""The memory link: programs and observations through guest RAM that this process maps, with a doorbell on the console.

The console stays the control channel: boot, doorbell, panics, a human's eyes. Messages are those of `protocol`; only
the payload takes another way, as `kernel/frame.c` describes it.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Final

from reference.guest_ram import GuestRam
from reference.link.console import ConsoleLink
from reference.link.link import LinkGarbage
from reference.memory_map import RAM_BASE, REPLY, REPLY_SIZE, REQUEST, REQUEST_SIZE
from reference.protocol import Message

_REQUEST: Final = REQUEST - RAM_BASE
_REPLY: Final = REPLY - RAM_BASE
_HEADER: Final = struct.Struct("<QQQQQQ")
"""Sequence, type, size of the payload, words and pieces before it, CRC-32 of the pieces and the payload."""
_PIECE: Final = struct.Struct("<QQQ")
"""How many of the words come before it, since the one before; where it lies, and its words."""
_REQUEST_MAX: Final = REQUEST_SIZE - _HEADER.size
_REPLY_MAX: Final = REPLY_SIZE - _HEADER.size


class RamLink:
    """A link whose payloads go through memory. `ram` may be shared by successive kernels, not by simultaneous ones."""

    def __init__(self, elf: Path, ram: GuestRam | None = None, qemu_args: tuple[str, ...] = ()) -> None:
        self.ram = GuestRam() if ram is None else ram
        self.console = ConsoleLink(elf, (*self.ram.qemu_args, *qemu_args))

    @property
    def has_monitor(self) -> bool:
        return self.console.has_monitor

    @has_monitor.setter
    def has_monitor(self, value: bool) -> None:
        self.console.has_monitor = value

    @property
    def pid(self) -> int | None:
        """The process id of the running QEMU."""
        return self.console.pid

    def start(self) -> None:
        self.console.start()

    def send(self, message: Message) -> None:
        payload = message.payload
        if len(payload) > _REQUEST_MAX:
            raise ValueError(f"a payload of {len(payload)} bytes does not fit the mailbox")
        memory = self.ram.memory
        memory[_REQUEST + _HEADER.size : _REQUEST + _HEADER.size + len(payload)] = payload
        _HEADER.pack_into(memory, _REQUEST, message.seq, ord(message.type), len(payload), 0, 0, zlib.crc32(payload))
        self.console.ring()

    @property
    def pace(self) -> float:
        return self.console.pace

    def receive(self, timeout: float, work: float | None = None) -> Message:
        said = self.console.hear(timeout, work)
        if said is not None:
            return said
        memory = self.ram.memory
        seq, kind, size, words, count, crc = _HEADER.unpack_from(memory, _REPLY)
        at = _REPLY + _HEADER.size
        end, size_of_pieces = at + 8 * words, count * _PIECE.size
        if end - at + size_of_pieces + size > _REPLY_MAX:
            raise LinkGarbage
        behind = memory[end : end + size_of_pieces + size]
        if zlib.crc32(behind) != crc:
            raise LinkGarbage
        view, pieces = memoryview(memory), []
        for before, address, length in _PIECE.iter_unpack(behind[:size_of_pieces]):
            pieces += [view[at : at + 8 * before], view[address - RAM_BASE : address - RAM_BASE + 8 * length]]
            at += 8 * before
        return Message(chr(kind & 0x7F), seq & 0xFFFF, behind[size_of_pieces:], (*pieces, view[at:end]))

    def program_counters(self) -> list[int]:
        return self.console.program_counters()

    def transcript(self) -> str:
        return self.console.transcript()

    def close(self) -> None:
        self.console.close()
