"""The commands that look after what is known of Linux: promises that it breaks as it was released."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fuzz.cli.options import EXISTING, OK, show_line
from fuzz.cli.outputs import OutFolder
from harness.errors import BadInput
from harness.findings.finding import load
from harness.outside import shown, write_plain
from harness.program.text import format_program
from harness.verdict.contracts.blame import KNOWN
from harness.verdict.contracts.families import CONTRACTS
from harness.verdict.contracts.listed import VERDICTS, entry_text, kernel_of, read_listed


def _folder(kind: click.Path) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "--folder",
        type=kind,
        default=KNOWN,
        show_default="corpora/violations of the checkout",
        help="Where the entries are.",
    )


@click.group()
def known() -> None:
    """Promises that Linux is known to break: list them, or add one that was found.

    What an entry of corpora/violations names is no finding on the kernels that it names. docs/violations.md tells of
    each.
    """


@known.command("list")
@_folder(click.Path(exists=True, file_okay=False, path_type=Path))
def list_known(folder: Path) -> int:
    """List what is known: each entry, its verdict, the kernels that do it, and what it is."""
    for entry in read_listed(folder):
        show_line(f"{entry.name}  ({entry.verdict}; {', '.join(entry.kernels)})")
        show_line(f"  {entry.what}")
    return OK


@known.command("add")
@click.argument("finding", type=EXISTING)
@click.option("--verdict", type=click.Choice(VERDICTS), required=True, help="What it is, in your judgement.")
@click.option("--reason", required=True, metavar="TEXT", help="What is wrong, in a sentence.")
@click.option("--name", help="Of the entry.  [default: the contract's, and the op's]")
@_folder(OutFolder())
def add_known(finding: Path, verdict: str, reason: str, name: str | None, folder: Path) -> int:
    """Add a finding of the kind `contract` to what is known, so that it is none from now on.

    The entry names the kernels of both sides, and the contract and op wherever they meet: narrow it by a place
    (corpora/violations/README.md) where other bugs could hide behind it.
    """
    found = load(finding)
    if found.kind != "contract":
        raise BadInput(f"{shown(finding)}: a finding of the kind {found.kind}, and only broken promises can be known")
    _, op, contract = found.bucket.split("-", 2)
    if contract not in CONTRACTS.by_name:
        raise BadInput(f"{shown(finding)}: {contract} is no contract: a relation has no entries")
    kernels = sorted({kernel for identity in found.identities.values() if (kernel := kernel_of(identity)) is not None})
    if not kernels:
        raise BadInput(f"{shown(finding)}: its kernel is no version that an entry could name")
    stem = name or f"{op}_{contract.replace('-', '_')}"
    program, entry = (folder / f"{stem}.{end}" for end in ("s2", "toml"))
    for path in (program, entry):
        if path.exists():
            raise BadInput(f"{shown(path)} is there already: choose another --name")
    folder.mkdir(parents=True, exist_ok=True)
    write_plain(program, f"# {reason}\n{format_program(found.program)}".encode())
    write_plain(entry, entry_text(reason, verdict, kernels, contract, op).encode())
    show_line(f"{shown(entry)}: known of {', '.join(kernels)}")
    return OK
