"""The mail on a finding: what it says, that it fits 72 columns, and to whom it goes."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Mapping
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from executors import AnyOwner, Dying

from fuzz.cli.mail import mail
from fuzz.triage.cause import CommitCause, PatchCause, record
from fuzz.triage.mail.letter import WIDTH, letter
from fuzz.triage.mail.maintainers import Recipients, recipients_for
from fuzz.triage.mail.words import words_on
from fuzz.triage.recorded import recorded_sides_of
from harness.errors import BadInput, ToolFailure
from harness.findings.finding import load
from harness.findings.report import verdict_report
from harness.findings.writing import Contents, save
from harness.model.executor import Model
from harness.observation.executor import Executor
from harness.program.program import Program
from harness.program.text import parse
from harness.verdict.judge import Judge
from harness.verdict.verdicts import Verdict
from reference.build.hosted import PGTABLE

OWNER = parse("s2 1\nbudget = 100\nset_owner ipa=0x1000 size=4K mc=2 owner=3\ndestroy\n")
LIFE = parse("s2 1\nia_bits = 44\nmap ipa=0x40200000 size=2M phys=0x80200000 prot=rwx mc=4\ndestroy\n")
SIDE = {"flavour": "plain", "kind": "kernel", "object": "host", "patches": [], "pgtable": None, "what": "6.12"}
MODEL = {**SIDE, "kind": "model"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
IDENTITY = {
    "commit": COMMIT,
    "compiler": "Debian clang version 19.1.7 (3~deb12u1)",
    "linux": "6.12.1",
    "pgtable_sha256": "fedcba9876543210" * 4,
    "qemu": "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)",
    "source": "6.12 (Debian linux-source-6.12), pgtable.c from kernel/0-pgtable.c",
}


def verdict_of(program: Program, left: Executor, right: Executor) -> Verdict:
    verdict = Judge(left, right).verdict(program)
    assert verdict is not None
    return replace(verdict, confirmed=3)


def file(
    out: Path,
    program: Program = OWNER,
    right: Executor | None = None,
    sides: tuple[Mapping[str, Any], Mapping[str, Any]] = (MODEL, SIDE),
    verdict: Verdict | None = None,
    outcomes: tuple[str | None, ...] = (),
) -> Path:
    """A finding's directory, as a run leaves it."""
    verdict = verdict or verdict_of(program, Model(), right or AnyOwner())
    names = f"{sides[0]['kind']}:{sides[0]['what']}", f"{sides[1]['kind']}:{sides[1]['what']}"
    report = verdict_report(program, verdict, names)
    configuration = {"left": sides[0], "right": sides[1]}
    names = [*sides[1]["patches"], *filter(None, [sides[1]["pgtable"]])]
    files = {name.removeprefix("kernel/"): b"x" for name in names}
    identities = {"left": {"version": "6.12"}, "right": IDENTITY}
    contents = Contents(program, verdict, report, configuration, identities, files, outcomes=outcomes)
    return save(out, contents)


def read(directory: Path, recipients: Recipients | None = None) -> tuple[EmailMessage, str]:
    """The mail, as Python reads it, and its text; it fits."""
    data = letter(load(directory), recipients or Recipients())
    assert not [line for line in data.decode().splitlines() if len(line) > WIDTH and not line.startswith("Fixes: ")]
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    text = message.get_content()
    assert isinstance(text, str)
    return message, text


def paragraph(text: str, beginning: str) -> str:
    """What stands below a line, up to the next that is not indented, without the indentation."""
    _, found, rest = text.partition(f"\n{beginning}\n\n")
    assert found
    lines = rest.splitlines()
    end = next((i for i, line in enumerate(lines) if line and not line.startswith(" ")), len(lines))
    return "\n".join(line[2:] for line in lines[:end])


def test_what_it_says(tmp_path: Path) -> None:
    directory = file(tmp_path)
    message, text = read(directory)
    assert message["subject"] == "KVM: arm64: kvm_pgtable_stage2_set_owner() differs from a model (results: return)"
    assert (message["to"], message["cc"]) == (None, None)
    assert parse(paragraph(text, "The program:")) == OWNER, "it can be pasted"
    assert "\n  set_owner ipa=0x1000 size=4K mc=2 owner=3  # here\n" in text
    assert "\n    model:6.12  -EINVAL\n    kernel:6.12  0\n" in text
    differences = paragraph(text, "What the sides did, as far as they differ:").splitlines()
    assert differences[:3] == ["--- model:6.12", "+++ kernel:6.12", "@@"]
    assert "-  1 set_owner ipa=0x1000 size=4K mc=2 owner=3  => -EINVAL" in differences
    assert "Seen on each of 3 fresh kernels. " in text
    assert (
        "Expected is what model:6.12 does, a\nmodel of kvm_pgtable in Python. It may be the model that is wrong."
        in text
    )
    last = paragraph(text, "To reproduce it, with the program in bug.s2:").splitlines()
    assert last[:2] == ["s2fuzz run bug.s2 --sides model:6.12,kernel:6.12", ""]
    for said in ("(Debian linux-source-6.12),", "commit:    0123456789ab", "clang version 19.1.7", "version 7.2.22"):
        assert any(said in line for line in last[2:])
    assert "Fixes:" not in text, "nothing was bisected"


def test_the_commit_that_brought_it(tmp_path: Path) -> None:
    directory = file(tmp_path)
    subject = "KVM: arm64: Some subject that is as long as those of commits may be, or longer"
    record(directory, CommitCause(COMMIT, subject, "Zoë Uthor <zoe@example.org>", "2024-12-01", ("a" * 40,)))
    message, text = read(directory)
    assert [(one.display_name, one.addr_spec) for one in message["cc"].addresses] == [("Zoë Uthor", "zoe@example.org")]
    assert text.splitlines()[-1] == f'Fixes: 0123456789ab ("{subject}")'
    assert "It was brought by commit 0123456789ab" in text


def test_the_patch_that_brought_it(tmp_path: Path) -> None:
    names = [f"kernel/{number}-000{number}-kvm-arm64-a-patch-of-a-series.patch" for number in range(3)]
    directory = file(tmp_path, sides=(MODEL, {**SIDE, "patches": names}))
    record(directory, PatchCause(2, 2, 3, "KVM: arm64: the second"))
    _, text = read(directory)
    assert "It was brought by patch 2 of 3, KVM: arm64: the second; without it, it is not there." in " ".join(
        text.split()
    )
    command = paragraph(text, "To reproduce it, with the program in bug.s2:")
    assert command.count(" \\\n") == command.count("--patch 000") == 3
    assert "0002-kvm-arm64-a-patch-of-a-series.patch are not in this mail." in text
    assert "Fixes:" not in text


def test_flaky_ones_and_two_kernels(tmp_path: Path) -> None:
    verdict = verdict_of(OWNER, Model(), AnyOwner())
    directory = file(tmp_path / "flaky", verdict=verdict, outcomes=(verdict.bucket, None, None))
    assert "It does not happen every time: it was seen on 1 of 3 fresh kernels." in " ".join(read(directory)[1].split())
    directory = file(tmp_path / "two", sides=(SIDE, {**SIDE, "what": f"/home/somebody/src/kvmarm@{COMMIT}"}))
    message, text = read(directory)
    assert "differs from another kernel" in message["subject"]
    assert "Expected is what kernel:6.12 does. No model is in this comparison" in " ".join(text.split())
    assert "--sides kernel:6.12,kernel:kvmarm@0123456789ab" in text
    assert "\n    kernel:6.12  -EINVAL\n    kernel:kvmarm@0123456789ab  0\n" in text
    assert "/home" not in text, "where somebody has a tree is nobody else's concern"


def test_a_crash(tmp_path: Path) -> None:
    message, text = read(file(tmp_path, LIFE, Dying("map")))
    assert message["subject"].startswith("KVM: arm64: ")
    assert " crashes in " in message["subject"]
    assert "That takes no second opinion." in text
    assert "The model may" not in text
    assert "as far as they differ" not in text, "one side did not live to tell"


@pytest.mark.parametrize(
    ("kind", "bucket", "subject", "judge"),
    [
        ("hang", "hang-set_owner-__kvm_pgtable_walk", "hangs in __kvm_pgtable_walk", "no second opinion"),
        ("flood", "flood-set_owner", "does not end", "may be the model"),
        ("divergence", "tables-set_owner-entry-level-1", "differs from a model (tables: entry, level -1)", "the model"),
        ("divergence", "effects-set_owner-not_cleaned-level3", "(effects: not cleaned, level 3)", "in whatever order"),
        ("invalidation", "invalidation-set_owner-tlbi_ipa-too-late", ": tlbi_ipa: too-late", "architecture's"),
    ],
)
def test_every_kind_has_its_words(tmp_path: Path, kind: str, bucket: str, subject: str, judge: str) -> None:
    finding = replace(load(file(tmp_path)), kind=kind, bucket=bucket)
    words = words_on(finding, recorded_sides_of(finding), ("model:6.12", "kernel:6.12"))
    assert words.subject.startswith("KVM: arm64: kvm_pgtable_stage2_set_owner()")
    assert words.subject.endswith(subject)
    assert "kvm_pgtable_stage2_set_owner()" in words.opening
    assert judge in words.judge


def test_what_does_not_fit_is_cut_and_said(tmp_path: Path) -> None:
    op = "map ipa=0xfffff00000000 size=4K phys=0xfffff00000000 prot=rwx+sw0+sw1+sw2+sw3+device mc=2"
    _, text = read(file(tmp_path, parse(f"s2 1\nset_owner ipa=0x1000 size=4K mc=2 owner=3\n{op}\n")))
    assert next(line for line in text.splitlines() if line.startswith("  map ")).endswith(" ...")
    assert "Lines and rows that end in ... are whole in the finding's directory." in text


def test_a_finding_of_somebody_else(tmp_path: Path) -> None:
    directory = file(tmp_path)
    for name in ("report.txt", "left.txt"):
        path = directory / name
        path.write_text(path.read_text().replace("-EINVAL", "\x1b[2J\x9b\u202e-EINVAL"))
    _, text = read(directory)
    assert text.count("?[2J??-EINVAL") > 1
    assert all(character.isprintable() or character == "\n" for character in text)


def test_a_finding_without_a_kernel(tmp_path: Path) -> None:
    directory = file(tmp_path, sides=(MODEL, {**MODEL, "what": "6.1"}))
    with pytest.raises(BadInput, match="nobody to write to"):
        letter(load(directory), Recipients())


def test_the_command_writes_and_sends_nothing(tmp_path: Path) -> None:
    directory, out = file(tmp_path / "out"), tmp_path / "mail.txt"
    printed = CliRunner().invoke(mail, [str(directory)], standalone_mode=False, catch_exceptions=False)
    assert printed.stdout.encode() == letter(load(directory), Recipients())
    CliRunner().invoke(mail, [str(directory), "-o", str(out)], standalone_mode=False, catch_exceptions=False)
    assert out.read_text() == printed.stdout


# Whom the tree names


def tree_saying(tmp_path: Path, script: str) -> Path:
    path = tmp_path / "tree/scripts/get_maintainer.pl"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return tmp_path / "tree"


def test_the_maintainers_of_a_tree(tmp_path: Path) -> None:
    tree = tree_saying(
        tmp_path,
        f"""for word; do [ "$word" = {PGTABLE} ] && [ -x scripts/get_maintainer.pl ] && cat <<END
Ma Intainer <ma@example.org> (maintainer:KERNEL VIRTUAL MACHINE FOR ARM64 (KVM/arm64))
"Re V. Iewer" <re@example.org> (reviewer:KERNEL VIRTUAL MACHINE FOR ARM64 (KVM/arm64))
kvmarm@example.org (open list:KERNEL VIRTUAL MACHINE FOR ARM64 (KVM/arm64))
no address at all
END
done""",
    )
    message, _ = read(file(tmp_path / "out"), recipients_for(tree, [PGTABLE]))
    assert [str(one) for one in message["to"].addresses] == ["Ma Intainer <ma@example.org>"]
    assert [one.addr_spec for one in message["cc"].addresses] == ["re@example.org", "kvmarm@example.org"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo no such file >&2; exit 3", r"failed: no such file"),
        ("echo nobody", "names nobody: nobody"),
        ("sleep 600 & sleep 600", r"took longer than 0\.2 s, and was ended"),
    ],
)
def test_a_script_that_does_not_help(tmp_path: Path, script: str, said: str) -> None:
    with pytest.raises(ToolFailure, match=said):
        recipients_for(tree_saying(tmp_path, script), [PGTABLE], 0.2 if "sleep" in script else 30)


def test_a_tree_without_the_script(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no scripts/get_maintainer\.pl"):
        recipients_for(tmp_path, [PGTABLE])
