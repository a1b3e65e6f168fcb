"""Types of options and arguments that say where something is written: tried before anything runs, for what cannot be
written there would be found out at the end of a night."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from harness.outside import shown


class OutFolder(click.Path):
    """A folder that is made where it is missing, with those above it."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        above = next(one for one in (path, *path.absolute().parents) if os.path.lexists(one))
        if not above.is_dir():
            self.fail(f"{shown(above)} is no folder, so that {shown(path)} cannot be made.", param, ctx)
        if not os.access(above, os.W_OK | os.X_OK, effective_ids=True):
            self.fail(f"nothing can be written to {shown(above)}.", param, ctx)
        return path


class OutFile(click.Path):
    """A file that is written anew, in a folder that is there; `-` is standard output, where that is allowed."""

    def __init__(self, allow_dash: bool = False) -> None:
        super().__init__(dir_okay=False, writable=True, allow_dash=allow_dash, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        folder = path.absolute().parent
        if path == Path("-") and self.allow_dash:
            return path
        if not folder.is_dir():
            self.fail(f"{shown(folder)} is no folder: make it first.", param, ctx)
        if not path.exists() and not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            self.fail(f"nothing can be written to {shown(folder)}.", param, ctx)
        return path
