"""The command that writes a mail on a finding."""

from __future__ import annotations

from pathlib import Path

import click

from fuzz.cli.options import EXISTING, OK, say
from fuzz.cli.outputs import OutFile
from fuzz.triage.cause import commit_of
from fuzz.triage.mail.letter import letter
from fuzz.triage.mail.maintainers import SECONDS, Recipients, recipients_for
from harness.findings.finding import load
from harness.outside import write_plain
from reference.build.hosted import PGTABLE


@click.command()
@click.argument("finding", type=EXISTING)
@click.option(
    "-o",
    "--out",
    type=OutFile(allow_dash=True),
    default="-",
    metavar="FILE",
    help="Write it to FILE.  [default: standard output]",
)
@click.option(
    "--tree",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="A kernel tree whose scripts/get_maintainer.pl says who gets it. That runs code of the tree, for at most "
    f"{SECONDS:g} s; name one that you trust.  [default: nobody is named]",
)
def mail(finding: Path, out: Path, tree: Path | None) -> int:
    """Write a mail on a finding, ready to be sent: what happens, the program, on whose word, how to reproduce it.

    Plain text of 72 columns with headers, as `git send-email` and `mutt -H` take it. Nothing is sent. It has a Fixes:
    tag, and the commit's author in Cc as a suggestion, once `s2fuzz bisect` has seen the finding with that commit and
    not with its parents. Read it before you send it: folders of yours appear by their last names only, but the rest is
    as the finding has it.
    """
    found = load(finding)
    recipients = Recipients() if tree is None else recipients_for(tree, [PGTABLE])
    data = letter(found, recipients)
    if out == Path("-"):
        click.echo(data, nl=False)
    else:
        write_plain(out, data)
    cause = commit_of(finding)
    if cause is not None:
        say(f"note: {cause.author}, who wrote the commit that brought it, is in Cc")
    return OK
