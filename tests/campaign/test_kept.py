"""Which findings a campaign keeps, and which it minimises: decided by what lies in its folder, without processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from executors import AnyOwner

from fuzz.campaign.kept import KeptFindings, copies, is_wanted, to_minimise
from fuzz.campaign.setup import CampaignSetup, new_assignment
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.engine.assignment import KEPT_PER_BUCKET
from fuzz.sides import choose_sides
from fuzz.triage.filing import Filer
from harness.findings.finding import Finding, load
from harness.findings.writing import renew
from harness.model.executor import Model
from harness.program.program import Program
from harness.program.text import parse
from harness.verdict.judge import Judge

SIDES = choose_sides(sides="model:6.12,model:6.12")
GRANULES = ("4k", "16k")
BUCKET = "results-set_owner-return"


class Campaign:
    """A folder, and a run of a campaign of two granules in it: of the present process, or of one that follows."""

    def __init__(self, root: Path) -> None:
        self.place = WorkDirectory(root)
        self.spool = root / "spool" / "found"
        self.said: list[str] = []
        self.begin_run()

    def begin_run(self) -> None:
        """As after a kill: nothing is known but the folder."""
        setup = CampaignSetup.of([new_assignment(SIDES, seed=1, granule=one) for one in GRANULES])
        self.to_be_minimised: list[Path] = []
        self.kept = KeptFindings(self.place, setup, self.said.append, self.to_be_minimised.append)
        self.kept.count()

    def find(self, program: Program, flaky: bool = False) -> list[Finding]:
        """A process files it; what of that is taken in."""
        left, right = Model(), AnyOwner()
        filer = Filer(self.spool / ("flaky" if flaky else ""), SIDES, (left, right), {})
        verdict = Judge(left, right).verdict(program)
        assert verdict is not None and verdict.bucket == BUCKET
        filer.file(program, verdict)
        return list(self.kept.take(self.spool))

    def minimise(self, directory: Path, to: Program) -> None:
        """As the minimiser does it: another process renews the directory, and this one is told."""
        left, right = Model(), AnyOwner()
        verdict = Judge(left, right).verdict(to)
        assert verdict is not None
        renew(directory, Filer(self.spool, SIDES, (left, right), {}).contents(to, verdict, minimised={}))
        self.kept.minimised(directory)

    def directories(self) -> list[str]:
        return sorted(path.name for path in self.place.findings.iterdir())


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path)


def owner(page: int, granule: str = "4k", ops: int = 1, comment: str = "") -> Program:
    before = "get_leaf ipa=0x0\n" * (ops - 1)
    return parse(f"{comment}s2 1\ngranule = {granule}\n{before}set_owner ipa={page << 16:#x} size=64K mc=2 owner=33\n")


def test_three_of_a_bucket_and_granule_whoever_finds_them_and_in_whichever_run(campaign: Campaign) -> None:
    for run in range(4):
        for granule in GRANULES:
            campaign.find(owner(run, granule))
            campaign.find(owner(run, granule), flaky=True)
        campaign.begin_run()
    for home in (campaign.place.findings, campaign.place.flaky):
        kept = [load(path).program.machine.granule.name for path in home.iterdir()]
        assert {name: kept.count(name) for name in GRANULES} == dict.fromkeys(GRANULES, KEPT_PER_BUCKET)
    assert campaign.kept.filed(1) == {BUCKET: KEPT_PER_BUCKET}, "and processes are told so"


def test_the_same_program_is_kept_once(campaign: Campaign) -> None:
    assert campaign.find(owner(1))
    assert not campaign.find(owner(1, comment="# From the corpora.\n")), "a comment makes no other program"
    campaign.begin_run()
    assert not campaign.find(owner(1, comment="# Another run.\n"))
    assert campaign.find(owner(1, "16k")), "but another granule's is another"


def test_a_bucket_that_is_minimal_stays_so(campaign: Campaign) -> None:
    (first,) = campaign.find(owner(1, ops=3))
    campaign.find(owner(2, ops=2))
    assert campaign.to_be_minimised == [first.directory], "the first, as soon as it is there"
    campaign.begin_run()
    shortest = campaign.place.findings / next(name for name in campaign.directories() if name != first.directory.name)
    assert campaign.to_be_minimised == [shortest], "what a killed run did not come to"
    campaign.minimise(first.directory, owner(0))
    campaign.begin_run()
    assert campaign.to_be_minimised == []
    campaign.find(owner(3))
    assert campaign.to_be_minimised == []


def test_what_another_was_minimised_to_is_no_second_finding(campaign: Campaign) -> None:
    (long,) = campaign.find(owner(1, ops=5))
    (short,) = campaign.find(owner(0))
    campaign.minimise(long.directory, owner(0))
    assert campaign.directories() == [long.directory.name]
    assert f"{short.directory}: another was minimised to its program, so it goes" in campaign.said
    for program in (owner(0, comment="# Once more.\n"), owner(1, ops=5, comment="# As it was found.\n")):
        assert not campaign.find(program)
    assert len(campaign.find(owner(7))) == 1, "there is room again"


def test_buckets_are_named_with_their_granule(campaign: Campaign) -> None:
    (long,), (short,) = campaign.find(owner(1, ops=2)), campaign.find(owner(2))
    (other,) = campaign.find(owner(1, "16k", ops=3))
    assert campaign.kept.by_bucket() == {
        f"{BUCKET} (4k)": [short.directory, long.directory],
        f"{BUCKET} (16k)": [other.directory],
    }
    assert [line.partition(": ")[0] for line in campaign.said] == [
        f"divergence {BUCKET} (4k)",
        f"divergence {BUCKET} (16k)",
    ]
    (campaign.place.root / "known").write_text(f"{BUCKET}\n")
    assert campaign.kept.by_bucket() == {}


def test_what_the_user_takes_away_leaves_room(campaign: Campaign) -> None:
    for page in range(KEPT_PER_BUCKET):
        (finding,) = campaign.find(owner(page))
    assert not campaign.find(owner(9))
    finding.directory.rename(campaign.place.root / "taken")
    assert campaign.find(owner(9))


def findings(*ops: int, minimised: int | None = None) -> list[Finding]:
    """Of programs with so many ops, each its own."""
    return [
        Finding(Path(f"{number}"), owner(number, ops=count), "divergence", BUCKET, {}, minimised=number == minimised)
        for number, count in enumerate(ops)
    ]


def test_which_is_minimised() -> None:
    assert to_minimise([]) is None
    assert to_minimise(findings(5, 2, 3)) == findings(5, 2, 3)[1], "the shortest"
    assert to_minimise(findings(5, 2, 3, minimised=0)) is None


def test_what_is_wanted_and_what_is_a_copy() -> None:
    kept = findings(4, 2)
    assert is_wanted(owner(9), kept)
    assert not is_wanted(kept[1].program, kept)
    assert not is_wanted(owner(9), findings(1, 1, 1))
    assert copies(kept) == []
    same = [replace(one, program=owner(0)) for one in findings(1, 1, minimised=1)]
    assert copies(same) == same[:1], "the minimised one stays"
