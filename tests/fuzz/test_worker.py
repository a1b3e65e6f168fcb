"""What a fuzzing process does with inputs, without Atheris: how it counts, what it files, what it lets steer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, NoReturn

import pytest
from executors import AnyOwner, OneOff, Patched
from planted import load_all

from fuzz.engine.assignment import KEPT_PER_BUCKET, Assignment
from fuzz.engine.cautions import caution_lines
from fuzz.engine.hardware_lines import hardware_lines
from fuzz.engine.in_flight import last_in_flight
from fuzz.engine.messages import Given, GoOver, ProcessState, from_line, to_line
from fuzz.engine.stats import Stats
from fuzz.engine.worker import Worker
from fuzz.generate.fresh import fresh
from fuzz.sides import choose_sides
from harness.errors import ToolFailure
from harness.findings.finding import load
from harness.model.executor import Model
from harness.model.ops import guest
from harness.observation.execution import Execution
from harness.observation.executor import Executor
from harness.program.codec import dialect_for, encode
from harness.program.granule import GRANULE_4K
from harness.program.guest import WINDOW
from harness.program.probing import POOL_ELSEWHERE, PROBE
from harness.program.program import Program
from harness.program.text import format_program, parse
from harness.verdict.judging import Judging, is_sampled
from harness.verdict.tiers import parse_tiers
from harness.verdict.verdicts import Verdict
from pgtable import Stage2
from pgtable.entry import EntryWriter
from reference.build.sources import KernelChoice, prepare

MAP = "map ipa=0x{:x} size=4K phys=0x80001000 prot=rwx mc=5\n"
GOOD = parse("s2 1\n" + MAP.format(0x1000) + "get_leaf ipa=0x1000")


def programs_that_leak(count: int) -> list[bytes]:
    """Different programs that show the planted bug `merge-leaks-table`, ever longer."""
    merge = "map ipa=0x1000 size=4K phys=0x80001000 prot=rwx mc=5\nmap ipa=0x0 size=2M phys=0x80000000 prot=rwx mc=5\n"
    return [
        encode(parse("s2 1\n" + "".join(MAP.format((number + 4) << 21) for number in range(extra)) + merge))
        for extra in range(count)
    ]


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pgtable.c with `merge-leaks-table` planted."""
    mutant = next(one for one in load_all() if one.name == "merge-leaks-table")
    path = tmp_path_factory.mktemp("kernel") / "pgtable.c"
    path.write_text(mutant.apply(prepare(KernelChoice()).pgtable.read_text()))
    return path


@pytest.fixture
def worker(leaky: Path, tmp_path: Path) -> Iterator[Worker]:
    work = Assignment(choose_sides(pgtable=leaky), tmp_path / "out", (), 0, None, None, True, None)
    worker = Worker(work)
    yield worker
    for side in worker.executors:
        side.close()


def test_the_first_of_a_bucket_are_filed_and_later_ones_only_counted(worker: Worker, tmp_path: Path) -> None:
    inputs = programs_that_leak(KEPT_PER_BUCKET + 4)
    for data in reversed(inputs):
        worker.run_one(data)
    (bucket,) = worker.stats.buckets
    assert worker.stats.buckets[bucket] == len(inputs)
    assert len(list((tmp_path / "out").iterdir())) == KEPT_PER_BUCKET
    assert [one.ops for one in worker.filer.filed] == sorted(one.ops for one in worker.filer.filed)
    boots = worker.executors[1].boots  # type: ignore[attr-defined]
    worker.run_one(inputs[0])
    assert worker.executors[1].boots == boots, "what is only counted needs no fresh kernel"  # type: ignore[attr-defined]


def test_what_diverges_does_not_steer(worker: Worker) -> None:
    (kernel,) = worker.coverage
    (data,) = programs_that_leak(1)
    worker.run_one(encode(GOOD))
    assert any(kernel._view), "libFuzzer would read these"
    (joint,) = worker.joint
    before = bytes(joint._view)
    assert any(before)
    assert not worker.diverging
    worker.run_one(data)
    assert not any(kernel._view)
    assert bytes(joint._view) == before
    assert hash(data) in worker.diverging


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("map ipa=0x1000 size=4K phys=0x80001000 prot=rw mc=4", "map ipa=0x1000 size=4K phys=0x80001000 prot=rw mc=1"),
        ("map ipa=0x1000 size=4K phys=0x80001000 prot=rw mc=4", "map ipa=0x0 size=2M phys=0x80000000 prot=rw mc=4"),
        ("map ipa=0x1000 size=4K phys=0x80001000 prot=rw mc=4", "map ipa=0x1000 size=4K phys=0x80001000 prot=rwx mc=4"),
        (
            "map ipa=0x200000 size=2M phys=0x80001000 prot=rw mc=4",
            "map ipa=0x200000 size=2M phys=0x80001000 prot=r+device mc=4",
        ),
    ],
    ids=["another result", "another level", "another kind of event", "the same in a long run"],
)
def test_what_the_sides_do_together_counts(worker: Worker, one: str, other: str) -> None:
    """Another result, other levels or other events are something new, whatever lines they took."""
    (joint,) = worker.joint
    worker.run_one(encode(parse(f"s2 1\n{one}\n")))
    before = bytes(joint._view)
    worker.run_one(encode(parse(f"s2 1\n{one}\n")))
    assert [a > 0 for a in joint._view] == [a > 0 for a in before]
    worker.run_one(encode(parse(f"s2 1\n{other}\n")))
    assert [a > 0 for a in joint._view] != [a > 0 for a in before]


def test_counters_are_levelled(worker: Worker) -> None:
    """A program that does the same a hundred times looks like one that does it eight times."""
    (kernel,) = worker.coverage
    worker.run_one(encode(parse("s2 1\n" + MAP.format(0x1000) + "get_leaf ipa=0x1000\n" * 100)))
    assert max(kernel._view) == 8


ONE_PAGE = parse("s2 1\nmap ipa=0x201000 size=4K phys=0x80000000 prot=rw mc=4\n")


def judging(how: Judging, folder: Path, right: Executor | None = None) -> Worker:
    """A worker of two models, or of one and `right`."""
    work = Assignment(choose_sides(sides="model:6.12,model:6.12"), folder, (), 0, None, None, True, None, judging=how)
    return Worker(work, executors=(Model(), right or Model()))


def like_it(count: int, sampled: bool) -> list[bytes]:
    """Programs that do what ONE_PAGE does, and are of the sample, or are not."""
    vmids = (replace(ONE_PAGE, machine=ONE_PAGE.machine.replace("vmid", vmid)) for vmid in range(2, 2000))
    return [encode(one) for one in vmids if is_sampled(one) is sampled][:count]


def test_what_is_new_is_judged_by_the_hardware_and_a_sample(tmp_path: Path) -> None:
    worker = judging(Judging.SAMPLE, tmp_path)
    worker.run_one(encode(ONE_PAGE))
    assert worker.stats.probed == 1, "it is the first to do that"
    for data in like_it(5, sampled=False):
        worker.run_one(data)
    assert worker.stats.probed == 1
    for data in like_it(3, sampled=True):
        worker.run_one(data)
    assert worker.stats.probed == 4
    worker.run_one(encode(replace(ONE_PAGE, machine=ONE_PAGE.machine.replace("pool_base", 0x8000_0000))))
    worker.run_one(encode(parse("s2 1\npool_base = 0x80000000\nunmap ipa=0x0 size=4K\n")))
    assert (worker.stats.probed, dict(worker.stats.unprobed)) == (4, {POOL_ELSEWHERE: 1})


@pytest.mark.parametrize(("how", "judged"), [(Judging.ALL, 7), (Judging.NONE, 0)])
def test_all_are_judged_or_none(how: Judging, judged: int, tmp_path: Path) -> None:
    worker = judging(how, tmp_path)
    for data in [encode(ONE_PAGE), *like_it(5, sampled=False), encode(ONE_PAGE)]:
        worker.run_one(data)
    assert worker.stats.probed == judged
    assert worker.stats.executions == 7


@pytest.mark.parametrize(("how", "judged"), [(Judging.SAMPLE, 1), (Judging.NONE, 0)])
def test_programs_of_the_corpora_are_judged(how: Judging, judged: int, tmp_path: Path) -> None:
    (tmp_path / "one.s2").write_text(format_program(ONE_PAGE))
    worker = judging(how, tmp_path / "out")
    worker.assignment = replace(worker.assignment, corpora=(tmp_path,))
    worker.replay_corpora()
    assert (worker.stats.replayed, worker.stats.probed) == (1, judged)


def test_what_the_corpora_did_is_not_new(tmp_path: Path) -> None:
    (tmp_path / "one.s2").write_text(format_program(ONE_PAGE))
    worker = judging(Judging.SAMPLE, tmp_path / "out")
    worker.assignment = replace(worker.assignment, corpora=(tmp_path,))
    worker.replay_corpora()
    assert not any(worker.joint[0]._view), "libFuzzer sees nothing of it"
    for data in like_it(5, sampled=False):
        worker.run_one(data)
    assert worker.stats.probed == 1, "that of the corpora"
    worker.run_one(encode(replace(ONE_PAGE, ops=(*ONE_PAGE.ops, *parse("s2 1\nunmap ipa=0x201000 size=4K\n").ops))))
    assert worker.stats.probed == 2


class Witnessing(Model):
    """One whose accesses saw what a TLB still held, each time."""

    def finish(self) -> Execution:
        told = super().finish()
        return Execution(told.digest, told.feedback, told.new_calls, witnessed=1)


def test_of_a_witness_only_what_a_tlb_may_hold_is_asked(tmp_path: Path) -> None:
    text = f"s2 1\nguest = on\nmap ipa={WINDOW:#x} size=4K phys={WINDOW:#x} prot=rw mc=4\nread ipa={WINDOW:#x}\n"
    worker = judging(Judging.SAMPLE, tmp_path, Witnessing())
    program = parse(text)
    assert not is_sampled(program)
    for _ in range(3):
        worker.run_one(encode(program))
    assert (worker.stats.probed, worker.stats.judged_accesses) == (1, 3), "the first brought something new"


def test_what_the_hardware_finds_is_filed_with_its_probes_and_does_not_steer(tmp_path: Path) -> None:
    worker = judging(Judging.SAMPLE, tmp_path, Patched(guest, "par_of", lambda _: 0x43 << 56))
    data = encode(ONE_PAGE)
    worker.run_one(data)
    (filed,) = worker.filer.filed
    assert filed.bucket == "translation-probe-read_faults"
    program = load(filed.directory).program
    assert program.ops[0] == ONE_PAGE.ops[0]
    assert any(op.definition is PROBE for op in program.ops[1:])
    assert hash(data) in worker.diverging
    assert not any(worker.joint[0]._view)


def test_what_is_found_before_the_probes_is_filed_without_them(tmp_path: Path) -> None:
    # The TLB is not invalidated, on either side.
    sides = [Patched(EntryWriter, "tlbi_range", lambda *_: None) for _ in range(2)]
    worker = judging(Judging.ALL, tmp_path, sides[0])
    worker.executors = worker.judge.left, worker.judge.right = sides[0], sides[1]
    other = "map ipa=0x202000 size=4K phys=0x80001000 prot=rw mc=4\n"  # so that their table stays
    program = replace(ONE_PAGE, ops=(*ONE_PAGE.ops, *parse(f"s2 1\n{other}unmap ipa=0x201000 size=4K\n").ops))
    worker.run_one(encode(program))
    (filed,) = worker.filer.filed
    assert (filed.kind, filed.bucket.rpartition("-level")[0]) == ("stale", "stale-unmap-left-not-invalidated")
    assert load(filed.directory).program.ops == program.ops


def test_the_judge_leaves_the_counters_alone(worker: Worker) -> None:
    """What libFuzzer sees, and so what is generated, is the same whoever is judged."""
    (kernel,) = worker.coverage
    seen = []
    for how in (Judging.NONE, Judging.ALL):
        worker.judge.judging = how
        kernel.forget()
        worker.run_one(encode(GOOD))
        seen.append(bytes(kernel._view))
    assert worker.stats.probed == 1
    assert seen[0] == seen[1]


def test_accesses_are_counted_by_what_they_come_to(tmp_path: Path) -> None:
    text = f"s2 1\nguest = on\nmap ipa=0x{WINDOW:x} size=4K phys=0x{WINDOW:x} prot=rw mc=4\nread ipa=0x{WINDOW:x}\n"
    worker = judging(Judging.ALL, tmp_path)
    worker.run_one(
        encode(
            parse(text + "exec ipa=0x42000000\nread ipa=0x0\nmap ipa=0x0 size=4K phys=0x0 prot=r mc=4\nread ipa=0x0\n")
        )
    )
    worker.run_one(encode(parse("s2 1\nread ipa=0x0\n")))
    assert worker.stats.accesses == {"succeeded": 1, "aborted": 2, "no_memory": 1, "no_guest": 1}
    lines = "\n".join(hardware_lines(worker.stats.summary()))
    assert "the hardware judged 2 programs\n" in lines
    assert "guests made 4 accesses: 25% succeeded, 50% aborted, 25% no memory" in lines


def test_a_common_bucket_is_said_to_mask_others() -> None:
    stats = Stats()
    stats.executions, stats.replayed = 990, 10
    stats.buckets.update({"common": 40, "rare": 20, "new": 3})
    assert stats.masking() == ["common"]
    assert caution_lines(stats.summary())[0].startswith("common: 4% of executions, so it masks")
    stats.executions = 20
    assert stats.masking() == ["common", "rare"], "three are too few to say so"


_map = Stage2.map


def _map_busily(self: Stage2, *arguments: Any) -> int:
    """Fifty barriers more than it takes, which the results do not show."""
    for _ in range(50):
        self._hooks.dsb("ish")
    return _map(self, *arguments)


def test_what_a_cut_leaves_open_is_counted_and_said(tmp_path: Path) -> None:
    """Cut in the same map, the sides have come to different tables. With a larger budget they come to the same."""
    sides = (Model(), Patched(Stage2, "map", _map_busily))
    data = encode(parse("s2 1\nbudget = 20\n" + MAP.format(0x1000)))
    work = Assignment(choose_sides(), tmp_path, (), 0, None, None, True, None, tiers=parse_tiers("results,tables"))
    for budget, inconclusive in ((None, 1), (10, 1), (200, 0)):
        worker = Worker(replace(work, budget=budget), executors=sides)
        worker.run_one(data)
        assert (worker.stats.inconclusive, worker.filer.filed) == (inconclusive, []), budget
        said = caution_lines(worker.stats.summary())
        assert bool(said) == bool(inconclusive)
        assert all(line.startswith("100% of executions are inconclusive") and "--budget" in line for line in said)
    stats = Stats(executions=1000, inconclusive=29)
    assert not caution_lines(stats.summary())
    assert caution_lines((stats + Stats(inconclusive=2)).summary())


def test_stats_travel_and_add_up(worker: Worker) -> None:
    worker.run_one(encode(GOOD))
    again = Stats.from_json(json.loads(json.dumps(worker.stats.to_json())))
    assert again.summary() == worker.stats.summary()
    both = again + worker.stats
    assert both.executions == 2
    assert both.tables == [2 * count for count in again.tables]
    assert both.summary()["op"]["map"]["count"] == 2
    assert both.median_ops() == 2


def test_what_does_not_happen_every_time_is_kept_apart_and_not_looked_at_for_ever(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    verdict = worker.judge._again

    def once(program: Program, first: Verdict) -> Verdict | None:
        nonlocal looks
        looks += 1
        return verdict(program, first) if looks % 2 else None

    monkeypatch.setattr(worker.judge, "_again", once)
    inputs = programs_that_leak(KEPT_PER_BUCKET + 2)
    for data in inputs:
        worker.run_one(data)
    assert (worker.stats.unconfirmed, not worker.stats.buckets, worker.filer.filed) == (len(inputs), True, [])
    assert looks == 2 * KEPT_PER_BUCKET
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["flaky"]
    kept = list((tmp_path / "out/flaky").iterdir())
    assert len(kept) == KEPT_PER_BUCKET
    assert {load(path).reliability for path in kept} == {(2, 3)}
    assert "on fresh targets accounting-" in (kept[0] / "report.txt").read_text().splitlines()[0]
    assert all((kept[0] / name).stat().st_size for name in ("left.txt", "right.txt"))


class _Raised(Exception):
    """What the launcher of a package would make of a finding."""


def _raise(bucket: str, report: str) -> NoReturn:
    raise _Raised(bucket, report)


def told(right: Model, tmp_path: Path) -> Worker:
    """A worker that is to raise what it finds, of sides that are open already."""
    work = Assignment(choose_sides(sides="model:6.12,model:6.12"), tmp_path / "out", (), 0, None, None, True, None)
    return Worker(work, executors=(Model(), right), found=_raise)


OWNER = encode(parse("s2 1\nset_owner ipa=0x1000 size=4K mc=2 owner=3\nget_leaf ipa=0x1000\n"))


def test_what_is_found_can_be_raised_instead_of_filed(tmp_path: Path) -> None:
    worker = told(AnyOwner(), tmp_path)
    worker.run_one(encode(GOOD))
    with pytest.raises(_Raised) as caught:
        worker.run_one(OWNER)
    bucket, report = caught.value.args
    assert bucket == "results-set_owner-return"
    assert report.startswith(f"divergence: {bucket}\n") and "\n> set_owner " in report
    assert not (tmp_path / "out").exists()


def test_what_is_flaky_is_not_raised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worker = told(OneOff(), tmp_path)
    worker.run_one(OWNER)
    assert worker.stats.unconfirmed == 1
    assert "not the same on every fresh kernel, so no finding: results-set_owner-return" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_message_is_whole_where_writes_end_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a signal may have them end; the parent could make nothing of the rest."""
    written = bytearray()

    def write(_descriptor: int, data: bytes) -> int:
        written.extend(data[:7])
        return len(data[:7])

    class Left(BaseException):
        pass

    def leave(_status: int) -> NoReturn:
        raise Left

    sides = choose_sides(sides="model:6.12,model:6.12")
    work = Assignment(sides, tmp_path / "out", (), 0, None, 1, True, None, messages=99)
    worker = Worker(work, leave, (Model(), Model()))
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(Left):
        for _ in range(2):
            worker.run_one(encode(GOOD))
    said = [from_line(line) for line in bytes(written).splitlines()]
    assert isinstance(said[-1], ProcessState) and said[-1].done


def test_a_worker_without_a_parent_says_itself_why_it_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Left(BaseException):
        pass

    def leave(status: int) -> NoReturn:
        raise Left(status)

    class Broken(Model):
        def start(self, program: Program) -> None:
            raise ToolFailure("QEMU is gone")

    work = Assignment(choose_sides(sides="model:6.12,model:6.12"), tmp_path / "out", (), 0, None, None, True, None)
    with pytest.raises(Left) as caught:
        Worker(work, leave, (Model(), Broken())).run_one(OWNER)
    assert caught.value.args == (3,)
    assert capsys.readouterr().err == "s2fuzz: QEMU is gone\n"


def known_to(worker: Worker) -> dict[str, Any]:
    """Whatever steers a worker, or is told of it."""
    (kernel,), (joint,) = worker.coverage, worker.joint
    model = worker.executors[0]
    assert isinstance(model, Model)
    state = worker._state(done=False)
    return {
        "calls": {key: (sorted(kept), told) for key, (kept, told) in model.known_calls.items()},
        "diverging": worker.diverging,
        "edges": state.edges,
        "findings": [(one.bucket, one.kind, one.ops) for one in state.findings],
        "identities": state.identities,
        "joint": (bytes(joint._view), state.joint),
        "kernel": bytes(kernel._view),
        "private": (worker._confirmed, worker._filed, worker._flaky, worker._lost, worker._told_to_stop),
        "stats": state.stats.to_json(),
        "where": (joint.registration(), kernel.registration()),
    }


def test_a_worker_in_the_place_of_another_knows_what_that_one_knew(leaky: Path, tmp_path: Path) -> None:
    dialect = dialect_for(Model("6.12").capabilities, GRANULE_4K)
    inputs = [fresh(Random(number), dialect) for number in range(60)]
    inputs[10:10] = inputs[50:50] = programs_that_leak(KEPT_PER_BUCKET)
    ends: list[dict[str, Any]] = []
    for split in (None, 25):
        out = tmp_path / str(split)
        work = Assignment(choose_sides(pgtable=leaky), out, (), 0, None, None, True, tmp_path / f"{split}.inputs")
        worker = Worker(work)
        for number, data in enumerate(inputs):
            if number == split:
                before = known_to(worker)
                worker = Worker.in_place_of(worker.hand_over())
                assert known_to(worker) == before
            worker.run_one(data)
        ends.append(known_to(worker))
        del ends[-1]["where"]
        assert worker._inputs is not None
        worker._inputs.close()
        assert (tmp_path / f"{split}.inputs").read_text().split() == [data.hex() for data in inputs]
        for side in worker.executors:
            side.close()
    assert ends[0] == ends[1]
    assert ends[0]["diverging"] and ends[0]["findings"] and ends[0]["calls"]
    assert any(ends[0]["joint"][0])


def test_a_worker_in_the_place_of_another_goes_on_listening(tmp_path: Path) -> None:
    """In the middle of a line, too."""
    ours, theirs = os.pipe()
    sides = choose_sides(sides="model:6.12,model:6.12")
    worker = Worker(Assignment(sides, tmp_path, (), 0, None, None, True, None, control=ours, in_flight=tmp_path / "it"))
    said = to_line(GoOver(tmp_path)) + to_line(Given(b"first")) + to_line(Given(b"second"))
    os.write(theirs, said[:-20])
    worker.run_one(encode(GOOD))
    assert (worker.compiled, list(worker.inbox)) == (tmp_path, [b"first"])
    worker = Worker.in_place_of(worker.hand_over())
    os.write(theirs, said[-20:])
    worker.run_one(encode(GOOD))
    assert (worker.compiled, list(worker.inbox)) == (None, [b"first", b"second"])
    assert worker.assignment.compiled == tmp_path
    assert last_in_flight(tmp_path / "it") == encode(GOOD)
    os.close(ours)
    os.close(theirs)
