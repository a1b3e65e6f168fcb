"""The run in one picture: ratios over their targets, and what grows with what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.figure import Figure
from harness.errors import ToolFailure

_AT_LEAST = {1: ("both", 0.85), 2: (None, 30.0), 3: ("exec_per_s", 8.0), 4: (None, 1.6)}
"""The figures that are ratios to be reached: which of their values, and the target."""


def check() -> None:
    """Raise ToolFailure before the run, not after it, when nothing can draw."""
    try:
        import matplotlib  # noqa: F401, PLC0415
    except ImportError as error:
        raise ToolFailure("the picture needs matplotlib: pip install -e '.[bench]', or --no-picture") from error


def draw(figures: Mapping[int, Figure], title: str, path: Path) -> None:
    """Draw what was measured into `path`."""
    import matplotlib  # noqa: PLC0415

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    panels = [panel for panel in _panels(figures) if panel is not None]
    columns = min(3, max(1, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    canvas, axes = pyplot.subplots(rows, columns, figsize=(5 * columns, 3.8 * rows), squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        panel(axis)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    canvas.suptitle(title)
    canvas.tight_layout()
    canvas.savefig(path)


def _panels(figures: Mapping[int, Figure]) -> list[Callable[[Any], None] | None]:
    growth = figures.get(7)
    curves = growth.plots["curves"] if growth else {}
    return [
        (lambda axis: _ratios(axis, figures)) if any(number in figures for number in _AT_LEAST) else None,
        (lambda axis: _races(axis, figures[3])) if 3 in figures else None,
        (lambda axis: _boots(axis, figures[5])) if 5 in figures else None,
        (lambda axis: _memory(axis, figures[6])) if 6 in figures else None,
        (lambda axis: _by_ops(axis, curves["ops"])) if curves else None,
        (lambda axis: _by_machine(axis, curves)) if curves else None,
    ]


def _ratios(axis: Any, figures: Mapping[int, Figure]) -> None:
    names = {
        1: "1 reference on\nover off",
        2: "2 over pexpect\ntext driver",
        3: "3 over\nHypothesis",
        4: "4 two workers\nover one",
    }
    shown = [number for number in _AT_LEAST if number in figures]
    shares = []
    for number in shown:
        key, target = _AT_LEAST[number]
        value = figures[number].value
        ratio = value[key] if isinstance(value, dict) and key else value
        assert isinstance(ratio, float)
        shares.append(ratio / target)
        axis.text(len(shares) - 1, ratio / target, f"{ratio:.3g}", ha="center", va="bottom")
    axis.bar([names[number] for number in shown], shares, color=["C0" if share >= 1 else "C3" for share in shares])
    axis.axhline(1, color="black", linestyle="--", linewidth=1)
    axis.margins(y=0.15)
    axis.tick_params(axis="x", labelsize=7)
    axis.set_title("ratios, by what they should be at least")


def _races(axis: Any, figure: Figure) -> None:
    limit = figure.plots["limit"]
    races = [
        (limit if ours is None else ours, limit if theirs is None else theirs) for ours, theirs in figure.plots["races"]
    ]
    axis.scatter([theirs for _, theirs in races], [ours for ours, _ in races], s=14)
    axis.plot([0.01, limit], [0.01, limit], color="grey", linewidth=1, label="equal")
    axis.plot([0.05, limit], [0.01, limit / 5], color="black", linestyle="--", linewidth=1, label="1/5")
    axis.set(
        xscale="log", yscale="log", xlabel="Hypothesis, s", ylabel="s2fuzz, s", title="3: seconds to the first flag"
    )
    axis.legend()


def _boots(axis: Any, figure: Figure) -> None:
    samples = {name: one["samples"] for name, one in figure.values["milliseconds"].items()}
    axis.boxplot(list(samples.values()))
    axis.set_xticks(range(1, len(samples) + 1), [name.replace("_", "\n") for name in samples])
    axis.set(ylabel="ms", title="5: starts", ylim=(0, None))


def _memory(axis: Any, figure: Figure) -> None:
    axis.plot(figure.plots["seconds"], figure.plots["resident_mb"])
    axis.axhline(250, color="black", linestyle="--", linewidth=1)
    axis.set(xlabel="s", ylabel="MB", ylim=(0, None), title="6: resident memory, worker and QEMU")


def _by_ops(axis: Any, curve: Mapping[int, float]) -> None:
    axis.loglog(list(curve), list(curve.values()), marker="o")
    axis.set(xlabel="ops per program", ylabel="exec/s", title="7: as programs grow")


def _by_machine(axis: Any, curves: Mapping[str, Mapping[int, float]]) -> None:
    for name, curve in curves.items():
        if name != "ops":
            axis.plot(list(curve), list(curve.values()), marker="o", label=name)
    axis.set(xscale="log", xlabel="value of the knob", ylabel="exec/s", ylim=(0, None), title="7: as machines grow")
    axis.set_xticks([16, 32, 48, 64, 128, 256], ["16", "32", "48", "64", "128", "256"])
    axis.minorticks_off()
    axis.legend()
