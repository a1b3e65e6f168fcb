"""The kernel's shell: an op by hand does what it does in a program, and leaves nothing behind for the next program."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pexpect
import pytest
from altered_tree import HANGS_SOON, IN_MAP, before, with_changes
from sample_programs import BLOCK, BUSY, DESTROY, INIT, ONE_PAGE, SPECIAL, map_op, random_programs, unmap_op

from fuzz.cli.shell import converse
from fuzz.cli.shell_session import Session
from fuzz.cli.shell_words import completions
from harness.errors import BadInput
from harness.findings.report import describe_record
from harness.findings.trees import tree
from harness.model.executor import Model
from harness.observation.executor import TargetDied
from harness.observation.layout import Observation, Record, describe_return
from harness.program.machine import KNOBS
from harness.program.ops import FAMILIES, OPS
from harness.program.program import Program
from harness.program.text import format_knob, format_op, parse, parse_op
from reference.build.image import Image, build
from reference.build.sources import KernelChoice, prepare
from reference.link.shell import Shell, translate
from reference.protocol import Message

SEEDS = Path(__file__).parents[2] / "corpora" / "seeds"
LEAF = "page  pa=0x80001000 RWX normal AF"
PAGE = "map ipa=0x1000 size=4K phys=0x80001000 prot=rwx mc=5"


@pytest.fixture(scope="module")
def running(image: Image) -> Iterator[Shell]:
    with closing(Shell(image, "kernel:shell")) as opened:
        yield opened


@pytest.fixture
def shell(running: Shell) -> Shell:
    """A shell with an empty table."""
    ask(running, "reset")
    return running


def ask(shell: Shell, line: str) -> list[str]:
    return list(shell.ask(line))


@pytest.fixture(scope="module")
def old_shell() -> Iterator[Shell]:
    """Of a kernel that lacks some ops and has others."""
    with closing(Shell(build(prepare(KernelChoice("6.1"))), "kernel:6.1")) as opened:
        yield opened


def test_a_kernel_has_its_own_ops(old_shell: Shell) -> None:
    said = {line.split()[0].rstrip(":") for line in ask(old_shell, "help")}
    assert said == {op.name for op in old_shell.capabilities.ops} | {"reset", "tree", "help"}
    for line in (PAGE, "mkold ipa=0x1000"):
        ask(old_shell, line)
    assert ask(old_shell, "is_young ipa=0x1000") == ["is_young 0 young=0x0"]


@pytest.mark.parametrize(
    ("line", "lacking"),
    [
        ("split ipa=0x0 size=2M mc=1", "split"),
        ("map ipa=0x0 size=4K phys=0x0 prot=nc", "prot nc"),
        ("map ipa=0x0 size=4K phys=0x0 prot=rw flags=shared", "map flags shared"),
        ("walk ipa=0x0 size=4K flags=leaf+handle_fault", "visit flags handle_fault"),
    ],
)
def test_what_a_kernel_lacks_is_refused(old_shell: Shell, line: str, lacking: str) -> None:
    with pytest.raises(BadInput, match=f"this kernel lacks {lacking}, so"):
        ask(old_shell, line)


def test_a_kernel_refuses_an_op_that_it_lacks_by_itself(old_shell: Shell) -> None:
    assert raw(old_shell, "split ipa=0x0 size=0x1000 mc=1") == ["error: this kernel has no `split`"]


def raw(shell: Shell, line: str) -> list[str]:
    """What the kernel answers to a line as it stands."""
    assert ask(shell, "tree") is not None  # it runs
    return [said for said in shell._lines.ask(line, 10, 10) if isinstance(said, str)]


def reset_line(program: Program) -> str:
    knobs = program.machine.changed().items()
    return " ".join(["reset", *(f"{name}={format_knob(name, value)}" for name, value in knobs)])


def expected_line(record: Record) -> str:
    """A record, as the shell has it. Not for those with complaints, which name places."""
    width = len(record.definition.results) or 1
    names = [result.name for result in record.definition.results]
    values = [f"{value:#x}" for value in record.outs]
    groups = [
        "".join(f" {name}={value}" for name, value in zip(names, values[at : at + width], strict=True))
        for at in range(0, len(values), width)
    ]
    return f"{record.definition.name} {describe_return(record.ret)}{';'.join(groups)}"


def expected_tree(observation: Observation) -> list[str]:
    lines = []
    for page in observation.pages.values():
        lines.append(f"page {page.pa:#x} refcount={page.refcount:#x}")
        lines += [f"  [{index:#x}] {entry:#x}" for index, entry in enumerate(page.entries) if entry]
    return lines


WITHIN_BUDGET = [
    BUSY,
    Program((*BUSY.ops, DESTROY, map_op(0))),
    Program((map_op(0), INIT, map_op(0x4000), unmap_op(0, BLOCK))),
    *(SPECIAL[name] for name in ("few pages", "concatenated root", "48 bits", "no fwb", "wrong arguments")),
    *random_programs(7, 60),
]


def test_ops_by_hand_do_what_they_do_in_a_program(running: Shell) -> None:
    compared = 0
    for program in WITHIN_BUDGET:
        observation = running.observe(program)
        if any(record.ret is None or record.complaints for record in observation.records):
            continue
        compared += 1
        run = program.ops[: len(observation.records) - 1]  # up to an init that failed
        said = [ask(running, reset_line(program)), *(ask(running, format_op(op)) for op in run)]
        assert said == [[expected_line(record)] for record in observation.records], program
        assert ask(running, "tree") == expected_tree(observation), program
    assert compared > 40


def said_by(session: Session, *lines: str) -> list[str]:
    return [answer for line in lines for answer in session.answers(line)]


@pytest.mark.parametrize("name", ["block_split", "link", "fail_alloc_unlinked", "hyp_life"])
def test_a_program_may_be_pasted(running: Shell, name: str) -> None:
    """And comes to what `show` says of it, its tree included."""
    text = (SEEDS / f"{name}.s2").read_text()
    program = parse(text)
    seen = running.observe(program)
    said = said_by(Session(running), *text.splitlines(), "tree")
    settings = ["init 0"] if program.machine.changed() else []
    starts = [*settings, *(f"{record.definition.name} {describe_record(record)}" for record in seen.records[1:])]
    assert [line for line in starts if not any(one.startswith(line) for one in said)] == []
    assert said[-len(tree(seen, program.machine)) :] == tree(seen, program.machine)


def test_settings_come_first_or_begin_anew(running: Shell) -> None:
    session = Session(running)
    assert said_by(session, "s2 1", "ia_bits = 32", "requires = split", "destroy")[-1] == "destroy 0"
    with pytest.raises(BadInput, match="`reset fwb=off` begins anew, or `s2 1`"):
        said_by(session, "fwb = off")
    assert "ia_bits=0x28" in said_by(session, "s2 1", "fwb = off", "destroy")[0]
    for line, problem in (
        ("s2 2", "expected `s2 1`"),
        ("requires = mkold", "this kernel lacks mkold"),
        ("ia_bits = 1", "32"),
    ):
        with pytest.raises(BadInput, match=problem):
            said_by(session, "s2 1", line)


def test_what_an_op_makes_is_called_as_its_line_says(running: Shell) -> None:
    session = Session(running)
    make = "create_unlinked phys=0x0 level=2 prot=r mc=4"
    assert said_by(session, f"t7 = {make}", f"mine = {make}") == [f"create_unlinked 0 table=t{n}" for n in (1, 2)]
    assert said_by(session, "free_unlinked table=mine", "free_unlinked table=t7") == ["free_unlinked 0"] * 2
    assert said_by(session, "free_unlinked table=t1") == ["free_unlinked -EBADF"], "which was t7"
    with pytest.raises(BadInput, match="called `yours`"):
        said_by(session, "free_unlinked table=yours")


def test_what_an_op_did_is_told_on_request(running: Shell) -> None:
    session = Session(running)
    with pytest.raises(BadInput, match="no op yet"):
        said_by(session, "events")
    said_by(session, PAGE)
    assert "store release 0x44000000 = 0x4400" in " ".join(said_by(session, "events"))
    assert said_by(session, "walk ipa=0x1000 size=4K flags=leaf")[1].startswith("  leaf level=0x3 ipa=0x1000 pte=")


def test_help(running: Shell) -> None:
    session = Session(running)
    overview = said_by(session, "help")
    assert [line[:-1] for line in overview if line.endswith(":")] == [
        *(family for family in FAMILIES if family != "hyp"),
        "also",
    ]
    for op in OPS:
        example = next(line for line in said_by(session, f"help {op.name}") if line.startswith("  example: "))
        assert parse_op(example.removeprefix("  example: "), op.stages[0]).definition is op
    assert any("handle_fault" in line for line in said_by(session, "help map"))
    assert any(line.startswith("  ia_bits ") and "32 to 52" in line for line in said_by(session, "help reset"))
    with pytest.raises(BadInput, match="`mop` is no op"):
        said_by(session, "help mop")


@pytest.mark.parametrize(
    ("before", "begun", "found"),
    [
        ("", "unm", ["unmap "]),
        ("", "tre", ["tree "]),
        ("", "hyp_", []),
        ("", "mkold", []),  # which this kernel lacks
        ("map ", "p", ["phys=", "prot="]),
        ("map prot=", "dev", ["device"]),
        ("map flags=shared+", "s", ["skip_bbm_tlbi", "skip_cmo"]),
        ("reset ", "ia", ["ia_bits="]),
        ("reset fwb=", "o", ["off ", "on "]),
        ("help ", "set", ["set_owner"]),
        ("x = ", "", ["create_unlinked ", "mmu_init ", "mmu_share ", "vm_create "]),
        ("x = create_unlinked ", "le", ["level="]),
        ("free_unlinked table=", "", ["mine"]),
        ("mop ", "", []),
    ],
)
def test_completion(running: Shell, before: str, begun: str, found: list[str]) -> None:
    assert completions(before, begun, running.capabilities, Session(running).machine, ["mine"]) == found


def test_programs_run_identically_after_a_session(shell: Shell) -> None:
    programs = [ONE_PAGE, BUSY, *SPECIAL.values(), *random_programs(8, 20)]
    before_session = [shell.observe(program).words for program in programs]
    for program, words in zip(programs, before_session, strict=True):
        ask(shell, "reset ia_bits=48 pool_pages=9 pool_base=0x1000 fwb=off tlb_range=off hw_af=off")
        for line in (PAGE, "set_owner ipa=0 size=64K owner=3 mc=40", "walk ipa=0 size=2M flags=leaf", "destroy"):
            ask(shell, line)
        assert shell.observe(program).words == words


def test_a_program_takes_the_table_away(shell: Shell) -> None:
    assert ask(shell, PAGE) == ["map 0"]
    shell.observe(BUSY)
    assert ask(shell, "tree") == ["page 0x44000000 refcount=0x1", "page 0x44001000 refcount=0x1"]


def test_table_lives_until_reset(shell: Shell) -> None:
    ask(shell, PAGE)
    assert ask(shell, "get_leaf ipa=0x1000") == ["get_leaf 0 pte=0x800017db level=0x3"]
    ask(shell, "reset")
    assert ask(shell, "get_leaf ipa=0x1000") == ["get_leaf 0 pte=0x0 level=0x1"]


def test_hyp_s_stage_1_by_hand(shell: Shell) -> None:
    ask(shell, "reset stage=1")
    assert ask(shell, "hyp_map va=0x1000 size=4K phys=0x80000000 prot=rx") == ["hyp_map 0"]
    assert ask(shell, "get_leaf ipa=0x1000") == ["get_leaf 0 pte=0x40000800007c3 level=0x3"]
    with pytest.raises(BadInput, match="has no `unmap`"):
        ask(shell, "unmap ipa=0x1000 size=4K")
    assert ask(shell, "hyp_unmap va=0x1000 size=4K") == ["hyp_unmap 0 unmapped=0x1000"]
    ask(shell, "reset")
    assert ask(shell, "get_leaf ipa=0x1000") == ["get_leaf 0 pte=0x0 level=0x1"]


def test_each_line_has_a_budget_of_its_own(shell: Shell) -> None:
    ask(shell, "reset budget=12")
    assert [ask(shell, "walk ipa=0 size=3M flags=leaf")[0].split()[1] for _ in range(3)] == ["0"] * 3


def test_after_an_op_that_was_cut_off_comes_reset(shell: Shell) -> None:
    """As in a program: what it left may not be fit to go on with."""
    ask(shell, "reset budget=12")
    assert ask(shell, PAGE) == ["map budget"]
    with pytest.raises(BadInput, match="only `reset`"):
        ask(shell, "get_leaf ipa=0")
    assert ask(shell, "tree")[0].startswith("page ")
    ask(shell, "reset")
    assert ask(shell, PAGE) == ["map 0"]


def test_an_init_that_fails_leaves_nothing_to_work_on(shell: Shell) -> None:
    assert ask(shell, "reset ia_bits=43 pool_pages=1") == ["init -ENOMEM"]
    with pytest.raises(BadInput, match="only `reset`"):
        ask(shell, PAGE)
    assert ask(shell, "tree") == []
    assert ask(shell, "reset")[0].startswith("init 0 vtcr=")


def test_help_names_every_op_argument_and_knob(shell: Shell) -> None:
    said = {line.split()[0].rstrip(":"): line for line in ask(shell, "help")}
    assert said.keys() == {op.name for op in Model().capabilities.ops} | {"reset", "tree", "help"}
    for op in Model().capabilities.ops:
        assert said[op.name].endswith(f": {op.summary}")
        assert [word.strip("[").split("=")[0] for word in said[op.name].split(":")[0].split()[1:]] == [
            arg.name for arg in op.args
        ]
    for knob in KNOBS:
        assert f"[{knob.name}={knob.default:#x}]" in said["reset"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("mop ipa=1", "`mop` is no op: perhaps `map`[?] `help` lists them"),
        ("map ipa=0x1000", "expected size=… for map"),
        ("map ipa=0x1000 ipa=1", "ipa is given twice"),
        ("unmap ipa=zero size=1", "expected a number .*`zero`"),
        ("set_owner ipa=0 size=4K owner=256", "`256` is out of range for owner"),
        ("reset ia_bits=9", "expected 32 to 52 for ia_bits, got `9`"),
        ("reset tea=9", "expected pool_base, .*, got `tea`"),
        ("reset now", "expected"),
        ("reset granule=64k", "this kernel was built for pages of 4k, not of 64k: `s2fuzz shell --granule 64k`"),
        ("reset granule=16k pool_base=0x1000", "pool_base: expected a multiple of 0x4000"),
        ("tree now", "expected the end of the line after `tree`, got `now`"),
        ("unmap ipa=0 size=4K é", "got `é`"),
    ],
)
def test_bad_lines_are_refused(shell: Shell, line: str, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        ask(shell, line)
    assert ask(shell, "destroy") == ["destroy 0"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("mop", "unknown word `mop`"),
        ("map top=1", "unknown word `top=1`"),
        ("reset top=1", "unknown word `top=1`"),
        ("unmap ipa=0x", "not a number (0x… or decimal): `ipa=0x`"),
        ("unmap ipa", "not a number (0x… or decimal): `ipa`"),
        ("unmap ipa=0xffffffffffffffff0 size=1", "not a number (0x… or decimal): `ipa=0xffffffffffffffff0`"),
        ("unmap ipa=18446744073709551616 size=1", "not a number (0x… or decimal): `ipa=18446744073709551616`"),
        ("unmap ipa=12a size=1", "not a number (0x… or decimal): `ipa=12a`"),
        ("unmap ipa=1", "missing: `size`"),
        ("unmap ipa=1 ipa=1", "given twice: `ipa=1`"),
        ("map ipa=0 size=0 phys=0 prot=0 mc=42", "out of range: `mc=42`"),
        ("map ipa=0 size=0 phys=0 prot=0x20", "out of range: `prot=0x20`"),
        ("reset ia_bits=53", "out of range: `ia_bits=53`"),
        ("reset granule=1", "out of range: `granule=1`"),
        ("reset pool_base=1", "out of range: `pool_base=1`"),
        ("\x07bell", "unknown word `?bell`"),
        ("hyp_unmap va=0 size=1", "the table's stage, which `reset stage=…` chooses, has no `hyp_unmap`"),
    ],
)
def test_the_kernel_itself_refuses_bad_lines(shell: Shell, line: str, problem: str) -> None:
    """Whoever types on the serial port has no host that looks first."""
    assert raw(shell, line) == [f"error: {problem.replace('…', '???')}"]
    assert ask(shell, "destroy") == ["destroy 0"]


def test_the_kernel_takes_numbers_either_way(shell: Shell) -> None:
    assert raw(shell, " unmap\tsize=0x1000   ipa=4096 ") == ["unmap 0"]
    assert raw(shell, "walk ipa=0xffffffffffffffff size=18446744073709551615 flags=1") == ["walk -34"]
    assert raw(shell, "") == []


def test_blank_lines_and_comments_say_nothing(shell: Shell) -> None:
    assert ask(shell, "") == ask(shell, "  # a comment") == []


def test_program_text_becomes_numbers() -> None:
    assert translate(PAGE) == "map ipa=0x1000 size=0x1000 phys=0x80001000 prot=0x7 mc=0x6 flags=0x0"
    assert translate("reset fwb=off ia_bits=40 # as it was") == "reset fwb=0x0"


def test_a_line_that_is_too_long_is_refused(shell: Shell) -> None:
    link = shell._lines
    (said,) = link.ask("x" * 0x70000, 20, 20)
    assert isinstance(said, Message) and (said.type, said.payload) == ("E", b"malformed frame")
    assert ask(shell, "destroy") == ["destroy 0"]


def altered_shell(image: Image, tmp_path: Path, changes: dict[str, str]) -> Shell:
    return Shell(build(with_changes(image.tree, tmp_path / "pgtable.c", changes)), "kernel:altered")


def test_warnings_name_their_place(image: Image, tmp_path: Path, scratch_cache: Path) -> None:
    with closing(altered_shell(image, tmp_path, before(IN_MAP, "WARN_ON(1); WARN_ON(1);"))) as shell:
        (said,) = ask(shell, PAGE)
        assert said.startswith("map 0 WARN at kvm_pgtable_stage2_map (pgtable.c:")
        assert said.count(" WARN at ") == 2
        assert ask(shell, "unmap ipa=0 size=4K") == ["unmap 0"]


def test_a_crash_is_symbolised_and_the_next_line_has_a_fresh_kernel(
    image: Image, tmp_path: Path, scratch_cache: Path
) -> None:
    with closing(altered_shell(image, tmp_path, before(IN_MAP, "if (addr) *(volatile u64 *)8 = 1;"))) as shell:
        heard: list[str] = []
        complaints: list[str] = []
        lines = ["ia_bits = 32", PAGE, "bad", "get_leaf ipa=0x1000"]
        outcome = converse(Session(shell), lines, heard.append, complaints.append)
        assert (outcome.deaths, outcome.refused) == (1, 1)
        assert heard[1].startswith("crash: synchronous exception (data abort on write) in kvm_pgtable_stage2_map\n")
        assert "called from op_map (table.c:" in heard[1]
        assert heard[3:] == ["get_leaf 0 pte=0x0 level=0x2", "  -"]
        assert heard[0] == heard[2] and "ia_bits=0x20" in heard[0], "the next table is of the same machine"
        assert len(complaints) == 2


def test_a_hang_is_symbolised(image: Image, tmp_path: Path, scratch_cache: Path) -> None:
    changes = before(IN_MAP, 'for (;;) asm volatile("" ::: "memory");')
    with closing(altered_shell(image, tmp_path, changes)) as shell:
        shell.work = HANGS_SOON
        assert ask(shell, "destroy") == ["destroy 0"]
        with pytest.raises(TargetDied) as died:
            ask(shell, PAGE)
        assert died.value.report.kind == "hang"
        assert "kvm_pgtable_stage2_map" in died.value.report.headline
        assert ask(shell, "destroy") == ["destroy 0"]


COMMAND = str(Path(sys.executable).with_name("s2fuzz"))


@pytest.mark.parametrize(
    ("given", "status", "said", "complaint"),
    [
        (f"{PAGE}\nget_leaf ipa=0x1000", 0, f"map 0\nget_leaf 0 pte=0x800017db level=0x3\n  {LEAF}\n", ""),
        ("tree now\n\ndestroy\n", 2, "destroy 0\n", "expected the end of the line"),
        ("\xff\n", 2, "", "is no op"),
        ("", 0, "", ""),
    ],
)
def test_command_carries_out_what_it_reads(given: str, status: int, said: str, complaint: str) -> None:
    run = subprocess.run(
        [COMMAND, "shell"], input=given.encode("latin-1"), capture_output=True, check=False, timeout=60
    )
    assert (run.returncode, run.stdout.decode()) == (status, said), run.stderr
    assert complaint in run.stderr.decode()
    assert "Traceback" not in run.stderr.decode()


def waits_for_keys(child: pexpect.spawn[str]) -> None:
    """Wait until the child sleeps. What it has to show is shown by then, and readline at the keyboard again.

    Python tells readline of a Ctrl-C only while it sleeps there: one that comes while a key is dealt with is kept until
    the next key.
    """
    stat = Path(f"/proc/{child.pid}/stat")
    deadline = time.monotonic() + 60
    while stat.read_text().rpartition(")")[2].split()[0] != "S":
        assert time.monotonic() < deadline, "it never sleeps"
        time.sleep(0.01)


def test_command_on_a_terminal(image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt, completion, Ctrl-C that leaves the line, lines pasted together, and a history for the next session."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("INPUTRC", os.devnull)
    prompt = "\x1b[?2004hs2> "
    pasted = f"\x1b[200~{PAGE}\nget_le\x1b[201~\t\t0x1000"
    for keys, said in (
        (pasted, ("map 0", "get_leaf 0 pte=0x800017db level=0x3", f"  {LEAF}")),
        ("\x1b[A\x1b[A", ("map 0",)),
    ):
        child = pexpect.spawn(COMMAND, ["shell"], timeout=60, encoding="utf-8")
        with closing(child):
            child.delaybeforesend = None
            child.expect_exact(prompt)
            child.send("unmap ipa=0")
            child.expect_exact("unmap ipa=0")
            waits_for_keys(child)
            child.sendintr()
            child.expect_exact(prompt)
            child.sendline(keys)
            for line in said:
                child.expect_exact(f"{line}\r\n")
            child.expect_exact(prompt)
            child.sendeof()
            child.expect(pexpect.EOF)
        assert child.exitstatus == 0


def test_handles_by_hand_are_those_of_the_kernels_table() -> None:
    """A line knows nothing of the lines before it: names and numbers stay what they are."""
    made = translate("t2 = create_unlinked phys=0x0 level=2 prot=r")
    assert made.startswith("create_unlinked phys=0x0 level=0x2 prot=0x4")
    assert translate("free_unlinked table=t3") == translate("free_unlinked table=2") == "free_unlinked table=0x2"
