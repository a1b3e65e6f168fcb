"""Verdicts and observations as text that reads well in a terminal, a log and a mail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from harness.amounts import counted, number
from harness.findings.event_text import aligned_events, event_lines, instruction_text
from harness.findings.maplet_text import said, said_otherwise
from harness.findings.promises import promises
from harness.findings.repeats import fold
from harness.findings.trees import describe_entry, side_by_side, tree
from harness.findings.voices import voices
from harness.observation.events import IN_CALL
from harness.observation.layout import EVENT_WORDS, Observation, Record, describe_return
from harness.program.granule import LAST_LEVEL
from harness.program.machine import Machine
from harness.program.ops import INIT
from harness.program.program import Program
from harness.program.results import ResultType, signed
from harness.program.syndromes import describe_esr
from harness.program.text import format_op, format_program
from harness.verdict.compare.results import describe_results
from harness.verdict.effects.lacking import compared
from harness.verdict.tiers import ORDERED_TIERS, Tier
from harness.verdict.verdicts import Verdict

MAX_ROWS = 60
"""Rows of a side-by-side tree or of aligned events, and visits of a walk, that are printed; of what repeats, few."""
_AFTER: Final = 3
"""Ops after the differing one that are printed: they have no part in what is wrong."""
_ABRIDGED: Final = " (a finding's left.txt and right.txt have all of them)"


def verdict_report(program: Program, verdict: Verdict, names: tuple[str, str], notes: Sequence[str] = ()) -> str:
    """The whole report on a finding. `notes` are said first (which kernel the model was verified against)."""
    lines = [f"{verdict.kind}: {verdict.bucket}", *notes, ""]
    lines += _first_op(program, verdict, names)
    if verdict.difference is not None:
        tier = verdict.difference.tier.name.lower()
        lines += ["", f"  {tier} differ{'' if tier.endswith('s') else 's'}: {verdict.difference.what}"]
        width = max(map(len, names))
        lines.append(f"    {names[0]:<{width}}  {verdict.difference.left}")
        lines.append(f"    {names[1]:<{width}}  {verdict.difference.right}")
    if verdict.cut is not None:
        lines += ["", f"  {verdict.cut.describe(names)}"]
    if verdict.problem is not None:
        call = verdict.problem.call
        lines += ["", f"  {call.event}: {verdict.problem.text}", "  what it issues:"]
        lines += [f"    {instruction_text(event, program.machine).strip()}" for event in call.instructions]
    if verdict.stale is not None:
        lines += [
            "",
            f"  {verdict.blamed}: {verdict.stale.text}",
            f"  {verdict.stale.rule.section}: {verdict.stale.rule.says}",
        ]
    if verdict.abort is not None:
        lines += ["", f"  {verdict.blamed}: {verdict.abort.text}"]
    lines += promises(program, verdict, names)
    lines += voices(program, verdict, names)
    if verdict.kind == "emulator":
        lines += ["", *(f"  {line}" for line in _EMULATOR), f"  It ran in {verdict.blamed}."]
    if verdict.died is not None:
        lines += ["", f"  {verdict.died_side}: {verdict.died.kind}: {verdict.died.headline}"]
        lines += [f"    {line}" for line in verdict.died.details.splitlines()]
    lines += _notes(verdict, names)
    if verdict.left is not None and verdict.right is not None:
        rows = side_by_side(verdict.left, verdict.right, program.machine, names)
        if rows:
            lines += ["", "Tables after that op (only rows that differ):", *_cut(fold(rows))]
        otherwise = said_otherwise(verdict.left, verdict.right, names)
        if otherwise:
            lines += ["", "What they say, by ranges of addresses:", *_cut(otherwise)]
        lines += _effects(verdict, names)
        rows = aligned_events(verdict.left, verdict.right, verdict.record, program.machine, names)
        if rows:
            shown = _cut(fold(rows))
            lines += ["", f"Events of that op{_ABRIDGED if len(shown) < len(rows) else ''}:", *shown]
    lines += ["", "Program (> marks the first differing op):", *_marked(program, verdict.record)]
    return "\n".join(lines) + "\n"


def _marked(program: Program, record: int) -> list[str]:
    """The program's text, indented, with a mark before the op of that record, and few of those that follow it."""
    lines = format_program(program).splitlines()
    first_op = len(lines) - len(program.ops)
    marked = [
        f"{'>' if record and i == first_op + record - 1 else ' '} {line}".rstrip() for i, line in enumerate(lines)
    ]
    end = first_op + record + _AFTER
    return marked if len(marked) <= end + 1 else [*marked[:end], f"  … {counted(len(marked) - end, 'more op')}"]


def _first_op(program: Program, verdict: Verdict, names: tuple[str, str]) -> list[str]:
    if verdict.record == 0:
        what = "init (implicit)"
    else:
        what = f"op {verdict.record}: {format_op(program.ops[verdict.record - 1])}"
    lines = [f"{'Op' if names[0] == names[1] else 'First differing op'}: {what}"]
    width = max(map(len, names))
    for name, side in dict(zip(names, (verdict.left, verdict.right), strict=True)).items():
        if side is not None and verdict.record < len(side.records):
            lines.append(f"  {name:<{width}}  {describe_record(side.records[verdict.record])}")
    return lines


def _effects(verdict: Verdict, names: tuple[str, str]) -> list[str]:
    """What the op's events come to, where they differ: whether that does, too, and in what."""
    left, right, difference = verdict.left, verdict.right, verdict.difference
    if left is None or right is None or difference is None or difference.tier not in _TOLD_WITH_EFFECTS:
        return []
    found = compared(left, right, verdict.record)
    if found is None:
        return ["", "Effects of that op: not compared, for it was not finished"]
    lines = []
    for one in found:
        level = "" if one.level is None else f", level {one.level}"
        note = "  (a note: more than the other side is no fault)" if one.is_note else ""
        lines.append(f"  {one.what}{level}{note}")
        width = max(map(len, names))
        lines += [f"    {name:<{width}}  {text}" for name, text in zip(names, (one.left, one.right), strict=True)]
    if all(one.is_note for one in found):
        return ["", "Effects of that op: the same; only order or number of its events differ", *_cut(lines)]
    return ["", "Effects of that op that differ (#: number of the event in the op):", *_cut(lines)]


_EMULATOR: Final = (
    "All else is the same on both sides, the tables bit by bit, so the code under test has no part in this.",
    "Either the emulator's walker is wrong, or what the model takes from the Arm ARM (pgtable/translation.py).",
)
_TOLD_WITH_EFFECTS: Final = ORDERED_TIERS | {Tier.EFFECTS}


def _notes(verdict: Verdict, names: tuple[str, str]) -> list[str]:
    lines = []
    for name, side in zip(names, (verdict.left, verdict.right), strict=True):
        if side is not None and side.notes:
            verb = "printed" if all(note.is_printed for note in side.notes) else "complained"
            lines += ["", f"  {name} {verb}:"]
            lines += [f"    op {note.record}: {note.text}" for note in side.notes[:MAX_ROWS]]
    return lines


def _cut(rows: list[str]) -> list[str]:
    return rows if len(rows) <= MAX_ROWS else [*rows[:MAX_ROWS], f"… {number(len(rows) - MAX_ROWS)} more rows"]


def describe_record(record: Record) -> str:
    """One op's result on one line: return code, out-values, complaints."""
    words = [describe_return(record.ret)]
    if record.definition.repeats:
        words.append(counted(len(record.outs) // len(record.definition.results), "visit"))
    else:
        words += [result.describe(value) for result, value in zip(record.definition.results, record.outs, strict=False)]
    words += [f"[{complaint}]" for complaint in record.complaints]
    return " ".join(words)


def _op_text(program: Program, record: int) -> str:
    return format_op(program.ops[record - 1]) if record else f"{INIT.name} (implicit)"


def run_report(program: Program, observation: Observation, visits: bool = False) -> list[str]:
    """Every op with its result, in order; with `visits`, each visit of a walk as well."""
    lines = []
    for index, record in enumerate(observation.records):
        lines.append(f"{index:>3} {_op_text(program, index)}  => {describe_record(record)}")
        lines += _cut([f"      {note.text}" for note in observation.notes if note.is_printed and note.record == index])
        lines += _cut([f"      {visit}" for visit in _visits(record)] if visits else [])
    unrun = len(program.ops) + 1 - len(observation.records)
    if unrun:
        why = "the budget is spent" if observation.records[-1].ret is None else "there is no table"
        lines.append(f"    {counted(unrun, 'more op', 'more ops')} not run: {why}")
    return lines


def _visits(record: Record) -> list[str]:
    """Of an op whose results repeat, each in words."""
    if not record.definition.repeats:
        return []
    width = len(record.definition.results)
    groups = [record.outs[at : at + width] for at in range(0, len(record.outs), width)]
    return [describe_results(record.definition, group) for group in groups]


def record_lines(observation: Observation, index: int) -> list[str]:
    """What one op did, by itself: its result, the entry that it tells, its visits, what was printed and where what it
    complains of came from."""
    record = observation.records[index]
    lines = [f"{record.definition.name} {describe_record(record)}"]
    lines += [f"  {entry}" for entry in _entry(record, observation.machine)]
    lines += _cut(fold([f"  {visit}" for visit in _visits(record)]))
    return [*lines, *_cut([f"  {note.text}" for note in observation.notes if note.record == index])]


def _entry(record: Record, machine: Machine) -> list[str]:
    """The entry among an op's results, decoded, where its level is told as well."""
    by_type = {result.type: value for result, value in zip(record.definition.results, record.outs, strict=False)}
    level, entry = by_type.get(ResultType.LEVEL), by_type.get(ResultType.ENTRY)
    if record.definition.repeats or level is None or entry is None or signed(level) > LAST_LEVEL:
        return []
    return [describe_entry(entry, signed(level), machine)]


def event_report(program: Program, observation: Observation, most: int | None = None) -> list[str]:
    """Every op with its boundary events, in order; those that TLB functions cause in turn are not counted. Of an op
    with more than `most` events, some at its beginning and at its end."""
    lines = []
    for index, events in enumerate(event_lines(observation, program.machine, most)):
        count = sum(not kind & IN_CALL for kind in observation.records[index].events[::EVENT_WORDS])
        lines.append(f"{index:>3} {_op_text(program, index)}: {counted(count, 'event')}")
        lines += [f"      {event}" for event in events]
    return lines


def observation_text(
    program: Program,
    observation: Observation,
    events: bool = False,
    most_events: int | None = None,
    maplets: bool = False,
) -> str:
    """A whole observation for people: results, tree, accounting; with `maplets`, what the tables say, by ranges of
    addresses; with `events`, the boundary events as well: all, or of an op with more than `most_events` some at either
    end."""
    lines = [*run_report(program, observation, visits=True), ""]
    lines += tree(observation, program.machine)
    lines += [f"at the end: {complaint}" for complaint in observation.final_complaints]
    lines += _stale_accesses(program, observation)
    if maplets:
        lines += ["", "What the tables say, by ranges of addresses:", *(f"  {line}" for line in said(observation))]
    if events:
        lines += ["", *event_report(program, observation, most_events)]
    return "\n".join(lines) + "\n"


def _stale_accesses(program: Program, observation: Observation) -> list[str]:
    """Which accesses and probes may have gone by what a TLB still held, what they may have come to then, and what was
    seen."""
    if not any(record.definition.asks_hardware for record in observation.records):
        return []
    from harness.verdict.tlb.judge import allowed_outcomes  # noqa: PLC0415  (few programs have a guest)

    lines = []
    seen = {one.record: one for one in observation.witnesses}
    for one in allowed_outcomes(program, observation):
        if not one.is_fresh_only:
            lines.append(f"  op {one.record}: {one}")
            lines += [f"    {reason}" for reason in one.reasons]
        if one.record in seen:
            witness = seen[one.record]
            came_to = describe_esr(witness.esr) if witness.esr else f"{witness.told:#x}"
            lines.append(f"  op {one.record}: a TLB served it here: {came_to}")
    return ["", "What a TLB may still hold:", *lines] if lines else []
