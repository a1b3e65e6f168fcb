"""What a run finds that begins, and puts right: a ledger that is damaged or behind the files, and what the processes of
a run left that was killed."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from fuzz.campaign.inputs import Inputs
from fuzz.campaign.kept import KeptFindings
from fuzz.campaign.ledger import Damaged, Ledger, put_aside
from fuzz.campaign.work_directory import WorkDirectory
from harness.outside import shown


def rescue_spools(place: WorkDirectory, inputs: Inputs, findings: KeptFindings) -> None:
    """Record what is in the spools; they are gone then. The ledger learns of it when it is opened. Raises OSError."""
    place.spool.mkdir(exist_ok=True)
    for folder in sorted(place.spool.iterdir()):
        inputs.rescue(folder.name.partition(".")[2], folder / "corpus")
        for _ in findings.take(folder / "found"):
            pass
        shutil.rmtree(folder)


def open_ledger(place: WorkDirectory, say: Callable[[str], None]) -> Ledger:
    """The ledger, with how the last run ended. One that is damaged is put aside. Raises BadInput for another
    version's, sqlite3.Error, OSError."""
    try:
        ledger = Ledger(place.ledger)
    except Damaged as error:
        aside = put_aside(place.ledger)
        ledger = Ledger(place.ledger)
        say(
            f"{shown(place.ledger)}: damaged ({error}); put aside as {aside.name}, and begun anew from the "
            "corpus and the findings: counts and times of earlier runs are lost"
        )
    if (word := place.last_word()) is not None:
        ledger.end_run(*word)
    return ledger
