"""The model as an executor: runs programs on `pgtable`, under the same budget and bookkeeping as the reference."""

from __future__ import annotations

import traceback
import zlib
from array import array
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from harness.errors import BadInput
from harness.files import VERIFIED_FILES
from harness.model.boundary import Endless
from harness.model.machine_features import machine_features
from harness.model.run import ProgramRun, Variant
from harness.model.tlb_calls import KnownCalls, TlbCalls
from harness.observation.calls import group
from harness.observation.events import events_of
from harness.observation.execution import Execution, Feedback
from harness.observation.executor import CrashReport, TargetDied
from harness.observation.layout import Digest, Observation, observation_of
from harness.program.capabilities import Capabilities, flag_word
from harness.program.kinds import MAP_FLAGS, PROT, VISIT_FLAGS
from harness.program.machine import Machine
from harness.program.program import Program
from pgtable import HOST, NEWEST, OBJECTS, OWNERSHIPS, VERSIONS, KernelObject, LinuxVersion, PagePool, WildAccess

MODELLED: Final = tuple(VERSIONS)
"""The versions that the model knows."""
_KEPT_POOLS: Final = 16


class Model:
    """Runs programs in Python, as Linux `version` (a key of `pgtable.VERSIONS`) would.

    `6.12+flag` is that version with another way to record owners (a key of `pgtable.OWNERSHIPS`). With `calls_only` TLB
    functions are known by their calls alone, as in a kernel of that flavour; `kernel_object` (a key of
    `pgtable.OBJECTS`) is what the code is built as. Raises BadInput for what is not modelled.
    """

    def __init__(self, version: str = NEWEST.name, calls_only: bool = False, kernel_object: str = HOST.name) -> None:
        number, plus, ownership = version.partition("+")
        if number not in VERSIONS:
            raise BadInput(f"model:{version}: the model knows {', '.join(sorted(VERSIONS))}")
        if plus and ownership not in OWNERSHIPS:
            raise BadInput(f"model:{version}: the ways to record owners are {', '.join(OWNERSHIPS)}")
        self.version: LinuxVersion = VERSIONS[number]
        if plus and not self.version.locks_entries:
            raise BadInput(f"model:{version}: ways to record owners are not modelled for {number}")
        self.capabilities = _capabilities(self.version)
        self.ownership = OWNERSHIPS[ownership] if plus else None
        """None for Linux's own, at full speed."""
        self.kernel_object: KernelObject = OBJECTS[kernel_object]
        self._program: Program | None = None
        self._features = lru_cache(maxsize=1024)(machine_features)
        self._pools: dict[tuple[int, int, int], PagePool] = {}
        self._calls = None if calls_only else TlbCalls(self.version)

    def take_over(self, known: KnownCalls) -> None:
        """Go on in the place of another one, of which these are the `known_calls`."""
        if self._calls is not None:
            self._calls = TlbCalls(self.version, known)

    @property
    def known_calls(self) -> KnownCalls:
        """The calls of TLB functions that `Execution.new_calls` tells no more."""
        return {} if self._calls is None else self._calls.known

    @property
    def name(self) -> str:
        way = f"+{self.ownership.name}" if self.ownership else ""
        built = "" if self.kernel_object is HOST else f"+{self.kernel_object.name}"
        return f"model:{self.version.name}{way}{built}"

    @property
    def identity(self) -> Mapping[str, str]:
        return {
            "object": self.kernel_object.name,
            VERIFIED_FILES: self.version.files,
            "version": self.version.name,
        }

    @property
    def gives_feedback(self) -> bool:
        return True

    def start(self, program: Program) -> None:
        self.capabilities.check(program, self.name)
        self._program = program

    def finish(self) -> Execution:
        run, pieces = self._run()
        crc = 0
        for piece in pieces:
            crc = zlib.crc32(piece, crc)
        digest, boundary = Digest(sum(map(len, pieces)), crc), run.boundary
        fresh = [
            call for record, events, whose in boundary.fresh_calls for call in group(record, events_of(events), whose)
        ]
        return Execution(digest, Feedback(run.returns, run.levels, run.kinds, boundary.shape), fresh)

    def observe(self, program: Program) -> Observation:
        self.start(program)
        run, pieces = self._run()
        return observation_of(array("Q", b"".join(pieces)), run.notes, program.machine)

    def refresh(self) -> None:
        self._program = None

    def close(self) -> None:
        self.refresh()

    def _pool(self, machine: Machine) -> PagePool:
        """A pool for the machine; made once, for that costs as much as running a small program."""
        key = machine["pool_base"], machine["pool_pages"], machine["granule"]
        if key not in self._pools:
            if len(self._pools) == _KEPT_POOLS:
                self._pools.clear()
            self._pools[key] = PagePool(*key[:2], page_size=machine.granule.page)
        return self._pools[key]

    def _run(self) -> tuple[ProgramRun, list[memoryview]]:
        """The started program's run, when it is over, and its observation's words in pieces, good until the next."""
        assert self._program is not None, "start a program first"
        if self._calls is not None:
            self._calls.trim()
        machine = self._program.machine
        variant = Variant(self.version, self.kernel_object, self.ownership)
        run = ProgramRun(self._program, variant, self._features(machine), self._pool(machine), self._calls)
        try:
            return run, run.run()
        except (WildAccess, RecursionError, Endless) as error:
            raise TargetDied(_death(error), self) from error
        finally:
            run.end()


def _capabilities(version: LinuxVersion) -> Capabilities:
    bits = {PROT: version.prots, MAP_FLAGS: version.walk_flags, VISIT_FLAGS: version.walk_flags}
    flags = {
        flag_word(kind, name) for kind, known in bits.items() for name, bit in kind.bits.items() if not bit & known
    }
    settings = {"lpa2": version.lpa2, "vcpu": version.tlb_asks_who_runs, "hvhe": version.hyp_modes}
    knobs = {name for name, met in settings.items() if not met}
    return Capabilities(version.lacks | flags | knobs)


def _death(error: Exception) -> CrashReport:
    where = traceback.extract_tb(error.__traceback__)[-1].name
    details = "".join(traceback.format_exception(error))
    kind = "hang" if isinstance(error, Endless) else "crash"
    return CrashReport(kind, f"{type(error).__name__} in {where}", where, details)
