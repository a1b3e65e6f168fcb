"""The console link: QEMU's serial port on a pair of sockets, driven through pexpect. A pseudo-terminal would pass every
byte through one more thread of the host's kernel."""

from __future__ import annotations

import functools
import os
import re
import resource
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pexpect
from pexpect.socket_pexpect import SocketSpawn

from harness.errors import ToolFailure
from harness.parent_death import die_with
from harness.settings import setting
from reference.link.link import LinkClosed, LinkGarbage, LinkTimeout
from reference.memory_map import RAM_SIZE
from reference.protocol import FRAME_START, GREETING, GarbledFrame, Message, decode_frame, encode_frame

QEMU: Final = "qemu-system-aarch64"
QEMU_SETTING: Final = "S2FUZZ_QEMU"
"""The environment variable that says what to run instead: words as a shell reads them."""
BOOT_TIMEOUT: Final = 20.0
"""Seconds; a boot takes a few hundredths of one, but the machine may be very busy."""

_MACHINE: Final = (
    *("-M", "virt,virtualization=on,gic-version=2"),
    *("-cpu", "max", "-m", f"{RAM_SIZE >> 20}M", "-accel", "tcg,tb-size=32"),
    *("-nodefaults", "-nic", "none", "-display", "none", "-no-reboot"),
    *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
)
_WITH_EL3: Final = ("-machine", "secure=on")
_LIMITS: Final = {resource.RLIMIT_AS: 2 << 30, resource.RLIMIT_FSIZE: RAM_SIZE, resource.RLIMIT_CORE: 0}
"""Of QEMU: address space, of which it takes about a third; a file that it writes, none of which is larger than the
guest's memory; and no core file."""
DOORBELL: Final = b"\a"
"""To the kernel: a request lies in memory; from it: the reply does. BEL is in no line."""

_USUAL_BOOT: Final = 0.05
"""Seconds of CPU time that QEMU takes until the greeting, where the limits of a program's work were measured."""
_LEAST_SHARE: Final = 0.01
"""Of a CPU: what takes less than that is not at work. On a busy machine a QEMU gets more."""
_SHORTEST_WAIT: Final = 0.001
"""Seconds."""
_LINE_END: Final = re.compile(b"[\n" + DOORBELL + b"]")
_MONITOR_TOGGLE: Final = b"\x01c"
_MONITOR_PATIENCE: Final = 5
"""Seconds for an answer of QEMU's monitor."""
_MOST_FRAMES: Final = 256
_TRANSCRIPT_LIMIT: Final = 16384
_GARBAGE_LIMIT: Final = 1 << 20


def qemu_words() -> list[str]:
    """What QEMU's command begins with: mostly its name alone. Raises ToolFailure for a setting that is no command."""
    value = setting(QEMU_SETTING)
    try:
        return [QEMU] if value is None else shlex.split(value)
    except ValueError as error:
        raise ToolFailure(f"{QEMU_SETTING} cannot be read: {error}: {value}") from error


def qemu_version() -> str:
    """The first line of QEMU's version. Raises ToolFailure when it is not installed."""
    words = qemu_words()
    if shutil.which(words[0]) is None:
        remedy = f"{QEMU_SETTING} names it" if QEMU_SETTING in os.environ else "run `make setup`"
        raise ToolFailure(f"{words[0]} is not installed; {remedy}, or install qemu-system-arm")
    return _version_of(tuple(words))


@functools.cache
def _version_of(words: tuple[str, ...]) -> str:
    """Asked once: whoever tells what it runs is asked again and again."""
    return subprocess.run([*words, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def qemu_command(elf: Path, *more: str) -> list[str]:
    """What starts QEMU with a test kernel; where its console goes is for `more` to say."""
    return [*qemu_words(), *_MACHINE, "-kernel", str(elf), *more]


def message_in(line: bytes) -> Message | None:
    """The message that a console line ends with; None where there is none. Raises GarbledFrame."""
    at = line.rfind(FRAME_START)
    return None if at < 0 else decode_frame(line[at:])


def printable(data: bytes) -> str:
    """Guest text that cannot upset a terminal or a page: printable ASCII and line ends only."""
    return "".join(chr(b) if 32 <= b < 127 or b == 10 else "" if b == 13 else "?" for b in data)


class Deadline:
    """When a kernel has had its time: after `timeout` seconds. With `work`, after so many seconds of the CPU time that
    `spent` tells of, or after `timeout` seconds in which it spent next to none: so however busy the machine is, a
    kernel has its time. A QEMU that is wrapped in a process of its own spends none that we see."""

    def __init__(self, timeout: float, work: float | None, spent: Callable[[], float]) -> None:
        self._timeout = timeout
        self._work = work
        self._spent = spent
        self._began = self._mark = 0.0 if work is None else spent()
        self._since = time.monotonic()

    def left(self) -> float:
        """For how many seconds to wait before it may be over; 0 when it is."""
        now = time.monotonic()
        left = self._since + self._timeout - now
        if self._work is not None:
            spent = self._spent()
            if left <= 0.0 and spent - self._mark >= _LEAST_SHARE * self._timeout:
                self._since, self._mark, left = now, spent, self._timeout
            left = min(left, self._work - (spent - self._began))
        return max(left, _SHORTEST_WAIT) if left > 0.0 else 0.0


class ConsoleLink:
    """A test kernel in a QEMU of its own, which ends with this process. `qemu_args` are added to the command."""

    def __init__(self, elf: Path, qemu_args: tuple[str, ...] = ()) -> None:
        self.elf = elf
        self.qemu_args = qemu_args
        self.has_monitor = False
        self._process: subprocess.Popen[bytes] | None = None
        self._console: Any = None
        self._text = bytearray()
        self._unread = bytearray()
        self._pace = 1.0

    @property
    def pace(self) -> float:
        return self._pace

    @property
    def pid(self) -> int | None:
        """The process id of the running QEMU."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        self.close()
        self._text.clear()
        self._unread.clear()
        command = qemu_command(self.elf, *(_WITH_EL3 if self.has_monitor else ()), *self.qemu_args)
        ours, theirs = socket.socketpair()
        with theirs:
            chardev = f"socket,id=console,fd={theirs.fileno()},mux=on"
            console = ("-chardev", chardev, "-serial", "chardev:console", "-mon", "chardev=console")
            try:
                self._process = subprocess.Popen(
                    [*command, *console],
                    stdin=subprocess.DEVNULL,
                    stdout=theirs.fileno(),
                    stderr=theirs.fileno(),
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # Ctrl-C is for us
                    preexec_fn=functools.partial(prepare_qemu, os.getpid()),  # noqa: PLW1509 (it takes no lock)
                )
            except (OSError, subprocess.SubprocessError) as error:
                ours.close()
                raise ToolFailure(f"{command[0]} cannot be started: {error}; run `s2fuzz doctor`") from error
        self._console = SocketSpawn(ours, timeout=BOOT_TIMEOUT, maxread=65536)
        try:
            greeting = self.receive(BOOT_TIMEOUT)
        except (LinkTimeout, LinkClosed, LinkGarbage) as error:
            text = self.transcript().strip()
            self.close()
            raise ToolFailure(f"the test kernel did not boot ({type(error).__name__}); it said: {text!r}") from error
        if greeting.type == "P":
            text = self.transcript().strip()
            self.close()
            raise ToolFailure(f"the test kernel panicked before its greeting; it said: {text!r}")
        if greeting.type != "H" or greeting.payload.decode("ascii", "replace") != GREETING:
            self.close()
            raise ToolFailure(f"the test kernel speaks another protocol: {greeting.payload!r}, expected {GREETING!r}")
        self._pace = max(1.0, self._spent() / _USUAL_BOOT)

    def _spent(self) -> float:
        """Seconds of CPU time that QEMU has taken, in all its threads. None of one that has ended, as its console will
        say as well."""
        process = self._process
        try:
            return 0.0 if process is None else time.clock_gettime(~process.pid << 3 | 2)  # clock_getcpuclockid(3)
        except OSError:
            return 0.0

    def send(self, message: Message) -> None:
        try:
            self._running().send(encode_frame(message))
        except OSError as error:
            raise LinkClosed from error

    def receive(self, timeout: float, work: float | None = None) -> Message:
        while True:
            message = self.hear(timeout, work)
            if message is not None:
                return message

    def ring(self) -> None:
        """Tell the kernel that a request lies in memory. Raises LinkClosed."""
        try:
            self._running().socket.send(DOORBELL)
        except OSError as error:
            raise LinkClosed from error

    def deadline(self, timeout: float, work: float | None = None) -> Deadline:
        """From now on, as `receive` has it."""
        return Deadline(timeout, work, self._spent)

    def hear(self, timeout: float, work: float | None = None) -> Message | None:
        """The next message, or None when the kernel says instead that its reply lies in memory.

        Raises as `receive` does. Of pexpect only the reading is used: its search costs more than a whole round trip
        through memory.
        """
        child = self._running()
        deadline = self.deadline(timeout, work)
        garbage = 0
        damaged = False
        while True:
            try:
                line = self._next(child, deadline)
            except LinkTimeout as error:
                raise (LinkGarbage if damaged else LinkTimeout) from error
            if line == DOORBELL:
                return None
            try:
                message = message_in(line)
            except GarbledFrame:  # text that looks like a frame, or the reply: then nothing will follow
                damaged = True
            else:
                if message is not None:
                    return message
            self._keep(line + b"\n")
            garbage += len(line)
            if garbage > _GARBAGE_LIMIT:
                raise LinkGarbage

    def _next(self, child: Any, deadline: Deadline) -> bytes:
        """The next line of the console, without its end, or DOORBELL. Raises LinkTimeout or LinkClosed."""
        searched = 0
        while (end := _LINE_END.search(self._unread, searched)) is None:
            searched = len(self._unread)
            left = deadline.left()
            try:
                self._unread += child.read_nonblocking(65536, left)
            except (pexpect.TIMEOUT, BlockingIOError) as error:  # the latter where no time was left at all
                if not left:
                    raise LinkTimeout from error
            except (pexpect.EOF, OSError) as error:
                self._keep(bytes(self._unread))
                self._unread.clear()
                raise LinkClosed from error
        if end[0] == DOORBELL:
            said = bytes(self._unread[: end.start()])
            self._keep(said)  # by a kernel that was not at the beginning of a line
            del self._unread[: end.end()]
            return DOORBELL
        line = bytes(self._unread[: end.start()]).rstrip(b"\r")
        del self._unread[: end.end()]
        return line

    def program_counters(self) -> list[int]:
        child = self._running()
        counters: list[int] = []
        try:
            child.send(_MONITOR_TOGGLE + b"\ninfo registers\n")
            registers = {}
            for name in (b"PC", b"X29", b"X30"):
                child.expect(name + rb"=([0-9a-f]{16})", timeout=_MONITOR_PATIENCE)
                registers[name] = int(child.match.group(1), 16)
            counters += (registers[b"PC"], registers[b"X30"])
            frame = registers[b"X29"]
            while frame and len(counters) < _MOST_FRAMES:
                child.send(b"x/2gx 0x%x\n" % frame)
                child.expect(rb"%016x: 0x([0-9a-f]{16}) 0x([0-9a-f]{16})" % frame, timeout=_MONITOR_PATIENCE)
                caller, back = (int(word, 16) for word in child.match.groups())
                if back != counters[-1]:  # X30 is the first frame's, unless the function has called others
                    counters.append(back)
                frame = caller if caller > frame else 0  # a stack grows downwards; anything else is no frame
        except (pexpect.ExceptionPexpect, OSError):
            return counters  # QEMU itself does not answer any more: the caller reports what is known
        return counters

    def transcript(self) -> str:
        return printable(bytes(self._text))

    def close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        self._console.close()

    def _running(self) -> Any:
        if self._process is None:
            raise LinkClosed
        return self._console

    def _keep(self, text: bytes) -> None:
        self._text += text
        del self._text[:-_TRANSCRIPT_LIMIT]


def prepare_qemu(parent: int) -> None:
    """What a child does before it becomes QEMU: limit itself, and die with its parent."""
    for which, most in _LIMITS.items():
        hard = resource.getrlimit(which)[1]
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (limit, limit))
    die_with(parent)
