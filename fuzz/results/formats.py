"""The formats there are. Another one is a module of its name here with a `render`, and its row; its option follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from fuzz.results.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Format:
    """A format of result files: what its option is called, and the option's help."""

    name: str
    help: str

    def render(self, outcome: Outcome) -> str:
        """The file's text. Its module is imported here, for most runs write no file. Raises OSError."""
        module = import_module(f"fuzz.results.{self.name}")
        return cast("Callable[[Outcome], str]", module.render)(outcome)


FORMATS: Final = (
    Format("junit", "JUnit XML, a test for each bucket"),
    Format("sarif", "SARIF 2.1.0, for code scanning"),
    Format("ktap", "KTAP, the kernel's own format of test results"),
    Format("kcidb", "KCIDB v5 JSON, for KernelCI's database"),
)
