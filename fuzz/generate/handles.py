"""Handles while ops are dropped, moved and joined: who uses what, so that users keep what they used, or get another.

A handle's number counts the ops that make one of its kind, so every change moves numbers. Here a use is tied to the op
that made what it uses, until `Handles.settle` writes the numbers anew.
"""

from __future__ import annotations

from random import Random
from typing import Final

from harness.program.kinds import Handle
from harness.program.parts import Part, Parts, read_argument
from harness.program.space import space_of

_AS_IT_IS: Final = 1 / 16
"""How many new uses keep a number that was left to chance, whatever that stands for."""


class Handles:
    """The uses of handles in the ops of some inputs, as long as these are joined and changed."""

    def __init__(self, *inputs: Parts) -> None:
        self._uses: dict[tuple[int, int], tuple[Part, Part | None]] = {}
        """By a user's identity and the place of its argument: the user, and who made what it uses. Those that used
        what nothing before them had made go on doing that: None."""
        for parts in inputs:
            self._bind(parts)

    def _bind(self, parts: Parts) -> None:
        made: dict[Handle, list[Part]] = {}
        for op in parts.ops:
            definition = parts.definition(op)
            if definition.handles:
                space = space_of(parts.machine)
                for place in definition.handles:
                    kind = definition.args[place].kind
                    assert isinstance(kind, Handle)
                    makers = made.get(kind, [])
                    number = read_argument(kind, op[1 + place], space, 0)
                    self._uses[id(op), place] = op, makers[number] if number < len(makers) else None
            if definition.makes is not None:
                made.setdefault(definition.makes, []).append(op)

    def copied(self, ops: list[Part]) -> list[Part]:
        """Copies of ops. Those that make something make another; a copy uses what was made by a copy, where there is
        one, else what the original uses."""
        copies = {id(op): list(op) for op in ops}
        for (user, place), (_, maker) in [*self._uses.items()]:
            if user in copies:
                copy = copies[user]
                self._uses[id(copy), place] = copy, None if maker is None else copies.get(id(maker), maker)
        return [copies[id(op)] for op in ops]

    def forget(self, op: Part) -> None:
        """Let `op` use something else, as a new one would."""
        for key in [key for key, (user, _) in self._uses.items() if user is op]:
            del self._uses[key]

    def settle(self, parts: Parts, choice: Random) -> None:
        """Number the handles of `parts` anew.

        A use whose maker is gone, or comes later, gets another handle of its kind that is live there; where there is
        none, its op is dropped. A use of what has ended by now, and a new use, get one if there is one; else they stay
        as they are.
        """
        numbers: dict[int, int] = {}
        made: dict[Handle, int] = {}
        live: dict[Handle, list[Part]] = {}
        kept: list[Part] = []
        for op in parts.ops:
            definition = parts.definition(op)
            if definition.handles and not self._settled(op, parts, numbers, live, choice):
                continue
            kept.append(op)
            kind = definition.makes
            if kind is not None:
                numbers[id(op)] = made.get(kind, 0)
                made[kind] = numbers[id(op)] + 1
                live.setdefault(kind, []).append(op)
        parts.ops[:] = kept

    def _settled(
        self, op: Part, parts: Parts, numbers: dict[int, int], live: dict[Handle, list[Part]], choice: Random
    ) -> bool:
        """Write the numbers of what `op` uses; whether it stays."""
        definition = parts.definition(op)
        for place in definition.handles:
            kind = definition.args[place].kind
            assert isinstance(kind, Handle)
            others = live.get(kind, [])
            use = self._uses.get((id(op), place))
            if use is None:
                if not others or choice.random() < _AS_IT_IS:
                    continue
                maker = choice.choice(others)
            elif use[1] is None:
                continue
            else:
                maker = use[1]
                if not any(maker is one for one in others):
                    if others:
                        maker = choice.choice(others)
                    elif id(maker) not in numbers:
                        return False
            self._uses[id(op), place] = op, maker
            op[1 + place] = kind.encode(numbers[id(maker)], space_of(parts.machine), 0)
            if definition.ends:
                live[kind] = [one for one in others if one is not maker]
        return True
