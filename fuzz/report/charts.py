"""Charts as SVG, to be put into a page. Their titles and legends are left to the page, where they wrap and cover
nothing."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from harness.amounts import number

_SIZE: Final = (4.2, 2.4)
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
_COLOURS: Final = ("#1f77b4", "#d9730d", "#2f8f46", "#8250c4", "#8c564b", "#c2418f", "#5f6b7a", "#8a8a1c")
_MARK: Final = "#c92a2a"
_WHOLE: Final = "#c9d8ea"
_PART: Final = "#2b6cb0"
_DASH: Final = 4.0
"""Points of a curve's dash, where several curves may lie on each other."""

Points = Sequence[tuple[float, float]]
"""Seconds of campaign, and a value."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a legend."""

    colour: str
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, what it is of, and its legend: none, where there is but one curve."""

    title: str
    svg: str
    legend: tuple[Entry, ...] = ()


def over_time(title: str, curves: Mapping[str, Points], marks: Sequence[float] = ()) -> Chart:
    """Curves over the seconds of a campaign, drawn as steps; `marks` are moments at which something was found. Curves
    that are the same are one, with the names of all; where others meet, each shows in the gaps of the other."""
    last = max((at for points in curves.values() for at, _ in points), default=0.0)
    unit, name = (_HOUR, "hours") if last >= _HOUR else (60.0, "minutes")
    drawn = _distinct(curves)
    entries = []
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=_SIZE)
        axes = figure.add_subplot()
        for index, (points, names) in enumerate(drawn):
            colour = _COLOURS[index % len(_COLOURS)]
            axes.step(
                [at / unit for at, _ in points],
                [value for _, value in points],
                where="post",
                color=colour,
                linestyle=_style(index, len(drawn)),
            )
            end = f": {number(round(points[-1][1]))}" if points else ""
            entries.append(Entry(colour, "; ".join(names) + end))
        for at in marks:
            axes.axvline(at / unit, color=_MARK, linewidth=0.8, linestyle=":")
        axes.set_xlabel(name)
        axes.set_ylim(0, 1.06 * max((value for points in curves.values() for _, value in points), default=1) or 1)
        axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        if marks:
            entries.append(Entry(_MARK, "dotted: the first finding of a bucket"))
        return Chart(title, _svg(figure, title), tuple(entries) if len(curves) > 1 or marks else ())


def _distinct(curves: Mapping[str, Points]) -> list[tuple[Points, list[str]]]:
    """Each curve once, with the names of all that are the same."""
    found: list[tuple[Points, list[str]]] = []
    for name, points in curves.items():
        same = next((names for others, names in found if list(others) == list(points)), None)
        if same is None:
            found.append((points, [name]))
        else:
            same.append(name)
    return found


def _style(index: int, of: int) -> Any:
    """A curve's dashes: one after the other, so that `of` curves on one line would all be seen."""
    return "-" if of == 1 else (index * _DASH, (_DASH, _DASH * (of - 1)))


def bars(title: str, values: Mapping[str, tuple[float, float]], whole: str, part: str) -> Chart:
    """A bar for each name, from the top: of (whole, part), the part darker; `whole` and `part` say what they are."""
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(_SIZE[0], 0.5 + 0.19 * len(values)))
        axes = figure.add_subplot()
        names = list(values)[::-1]
        axes.barh(names, [values[name][0] for name in names], color=_WHOLE)
        axes.barh(names, [values[name][1] for name in names], color=_PART)
        axes.tick_params(axis="y", labelsize=8)
        axes.margins(y=0.01)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        return Chart(title, _svg(figure, title), (Entry(_WHOLE, whole), Entry(_PART, part)))


def _svg(figure: Figure, title: str) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    drawing = text.getvalue()
    opening, rest = drawing[drawing.index("<svg") :].split(">", 1)
    # As wide as its place in the page.
    return re.sub(r' (width|height)="[^"]*"', "", opening) + ">" + rest
