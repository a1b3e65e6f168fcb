"""What lines say to a table in a running kernel, one after the other: settings, ops, names of what ops made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from fuzz.cli.shell_words import help_lines
from harness.errors import BadInput
from harness.findings.event_text import event_lines
from harness.findings.repeats import fold
from harness.findings.report import record_lines
from harness.findings.trees import tree
from harness.observation.layout import Observation
from harness.program.kinds import Role
from harness.program.machine import KNOBS_BY_NAME, Machine
from harness.program.ops import OPS_BY_NAME
from harness.program.text import FORMAT_VERSION
from reference.link.shell import Shell, machine_of

_VERSION: Final = "s2"
_FIRST_LINE: Final = f"{_VERSION} {FORMAT_VERSION}"
_REQUIRES: Final = "requires"


class Session:
    """The lines of a person or a file. A program's first lines, which come before its ops, say of what machine the next
    table is."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.names: dict[str, str] = {}
        """What lines call what ops made, and the kernel's names of that: `{"mine": "t1"}`."""
        self._settings: list[str] = []
        """Of the table's machine, or of the next one's: `["fwb=off"]`."""
        self._is_due = True
        """Whether the next op needs a table of its own."""
        self._last: Observation | None = None
        """What the last op did."""

    @property
    def machine(self) -> Machine:
        """Of the table that the next op works on."""
        return machine_of(self._settings, self.shell.image.granule)

    @property
    def handles(self) -> list[str]:
        """Names of what ops made: the lines' own, and the kernel's."""
        return list(dict.fromkeys([*self.names, *self.names.values()]))

    def start_afresh(self) -> None:
        """The kernel is another: the next op has an empty table, of the same machine."""
        self.shell.refresh()
        self._is_due = True

    def answers(self, line: str) -> Iterator[str]:
        """What a line comes to, for people. Raises BadInput for one that cannot be meant, TargetDied when the kernel
        crashes or hangs, ToolFailure."""
        text = line.partition("#")[0].strip()
        head, *words = text.split() or [""]
        if head == _VERSION or (words[:1] == ["="] and (head in KNOBS_BY_NAME or head == _REQUIRES)):
            self._set(text, head, words)
        elif head == "reset":
            machine_of(words, self.shell.image.granule, self.shell.capabilities)
            self._settings = words
            yield from self._reset()
        elif head == "help":
            yield from help_lines(words, self.shell.capabilities, self.machine)
        elif text == "tree":
            yield from self._made_ready()
            yield from tree(self.shell.state(), self.shell.table_machine)
        elif text == "events":
            yield from self._events()
        elif head:
            yield from self._op(head, words)

    def _set(self, text: str, head: str, words: Sequence[str]) -> None:
        """A line of those before the ops."""
        setting = f"{head}={' '.join(words[1:])}"
        if head == _VERSION:
            if text != _FIRST_LINE:
                raise BadInput(f"expected `{_FIRST_LINE}`, got `{text}`")
            self._settings, self._is_due = [], True
        elif not self._is_due:
            raise BadInput(f"settings come before the first op: `reset {setting}` begins anew, or `{_FIRST_LINE}`")
        else:
            machine_of([*self._settings, setting], self.shell.image.granule, self.shell.capabilities)
            self._settings += [setting] if head != _REQUIRES else []

    def _reset(self) -> Iterator[str]:
        self.names.clear()
        self._is_due = False
        yield from self._done(" ".join(["reset", *self._settings]))

    def _made_ready(self) -> Iterator[str]:
        """Make the table that is due; say so where it is another than usual."""
        if self._is_due:
            said = list(self._reset())
            yield from said if self._settings else ()

    def _op(self, head: str, words: Sequence[str]) -> Iterator[str]:
        is_named = len(words) > 1 and words[0] == "="
        op = OPS_BY_NAME.get(words[1] if is_named else head)
        handles = {arg.name for arg in op.args if arg.kind.role is Role.HANDLE} if op else set()
        numbered = []
        for word in words:
            name, equals, value = word.partition("=")
            known = self.names.get(value) if equals and name in handles else None
            numbered.append(f"{name}={known}" if known else word)
        request = " ".join([head, *numbered])
        self.shell.understood(request)
        yield from self._made_ready()
        yield from self._done(request)
        if is_named and op is not None and op.makes is not None and self._last is not None:
            outs = self._last.records[0].outs
            self.names[head] = op.makes.format(outs[0]) if outs else head

    def _done(self, request: str) -> Iterator[str]:
        """Carry a line out that makes a record, and say what that is."""
        for _ in self.shell.ask(request):
            pass  # for whoever reads the serial port; what it says is in the record
        self._last = self.shell.state()
        yield from record_lines(self._last, 0)

    def _events(self) -> Iterator[str]:
        if self._last is None:
            raise BadInput("no op yet whose events could be told")
        (events,) = event_lines(self._last, self.shell.table_machine)
        yield from fold(events) or ["no event"]
