"""A stateful Hypothesis test of the two executors: what someone would write who knows Hypothesis and the operations.

One rule per op, made from harness.program.definition. The rules collect a program, and teardown runs it on both sides:
running it at every step would run every beginning of it too, for executors keep nothing between programs.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from harness.model.executor import Model
from harness.program.codec import fitting
from harness.program.definition import Arg, OpDef
from harness.program.kinds import IPA, MEMCACHE, OWNER, PAGEWISE_SIZE, PHYS, PROT, SIZE, Kind
from harness.program.kinds.flags import PROT_BITS
from harness.program.machine import DEFAULT_MACHINE, KNOBS, Knob, Machine
from harness.program.ops import op_of
from harness.program.program import Program
from harness.program.space import U64_MAX

_R, _W, _X = (PROT_BITS[name] for name in "rwx")
_PAGE: Final = 1 << 12
_BLOCK: Final = 1 << 21

_near = st.builds(
    lambda gib, mib, page: (gib << 30) + (mib << 21) + (page << 12),
    st.sampled_from([0, 0, 1, 2]),
    st.sampled_from([0, 1, 2, 511]),
    st.sampled_from([0, 0, 1, 2, 3, 511]),
)
_edges = st.sampled_from(
    [
        *(0, 1, _PAGE + 1, (1 << 32) - _PAGE, (1 << 40) - _PAGE, (1 << 40) - _BLOCK, 1 << 40),
        *((1 << 48) - _PAGE, 1 << 48, 1 << 63, U64_MAX - _PAGE + 1, U64_MAX),
    ]
)
_ipas = st.one_of(_near, _near, _near, _edges)
_sizes = st.one_of(st.sampled_from([_PAGE, 2 * _PAGE, 4 * _PAGE, 16 * _PAGE, _BLOCK, 2 * _BLOCK, 1 << 30]), _edges)
_STRATEGIES: Final[dict[Kind, st.SearchStrategy[int]]] = {
    IPA: _ipas,
    PHYS: st.one_of(_near.map(lambda address: address + (1 << 31)), _ipas),
    SIZE: _sizes,
    PAGEWISE_SIZE: st.sampled_from([_PAGE, _PAGE, 2 * _PAGE, 4 * _PAGE, 8 * _PAGE, 0, 1]),
    PROT: st.sampled_from(
        [_R | _W | _X, _R | _W, _R, _R | _X]
        + [_R | _W | PROT_BITS[name] for name in ("device", "nc", "sw0", "sw1")]
        + [PROT_BITS["device"] | PROT_BITS["nc"], 0]
    ),
    MEMCACHE: st.integers(0, 8),
    OWNER: st.sampled_from([0, 1, 2, 31, 32, 255]),
}


def _values(arg: Arg) -> st.SearchStrategy[int]:
    if arg.kind in _STRATEGIES:
        return _STRATEGIES[arg.kind]
    if arg.kind.bits:
        return st.sets(st.sampled_from(sorted(arg.kind.bits.values()))).map(sum)
    return st.integers(0, arg.limit)


def _knob(knob: Knob) -> st.SearchStrategy[Machine]:
    step = max(1, knob.align)
    values = st.integers(0, (knob.high - knob.low) // step).map(lambda index: knob.low + index * step)
    return values.map(lambda value: fitting(DEFAULT_MACHINE, {knob.name: value}))


_OPS: Final = tuple(op for op in Model().capabilities.ops if DEFAULT_MACHINE["stage"] in op.stages)
"""Those that go together, of what both sides offer: stage 2's."""
_machines = st.one_of(
    st.just(DEFAULT_MACHINE), *(_knob(knob) for knob in KNOBS if knob.name not in ("granule", "stage"))
)


class Stop(BaseException):
    """Ends a run from within; not an Exception, which Hypothesis would take for a failure, and shrink."""


def _state_machine(on_program: Callable[[Program], None]) -> type[RuleBasedStateMachine]:
    def start(self: Any, machine: Machine) -> None:
        self.machine = machine
        self.chosen = []

    def teardown(self: Any) -> None:
        on_program(Program(tuple(getattr(self, "chosen", ())), getattr(self, "machine", DEFAULT_MACHINE)))

    members: dict[str, Any] = {"start": initialize(machine=_machines)(start), "teardown": teardown}
    for op in _OPS:
        arguments: dict[str, Any] = {arg.name: _values(arg) for arg in op.args}
        decorate: Callable[[Any], Any] = rule(**arguments)
        members[op.name] = decorate(_step(op))
    return type("PageTable", (RuleBasedStateMachine,), members)


def _step(op: OpDef) -> Callable[..., None]:
    def step(self: Any, **values: int) -> None:
        self.chosen.append(op_of(op.name, **values))

    step.__name__ = op.name
    return step


def run(on_program: Callable[[Program], None], steps: int, seed: int) -> None:
    """Generate programs of up to `steps` ops, one after the other, until `on_program` raises Stop."""
    machine = _state_machine(on_program)
    profile = settings(
        max_examples=10**9,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    while True:  # should Hypothesis ever think it has seen everything
        try:
            run_state_machine_as_test(with_seed(random.Random(seed).getrandbits(32))(machine), settings=profile)
        except Stop:
            return
        seed += 1
