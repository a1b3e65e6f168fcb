"""The names of buckets, as people write them into lists of what is known.

    TIER-OP-WHAT[-levelN]            a divergence, by its tier (`harness.verdict.tiers`)
    emulator-OP-WHAT                 a translation in which the hardware differs where all else is the same
    invalidation-OP-FUNCTION-WHAT    a TLB function that fails its caller
    stale-OP-WHAT                    what a TLB may hold and must not
    contract-OP-NAME                 a promise that is broken (docs/contracts.md)
    abort-OP-WHAT                    a guest's abort that is not handled as its rule has it
    crash|hang-OP-PLACE              PLACE is a function
    flood-OP

Judges make them, each its own (`Difference.bucket`, `harness.verdict.judge`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from typing import Final

from harness.errors import BadInput
from harness.observation.events import EVENTS, EVENTS_BY_NUMBER, TLB_CALLS
from harness.observation.layout import LOCKING_REPORTS, UBSAN_REPORTS
from harness.outside import shown
from harness.program.ops import STANDARD
from harness.program.results import ResultType
from harness.verdict.aborts import WRONGS
from harness.verdict.compare.translations import TRANSLATION_PARTS
from harness.verdict.tiers import Tier

_TIERS: Final = frozenset(tier.name.lower() for tier in Tier)
_KINDS: Final = (*sorted(_TIERS), "abort", "contract", "emulator", "invalidation", "stale", "crash", "hang", "flood")
_OPS: Final = tuple(STANDARD.by_name)
_EVENTS: Final = frozenset({*(one.name for one in EVENTS), *UBSAN_REPORTS.values(), *LOCKING_REPORTS.values()})
_CALLS: Final = frozenset(EVENTS_BY_NUMBER[number].name for number in TLB_CALLS)
_LEVEL: Final = re.compile(r"-level-?[0-9]$")


def listed_buckets(text: str) -> frozenset[str]:
    """The buckets in a list: one a line, with comments behind #."""
    return frozenset(bucket for line in text.splitlines() if (bucket := _bucket_in(line)))


def check_buckets(text: str, source: str) -> None:
    """Raise BadInput, naming `source` and the line, where a list has what no finding can be called."""
    for number, line in enumerate(text.splitlines(), start=1):
        bucket = _bucket_in(line)
        if bucket and (problem := problem_with(bucket)):
            raise BadInput(f"{source}:{number}: `{shown(bucket)}` is no bucket: {problem}")


def _bucket_in(line: str) -> str:
    return line.partition("#")[0].strip()


def problem_with(bucket: str) -> str:
    """Why no finding can have that bucket; empty where one can, as far as is known: of accounting, effects and
    invalidations only the beginning is looked at, and functions that crash or hang are the kernel's."""
    kind, _, rest = bucket.partition("-")
    if kind not in _KINDS:
        return _expected("it begins with the tier or kind", kind, _KINDS)
    op, dash, what = rest.partition("-")
    if op not in _OPS:
        return _expected(f"an op stands behind {kind}-", op, _OPS)
    if kind == "flood":
        return "nothing stands behind the op of a flood" if dash else ""
    if not what:
        return f"what is wrong stands behind {kind}-{op}-, as in a report's first line"
    return _problem_with_what(kind, op, _LEVEL.sub("", what))


def _problem_with_what(kind: str, op: str, what: str) -> str:
    if kind == "results":
        names = [result.name for result in STANDARD.by_name[op].results]
        words: Collection[str] = ("ran", "return", *names, *(f"{name}s" for name in names[:1]))
    elif kind in ("translation", "emulator"):
        words = _translated(op)
    elif kind == "tables":
        words = ("root", "shared_root", "entry", "dangling_table")
    elif kind == "events":
        words = _EVENTS
    elif kind == "instructions":
        what, words = what.rpartition("_")[0], (*_CALLS, "no_call")
    elif kind == "invalidation":
        what, words = what.partition("-")[0], _CALLS
    elif kind == "abort":
        words = WRONGS
    elif kind == "contract":
        from harness.verdict.contracts.families import CONTRACTS  # noqa: PLC0415  (few lists name any)
        from harness.verdict.contracts.metamorphic import RELATIONS  # noqa: PLC0415

        words = (*CONTRACTS.by_name, *(one.name for one in RELATIONS))
    else:
        return ""
    return "" if what in words else _expected(f"behind {kind}-{op}- stands another word", what, words)


def _translated(op: str) -> Collection[str]:
    """In what a translation or an access may differ."""
    words = ["return"]
    for result in STANDARD.by_name[op].results:
        is_translation = result.type is ResultType.TRANSLATION
        words += [f"{result.name}_{part}" for part in TRANSLATION_PARTS] if is_translation else [result.name]
    return words


def _expected(what: str, got: str, words: Collection[str]) -> str:
    near = difflib.get_close_matches(got, words, n=1)
    words_meant = f"perhaps `{near[0]}`" if near else f"one of {', '.join(sorted(words))}"
    return f"{what}, {words_meant}, not `{shown(got)}`"
