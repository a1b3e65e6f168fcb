"""What a campaign survives: whatever was recorded before is there afterwards, and it goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from campaigns import MODELS, PLAIN, await_that, begin, fuzzers, has_found, lost, qemus, recorded, select, stop
from executors import AnyOwner
from processes import await_death, descendants, s2fuzz
from thinning import first

from fuzz.campaign.setup import CampaignSetup
from fuzz.campaign.state import CampaignState
from fuzz.campaign.supervisor import Campaign
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.corpus.store import name_of
from fuzz.sides import choose_sides
from fuzz.triage.filing import Filer
from harness.model.executor import Model
from harness.program.codec import encode
from harness.program.text import format_program, parse
from harness.verdict.judge import Judge
from harness.verdict.verdicts import Unconfirmed


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    """One of two models that has recorded something, and is not running."""
    place = tmp_path / "campaign"
    run = begin(place, *MODELS, "--workers", "1")
    await_that(has_found(place, 10), run)
    stop(run)
    return place


def resume(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return s2fuzz("campaign", place, *PLAIN, "--workers", "1", "--hours", "0.0002", *arguments, cwd=place.parent)


def kill_at_random(place: Path, choice: Random, victim: str, *sides: str) -> None:
    """Start or resume the campaign, kill something of it sooner or later, and have the rest end in order."""
    before = recorded(place) if place.exists() else set()
    run = begin(place, "--workers", "2", *sides)
    await_that(lambda: fuzzers(run) if sides else qemus(run) or run.poll() is not None)
    assert run.poll() is None, run.communicate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.wait(choice.uniform(0, 3))
    everyone = [pid for pid, _ in descendants(run.pid)]
    candidates = {"campaign": [run.pid], "worker": fuzzers(run), "QEMU": qemus(run)}[victim]
    with contextlib.suppress(ProcessLookupError):  # it may have ended meanwhile
        if candidates:  # a QEMU may be between two lives
            os.kill(choice.choice(candidates), signal.SIGKILL)
    if victim == "campaign":
        run.communicate(timeout=60)
    else:
        stop(run)
    await_death(everyone)
    after = recorded(place)
    assert before <= after, f"lost: {before - after}"
    assert not list((place / "damaged").glob("*")), "nothing is half written"


@pytest.mark.parametrize("victim", first(1, ["campaign", "worker", "QEMU"]))
def test_a_kill(victim: str, tmp_path: Path) -> None:
    kill_at_random(tmp_path / "campaign", Random(victim), victim, *(() if victim == "QEMU" else MODELS))
    result = resume(tmp_path / "campaign")
    assert result.returncode == 0, result.stderr


@pytest.mark.kills
@pytest.mark.parametrize("victim", ["campaign", "worker", "QEMU"])
def test_many_kills(victim: str, tmp_path: Path) -> None:
    """Of one and the same campaign, over and over."""
    choice = Random(f"many {victim}")
    for _ in range(20):
        kill_at_random(tmp_path / "campaign", choice, victim)
    result = resume(tmp_path / "campaign")
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_damaged_files_are_put_aside_and_spools_rescued(campaign: Path) -> None:
    before = sorted(recorded(campaign))
    broken, whole = before[0], before[1]
    broken.write_bytes(broken.read_bytes()[:-1])
    spool = campaign / "spool" / "1-9.4k" / "corpus"
    spool.mkdir(parents=True)
    (spool / name_of(b"new")).write_bytes(b"new")
    (spool / name_of(b"cut short")).write_bytes(b"cut")
    (spool / name_of(b"empty")).write_bytes(b"")
    result = resume(campaign)
    assert result.returncode == 0, result.stderr
    assert f"{broken}: damaged: what it holds has another SHA-1 than its name" in result.stderr
    assert (campaign / "damaged" / broken.name).exists()
    after = recorded(campaign)
    assert after >= set(before) - {broken}
    assert whole in after
    assert whole.with_name(name_of(b"new")) in after
    assert not {whole.with_name(name_of(data)) for data in (b"cut short", b"empty")} & after


@pytest.mark.slow
def test_findings_in_spools_are_rescued_three_of_a_bucket_and_comparison(tmp_path: Path) -> None:
    """Left by a campaign that was killed: as many of each comparison, and one that is flaky."""
    place = tmp_path / "campaign"
    arguments = (*MODELS, "--also", "model:6.1,model:6.1", *PLAIN, "--workers", "1", "--hours", "0.0002")
    assert s2fuzz("campaign", place, *arguments, cwd=tmp_path).returncode == 0
    spool = place / "spool" / "1-9.4k" / "found"
    for version in ("6.12", "6.1"):
        left, right = Model(version), AnyOwner()
        filer = Filer(spool, choose_sides(sides=f"model:{version},model:{version}"), (left, right), {})
        for page in range(5):
            program = parse(f"s2 1\nset_owner ipa={page << 12:#x} size=4K mc=2 owner=33\n")
            verdict = Judge(left, right).verdict(program)
            assert verdict is not None
            filer.file(program, verdict)
            filer.file_flaky(program, Unconfirmed("once", verdict, (None, verdict.bucket)))
    broken = next(path for path in spool.iterdir() if path.name != "flaky")
    (broken / "program.s2").write_text("s2 1\nmap everything\n")
    again = s2fuzz("campaign", place, *arguments[4:], cwd=tmp_path)
    assert again.returncode == 1, again.stderr
    assert (place / "damaged" / broken.name).exists()
    for home in ("findings", "flaky"):
        rows = select(place, f"SELECT comparison, count(*) FROM findings WHERE flaky = {home == 'flaky'} GROUP BY 1")
        assert rows == [(0, 3), (1, 3)]
        assert len(list((place / home).iterdir())) == 6
    assert again.stderr.count("does not reproduce") == 2, "the first of each was to be minimised"


@pytest.mark.slow
@pytest.mark.parametrize("how", first(1, ["overwritten", "cut", "not ours"]))
def test_a_damaged_ledger_is_made_anew_from_the_files(how: str, campaign: Path) -> None:
    ledger = campaign / "ledger.sqlite"
    size = ledger.stat().st_size
    for suffix in ("-wal", "-shm"):
        Path(f"{ledger}{suffix}").unlink(missing_ok=True)
    if how == "overwritten":
        with ledger.open("r+b") as file:
            file.seek(size // 3)
            file.write(b"\xa5" * (size // 2))
    elif how == "cut":
        os.truncate(ledger, size // 2)
    else:
        ledger.write_text("Dear diary,\n" * 1000)
    before = recorded(campaign)
    result = resume(campaign)
    assert result.returncode == 0, result.stderr
    assert recorded(campaign) >= before
    assert "put aside as ledger.sqlite.damaged-1" in result.stderr
    assert (campaign / "ledger.sqlite.damaged-1").exists()
    assert len(select(campaign, "SELECT 1 FROM inputs")) == len(recorded(campaign))
    assert [ended for (ended,) in select(campaign, "SELECT ended FROM runs")] == ["time"]


@pytest.mark.parametrize("warned", first(1, [True, False]), ids=["nearly full", "full at once"])
def test_a_full_disk(warned: bool, small_disk: Path, tmp_path: Path) -> None:
    place = small_disk / "campaign"
    run = begin(place, *MODELS, "--workers", "1", "--min-free", "1" if warned else "0")
    await_that(has_found(place, 10), run)
    before = recorded(place)
    ballast = small_disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            while not warned or shutil.disk_usage(small_disk).free > 7 << 17:  # the campaign writes, too
                file.write(bytes(1 << 12))
    except OSError:
        assert not warned
    _, stderr = run.communicate(timeout=90)
    assert run.returncode == 3, stderr
    assert ("the disk is nearly full" if warned else "what was recorded is there") in stderr
    assert not lost(place, before)
    assert "it ended by disk" in s2fuzz("status", place, cwd=tmp_path).stdout
    ballast.unlink()
    result = resume(place, "--min-free", "0")
    assert result.returncode == 0, result.stderr
    assert [ended for (ended,) in select(place, "SELECT ended FROM runs ORDER BY id")] == ["disk", "time"]
    assert not lost(place, before)


@pytest.mark.slow
def test_a_last_word_that_the_ledger_did_not_hear(campaign: Path, tmp_path: Path) -> None:
    """Where it cannot be written, a file that has its room already says how a run ended."""
    with sqlite3.connect(campaign / "ledger.sqlite") as base:
        base.execute("UPDATE runs SET ended = NULL")
    assert "was killed" in s2fuzz("status", campaign, cwd=tmp_path).stdout
    place = WorkDirectory(campaign)
    size = place.ended.stat().st_size
    place.say_last_word(2, "disk")
    assert "was killed" in s2fuzz("status", campaign, cwd=tmp_path).stdout, "that was another run"
    place.make_room_for_last_word()
    place.say_last_word(1, "disk")
    assert place.ended.stat().st_size == size
    assert "it ended by disk" in s2fuzz("status", campaign, cwd=tmp_path).stdout
    assert resume(campaign).returncode == 0
    assert [ended for (ended,) in select(campaign, "SELECT ended FROM runs ORDER BY id")] == ["disk", "time"]


@pytest.mark.parametrize("hours", first(1, ["0.0003", "0.05"]), ids=["time is up first", "it gives up first"])
def test_a_campaign_that_ran_nothing_has_not_found_nothing(hours: str, tmp_path: Path) -> None:
    """As on a machine without QEMU."""
    place = tmp_path / "campaign"
    arguments = ("--workers", "1", "--hours", hours, *PLAIN)
    result = s2fuzz(
        "campaign", place, *arguments, cwd=tmp_path, env={"S2FUZZ_QEMU": str(tmp_path / "qemu-system-aarch64")}
    )
    assert result.returncode == 3, result.stdout + result.stderr
    assert "qemu-system-aarch64 cannot be started" in result.stderr and "nothing found" not in result.stdout
    status = s2fuzz("status", place, cwd=tmp_path)
    assert "it ended by giving up" in status.stdout and "killed" not in status.stdout
    assert [ended for (ended,) in select(place, "SELECT ended FROM runs")] == ["giving up"]


def test_time_that_is_too_short_ends_with_a_program(tmp_path: Path) -> None:
    place = tmp_path / "campaign"
    result = s2fuzz("campaign", place, *MODELS, *PLAIN, "--workers", "1", "--hours", "0.0001", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    ((executions,),) = select(place, "SELECT sum(executions) FROM processes")
    assert int(str(executions)) > 0


_JUMPING = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
/* The wall clock jumps two hours back and forth every second or so. */
static long jump(long s) { return (s & 1) ? -7200 : 3600; }
int clock_gettime(clockid_t id, struct timespec *t)
{
	static int (*real)(clockid_t, struct timespec *);
	if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	int ret = real(id, t);
	if (!ret && id == CLOCK_REALTIME) t->tv_sec += jump(t->tv_sec);
	return ret;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
	struct timespec now;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	t->tv_sec = now.tv_sec; t->tv_usec = now.tv_nsec / 1000;
	return 0;
}
time_t time(time_t *to)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (to) *to = now.tv_sec;
	return now.tv_sec;
}
"""


@pytest.mark.slow
def test_a_clock_that_jumps(tmp_path: Path) -> None:
    library = tmp_path / "jumping.so"
    compiler = next((one for one in ("cc", "gcc", "clang", "clang-19") if shutil.which(one)), None)
    if compiler is None:
        pytest.skip("no C compiler for this machine")
    built = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-xc", "-", "-o", library, "-ldl"],
        input=_JUMPING, text=True, check=False, capture_output=True,
    )  # fmt: skip
    if built.returncode:
        pytest.skip(f"{compiler} makes no libraries here: {built.stderr}")
    env = {"LD_PRELOAD": str(library)}
    wall = [
        subprocess.run(
            [sys.executable, "-c", "import time; a = time.time(); time.sleep(1); print(time.time() - a)"],
            env={**os.environ, **env}, capture_output=True, text=True, check=True,
        ).stdout
        for _ in range(1)
    ]  # fmt: skip
    assert abs(float(wall[0])) > 1000, "it does jump"
    place = tmp_path / "campaign"
    arguments = (*PLAIN, "--workers", "2", "--hours", "0.001", *MODELS)
    result = s2fuzz("campaign", place, *arguments, cwd=tmp_path, env=env)
    assert result.returncode == 0, result.stderr
    assert "ended by time: 0:00:0" in result.stdout
    (seconds,) = select(place, "SELECT seconds FROM runs")[0]
    assert 3.6 <= float(str(seconds)) < 60
    assert has_found(place, 10)()
    assert all(0 <= float(str(at)) < 60 for (at,) in select(place, "SELECT at FROM samples"))


_DEADLY = """\
import os, sys
sys.path.insert(0, {root!r})
from fuzz import stage2_fuzzer
from fuzz.engine import worker
from harness.program.text import format_program

class Deadly(worker.Worker):
    def _judge(self, program, look, seen):
        if format_program(program) == {text!r}:
            os.kill(os.getpid(), 9)
        return super()._judge(program, look, seen)

stage2_fuzzer.Worker = Deadly
stage2_fuzzer.main(sys.argv)
"""


def test_an_input_that_ends_processes_is_kept_and_left_out(campaign: Path) -> None:
    """It is in the corpus, so every process would run it as soon as it starts."""
    place = WorkDirectory(campaign)
    configuration = CampaignSetup.load(place)
    store = configuration.open_store(0, place)
    program = parse("s2 1\nget_vtcr mmfr0=0x123456789 mmfr1=0x2 phys_shift=40\n")
    (name,) = store.add([encode(program, store.dialect)])
    before = recorded(campaign)
    launcher = campaign.parent / "deadly.py"
    launcher.write_text(_DEADLY.format(root=str(Path(__file__).parent.parent.parent), text=format_program(program)))
    said: list[str] = []

    def until_it_goes_on(state: CampaignState) -> None:
        if said and "no longer run" in said[-1] and state.slots[0].executions:
            os.kill(os.getpid(), signal.SIGINT)

    with place.locked() as lock:
        run = Campaign(place, configuration, lock, 1, 90.0, 600.0, 0, (), said.append, until_it_goes_on, launcher)
        assert run.run().ended == "interrupted", said
    assert sum("was killed by signal 9" in line for line in said) == 3, said
    assert (
        said[-1]
        == f"the program in incidents/{name}.s2 lost 3 processes: a tool incident that happens again; no longer run"
    )
    assert recorded(campaign) >= before - {store.folder / name}
    assert (campaign / "incidents" / name).read_bytes() == encode(program, store.dialect)
    text = (campaign / "incidents" / f"{name}.s2").read_text()
    assert parse(text).ops == program.ops
    assert "was killed by signal 9" in text
    executions = select(campaign, "SELECT executions FROM processes ORDER BY id DESC LIMIT 1")
    assert int(str(executions[0][0])) > 0, "it went on without it"
