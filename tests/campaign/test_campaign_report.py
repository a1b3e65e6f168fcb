"""A campaign's report: what it says, that nothing in it is more than text, and how it looks in a browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from campaigns import PLAIN
from planted import load_all
from processes import s2fuzz

from fuzz.report import charts
from fuzz.report.sources import ranges
from harness.findings.finding import load
from reference.build.sources import KernelChoice, prepare

PGTABLE = prepare(KernelChoice("6.12")).pgtable
BUG = next(bug for bug in load_all() if bug.name == "event-dcache-size")
CHROMIUM = (
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)
PHONE = 390
"""Pixels across."""


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign's directory, with a finding."""
    home = tmp_path_factory.mktemp("report")
    (home / "changed.c").write_text(BUG.apply(PGTABLE.read_text()))
    run = s2fuzz(
        *("campaign", "night", *PLAIN, "--workers", "1", "--hours", "0.001", "--seed", "3"),
        *("--pgtable", "changed.c"),
        cwd=home,
    )
    assert run.returncode == 1, run.stderr
    return home / "night"


def report(campaign: Path, *options: str) -> str:
    """The page."""
    run = s2fuzz("report", campaign, *options, cwd=campaign.parent)
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"{campaign / 'report.html'}\n"
    return (campaign / "report.html").read_text()


@pytest.fixture(scope="module")
def page(campaign: Path) -> str:
    return report(campaign)


def test_it_says_what_was_found(campaign: Path, page: str) -> None:
    findings = [*(campaign / "findings").iterdir()]
    finding = min(findings, key=lambda path: (len(load(path).program.ops), path.name))
    buckets = len({load(path).bucket for path in findings})
    assert f"{buckets} finding{'s' * (buckets > 1)}<" in page
    assert f"s2fuzz replay night/findings/{finding.name}" in page
    assert "dcache_clean_inval_poc" in page
    assert html.escape((finding / "program.s2").read_text().splitlines()[-1], quote=False) in page


def test_it_shows_what_is_reached(page: str) -> None:
    """The hosted file's lines and the model's; growth and mix as drawings."""
    states = re.findall(r'<span class="(\w+)"><i> *\d+', page)
    assert states.count("hit") > 500
    assert 0 < states.count("miss") < states.count("hit")
    assert re.search(r"<td>kvm_pgtable_stage2_unmap</td>.*\n<td class=\"number\">(\d+)/\1</td>", page)
    assert re.search(r"changed\.c of kernel:6\.12:\n\d+ of \d+ lines with code", page)
    assert re.search(r"pgtable/walker\.py:\n\d+ of \d+ lines with code", page)
    for title in ("edges of pgtable.c", "lines of the model", "inputs kept", "executions per second", "operations run"):
        assert f"<figcaption>{title}" in page
    assert page.count("<svg") == 6


def test_it_needs_nothing_else(page: str) -> None:
    assert "<script" not in page
    links = set(re.findall(r'(?:src|href)="([^"]*)"', page))
    assert all(link.startswith("#") for link in links), links
    assert "@import" not in page


def test_without_source(campaign: Path) -> None:
    page = report(campaign, "--no-source")
    text = html.unescape(page)
    lines = {
        line.strip() for path in (PGTABLE, campaign.parent / "changed.c") for line in path.read_text().splitlines()
    }
    told = {line for line in lines if len(line) > 20 and line in text}
    assert told == set()
    assert "<td>stage2_map_walker_try_leaf</td>" in page


def test_text_of_findings_is_only_text(campaign: Path, tmp_path: Path) -> None:
    """It may be somebody else's."""
    copy = tmp_path / "night"
    shutil.copytree(campaign, copy)
    for path in (copy / "findings").glob("*/report.txt"):
        path.write_text("<script>alert(1)</script>\x1b[2J" + path.read_text())
    page = report(copy, "--no-source")
    assert "<script" not in page
    assert "\x1b" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;?[2J" in page


def test_no_campaign(tmp_path: Path) -> None:
    run = s2fuzz("report", tmp_path, cwd=tmp_path)
    assert run.returncode == 2
    assert "no campaign's directory" in run.stderr


MEASURE = """
const page = document.querySelector("iframe").contentDocument;
const titles = [...page.querySelectorAll("figcaption, h1, h3, h4")];
const widths = (what) => [...page.querySelectorAll(what)].map((one) => one.getBoundingClientRect().width);
document.title = JSON.stringify({
  window: page.documentElement.clientWidth,
  page: page.documentElement.scrollWidth,
  values: Math.min(...widths("table.keys td")),
  charts: Math.min(...widths("figure svg")),
  titles: titles.filter((one) => one.scrollWidth > one.clientWidth).length,
});
"""


def test_in_a_browser(page: str, tmp_path: Path) -> None:
    """No error, and nothing wider than a phone, with all details open; no value squeezed, and no title cut off. The
    phone is a frame, for no headless window is that narrow."""
    path = tmp_path / "page.html"
    opened = html.escape(page.replace("<details>", "<details open>"))
    frame = f'<iframe style="border: 0; width: {PHONE}px; height: 800px" srcdoc="{opened}"></iframe>'
    path.write_text(f'<!doctype html><body>{frame}<script>addEventListener("load", () => {{{MEASURE}}})</script>')
    shot = tmp_path / "shot.png"
    common = [*CHROMIUM, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=800,800"]
    dumped = subprocess.run(
        [*common, "--enable-logging=stderr", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "CONSOLE" not in dumped.stderr, dumped.stderr
    title = re.search(r"<title>(\{.*?\})</title>", dumped.stdout)
    assert title is not None
    measured = json.loads(title[1])
    assert measured["window"] == measured["page"] == PHONE, "nothing makes the page wider"
    assert measured["values"] > PHONE / 2 and measured["charts"] > PHONE / 2
    assert measured["titles"] == 0
    subprocess.run([*common, f"--screenshot={shot}", path.as_uri()], capture_output=True, check=True, timeout=120)
    assert shot.read_bytes().startswith(b"\x89PNG")
    assert shot.stat().st_size > 20_000, "something is drawn"


def test_a_curve_is_never_behind_another() -> None:
    """Those that are the same all the time are one; others are dashed, each in the gaps of the rest."""
    rise = [(0.0, 1.0), (60.0, 34_501.0)]
    chart = charts.over_time("inputs", {"one": rise, "two": list(rise), "three": [(0.0, 1.0), (60.0, 7.0)]}, [30.0])
    assert [entry.text for entry in chart.legend] == [
        "one; two: 34,501",
        "three: 7",
        "dotted: the first finding of a bucket",
    ]
    styles = [
        style
        for entry in chart.legend[:2]
        for style in re.findall(rf'style="([^"]*stroke-dasharray[^"]*stroke: {entry.colour}[^"]*)"', chart.svg)
    ]
    dashes = [re.findall(r"stroke-dash\w+: [^;]*", style) for style in styles]
    assert len(dashes) == 2 and dashes[0] != dashes[1]


def test_titles_and_legends_are_not_in_the_drawing() -> None:
    """There they would be cut off, or lie over the curves."""
    drawn = [
        charts.over_time("a title", {"one": [(0.0, 1.0)], "two": [(0.0, 2.0)]}),
        charts.bars("a title", {"map": (2.0, 1.0)}, "all of them", "some of them"),
    ]
    for chart in drawn:
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", chart.svg)
        assert texts and not {"a title", "one", "two", "all of them", "some of them"} & set(texts)
    assert [entry.text for entry in drawn[1].legend] == ["all of them", "some of them"]
    assert charts.over_time("alone", {"one": [(0.0, 1.0)]}).legend == ()


def test_what_ran_is_told_apart(page: str) -> None:
    """Each identity under a heading of its own; and of the model, only what belongs to what ran."""
    headings = re.findall(r"<h4>(.*)</h4>", page)
    assert "The model of 6.12" in headings
    assert any(re.fullmatch(r"Kernel 6\.12 .*changed\.c, pages of 4k", heading) for heading in headings)
    assert page.count('<table class="keys">') == len(headings) + 1
    assert not re.search(r"pgtable/\w+\.py:\n0 of", page)
    assert re.search(r"Not run at all.*pgtable/clearing\.py\n\(\d+ lines\)", page, re.S)
    assert "lines of <code>pgtable.c</code> alone are counted" in page


def test_ranges() -> None:
    assert ranges([]) == ""
    assert ranges([1, 3, 4, 5, 9, 10]) == "1, 3-5, 9-10"
