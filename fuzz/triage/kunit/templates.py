"""The C of a case: what every one has, the helpers that this one uses, and the test itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jinja2 import Environment

_HELPERS: Final = (
    *("force_always", "force_unless_rwx", "init", "topup", "get_leaf", "walk", "fail_alloc", "split", "unlinked"),
)
"""In the order they are written in, each after those that it uses."""


def c_file(name: str, introduction: Sequence[str], body: Sequence[str], needs: Mapping[str, Any]) -> str:
    """The file with one case. `introduction` are the lines of the comment at its top, `body` those of the test;
    `needs` is what the pool and the helpers are filled with."""
    helpers = [_render("pool", needs), *_used("\n".join(body), needs)]
    return _render("case", {"name": name, "introduction": introduction, "body": body, "helpers": helpers})


def _used(body: str, needs: Mapping[str, Any]) -> list[str]:
    """The helpers that the test or another of them names."""
    used: list[str] = []
    for helper in (_render(f"helpers/{name}", needs) for name in reversed(_HELPERS)):
        names = re.findall(r"\bs2_\w+", "\n".join(re.findall(r"^static .*", helper, re.MULTILINE)))
        if any(re.search(rf"\b{name}\b", "\n".join([body, *used])) for name in names):
            used.insert(0, helper)
    return used


def _render(name: str, values: Mapping[str, Any]) -> str:
    return _environment().get_template(f"{name}.c.jinja").render(values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415  (few processes file anything)

    return Environment(
        loader=PackageLoader("fuzz.triage.kunit", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
