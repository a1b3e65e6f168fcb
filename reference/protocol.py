"""What host and test kernel say to each other, independent of how it travels.

A message has a type (one letter), a sequence number (16 bits, a reply repeats its request's) and a payload. Integers
in payloads are LEB128 varints; knobs and arguments, which often end in many zero bits, are scaled ones (the lowest
six bits say how far the rest is shifted left), because a character costs more than anything else on the console.

    request D, F   a program: a mask of the knobs that follow (the others have their defaults), those knobs,
                   then each op's number and arguments                                     -> digest / full observation
    request H      nothing                                                                 -> greeting
    request M      one letter: misbehave (tests of the driver)
    request S      nothing: what the shell's last line did, and its table                   -> full observation
    request G      the index of a record, then a program: stop there for a debugger        -> full observation
    reply   D      words, crc, how many accesses of the guest showed what a TLB still held
    reply   F      words, crc, the words (a zero is followed by the length of its run), notes (record, kind, code,
                   address; of a message, its bytes instead of an address)
    reply   V      instead of D, to whom memory is shared with and who makes the digest: how many accesses did so
    reply   W      instead of F, to the same: notes
    reply   H      the greeting: protocol version and the digest of the op, knob and event definitions
    reply   E      text: the request was malformed
    reply   P      a panic: reason, ESR, ELR, FAR, 32 registers, backtrace

On the console a message is a line, `<` (to the host) or `>` (to the kernel), type, sequence in 4 hex digits, payload
in base64, `*`, CRC-32 of all between in 8 hex digits. Everything else on the console is text for people, and a line to
the kernel that begins with `$` is text of people, for its shell (`shell.py`). The words that belong to V and W stay
where the kernel has them, of 8 bytes each.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from harness.errors import ToolFailure
from harness.observation.events import EVENTS
from harness.observation.layout import Digest
from harness.program.machine import KNOBS
from harness.program.ops import OPS
from harness.program.program import Program

VERSION: Final = 8
ENDLESS: Final = "endless: "
"""How the reason of a panic begins that is a hang: hosted code did too much of what the budget does not count."""
FRAME_START: Final = b"<"

PRINTED: Final = 16
"""Kinds of notes that are no complaint: a message that the code under test printed, how many more of the record were
not kept, and a place that dump_stack() was called from."""
UNPRINTED: Final = PRINTED + 1
STACK: Final = PRINTED + 2
STALE: Final = PRINTED + 3
"""No complaint either: what an access of the guest came to by a translation that a TLB still held. `code` is the
syndrome, 0 for none; in the address's place stands HPFAR_EL2 of an abort, else what was read, or reached."""
MESSAGE_SIZE: Final = 256
"""Bytes that are kept of a message."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message; see the module's docstring for the types."""

    type: str
    seq: int
    payload: bytes
    words: tuple[memoryview, ...] = ()
    """Of a reply through memory, 8 bytes each, in pieces: good until the next request."""


class GarbledFrame(Exception):
    """A line that should have been a frame is not: its CRC, length or form is wrong."""


def _definitions() -> str:
    knobs = [knob.name for knob in KNOBS]
    ops = [[op.number, op.name, [arg.name for arg in op.args]] for op in OPS]
    events = [[one.number, one.name, one.args] for one in EVENTS]
    return repr([VERSION, knobs, ops, events])


GREETING: Final = f"s2fuzz {VERSION} {hashlib.sha256(_definitions().encode()).hexdigest()[:16]}"
"""What a test kernel built from these definitions says; any other would misread our programs."""


def encode_varint(value: int) -> bytes:
    """LEB128 of a non-negative integer."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


@functools.lru_cache(maxsize=1 << 14)
def encode_scaled(value: int) -> bytes:
    """An argument or knob: round numbers take few bytes. Programs use the same ones again and again."""
    shift = (value & -value).bit_length() - 1 if value else 0
    return encode_varint(value >> shift << 6 | shift)


def encode_program(program: Program) -> bytes:
    """A program as the payload of a D, F or G request."""
    values = program.machine.values
    changed = [index for index, knob in enumerate(KNOBS) if values[index] != knob.default]
    out = [encode_varint(sum(1 << index for index in changed))]
    out += [encode_scaled(values[index]) for index in changed]
    for op in program.ops:
        out.append(encode_varint(op.definition.number))
        out += map(encode_scaled, op.args)
    return b"".join(out)


def encode_frame(message: Message, start: bytes = b">") -> bytes:
    """The console line of a message."""
    body = b"%s%04x%s" % (message.type.encode(), message.seq, base64.b64encode(message.payload).rstrip(b"="))
    return b"%s%s*%08x\n" % (start, body, zlib.crc32(body))


def decode_frame(line: bytes) -> Message:
    """The message in a console line that begins with FRAME_START (without the line end).

    Raises GarbledFrame when the line is damaged.
    """
    body, star, crc = line[1:].rpartition(b"*")
    try:
        if not star or int(crc, 16) != zlib.crc32(body):
            raise GarbledFrame(f"the checksum does not match: {line[:60]!r}")
        text = body[5:]
        payload = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
        return Message(chr(body[0]), int(body[1:5], 16), payload)
    except (ValueError, IndexError, binascii.Error) as error:
        raise GarbledFrame(f"not a frame: {line[:60]!r}") from error


def varints(payload: bytes) -> Iterator[int]:
    """The varints of a payload, one after the other; ToolFailure when the payload ends within one."""
    value = shift = 0
    for byte in payload:
        value |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
        else:
            yield value
            value = shift = 0
    if shift:
        raise ToolFailure("the test kernel's reply ends within a number")


def decode_digest(reply: Message) -> tuple[Digest, int]:
    """The content of a D or V reply: the digest, and how many accesses showed what a TLB still held."""
    numbers = varints(reply.payload)
    if reply.type == "V":
        size = crc = 0
        for piece in reply.words:
            size += len(piece)
            crc = zlib.crc32(piece, crc)
        return Digest(size // 8, crc), _next(numbers)
    return Digest(_next(numbers), _next(numbers)), _next(numbers)


@dataclass(frozen=True, slots=True)
class RawNote:
    """Where a complaint came from: the record's index, the complaint, and the address in the kernel's text. Or a
    message, of kind PRINTED: `code` is the text's length, and there is no address. Or another of the
    kinds that follow that."""

    record: int
    kind: int
    code: int
    pc: int
    text: str = ""


def decode_full(reply: Message) -> tuple[array[int], list[RawNote]]:
    """The words and notes of an F or W reply. Raises ToolFailure when it is damaged: the words of an F reply have a
    digest."""
    numbers = varints(reply.payload)
    if reply.type == "W":
        return array("Q", b"".join(reply.words)), _notes(numbers)
    digest = Digest(_next(numbers), _next(numbers))
    words = array("Q")
    while len(words) < digest.words:
        word = _next(numbers)
        if word:
            words.append(word)
        else:
            words.frombytes(bytes(8 * _next(numbers)))
    if Digest.of(words) != digest:
        raise ToolFailure("the observation does not match its digest")
    return words, _notes(numbers)


def _notes(numbers: Iterator[int]) -> list[RawNote]:
    return [_raw_note(numbers) for _ in range(_next(numbers))]


def _raw_note(numbers: Iterator[int]) -> RawNote:
    record, kind, code = _next(numbers), _next(numbers), _next(numbers)
    if kind != PRINTED:
        return RawNote(record, kind, code, _next(numbers))
    if code > MESSAGE_SIZE:
        raise ToolFailure(f"the test kernel's reply has a message of {code} bytes")
    text = bytes([_next(numbers) & 0xFF for _ in range(code)])
    return RawNote(record, kind, code, 0, text.decode(errors="replace"))


DIGESTS: Final = ("D", "V")
OBSERVATIONS: Final = ("F", "W")
"""Types of the replies to a program: by its digest, or whole."""


@dataclass(frozen=True, slots=True)
class Panic:
    """The content of a P reply. `registers` are x0 to x30, then sp."""

    reason: str
    esr: int
    elr: int
    far: int
    registers: tuple[int, ...]
    backtrace: tuple[int, ...]


def decode_panic(payload: bytes) -> Panic:
    """The content of a P reply."""
    length = payload[0]
    reason = payload[1 : 1 + length].decode("ascii", "replace")
    numbers = varints(payload[1 + length :])
    esr, elr, far = _next(numbers), _next(numbers), _next(numbers)
    registers = tuple(_next(numbers) for _ in range(32))
    return Panic(reason, esr, elr, far, registers, tuple(_next(numbers) for _ in range(_next(numbers))))


def _next(numbers: Iterator[int]) -> int:
    number = next(numbers, None)
    if number is None:
        raise ToolFailure("the test kernel's reply is too short")
    return number
