"""Building observations from others: for tests that change one thing in what the model observed."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from harness.model.executor import Model
from harness.observation.descriptors import entry_address, is_table_entry
from harness.observation.events import EVENTS_BY_NUMBER, MSR, STORE_KINDS, SYSREGS, VTTBR_ADDRESS, Event, events_of
from harness.observation.layout import EVENT_WORDS, Complaint, Observation, Page, Record, observation_of
from harness.observation.tables import paired_tables
from harness.program.space import U64_MAX
from harness.program.text import parse


def observe(text: str, **knobs: int | str) -> Observation:
    """What the model observes of a program's ops; the version line and knobs are put before them."""
    header = "".join(f"{name} = {value}\n" for name, value in knobs.items())
    return Model().observe(parse(f"s2 1\n{header}{text}"))


def lay_out(observation: Observation) -> array[int]:
    """The words of an observation, from its decoded parts."""
    words = array("Q")
    for record in observation.records:
        ret = 0 if record.ret is None else record.ret & U64_MAX
        words.extend((record.definition.number, int(record.ret is None), ret, len(record.outs), *record.outs))
        _lay_out_complaints(record.complaints, words)
        words.append(len(record.events) // EVENT_WORDS)
        words.extend(record.events)
    words.append(0)
    _lay_out_complaints(observation.final_complaints, words)
    words.append(len(observation.roots))
    for root in observation.roots:
        words.extend((root.pa, root.pages, root.level & U64_MAX, root.ia_bits, len(root.holders)))
        words.extend(chain.from_iterable((holder.kind, holder.number) for holder in root.holders))
    words.extend((observation.allocs, observation.frees, len(observation.caches)))
    for cache in observation.caches:
        words.extend((cache.kind, cache.number, len(cache.pages), *cache.pages))
    words.append(len(observation.pages))
    for pa in sorted(observation.pages):
        page = observation.pages[pa]
        words.extend((page.pa, page.refcount, page.table, *page.entries))
    return words


def _lay_out_complaints(complaints: Sequence[Complaint], words: array[int]) -> None:
    words.append(len(complaints))
    for one in complaints:
        words.extend((one.kind, one.code, one.value))


def changed(observation: Observation, **parts: Any) -> Observation:
    """The same observation with some parts replaced, laid out and decoded again."""
    return observation_of(lay_out(replace(observation, **parts)), observation.notes, observation.machine)


def with_record(observation: Observation, index: int, **parts: Any) -> Observation:
    """The same observation with one record changed."""
    records = list(observation.records)
    records[index] = replace(records[index], **parts)
    return changed(observation, records=tuple(records))


def with_events(observation: Observation, index: int, events: Iterable[Event]) -> Observation:
    """The same observation with other events in one record."""
    return with_record(observation, index, events=array("Q", chain.from_iterable(events)))


def with_page(observation: Observation, pa: int, **parts: Any) -> Observation:
    """The same observation with one page changed."""
    return changed(observation, pages={**observation.pages, pa: replace(observation.pages[pa], **parts)})


def with_cache(observation: Observation, kind: int, pages: Iterable[int]) -> Observation:
    """The same observation with other pages in one cache."""
    kept = (replace(cache, pages=tuple(pages)) if cache.kind == kind else cache for cache in observation.caches)
    return changed(observation, caches=tuple(kept))


def with_entry(observation: Observation, pa: int, index: int, entry: int) -> Observation:
    """The same observation with one entry of one page changed."""
    entries = list(observation.pages[pa].entries)
    entries[index] = entry
    return with_page(observation, pa, entries=array("Q", entries))


def relabelled(observation: Observation, names: Mapping[int, int]) -> Observation:
    """The same observation with pages at other addresses; pages that `names` leaves out keep theirs."""
    levels = {page.pa: level for _, level, page, _ in paired_tables(observation, observation)}

    def rename(entry: int, level: int) -> int:
        address = entry_address(entry)
        if is_table_entry(entry, level) and address in names:
            return entry - address + names[address]
        return entry

    def rename_event(event: Event) -> Event:
        if event.instruction == MSR and event.a == SYSREGS["vttbr_el2"]:
            root = event.b & VTTBR_ADDRESS
            return event._replace(b=event.b - root + names.get(root, root))
        if event.is_in_call or not EVENTS_BY_NUMBER[event.kind].table_address:
            return event
        page = event.a & ~0xFFF
        is_table = event.kind in STORE_KINDS and event.b & ~entry_address(event.b) == 0b11
        return event._replace(a=names.get(page, page) + event.a % 4096, b=rename(event.b, 0) if is_table else event.b)

    def rename_record(record: Record) -> Record:
        events = array("Q", chain.from_iterable(map(rename_event, events_of(record.events))))
        return rename_visits(replace(record, events=events))

    def rename_visits(record: Record) -> Record:
        if not record.definition.repeats:
            return record
        outs = list(record.outs)
        for at in range(0, len(outs), 4):
            outs[at + 3] = rename(outs[at + 3], outs[at + 1])
        return replace(record, outs=tuple(outs))

    pages = {}
    for pa, page in observation.pages.items():
        entries = [rename(entry, levels[pa]) for entry in page.entries] if pa in levels else page.entries
        pages[names.get(pa, pa)] = Page(names.get(pa, pa), page.refcount, page.table, array("Q", entries))
    return changed(
        observation,
        records=tuple(map(rename_record, observation.records)),
        roots=tuple(replace(root, pa=names.get(root.pa, root.pa)) for root in observation.roots),
        caches=tuple(
            replace(cache, pages=tuple(names.get(pa, pa) for pa in cache.pages)) for cache in observation.caches
        ),
        pages=pages,
    )
