"""What Linux breaks, as corpora/violations lists it: on the kernels that an entry names, on no other, and on their
models; and nothing else is taken for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from contract_cases import CASES, program_of
from quoted import missing, shown_by
from seeds import refusal

from fuzz.sides import Side
from harness.errors import BadInput
from harness.model.executor import MODELLED, Model
from harness.observation.executor import Executor
from harness.program.text import read
from harness.verdict.contracts.contract import Violation
from harness.verdict.contracts.families import CONTRACTS, violations
from harness.verdict.contracts.listed import VERDICTS, Entry, kernel_of, listed, read_listed
from harness.verdict.contracts.places import PLACES
from reference.build.naming import SUPPORTED
from reference.link.executor import Reference

ROOT = Path(__file__).parents[2]
FOLDER, PAGE = ROOT / "corpora" / "violations", ROOT / "docs" / "violations.md"
ENTRIES = read_listed(FOLDER)
MOST_OPS = 5

each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


@pytest.fixture(scope="module", params=["host", "hyp"])
def kernel_of_each_object(request: pytest.FixtureRequest, linux: str) -> Iterator[Executor]:
    """Every packaged kernel, with both objects."""
    with closing(Side("kernel", linux, kernel_object=request.param).open()) as executor:
        yield executor


def shown(entry: Entry, side: Executor) -> set[str]:
    """Of what the entry's program breaks on a side, what the entry is about, by name."""
    program = read(entry.program)
    seen = side.observe(program)
    return {one.contract.name for one in violations(program, seen) if any(of.covers(one) for of in entry.breaks)}


def all_shown(side: Executor) -> None:
    kernel = kernel_of(side.identity)
    for entry in ENTRIES:
        if refusal(side, read(entry.program)) is None:
            expected = {one.contract for one in entry.breaks} if kernel in entry.kernels else set()
            assert shown(entry, side) == expected, entry.name


@each_entry
def test_an_entry_names_what_there_is(entry: Entry) -> None:
    for one in entry.breaks:
        assert one.op in (CONTRACTS.by_name[one.contract].ops or [one.op])
    assert set(entry.kernels) <= {*SUPPORTED, *(f"{version}+hyp" for version in SUPPORTED)}
    program = read(entry.program)
    assert program.comment
    assert len(program.ops) <= MOST_OPS or entry.name.startswith("abort_")
    assert {one.op for one in entry.breaks} & {op.name for op in program.ops}
    assert entry.what.endswith(".")


def test_every_program_has_its_entry() -> None:
    assert {path.stem for path in FOLDER.glob("*.s2")} == {entry.name for entry in ENTRIES}


def test_every_place_is_named_by_an_entry() -> None:
    assert {one.where for entry in ENTRIES for one in entry.breaks} == PLACES.keys()


@pytest.mark.parametrize("version", MODELLED)
@pytest.mark.parametrize("built_as", ["host", "hyp"])
def test_the_models_break_what_is_listed_of_their_version(version: str, built_as: str) -> None:
    all_shown(Model(version, kernel_object=built_as))


def test_the_kernels_break_what_is_listed_of_them_and_nothing_else(kernel_of_each_object: Executor) -> None:
    all_shown(kernel_of_each_object)


@each_entry
def test_what_a_listed_program_breaks_is_all_listed(entry: Entry) -> None:
    program = read(entry.program)
    for version in MODELLED:
        for built_as in ("host", "hyp"):
            side = Model(version, kernel_object=built_as)
            if refusal(side, program) is None:
                for one in violations(program, side.observe(program)):
                    assert listed(one, [kernel_of(side.identity)], ENTRIES), one.sentence


def broken_case(name: str) -> list[Violation]:
    """How the contract is broken in the tests' own way."""
    program = program_of(CASES[name].program)
    found = violations(program, CASES[name].broken_by(Model().observe(program)))
    return [one for one in found if one.contract.name == name]


@pytest.mark.parametrize("name", sorted({of.contract for entry in ENTRIES for of in entry.breaks}))
def test_the_same_contract_broken_elsewhere_is_not_listed(name: str) -> None:
    """But where contract and op say it all."""
    entries = [entry for entry in ENTRIES if "6.12" in entry.kernels]
    all_there_is = [of for entry in entries for of in entry.breaks if of.contract == name and of.where == "anywhere"]
    for one in broken_case(name):
        known = listed(one, ["6.12"], ENTRIES)
        assert (known is not None) is (one.op in {of.op for of in all_there_is})


def test_an_entry_is_for_its_kernels_alone() -> None:
    (hyp,) = (entry for entry in ENTRIES if entry.name == "mkyoung_in_hyp")
    program = read(hyp.program)
    (broken,) = violations(program, Model(kernel_object="hyp").observe(program))
    assert listed(broken, ["6.12+hyp"], ENTRIES) is hyp
    assert listed(broken, ["6.12+hyp", "6.12+hyp"], ENTRIES) is hyp
    for kernels in (["6.12"], ["6.12+hyp", "6.12"], ["7.3+hyp"], ["6.12+hyp", None]):
        assert listed(broken, kernels, ENTRIES) is None


def test_a_side_tells_which_kernel_it_is() -> None:
    assert kernel_of(Model("6.1", kernel_object="hyp").identity) == "6.1+hyp"
    assert kernel_of({"linux": "6.12.117", "object": "host"}) == "6.12"
    assert kernel_of({}) is None


GOOD = """
what = "It is wrong."
verdict = "kernel bug"
kernels = ["6.12"]

[[breaks]]
contract = "map-shows-what-was-asked"
op = "map"
"""


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("what", "which", "expected the keys what, verdict, kernels, breaks"),
        ('"It is wrong."', '""', "what: expected text that is not empty, got ''"),
        ('["6.12"]', "[]", "kernels: expected a list that is not empty"),
        ('["6.12"]', "[6.12]", "kernels: expected their names, as text"),
        ("kernel bug", "bug", f"verdict: expected one of {', '.join(VERDICTS)}, got 'bug'"),
        ("contract", "where", "breaks: expected an op and a contract"),
        ("op =", "o =", "breaks: expected a table of contract, op, where"),
        ('op = "map"', 'op = "map"\nwhere = "there"', "breaks: where: expected one of anywhere"),
        ("what = ", "what ", "Expected '='"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said(good: str, bad: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.with_suffix(".s2").write_text("s2 1\n")
    file.write_text(GOOD)
    assert [entry.breaks[0].where for entry in read_listed(tmp_path)] == ["anywhere"]
    file.write_text(GOOD.replace(good, bad, 1))
    with pytest.raises(BadInput) as error:
        read_listed(tmp_path)
    assert str(error.value).startswith(f"{file}: ")
    assert said in str(error.value)


def test_an_entry_has_a_program(tmp_path: Path) -> None:
    (tmp_path / "alone.toml").write_text(GOOD)
    with pytest.raises(BadInput, match=r"there is no alone\.s2 beside it"):
        read_listed(tmp_path)


# The page


@dataclass(frozen=True)
class Section:
    """A violation as `docs/violations.md` has it: the verdict that it stands under, its text, the kernels of each of
    its programs, the contracts, and the lines that its first program is said to print."""

    title: str
    verdict: str
    text: str
    programs: Mapping[str, tuple[str, ...]]
    breaks: frozenset[str]
    quoted: tuple[str, ...]


def sections() -> Iterator[Section]:
    for group in PAGE.read_text().split("\n## ")[1:]:
        verdict, _, parts = group.partition("\n")
        for part in parts.split("\n### ")[1:]:
            title, _, text = part.partition("\n")
            programs = re.findall(r"`(\w+)` \(([^)]*)\)", _line(text, "Program"))
            _, _, said = text.partition("\nShown as:\n\n")
            yield Section(
                title,
                verdict.lower().removesuffix("s") if verdict != "Caller's duties" else "caller's duty",
                text,
                {name: tuple(kernels.split(", ")) for name, kernels in programs},
                frozenset(re.findall(r"`([\w-]+)`", _line(text, "Breaks"))),
                tuple(line[4:] for line in said.rstrip("\n").splitlines()),
            )


def _line(text: str, name: str) -> str:
    found = re.search(rf"^- {name}: (.*(?:\n  .*)*)", text, re.MULTILINE)
    assert found, f"{name} is missing in {text[:80]}"
    return " ".join(found[1].split())


SECTIONS = [*sections()]
each_section = pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title.replace(" ", "-"))


def test_every_entry_has_its_section() -> None:
    assert sorted(name for section in SECTIONS for name in section.programs) == [entry.name for entry in ENTRIES]


@each_section
def test_a_section_says_what_its_entries_say(section: Section) -> None:
    entries = [entry for entry in ENTRIES if entry.name in section.programs]
    assert {entry.name: entry.kernels for entry in entries} == section.programs
    assert {entry.verdict for entry in entries} == {section.verdict}
    assert {of.contract for entry in entries for of in entry.breaks} == section.breaks
    for part in ("What happens", "Promised", "Consequence", "Suggestion"):
        assert section.text.count(f"\n- {part}: ") == 1


@each_section
def test_a_section_quotes_what_is_shown(section: Section, kernel: Reference) -> None:
    """On the model, and on the packaged kernel where it is one of those."""
    name, kernels = next(iter(section.programs.items()))
    version, _, built_as = ("6.12" if "6.12" in kernels else kernels[0]).partition("+")
    for side in (Model(version, kernel_object=built_as or "host"), *([kernel] if "6.12" in kernels else [])):
        assert missing(section.quoted, shown_by(side, FOLDER / f"{name}.s2")) is None, side.name
