"""A contract: one promise of one or more operations, where it is made, and the check that it was kept.

A contract is a function of a transition. Its docstring is the promise, as docs/contracts.md prints it. It returns None
where its premise does not hold, so that there is nothing to keep; else what is broken, in a sentence each, and nothing
where it was kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from harness.verdict.contracts.states import Transition

Check = Callable[[Transition], Iterable[str] | None]


@dataclass(frozen=True, slots=True)
class Contract:
    """`name` is what buckets and lists call it. `ops` are those that it is about; none: every op. `source` is where the
    promise is made: a header's comment, the architecture, a commit's subject and date. One that cannot be cited is
    `proposed`: what breaks it is told, but is nobody's fault."""

    name: str
    ops: tuple[str, ...]
    source: str
    proposed: bool
    check: Check = field(compare=False)

    @property
    def promise(self) -> str:
        """In plain words."""
        return " ".join((self.check.__doc__ or "").split())


def contract(*ops: str, source: str, proposed: bool = False) -> Callable[[Check], Contract]:
    """Make a contract of a function, which gives it its name."""

    def make(check: Check) -> Contract:
        return Contract(check.__name__.replace("_", "-"), ops, source, proposed, check)

    return make


@dataclass(frozen=True, slots=True)
class Violation:
    """What broke a contract: in which record, how, in a sentence, and what the op did."""

    contract: Contract
    record: int
    op: str
    sentence: str
    transition: Transition = field(repr=False, compare=False)

    @property
    def bucket(self) -> str:
        """What makes two violations the same."""
        return f"contract-{self.op}-{self.contract.name}"


@dataclass(slots=True)
class Coverage:
    """How often each contract was asked, and how often its premise held, by name."""

    asked: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)


class Contracts:
    """Contracts by the ops that they are about. ValueError where two share a name."""

    def __init__(self, contracts: Sequence[Contract]) -> None:
        self.all: Final = tuple(contracts)
        self.by_name: Final = {one.name: one for one in contracts}
        if len(self.by_name) != len(self.all):
            raise ValueError("two contracts have the same name")
        self._of_all: Final = [one for one in contracts if not one.ops]
        self._by_op: dict[str, tuple[list[Contract], list[Contract]]] = {}
        """An op's own, and with them those of all ops."""

    def of(self, transition: Transition) -> list[Contract]:
        """Those that an op has to keep. Those of all ops are about what it does: one that does nothing keeps them."""
        op = transition.op.name
        found = self._by_op.get(op)
        if found is None:
            its_own = [one for one in self.all if op in one.ops]
            found = self._by_op[op] = its_own, [*self._of_all, *its_own]
        return found[0] if transition.is_idle else found[1]

    def broken(self, transition: Transition, coverage: Coverage | None = None) -> list[Violation]:
        """What an op broke."""
        found = []
        for one in self.of(transition):
            told = one.check(transition)
            if coverage is not None:
                coverage.asked[one.name] += 1
                coverage.held[one.name] += told is not None
            if told is not None:
                found += [
                    Violation(one, transition.number, transition.op.name, sentence, transition) for sentence in told
                ]
        return found
