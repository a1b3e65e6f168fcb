"""The reference as an executor: runs programs on a test kernel, restarts it, and tells whose fault a death was."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from harness.errors import BadInput, ToolFailure
from harness.observation.execution import Execution
from harness.observation.executor import CrashReport, TargetDied
from harness.observation.layout import (
    LOCKING,
    LOCKING_REPORTS,
    POOL_MISUSE,
    POOL_MISUSES,
    UBSAN,
    UBSAN_REPORTS,
    Note,
    Observation,
    Witness,
    observation_of,
)
from harness.outside import printable
from harness.program.capabilities import Capabilities
from harness.program.granule import GRANULE_4K, Granule
from harness.program.machine import DEFAULT_MACHINE, MAX_BUDGET, USUAL_BUDGET, Machine
from harness.program.ops import FAMILIES
from harness.program.program import Program
from reference.build.flags import LINES
from reference.build.image import Image
from reference.build.own_files import is_ours
from reference.guest_ram import GuestRam, PlainMemory
from reference.link.console import qemu_version
from reference.link.link import Link, LinkClosed, LinkGarbage, LinkTimeout
from reference.link.ram import RamLink
from reference.probe.symbols import Symbols
from reference.protocol import (
    DIGESTS,
    ENDLESS,
    OBSERVATIONS,
    PRINTED,
    STACK,
    STALE,
    UNPRINTED,
    Message,
    Panic,
    RawNote,
    decode_digest,
    decode_full,
    decode_panic,
    encode_program,
    encode_varint,
)

if TYPE_CHECKING:
    from reference.probe.coverage import HostedCoverage

RUN_WORK: Final = 2.0
"""Seconds of QEMU's CPU time for one program of a usual budget, at the usual pace: of the corpora and 1,500 generated
programs, the longest took a three-hundredth of that, and one whose hosted code prints 200,000 lines takes a third."""
_EVENT_WORK: Final = 10e-6
"""Seconds more for each event that its budget is larger by: some twenty times what it takes."""
SILENCE: Final = 10.0
"""Seconds without an answer from a kernel that is not at work either: the last resort."""


def work_of(budget: int, usual: float = RUN_WORK) -> float:
    """Seconds of CPU time for one program of that budget, where one of a usual budget has `usual`."""
    return usual + _EVENT_WORK * max(0, budget - USUAL_BUDGET)


INPUT_TIMEOUT: Final = math.ceil(7 * (SILENCE + work_of(MAX_BUDGET)))
"""Seconds that whoever bounds the time of one input leaves for it: a hang is met again before it is confirmed."""

_ATTEMPTS: Final = 3

_OF_GUEST: Final = frozenset(definition.number for definition in FAMILIES["guest"])


def _asks_monitor(program: Program) -> bool:
    """Whether the hardware is to look at hyp's stage 1, which EL2 itself does not run under."""
    return program.machine["stage"] == 1 and any(op.definition.number in _OF_GUEST for op in program.ops)


class Reference:
    """Runs programs on the test kernel `image`. `link` is how it is reached (by default through memory of its own).

    A kernel that panics or hangs raises TargetDied. A QEMU that ends by itself, or a damaged message, is the
    environment's doing: the program is run again on a fresh kernel, and only after `_ATTEMPTS` is it a ToolFailure.
    With the first program that has the hardware look at a table of hyp's, the machine gets EL3, where the monitor does
    it; all others run there as well, so it stays.
    """

    def __init__(self, image: Image, name: str, link: Link | None = None, work: float = RUN_WORK) -> None:
        self.image = image
        self._name = name
        self.link: Link = RamLink(image.elf) if link is None else link
        self.link.has_monitor = image.flavour == LINES  # a restart would lose what it has counted
        self.work = work
        """Seconds of CPU time for a program of a usual budget, at the usual pace."""
        self.silence = SILENCE
        self.boots = 0
        """Kernels started so far: the first, and one for every restart of one that was lost or refreshed."""
        self.lost = 0
        """QEMUs that ended by themselves or damaged a message."""
        self.symbols = Symbols(image.elf)
        self._running = False
        self._seq = 0
        self._request: Message | None = None
        self._early_failure: Exception | None = None
        self._machine = DEFAULT_MACHINE

    @classmethod
    def in_place_of(cls, image: Image, name: str, memory: PlainMemory) -> Reference:
        """One that goes on in the `memory` of another of that image, which is closed: the counters stay where they
        are."""
        return cls(image, name, RamLink(image.elf, GuestRam(memory)))

    @property
    def memory(self) -> PlainMemory:
        """What `in_place_of` takes. Raises ToolFailure for a kernel that is not reached through memory."""
        return self._ram().plain

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        return self.image.capabilities

    @property
    def gives_feedback(self) -> bool:
        return False

    @functools.cached_property
    def identity(self) -> Mapping[str, str]:
        return {**self.image.identity, "qemu": qemu_version()}

    def start(self, program: Program) -> None:
        self._begin("D", self._payload(program))

    def finish(self) -> Execution:
        digest, witnessed = decode_digest(self._complete(*DIGESTS))
        return Execution(digest, witnessed=witnessed)

    def observe(self, program: Program) -> Observation:
        self._begin("F", self._payload(program))
        return self._decoded(self._complete(*OBSERVATIONS))

    def coverage(self) -> HostedCoverage:
        """The counters of its hosted files. Raises ToolFailure for a kernel that is not reached through memory."""
        from reference.probe.coverage import HostedCoverage  # noqa: PLC0415  (only for who counts)

        return HostedCoverage(self.symbols, self._ram(), self.image.sha256)

    def line_profile(self) -> str:
        """What llvm-profdata reads of the lines that ran since it booted (`reference.probe.lines`).

        Raises ToolFailure for another flavour than `lines`, for a kernel that is not reached through memory, and for
        one that was started anew and so lost counts.
        """
        if self.boots > 1:
            raise ToolFailure(f"{self.name} was restarted: what it had counted is lost")
        from reference.probe import lines  # noqa: PLC0415  (only that flavour has them)

        return lines.profile(self.image.elf, self._ram())

    def _ram(self) -> GuestRam:
        if not isinstance(self.link, RamLink):
            raise ToolFailure(f"{self.name}: coverage needs the link through memory")
        return self.link.ram

    def stop_at(self, program: Program, record: int) -> None:
        """Run `program` up to its record `record` (0 is the implicit init), and leave it there for a debugger."""
        self._begin("G", encode_varint(record) + self._payload(program))

    def wait(self, timeout: float) -> Observation | None:
        """What a program begun by `stop_at` came to, or None when a debugger still holds it."""
        try:
            message = self.link.receive(timeout)
        except LinkTimeout:
            return None
        except (LinkClosed, LinkGarbage) as error:
            raise ToolFailure(f"{self.name}: QEMU ended while a debugger held the program") from error
        if message.type == "P":
            raise TargetDied(self._crash(decode_panic(message.payload)), self)
        if message.type not in OBSERVATIONS:
            raise ToolFailure(f"{self.name} refused the program: {message.payload.decode('ascii', 'replace')}")
        return self._decoded(message)

    def _decoded(self, message: Message) -> Observation:
        """The observation of the program under way that a reply is."""
        words, notes = decode_full(message)
        return observation_of(
            words,
            [note for raw in notes if raw.kind != STALE for note in self._notes(raw)],
            self._machine,
            [Witness(raw.record, raw.code, raw.pc) for raw in notes if raw.kind == STALE],
        )

    def misbehave(self, how: str) -> None:
        """Ask the kernel to go wrong, for tests of this class: `n`ull access, write to te`x`t, `s`tack overflow,
        `h`ang, `b`abble. Always raises what follows from it."""
        self._begin("M", how.encode())
        self._complete("M")

    def refresh(self) -> None:
        self.link.close()
        self._running = False

    def close(self) -> None:
        self.refresh()

    def _payload(self, program: Program) -> bytes:
        granule = self.image.granule
        if program.machine.granule is not granule:
            raise BadInput(
                f"{self.name}, built for pages of {granule.name}, cannot run this program: its granule is "
                f"{program.machine.granule.name}"
            )
        self.capabilities.check(program, self.name)
        self._machine = program.machine
        if not self.link.has_monitor and _asks_monitor(program):
            self._get_monitor()
        return encode_program(program)

    def _get_monitor(self) -> None:
        """From the next start on; no restart, as `boots` has it."""
        self.boots -= self._running
        self.refresh()
        self.link.has_monitor = True

    def _boot(self) -> None:
        self.link.start()
        self.boots += 1
        self._running = True

    def _begin(self, kind: str, payload: bytes) -> None:
        self._seq = self._seq % 0xFFFE + 1
        self._request = Message(kind, self._seq, payload)
        try:
            if not self._running:
                self._boot()
            self.link.send(self._request)
        except LinkClosed as error:
            self._early_failure = error

    def _complete(self, *kinds: str) -> Message:
        """The reply of one of these types to the request under way, sending it anew where the environment failed it."""
        for attempt in range(_ATTEMPTS):
            try:
                failure, self._early_failure = self._early_failure, None
                if failure is not None:
                    raise failure
                message = self._reply()
            except (LinkClosed, LinkGarbage) as error:
                self.lost += 1
                self.refresh()
                if attempt + 1 == _ATTEMPTS:
                    raise ToolFailure(f"{self.name}: QEMU failed {_ATTEMPTS} times ({type(error).__name__})") from error
                self._resend()
                continue
            except LinkTimeout:
                raise TargetDied(self._hang(), self) from None
            if message.type == "P":
                self.refresh()
                raise TargetDied(self._crash(decode_panic(message.payload)), self)
            if message.type in kinds:
                return message
            if message.type == "E" and message.seq == self._seq:
                raise ToolFailure(f"{self.name} refused the program: {message.payload.decode('ascii', 'replace')}")
            self._resend()
        raise ToolFailure(f"{self.name}: requests arrive damaged")

    @property
    def _limit(self) -> float:
        """Seconds of CPU time for the program under way."""
        return self.link.pace * work_of(self._machine["budget"], self.work)

    def _reply(self) -> Message:
        while True:
            message = self.link.receive(self.silence, self._limit)
            if message.seq == self._seq or message.type == "P" or message.seq == 0xFFFF:
                return message

    def _resend(self) -> None:
        assert self._request is not None
        self._begin(self._request.type, self._request.payload)

    def _hang(self) -> CrashReport:
        counters = self.link.program_counters()
        self.refresh()
        place = self._outermost(counters)
        return CrashReport(
            "hang",
            f"no answer within {self._limit:.2g} s of CPU time, in {place}",
            place,
            "\n".join(self.symbols.trace(counters)),
        )

    def _crash(self, panic: Panic) -> CrashReport:
        # What was called is no function where NULL was: only the link register knows who called it.
        caller = [] if self.symbols.place(panic.elr) else [panic.registers[30]]
        counters = [panic.elr, *caller, *panic.backtrace]
        trace = self.symbols.trace(counters)
        lines = [
            f"{panic.reason}: ESR {panic.esr:#x} ({describe_esr(panic.esr)}) at {trace[0]}",
            f"FAR {panic.far:#x}",
            *(f"  called from {line}" for line in trace[1:]),
            *_register_rows(panic.registers),
        ]
        said = self.link.transcript().strip()
        if said:
            lines += ["the kernel said:", *(f"  {line}" for line in said.splitlines()[-20:])]
        details = "\n".join(lines)
        if panic.reason.startswith(ENDLESS):
            place = self._outermost(counters)
            return CrashReport("hang", f"{panic.reason}, in {place}", place, details)
        place = self.symbols.innermost(counters) or f"{panic.elr:#x}"
        return CrashReport("crash", f"{panic.reason} ({describe_esr(panic.esr)}) in {place}", place, details)

    def _outermost(self, counters: Sequence[int]) -> str:
        return self.symbols.outermost(counters, is_ours) or self.symbols.innermost(counters) or "unknown"

    def _notes(self, raw: RawNote) -> list[Note]:
        """One note, or of a message one for each line."""
        if raw.kind != PRINTED:
            return [self._note(raw)]
        return [Note(raw.record, f"printed: {printable(line)}", is_printed=True) for line in raw.text.split("\n")]

    def _note(self, raw: RawNote) -> Note:
        place = functools.partial(self.symbols.describe, raw.pc) if raw.pc else None
        if raw.kind == POOL_MISUSE:
            return Note(raw.record, f"pool {POOL_MISUSES.get(raw.code, raw.code)}", place=place)
        if raw.kind == UBSAN:
            return Note(raw.record, f"UBSan {UBSAN_REPORTS.get(raw.code, raw.code)}", place=place)
        if raw.kind == LOCKING:
            return Note(raw.record, f"locking {LOCKING_REPORTS.get(raw.code, raw.code)}", place=place)
        if raw.kind == UNPRINTED:
            return Note(raw.record, f"printed: {raw.code} more, not kept", is_printed=True)
        if raw.kind == STACK:
            return Note(raw.record, "printed: dump_stack()", is_printed=True, place=place)
        return Note(raw.record, "WARN", place=place)


_Key = TypeVar("_Key", bound=Hashable)


class Several(Generic[_Key]):
    """Kernels that differ in how they were built: `make` makes the one for programs whose machine is `choose`n for it,
    when the first of them comes. `first` is what `identity` tells of before."""

    def __init__(
        self, make: Callable[[_Key], Reference], choose: Callable[[Machine], _Key], first: _Key, name: str
    ) -> None:
        self._make = make
        self._choose = choose
        self._first = first
        self._name = name
        self._made: dict[_Key, Reference] = {}
        self._current: Reference | None = None

    def of(self, key: _Key) -> Reference:
        """The kernel for that choice, from now on the one that `identity` tells of. Raises BadInput, ToolFailure."""
        if key not in self._made:
            self._made[key] = self._make(key)
        self._current = self._made[key]
        return self._current

    @property
    def name(self) -> str:
        return self._name

    @property
    def identity(self) -> Mapping[str, str]:
        return (self._current or self.of(self._first)).identity

    @property
    def gives_feedback(self) -> bool:
        return False

    @property
    def capabilities(self) -> Capabilities:
        return (self._current or self.of(self._first)).capabilities

    def start(self, program: Program) -> None:
        self.of(self._choose(program.machine)).start(program)

    def finish(self) -> Execution:
        assert self._current is not None, "start a program first"
        with self._in_our_name():
            return self._current.finish()

    def observe(self, program: Program) -> Observation:
        with self._in_our_name():
            return self.of(self._choose(program.machine)).observe(program)

    @contextmanager
    def _in_our_name(self) -> Iterator[None]:
        """Whoever asked knows us, not the kernel that we chose."""
        try:
            yield
        except TargetDied as error:
            raise TargetDied(error.report, self) from error

    def refresh(self) -> None:
        for kernel in self._made.values():
            kernel.refresh()

    def close(self) -> None:
        self.refresh()


class ByGranule(Several[Granule]):
    """A kernel for programs of every granule."""

    def __init__(self, make: Callable[[Granule], Reference], name: str) -> None:
        super().__init__(make, lambda machine: machine.granule, GRANULE_4K, name)


_EXCEPTION_CLASSES: Final = {
    0x00: "unknown reason",
    0x0E: "illegal execution state",
    0x21: "instruction abort",
    0x22: "PC alignment",
    0x25: "data abort",
    0x26: "SP alignment",
    0x3C: "BRK",
}


def describe_esr(esr: int) -> str:
    """The exception class of an ESR_EL2 value in words, with the access for data aborts (Arm ARM, ESR_EL2)."""
    if esr == 0:
        return "no exception"
    exception_class = esr >> 26 & 0x3F
    text = _EXCEPTION_CLASSES.get(exception_class, f"exception class {exception_class:#x}")
    if exception_class == 0x25:
        text += " on write" if esr & 1 << 6 else " on read"
    return text


def _register_rows(registers: tuple[int, ...]) -> list[str]:
    names = [*(f"x{i}" for i in range(31)), "sp"]
    cells = [f"{name:>3} {value:016x}" for name, value in zip(names, registers, strict=True)]
    return ["  ".join(cells[i : i + 4]) for i in range(0, len(cells), 4)]
