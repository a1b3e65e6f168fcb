"""What travels: every message arrives as it was sent or is known to be damaged."""

from __future__ import annotations

import base64
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import machines

from harness.errors import ToolFailure
from harness.observation.layout import Digest
from harness.program.definition import Op, OpDef
from harness.program.machine import KNOBS, Machine
from harness.program.ops import OPS, OPS_BY_NUMBER, op_of
from harness.program.program import Program
from harness.program.space import U64_MAX
from reference.protocol import (
    PRINTED,
    GarbledFrame,
    Message,
    Panic,
    RawNote,
    decode_digest,
    decode_frame,
    decode_full,
    decode_panic,
    encode_frame,
    encode_program,
    encode_varint,
    varints,
)

U64 = st.integers(0, U64_MAX)
MESSAGES = st.builds(Message, st.sampled_from("DFGHMEP"), st.integers(0, 0xFFFF), st.binary(max_size=80))


def frame(message: Message) -> bytes:
    return encode_frame(message, start=b"<").rstrip(b"\n")


def checked(body: bytes) -> bytes:
    """A line with a right checksum over anything."""
    return b"<%s*%08x" % (body, zlib.crc32(body))


# Frames


@given(MESSAGES)
def test_a_frame_round_trips(message: Message) -> None:
    line = encode_frame(message, start=b"<")
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert all(32 <= byte < 127 for byte in line[:-1]), "no byte means something to a terminal or to QEMU's monitor"
    assert decode_frame(line[:-1]) == message


@settings(max_examples=500)
@given(MESSAGES, st.data())
def test_a_damaged_byte_is_noticed(message: Message, data: st.DataObject) -> None:
    line = bytearray(frame(message))
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != line[at]))
    assert unharmed_or_noticed(bytes(line), message)


@given(MESSAGES, st.data())
def test_a_lost_or_doubled_part_is_noticed(message: Message, data: st.DataObject) -> None:
    line = frame(message)
    start = data.draw(st.integers(1, len(line) - 1))
    end = data.draw(st.integers(start + 1, len(line)))
    assert unharmed_or_noticed(line[:start] + line[end:], message)
    assert unharmed_or_noticed(line[:end] + line[start:], message)


def unharmed_or_noticed(line: bytes, message: Message) -> bool:
    try:
        return decode_frame(line) == message
    except GarbledFrame:
        return True


@given(st.binary(max_size=60))
@example(b"")
@example(b"<")
@example(b"<*")
@example(checked(b""))
@example(checked(b"D"))
@example(checked(b"D00zz"))
@example(checked(b"D0001="))
@example(checked(b"D0001A"))
@example(checked(b"D0001A\xff\xff\xff"))
@example(b"<D0001*-0000001")
def test_any_line_is_a_message_or_garbled(line: bytes) -> None:
    try:
        message = decode_frame(line)
    except GarbledFrame:
        return
    assert zlib.crc32(line[1:].rpartition(b"*")[0]) == int(line.rpartition(b"*")[2], 16)
    assert isinstance(message, Message)


def test_the_frame_of_a_known_message() -> None:
    """As the docstring of reference.protocol describes it."""
    body = b"D002a" + base64.b64encode(b"\x01\x02").rstrip(b"=")
    assert encode_frame(Message("D", 42, b"\x01\x02")) == b">%s*%08x\n" % (body, zlib.crc32(body))


# Numbers


@given(st.lists(st.integers(0, 1 << 70)))
def test_varints_round_trip(values: list[int]) -> None:
    assert list(varints(b"".join(map(encode_varint, values)))) == values


@given(U64)
def test_a_varint_is_as_short_as_it_can_be(value: int) -> None:
    encoded = encode_varint(value)
    assert len(encoded) == max(1, -(-value.bit_length() // 7))
    assert [byte >> 7 for byte in encoded] == [1] * (len(encoded) - 1) + [0]


@given(U64.filter(lambda value: value > 0x7F))
def test_a_cut_varint_is_refused(value: int) -> None:
    with pytest.raises(ToolFailure, match="ends within a number"):
        list(varints(encode_varint(value)[:-1]))


# Programs


def values_of(definition: OpDef) -> st.SearchStrategy[Op]:
    arguments = []
    for arg in definition.args:
        limit = arg.limit
        if arg.kind.bits:
            arguments.append(st.lists(st.sampled_from(sorted(arg.kind.bits.values()))).map(_union))
        else:
            shifted = st.builds(lambda value, shift, limit=limit: value << shift & limit, U64, st.integers(0, 63))
            arguments.append(st.integers(0, limit) | shifted.map(lambda value, limit=limit: min(value, limit)))
    return st.tuples(*arguments).map(lambda args: Op(definition, args))


def _union(bits: list[int]) -> int:
    mask = 0
    for bit in bits:
        mask |= bit
    return mask


def _programs(machine: Machine) -> st.SearchStrategy[Program]:
    ops = st.sampled_from([op for op in OPS if machine["stage"] in op.stages]).flatmap(values_of)
    return st.builds(Program, st.lists(ops, max_size=8).map(tuple), st.just(machine))


PROGRAMS = machines.flatmap(_programs)


class Decoder:
    """Reads a request as reference/kernel/program.c does, written from the protocol's description."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.at = 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.payload[self.at]
            self.at += 1
            value += (byte % 128) << shift
            shift += 7
            if byte < 128:
                return value

    def scaled(self) -> int:
        value = self.varint()
        return (value // 64) << value % 64

    def knobs(self) -> Iterator[int]:
        given_ones = self.varint()
        for index, knob in enumerate(KNOBS):
            yield self.scaled() if given_ones >> index & 1 else knob.default

    def program(self) -> Program:
        machine = Machine(tuple(self.knobs()))
        ops = []
        while self.at < len(self.payload):
            definition = OPS_BY_NUMBER[self.varint()]
            ops.append(Op(definition, tuple(self.scaled() for _ in definition.args)))
        return Program(tuple(ops), machine)


@settings(max_examples=300)
@given(PROGRAMS)
@example(Program((op_of("unmap", ipa=1 << 63, size=U64_MAX), op_of("unmap", ipa=0, size=1))))
def test_a_program_arrives_as_it_is(program: Program) -> None:
    payload = encode_program(program)
    assert Decoder(payload).program() == program
    assert len(payload) <= 80 + 61 * len(program.ops), "what REQUEST_MAX of frame.c is made for"


def test_aligned_values_are_short() -> None:
    program = Program((op_of("unmap", ipa=1 << 40, size=1 << 30),))
    assert len(encode_program(program)) == 4


# Replies

NOTES = st.lists(st.builds(RawNote, U64, U64.filter(lambda kind: kind != PRINTED), U64, U64), max_size=4)


def full_reply(words: array[int], notes: list[RawNote], digest: Digest) -> Message:
    """As reference/kernel/observe.c makes it: a run of zeros is a zero and its length."""
    numbers = [digest.words, digest.crc]
    at = 0
    while at < len(words):
        run = 0
        while at + run < len(words) and words[at + run] == 0:
            run += 1
        numbers += [0, run] if run else [words[at]]
        at += run or 1
    numbers.append(len(notes))
    for note in notes:
        numbers += [note.record, note.kind, note.code, note.pc]
    return Message("F", 1, b"".join(map(encode_varint, numbers)))


@given(st.lists(st.just(0) | U64), NOTES)
def test_an_observation_round_trips(values: list[int], notes: list[RawNote]) -> None:
    words = array("Q", values)
    assert decode_full(full_reply(words, notes, Digest.of(words))) == (words, notes)


@given(st.lists(st.just(0) | U64, min_size=1), st.data())
def test_an_observation_that_is_not_its_digest_is_refused(values: list[int], data: st.DataObject) -> None:
    words = array("Q", values)
    other = array("Q", values)
    at = data.draw(st.integers(0, len(values) - 1))
    other[at] = data.draw(U64.filter(lambda value: value != values[at]))
    with pytest.raises(ToolFailure, match="does not match its digest"):
        decode_full(full_reply(other, [], Digest.of(words)))


@given(st.lists(U64, min_size=1), NOTES, st.data())
def test_a_cut_observation_is_refused(values: list[int], notes: list[RawNote], data: st.DataObject) -> None:
    words = array("Q", values)
    reply = full_reply(words, notes, Digest.of(words))
    with pytest.raises(ToolFailure):
        decode_full(replace(reply, payload=reply.payload[: data.draw(st.integers(0, len(reply.payload) - 1))]))


def pieces(words: array[int], cuts: list[int]) -> tuple[memoryview, ...]:
    """The words as reference/link/ram.py finds them: in one piece or in several."""
    ends = sorted(cut % (len(words) + 1) for cut in cuts)
    view = memoryview(words.tobytes())
    return tuple(view[8 * begin : 8 * end] for begin, end in pairwise([0, *ends, len(words)]))


@given(st.lists(U64), NOTES, st.lists(st.integers(0, 99)), st.data())
def test_an_observation_in_memory_round_trips(
    values: list[int], notes: list[RawNote], cuts: list[int], data: st.DataObject
) -> None:
    words = array("Q", values)
    numbers = [len(notes), *(number for one in notes for number in (one.record, one.kind, one.code, one.pc))]
    payload = b"".join(map(encode_varint, numbers))
    assert decode_full(Message("W", 1, payload, pieces(words, cuts))) == (words, notes)
    with pytest.raises(ToolFailure):
        decode_full(Message("W", 1, payload[: data.draw(st.integers(0, len(payload) - 1))], pieces(words, cuts)))


@given(st.lists(U64), st.lists(st.integers(0, 99)))
def test_a_digest_of_words_in_memory_is_theirs(values: list[int], cuts: list[int]) -> None:
    words = array("Q", values)
    assert decode_digest(Message("V", 1, encode_varint(3), pieces(words, cuts))) == (Digest.of(words), 3)


@given(st.integers(0, U64_MAX), st.integers(0, 0xFFFF_FFFF))
def test_a_digest_round_trips(words: int, crc: int) -> None:
    payload = encode_varint(words) + encode_varint(crc) + encode_varint(3)
    assert decode_digest(Message("D", 1, payload)) == (Digest(words, crc), 3)


@given(
    st.builds(
        Panic,
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=100),
        U64,
        U64,
        U64,
        st.tuples(*[U64] * 32),
        st.lists(U64, max_size=24).map(tuple),
    )
)
def test_a_panic_round_trips(panic: Panic) -> None:
    numbers = [panic.esr, panic.elr, panic.far, *panic.registers, len(panic.backtrace), *panic.backtrace]
    payload = bytes([len(panic.reason)]) + panic.reason.encode() + b"".join(map(encode_varint, numbers))
    assert decode_panic(payload) == panic
