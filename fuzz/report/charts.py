"""Charts as SVG, to be put into a page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

_SIZE: Final = (4.2, 2.6)
"""Inches: small, so that the text is still legible where the chart is as wide as a phone."""
_SETTINGS: Final[dict[Any, Any]] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "s2fuzz",
}
_HOUR: Final = 3600.0

Points = Sequence[tuple[float, float]]
"""Seconds of campaign, and a value."""


def over_time(title: str, curves: Mapping[str, Points], marks: Sequence[float] = ()) -> str:
    """Curves over the seconds of a campaign, drawn as steps; `marks` are moments at which something was found."""
    last = max((at for points in curves.values() for at, _ in points), default=0.0)
    unit, name = (_HOUR, "hours") if last >= _HOUR else (60.0, "minutes")
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=_SIZE)
        axes = figure.add_subplot()
        for label, points in curves.items():
            axes.step([at / unit for at, _ in points], [value for _, value in points], where="post", label=label)
        for at in marks:
            axes.axvline(at / unit, color="tab:red", linewidth=0.8, linestyle=":")
        axes.set_title(title)
        axes.set_xlabel(name)
        axes.set_ylim(0, 1.06 * max((value for points in curves.values() for _, value in points), default=1) or 1)
        axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        if len(curves) > 1:
            axes.legend(fontsize=7, frameon=False)
        return _svg(figure, title)


def bars(title: str, values: Mapping[str, tuple[float, float]]) -> str:
    """A bar for each name, from the top: of (whole, part), the part darker."""
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(_SIZE[0], 0.7 + 0.19 * len(values)))
        axes = figure.add_subplot()
        names = list(values)[::-1]
        axes.barh(names, [values[name][0] for name in names], color="#c9d8ea")
        axes.barh(names, [values[name][1] for name in names], color="#2b6cb0")
        axes.tick_params(axis="y", labelsize=8)
        axes.margins(y=0.01)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_title(title)
        return _svg(figure, title)


def _svg(figure: Figure, title: str) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    drawing = text.getvalue()
    opening, rest = drawing[drawing.index("<svg") :].split(">", 1)
    # As wide as its place in the page.
    return re.sub(r' (width|height)="[^"]*"', "", opening) + ">" + rest
