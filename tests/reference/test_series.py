"""Patches as people have them: what `git format-patch`, b4 and mailing lists make, read in the order of the series."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fuzz.cli.commands import Commands
from fuzz.cli.options import kernel_options
from fuzz.sides import Side
from reference.build.errors import BadKernelChoice
from reference.build.patches import patched
from reference.build.progress import silent
from reference.build.series import files_of, read_series
from reference.build.tree import BaseTree

HEADER = "include/linux/small.h"
FILES = {
    "Makefile": "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 0\n",
    HEADER: "one\ntwo\nthree\n",
    "arch/arm64/kvm/hyp/pgtable.c": "int walk;\n",
    "Documentation/small.rst": "words\n",
}
LINES = ("one", "two", "three")


def diff_of(before: Sequence[str], after: Sequence[str], file: str = HEADER) -> str:
    old = "".join(f"-{line}\n" for line in before)
    new = "".join(f"+{line}\n" for line in after)
    count = f"@@ -1,{len(before)} +1,{len(after)} @@ int walk(void)\n"
    return f"diff --git a/{file} b/{file}\n--- a/{file}\n+++ b/{file}\n{count}{old}{new}"


FIRST = diff_of(LINES, ("ONE", "two", "three"))
SECOND = diff_of(("ONE", "two", "three"), ("ONE", "TWÖ", "three"))
OTHER = diff_of(["words"], ["other words"], "Documentation/small.rst")


def mail(subject: str, diff: str, identity: str = "", encoding: str = "8bit") -> str:
    """A mail, with its line for a mailbox."""
    message = EmailMessage()
    message["From"], message["Subject"] = "A Uthor <author@example.org>", subject
    if identity:
        message["Message-ID"] = f"<{identity}@example.org>"
    message.set_content(f"Because.\n---\n file | 2 +-\n\n{diff}-- \n2.39\n\n", charset="utf-8", cte=encoding)
    return f"From 0123456789abcdef0123456789abcdef01234567 Mon Sep 17 00:00:00 2001\n{message.as_bytes().decode()}\n"


COVER = mail("[PATCH v2 0/2] KVM: arm64: both", "")
ONE = mail("[PATCH v2 1/2] KVM: arm64: the first", FIRST, "one")
TWO = mail("[PATCH v2 2/2] KVM: arm64: the second", SECOND, "two")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2FUZZ_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return folder(tmp_path / "tree", FILES)


def folder(path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


def subjects(*paths: Path) -> list[str]:
    return [patch.subject for patch in read_series(files_of(paths)).patches]


def header(tree: Path, *patches: Path) -> str:
    """The file that is patched, in the patched tree."""
    base = BaseTree(tree, None, str(tree))
    return (patched(base, files_of(patches), silent).root / HEADER).read_text()


def test_a_folder_as_git_format_patch_makes_it(tree: Path, tmp_path: Path) -> None:
    outgoing = folder(
        tmp_path / "outgoing",
        {
            "0000-cover-letter.patch": COVER + OTHER,  # --interdiff puts one there
            "0001-first.patch": ONE,
            "0002-second.patch": TWO,
            "notes.txt": "no patch",
        },
    )
    series = read_series(files_of([outgoing]))
    assert [path.name for path in series.paths] == ["0001-first.patch", "0002-second.patch"]
    (note,) = series.notes
    assert note.endswith('0000-cover-letter.patch: "[PATCH v2 0/2] KVM: arm64: both" is left out: a cover letter')
    assert header(tree, outgoing) == "ONE\nTWÖ\nthree\n"


def test_a_folder_with_two_versions(tmp_path: Path) -> None:
    outgoing = folder(tmp_path / "outgoing", {"0001-a.patch": ONE, "v2-0001-a.patch": ONE})
    with pytest.raises(BadKernelChoice, match=r"outgoing: holds v1 and v2 .*outgoing/v2-\*\.patch"):
        files_of([outgoing])
    with pytest.raises(BadKernelChoice, match=r"no file in it is called \*\.patch"):
        files_of([folder(tmp_path / "empty", {"README": ""})])


def test_a_maildir(tree: Path, tmp_path: Path) -> None:
    box = folder(tmp_path / "box", {"cur/1:2,S": TWO, "new/2": ONE, "new/3": COVER})
    (box / "tmp").mkdir()
    assert header(tree, box) == "ONE\nTWÖ\nthree\n"


@pytest.mark.parametrize("encoding", ["8bit", "quoted-printable", "base64"])
def test_a_mailbox_in_any_order(tree: Path, tmp_path: Path, encoding: str) -> None:
    second = mail("[PATCH v2 2/2] KVM: arm64: the second", SECOND, encoding=encoding)
    assert ("diff --git" in second) == (encoding != "base64")
    review = mail("Re: [PATCH v2 1/2] KVM: arm64: the first", OTHER)
    thread = tmp_path / "thread.mbox"
    thread.write_text(second + COVER + review + ONE + ONE)
    assert subjects(thread) == ["KVM: arm64: the first", "KVM: arm64: the second"]
    assert [note.partition(": ")[2] for note in read_series([thread]).notes] == [
        '"[PATCH v2 0/2] KVM: arm64: both" is left out: a cover letter',
        '"Re: [PATCH v2 1/2] KVM: arm64: the first" is left out: a reply',
        "its mails are out of order, and are taken as they are numbered",
    ]
    assert header(tree, thread) == "ONE\nTWÖ\nthree\n"


def test_a_gzipped_mailbox(tree: Path, tmp_path: Path) -> None:
    packed, of_lore = tmp_path / "t.mbox.gz", "From mboxrd@z Thu Jan  1 00:00:00 1970"
    packed.write_bytes(gzip.compress(re.sub(r"(?m)^From .*$", of_lore, ONE + TWO).encode()))
    assert header(tree, packed) == "ONE\nTWÖ\nthree\n"
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(BadKernelChoice, match=r"t\.mbox\.gz: cannot be unpacked: "):
        read_series([packed])


def test_several_versions_in_a_mailbox(tmp_path: Path) -> None:
    thread = tmp_path / "thread.mbox"
    thread.write_text(mail("[PATCH 1/2] KVM: arm64: the first", FIRST) + ONE + TWO)
    with pytest.raises(BadKernelChoice, match=r"holds .\[PATCH 1/2\] KVM.* and .\[PATCH v2 1/2\] KVM.*one version"):
        read_series([thread])


def test_several_series_behind_each_other(tmp_path: Path) -> None:
    box = tmp_path / "all.mbox"
    single, again = mail("[PATCH] fix", OTHER), mail("[PATCH 1/3] other: start", OTHER)
    box.write_text(single + ONE + TWO + again)
    assert subjects(box) == ["fix", "KVM: arm64: the first", "KVM: arm64: the second", "other: start"]
    box.write_text(TWO + again + ONE)
    with pytest.raises(BadKernelChoice, match="several series, out of order"):
        read_series([box])


def test_a_missing_patch_is_told(tmp_path: Path) -> None:
    box = tmp_path / "some.mbox"
    box.write_text(mail("[PATCH 1/3] a", FIRST) + mail("[PATCH 3/3] c", SECOND))
    assert read_series([box]).notes == (f"--patch {box}: patch 2 of the series is not there",)


def test_a_diff_saved_elsewhere(tree: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.diff"
    saved.write_bytes(FIRST.replace("\n", "\r\n").encode())
    assert header(tree, saved) == "ONE\ntwo\nthree\n"


def test_what_does_not_apply_is_named(tree: Path, tmp_path: Path) -> None:
    box = tmp_path / "series.mbox"
    box.write_text(ONE + mail("[PATCH v2 2/2] KVM: arm64: wrong", f"{FIRST}\nbase-commit: 0123456789abcdef\n"))
    with pytest.raises(BadKernelChoice) as caught:
        header(tree, box)
    assert re.match(
        r'--patch .*/series\.mbox, patch 2 of 2, "\[PATCH v2 2/2\] KVM: arm64: wrong": does not apply at '
        rf"{HEADER}, hunk `@@ -1,3 \+1,3 @@ int walk\(void\)`; it is in the tree already: leave it out "
        r"\(it says that it was made on commit 0123456789abcdef\)\. git says: ",
        str(caught.value),
    )
    with pytest.raises(BadKernelChoice, match="choose the tree that it was made for"):
        header(folder(tmp_path / "else", {**FILES, HEADER: "1\n2\n3\n"}), box)


def test_a_mail_that_was_spoilt(tmp_path: Path) -> None:
    broken = mail("[PATCH] fix", FIRST.replace("+three\n", "")).replace("text/plain;", "text/plain; format=flowed;")
    box = tmp_path / "flowed.mbox"
    box.write_text(broken)
    with pytest.raises(BadKernelChoice, match=r"\"\[PATCH\] fix\": no diff that can be read.*format=flowed"):
        read_series([box])


def test_a_script_of_the_build_is_refused_in_any_patch(tree: Path, tmp_path: Path) -> None:
    script = "arch/arm64/tools/gen-sysreg.awk"
    box = tmp_path / "series.mbox"
    box.write_text(ONE + mail("[PATCH v2 2/2] tools: more", diff_of([], ["BEGIN"], script).replace("-1,0", "-0,0")))
    with pytest.raises(BadKernelChoice, match=r"tools: more.: changes a script that the build runs"):
        header(tree, box)


def test_a_patch_of_a_series_may_concern_nothing_here(tree: Path, tmp_path: Path) -> None:
    docs, first = tmp_path / "0001-docs.patch", tmp_path / "0002-first.patch"
    docs.write_text(mail("[PATCH 1/2] docs", OTHER))
    first.write_text(mail("[PATCH 2/2] first", FIRST))
    assert header(tree, docs, first) == "ONE\ntwo\nthree\n"
    assert [patch.files for patch in read_series([docs, first]).patches] == [(), (HEADER,)]


def test_a_kernel_with_many_patches_has_a_short_name(tmp_path: Path) -> None:
    paths = tuple(tmp_path / f"{number}.patch" for number in range(3))
    assert Side("kernel", "6.12", paths[:2]).full_name == "kernel:6.12+0.patch+1.patch"
    assert Side("kernel", "6.12", paths).full_name == "kernel:6.12+3 patches"


# The option


@click.group(cls=Commands)
def cli() -> None:
    """One command."""


def given(*words: str | Path, stdin: str = "") -> tuple[list[str], str]:
    """What `--patch` comes to: the subjects, and what is said."""
    found: list[str] = []

    @click.command()
    @click.argument("programs", nargs=-1)
    @kernel_options
    def command(programs: tuple[str, ...], patches: tuple[Path, ...], **_kernel: object) -> None:
        found.extend([*programs, *(patch.subject for patch in read_series(patches).patches)])

    group = Commands(commands={"command": command})
    result = CliRunner().invoke(group, ["command", *map(str, words)], input=stdin, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return found, result.stderr


def test_patches_from_standard_input() -> None:
    of_b4 = re.sub(r"(?m)^From .*$", "From git@z Thu Jan  1 00:00:00 1970", COVER + TWO + ONE)
    found, said = given("--patch", "-", stdin=of_b4)
    assert found == ["KVM: arm64: the first", "KVM: arm64: the second"]
    assert '--patch -: "[PATCH v2 0/2] KVM: arm64: both" is left out: a cover letter' in said


def test_several_files_behind_one_option(tmp_path: Path) -> None:
    folder(tmp_path, {"a.patch": ONE, "b.diff": SECOND, "c.patch": mail("[PATCH] c", OTHER)})
    a, b, c = (tmp_path / name for name in ("a.patch", "b.diff", "c.patch"))
    assert given("--patch", a, b, "x.s2", "--patch", c)[0] == ["x.s2", "KVM: arm64: the first", "b.diff", "c"]
    assert given("x.s2", "--patch", tmp_path)[0] == ["x.s2", "KVM: arm64: the first", "b.diff", "c"]
