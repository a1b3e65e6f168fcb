"""A run of leaves filled at once is the same, event by event, as one filled leaf by leaf."""

from __future__ import annotations

import dataclasses
from random import Random

import pytest

from fuzz.generate.fresh import random_input
from fuzz.generate.scenario import vm_scenario
from harness.model.boundary import Boundary
from harness.model.executor import MODELLED, Model
from harness.observation.events import events_of
from harness.program.codec import decode, dialect_for
from harness.program.machine import Machine
from harness.program.program import Program
from harness.program.text import parse
from pgtable import LeafRun

FILLING = """
s2 1
{knobs}
map ipa=0x200000 size=2M phys=0x80001000 prot={prot} mc=5 {flags}
"""


def observe(program: Program, version: str = "6.12") -> list[int]:
    return list(Model(version).observe(program).words)


@pytest.mark.parametrize("knobs", ["fwb = off", "fwb = on", "budget = 700", "budget = 1530"])
@pytest.mark.parametrize("prot", ["r", "rw", "rwx", "rw+device", "rx+sw1"])
@pytest.mark.parametrize("flags", ["", "flags=handle_fault+shared", "flags=skip_cmo"])
def test_a_whole_table(monkeypatch: pytest.MonkeyPatch, knobs: str, prot: str, flags: str) -> None:
    program = parse(FILLING.format(knobs=knobs, prot=prot, flags=flags))
    at_once = observe(program)
    monkeypatch.setattr(Boundary, "fill", lambda self, run: 0)
    assert observe(program) == at_once


@pytest.mark.parametrize("knobs", ["fwb = off", "fwb = on", "budget = 700", "budget = 1530"])
@pytest.mark.parametrize("prot", ["r", "rw", "rwx", "rw+device"])
def test_a_whole_table_without_locks(monkeypatch: pytest.MonkeyPatch, knobs: str, prot: str) -> None:
    program = parse(FILLING.format(knobs=knobs, prot=prot, flags=""))
    at_once = observe(program, "6.1")
    assert at_once != observe(program)
    monkeypatch.setattr(Boundary, "fill", lambda self, run: 0)
    assert observe(program, "6.1") == at_once


def test_it_is_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[LeafRun, int]] = []
    fill = Boundary.fill

    def watch(self: Boundary, run: LeafRun) -> int:
        seen.append((run, fill(self, run)))
        return seen[-1][1]

    monkeypatch.setattr(Boundary, "fill", watch)
    observation = Model().observe(parse(FILLING.format(knobs="", prot="rw", flags="")))
    [(run, taken)] = seen
    assert (run.length, taken) == (512, 512)
    assert len(list(events_of(observation.records[1].events))) > 3 * 512


@pytest.mark.parametrize("version", MODELLED)
@pytest.mark.parametrize("seed", range(40))
def test_any_program_with_any_budget(monkeypatch: pytest.MonkeyPatch, seed: int, version: str) -> None:
    choice, dialect = Random(seed), dialect_for(Model(version).capabilities)
    inputs = (vm_scenario(choice, dialect), vm_scenario(choice, dialect), random_input(choice, dialect))
    programs = [decode(data, dialect) for data in inputs]
    programs += [
        dataclasses.replace(
            program, machine=Machine.of(**program.machine.changed() | {"budget": choice.randint(1, 4096)})
        )
        for program in programs
    ]
    at_once = [observe(program, version) for program in programs]
    monkeypatch.setattr(Boundary, "fill", lambda self, run: 0)
    assert [observe(program, version) for program in programs] == at_once
