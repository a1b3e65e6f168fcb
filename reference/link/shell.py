"""The test kernel's shell, for people: one op a line, on a table that lives until `reset`. Slow, and meant to be read.

A line is an op as in a program's text, `reset` with any knobs, `tree`, or `help`. The kernel's own shell
(kernel/shell.c) takes numbers only; here `size=4K` or `prot=rwx` become numbers, and in its answers addresses become
places in the source. What an op did, and the tables that there are, can be had as an observation, too.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from harness.errors import BadInput, ToolFailure
from harness.observation.executor import TargetDied
from harness.observation.layout import Observation, describe_return
from harness.program.capabilities import EVERYTHING, Capabilities
from harness.program.definition import Op, OpDef
from harness.program.granule import GRANULE_4K, Granule
from harness.program.machine import Machine
from harness.program.ops import OPS_BY_NAME
from harness.program.program import Program
from harness.program.text import FORMAT_VERSION, MalformedProgram, parse, parse_op
from reference.build.image import Image
from reference.link.console import ConsoleLink, message_in, printable
from reference.link.executor import RUN_WORK, Reference
from reference.link.link import LinkClosed, LinkTimeout
from reference.protocol import GarbledFrame, Message, decode_panic

END: Final = "$"
"""The line after the kernel's answer; and what a line for its shell begins with."""
_REFUSAL: Final = "error: "

_WITHOUT_WORDS: Final = ("tree", "help")
_PLACE: Final = re.compile(r" at (0x[0-9a-f]+)")
_RESULT: Final = re.compile(r"^(\w+) (-\d+)")


def translate(line: str, granule: Granule = GRANULE_4K, capabilities: Capabilities = EVERYTHING) -> str:
    """The line that a kernel for that granule understands; empty for a blank or a comment. Raises BadInput, also for
    what they lack."""
    text = line.partition("#")[0].strip()
    head, *words = text.split() or [""]
    if head == "reset":
        machine = machine_of(words, granule, capabilities)
        return " ".join([head, *(f"{name}={value:#x}" for name, value in machine.changed().items())])
    name = words[1] if len(words) > 1 and words[0] == "=" else head  # what it makes may be given a name
    if name in OPS_BY_NAME:
        op = _parsed_op(text, OPS_BY_NAME[name], capabilities)
        args = zip(op.definition.args, op.args, strict=True)
        return " ".join([name, *(f"{arg.name}={value:#x}" for arg, value in args)])
    if head in _WITHOUT_WORDS and words:
        raise BadInput(f"expected the end of the line after `{head}`, got `{' '.join(words)}`")
    if head and head not in _WITHOUT_WORDS:
        alike = difflib.get_close_matches(name, [*OPS_BY_NAME, "reset", *_WITHOUT_WORDS], 1)
        hint = f": perhaps `{alike[0]}`?" if alike else ":"
        raise BadInput(f"`{name}` is no op{hint} `help` lists them")
    return head


def machine_of(settings: Sequence[str], granule: Granule, capabilities: Capabilities = EVERYTHING) -> Machine:
    """The machine that settings (`fwb=off`) make of that granule's usual one. Raises BadInput."""
    words = [*settings]
    if not any(word.startswith("granule=") for word in words):
        words.insert(0, f"granule={granule.name}")
    machine = _parsed("\n".join(word.replace("=", " = ", 1) for word in words), capabilities).machine
    if machine.granule is not granule:
        own = machine.granule.name
        raise BadInput(
            f"this kernel was built for pages of {granule.name}, not of {own}: `s2fuzz shell --granule {own}` has one"
        )
    return machine


def _parsed(text: str, capabilities: Capabilities) -> Program:
    with _without_place():
        program = parse(f"s2 {FORMAT_VERSION}\n{text}\n", "")
    capabilities.check(program, "this kernel")
    return program


def _parsed_op(text: str, definition: OpDef, capabilities: Capabilities) -> Op:
    stage = definition.stages[0]  # whether the table is of the op's stage only the kernel knows
    with _without_place():
        op = parse_op(text, stage, "")
    capabilities.check(Program((op,), Machine.of(stage=stage)), "this kernel")
    return op


@contextmanager
def _without_place() -> Iterator[None]:
    """Say what is wrong with a line, and not where in a program of ours it stands."""
    try:
        yield
    except MalformedProgram as error:
        raise BadInput(str(error).removeprefix(f":{error.line}:{error.column}: ")) from error


class _LineLink(ConsoleLink):
    """A console on which lines of text are exchanged, too."""

    def ask(self, line: str, silence: float, work: float) -> Iterator[str | Message]:
        """The lines up to END, or up to a message, which says that something went wrong.

        Raises LinkTimeout as `receive` does, for each line, and LinkClosed.
        """
        child = self._running()
        child.send(f"{END} {line}\n".encode("ascii"))
        while (said := self._next(child, self.deadline(silence, work))) != END.encode():
            message = _message(said)
            yield printable(said) if message is None else message
            if message is not None:
                return


def _message(line: bytes) -> Message | None:
    try:
        return message_in(line)
    except GarbledFrame:  # text that looks like one
        return None


class Shell(Reference):
    """A kernel whose shell can be asked; it runs programs as well, which take the shell's table away.

    `table_machine` is the machine of the table that its lines work on.
    """

    def __init__(self, image: Image, name: str, work: float = RUN_WORK) -> None:
        self._lines = _LineLink(image.elf)
        super().__init__(image, name, self._lines, work)
        self._lines.has_monitor = True  # for a table of hyp's that its lines may ask for
        self.table_machine = machine_of((), image.granule)

    def understood(self, line: str) -> str:
        """The line as this kernel understands it (see `translate`). Raises BadInput."""
        return translate(line, self.image.granule, self.capabilities)

    def ask(self, line: str) -> Iterator[str]:
        """The kernel's answer to one line, as it comes.

        Raises BadInput for a line that cannot be meant, TargetDied when the kernel crashes or hangs: the next line
        has a fresh one, with an empty table.
        """
        request = self.understood(line)
        if not request:
            return
        if not self._running:
            self._boot()
            self.table_machine = machine_of((), self.image.granule)
        refusal = None
        try:
            for said in self._lines.ask(request, self.silence, self._limit):
                if isinstance(said, Message):
                    raise self._failure(said)
                if said.startswith(_REFUSAL):
                    refusal = said.removeprefix(_REFUSAL)
                elif said:
                    yield self._readable(said)
        except LinkTimeout:
            raise TargetDied(self._hang(), self) from None
        except (LinkClosed, OSError) as error:
            self.refresh()
            raise ToolFailure(f"{self.name}: QEMU ended") from error
        if refusal is not None:
            raise BadInput(refusal)
        head, *words = line.partition("#")[0].split()
        if head == "reset":
            self.table_machine = machine_of(words, self.image.granule)

    def state(self) -> Observation:
        """What the last line's op did, as the only record, and what there is now; asked again, without a record. Where
        no line has made a table yet, an empty one is made. Raises ToolFailure as a program's run does."""
        lost = self.lost
        self._machine = self.table_machine
        self._begin("S", b"")
        observation = self._decoded(self._complete("F"))
        if self.lost > lost:
            raise ToolFailure(f"{self.name}: QEMU ended, and its table with it")
        return observation

    def _failure(self, message: Message) -> Exception:
        if message.type != "P":
            return ToolFailure(f"{self.name} refused the line: {message.payload.decode('ascii', 'replace')}")
        self.refresh()
        return TargetDied(self._crash(decode_panic(message.payload)), self)

    def _readable(self, line: str) -> str:
        named = _RESULT.sub(lambda match: f"{match[1]} {describe_return(int(match[2]))}", line)
        return _PLACE.sub(lambda match: f" at {self.symbols.describe(int(match[1], 16))}", named)
