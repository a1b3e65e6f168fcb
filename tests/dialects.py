"""Dialects that tests share."""

from __future__ import annotations

from typing import Final

from harness.model.executor import Model
from harness.program.codec import dialect_for

DEFAULT: Final = dialect_for(Model().capabilities)
"""That of the default kernel, and of the model that follows it."""
