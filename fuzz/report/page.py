"""The page: what a campaign's directory says, in a template."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from fuzz.campaign.growth import duration
from fuzz.campaign.ledger import Ledger
from fuzz.campaign.setup import CampaignSetup
from fuzz.campaign.status import status_of
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.engine.cautions import caution_lines
from fuzz.engine.hardware_lines import hardware_lines
from fuzz.report import charts
from fuzz.report.charts import Chart
from fuzz.report.sources import Source, kernel_sources, model_sources
from harness.amounts import counted, number
from harness.durable import write_durably
from harness.errors import BadInput
from harness.files import brief
from harness.findings.finding import REPORT, Finding, load
from harness.findings.place import is_finding
from harness.outside import open_plain, printable
from harness.program.text import format_program

PAGE: Final = "report.html"
_REPORT_AT_MOST: Final = 64 << 10
"""Characters of a finding's report that the page shows."""
_SAMPLES_AT_MOST: Final = 400
"""Points of a curve."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A bucket's best finding: the one of fewest ops. `at` is when the first came, `seen` on how many executions."""

    bucket: str
    kind: str
    tier: str
    at: str
    seen: int
    known: bool
    reliability: str
    program: str
    report: str
    directory: str
    where: str
    """The comparison, where there are several."""


def write(
    place: WorkDirectory, say: Callable[[str], None], with_source: bool = True, refresh: float | None = None
) -> Path:
    """Write the page into the campaign's directory, and return where it is; `refresh` is after how many seconds a
    browser should read it again. Raises BadInput where there is no campaign, ToolFailure where its ledger cannot be
    read, OSError."""
    html = render(place, say, with_source, refresh)
    place.scratch.mkdir(exist_ok=True)
    target = place.root / PAGE
    write_durably(target, html.encode(), place.scratch)
    return target


def render(place: WorkDirectory, say: Callable[[str], None], with_source: bool, refresh: float | None) -> str:
    """The page's text. Without source, the kernel's and the model's functions are there, and the numbers of lines."""
    setup = CampaignSetup.load(place)
    status = status_of(place)
    ledger = Ledger(place.ledger, readonly=True)
    try:
        kernels = list(kernel_sources(place, setup, say))
        model = list(model_sources(ledger))
        pictures = list(_pictures(setup, ledger, status))
        ran = _ran(ledger)
        names = setup.describe()
        findings = [
            _shown(one, _kept(place, ledger, one), names[one["comparison"]] if len(names) > 1 else "")
            for one in status["findings"]
        ]
    finally:
        ledger.close()
    environment = Environment(
        loader=PackageLoader("fuzz.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, number=number, counted=counted)
    return environment.get_template("page.html.jinja").render(
        name=place.root.name,
        setup=setup,
        settings=_settings(setup),
        status=status,
        ran=ran,
        findings=findings,
        pictures=pictures,
        kernels=kernels,
        cautions=caution_lines(status["tally"]),
        hardware=list(hardware_lines(status["tally"])),
        model=[file for file in model if file.reached],
        unused=[file for file in model if not file.reached],
        never=_never(status, kernels),
        with_source=with_source,
        refresh=refresh,
    )


def _settings(setup: CampaignSetup) -> dict[str, str]:
    data = setup.to_json()
    names = ("guidance", "tiers", "judge", "seed", "codec")
    return {
        "compares": "; ".join(setup.describe()),
        **{name: str(data[name]) for name in names},
        "began": setup.made["began"],
        "s2fuzz": setup.made["s2fuzz"],
    }


def _ran(ledger: Ledger) -> dict[str, list[dict[str, str]]]:
    """The identities of everything that ran, each once, by what they are of."""
    texts = {text for (text,) in ledger.rows("SELECT DISTINCT identities FROM processes") if text}
    identities = {json.dumps(brief(one), sort_keys=True) for text in texts for one in json.loads(text)}
    found: dict[str, list[dict[str, str]]] = {}
    for text in sorted(identities):
        identity = json.loads(text)
        found.setdefault(_what(identity), []).append(identity)
    return dict(sorted(found.items()))


def _what(identity: Mapping[str, str]) -> str:
    """What has that identity, in words."""
    built_as = "" if identity.get("object", "host") == "host" else f", object {identity['object']}"
    if "source" not in identity:
        return f"The model of {identity.get('version', 'an unknown version')}{built_as}"
    return f"Kernel {identity['source']}, pages of {identity.get('granule', '4k')}{built_as}"


def _kept(place: WorkDirectory, ledger: Ledger, one: Mapping[str, Any]) -> Iterator[Finding]:
    """The findings of a bucket that are still there, of the comparison that they come from."""
    rows = ledger.rows(
        "SELECT directory FROM findings WHERE NOT flaky AND comparison = ? AND bucket = ? ORDER BY directory",
        *(one["comparison"], one["bucket"]),
    )
    return (load(path) for (name,) in rows if is_finding(path := place.findings / name))


def _shown(one: Mapping[str, Any], kept: Iterable[Finding], where: str) -> Shown:
    best = min(kept, key=lambda finding: len(finding.program.ops), default=None)
    program = report = reliability = ""
    if best is not None:
        program = format_program(best.program)
        seen, of = best.reliability
        reliability = f"{seen} of {of}" if of else ""
        report = _text(best.directory / REPORT)
    return Shown(
        printable(one["bucket"]),
        one["class"],
        one["tier"],
        duration(one["at"]),
        one["executions"],
        one["known"],
        reliability,
        program,
        report,
        best.directory.name if best is not None else "",
        where,
    )


def _text(path: Path) -> str:
    """The beginning of a file from a finding, which may be somebody else's."""
    try:
        with open_plain(path) as file:
            text = file.read(_REPORT_AT_MOST).decode(errors="replace")
    except OSError as error:
        return f"{path.name}: {error.strerror}"
    except BadInput as error:
        return str(error)
    return "\n".join(map(printable, text.split("\n")))


def _pictures(setup: CampaignSetup, ledger: Ledger, status: Mapping[str, Any]) -> Iterator[Chart]:
    marks = [one["at"] for one in status["findings"]]
    samples: dict[str, list[tuple[Any, ...]]] = {}
    for index, name in enumerate(setup.describe()):
        rows = ledger.rows(
            "SELECT at, rate, corpus, edges, model_lines, executions FROM samples WHERE comparison = ? ORDER BY at",
            index,
        )
        if rows:
            samples[name] = _thinned(rows)
    if samples:
        edges = {
            _label(name, side, len(rows[-1][3])): [
                (at, edges[side]["reached"]) for at, _, _, edges, *_ in rows if side < len(edges)
            ]
            for name, rows in ((name, _with_edges(rows)) for name, rows in samples.items())
            for side in range(len(rows[-1][3]))
        }
        yield charts.over_time("edges of pgtable.c", edges, marks)
        model = {name: [(row[0], row[4]) for row in rows] for name, rows in samples.items()}
        yield charts.over_time("lines of the model", dict([max(model.items(), key=lambda item: item[1][-1][1])]), marks)
        yield charts.over_time(
            "inputs kept", {name: [(row[0], row[2]) for row in rows] for name, rows in samples.items()}
        )
        longest = max(samples.values(), key=len)  # all have the rate of all together
        yield charts.over_time("executions per second, of all workers", {"": [(row[0], row[1]) for row in longest]})
    ops = status["tally"]["op"]
    if ops:
        mix = {name: (counts["count"], counts["count"] * counts["succeeded"]) for name, counts in ops.items()}
        largest_first = dict(sorted(mix.items(), key=lambda item: -item[1][0]))
        yield charts.bars("operations run", largest_first, "all", "succeeded")
    tiers: dict[str, tuple[float, float]] = {}
    for one in status["findings"]:
        before = tiers.get(one["tier"], (0, 0))
        tiers[one["tier"]] = (before[0] + one["executions"], before[1] + (0 if one["known"] else one["executions"]))
    if tiers:
        yield charts.bars("executions with a finding, by tier", dict(sorted(tiers.items())), "all", "not known")


def _with_edges(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(*row[:3], json.loads(row[3]), *row[4:]) for row in rows]


def _label(name: str, side: int, sides: int) -> str:
    return name if sides == 1 else f"{name}, side {side + 1}"


def _thinned(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    step = -(-len(rows) // _SAMPLES_AT_MOST)
    return rows if step == 1 else [*rows[::step], rows[-1]]


def _never(status: Mapping[str, Any], kernels: Sequence[Source]) -> dict[str, list[str]]:
    """What no input reached: operations, and functions of the kernels."""
    return {
        "operations that never succeeded": [
            name for name, counts in status["tally"]["op"].items() if not counts["programs_succeeded"]
        ],
        "functions of pgtable.c": [
            f"{function.name} ({source.title})"
            for source in kernels
            for function in source.functions
            if not function.reached
        ],
    }
