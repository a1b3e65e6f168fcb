"""A campaign's report: what it says, that nothing in it is more than text, and how it looks in a browser."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from campaigns import PLAIN
from planted import load_all
from processes import s2fuzz

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
        *("campaign", "night", *PLAIN, "--workers", "1", "--hours", "0.003", "--seed", "3"),
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
    finding = min((campaign / "findings").iterdir(), key=lambda path: (len(load(path).program.ops), path.name))
    assert "1 finding<" in page
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
        assert f"<title>{title}" in page or f">{title}" in page
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


def test_in_a_browser(page: str, tmp_path: Path) -> None:
    """No error, and as wide as a phone is, with all details open; one script is put in to tell."""
    path = tmp_path / "page.html"
    opened = page.replace("<details>", "<details open>")
    path.write_text(opened + "<script>document.title = `width ${document.documentElement.scrollWidth}`</script>")
    size = f"--window-size={PHONE},800"
    shot = tmp_path / "shot.png"
    common = [*CHROMIUM, f"--user-data-dir={tmp_path / 'profile'}", size]
    dumped = subprocess.run(
        [*common, "--enable-logging=stderr", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    width = re.search(r"<title>width (\d+)</title>", dumped.stdout)
    assert width is not None
    assert int(width[1]) <= 500, "a headless window is 500 wide at least; nothing makes the page wider"
    assert "CONSOLE" not in dumped.stderr, dumped.stderr
    subprocess.run([*common, f"--screenshot={shot}", path.as_uri()], capture_output=True, check=True, timeout=120)
    assert shot.read_bytes().startswith(b"\x89PNG")
    assert shot.stat().st_size > 20_000, "something is drawn"


def test_ranges() -> None:
    assert ranges([]) == ""
    assert ranges([1, 3, 4, 5, 9, 10]) == "1, 3-5, 9-10"
