"""Buckets as people write them: what a finding can be called is taken, what none can is refused, with a word on why."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.errors import BadInput
from harness.verdict.buckets import check_buckets, listed_buckets, problem_with
from harness.verdict.compare.difference import Difference
from harness.verdict.tiers import Tier

ROOT = Path(__file__).parents[2]
_QUOTED = re.compile(
    r'"((?:results|tables|accounting|events|instructions|effects|crash|hang)-[a-z_]+-[A-Za-z0-9_.-]*[A-Za-z0-9_])"'
)


def buckets_of_tests() -> set[str]:
    """Those that other tests see come out of real runs."""
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    return {bucket for path in files for bucket in _QUOTED.findall(path.read_text())}


def test_what_findings_are_called_is_taken() -> None:
    found = buckets_of_tests()
    assert len(found) > 50
    assert {bucket: problem for bucket in found if (problem := problem_with(bucket))} == {}


@pytest.mark.parametrize(
    "difference",
    [
        Difference(Tier.RESULTS, 1, "walk", "visits", "", ""),
        Difference(Tier.RESULTS, 0, "init", "return", "", ""),
        Difference(Tier.TABLES, None, "destroy", "shared root", "", ""),
        Difference(Tier.EVENTS, 1, "map", "tlbi_vmid_ipa", "", "", -1),
        Difference(Tier.INSTRUCTIONS, 1, "unmap", "tlbi_vmid_range msr", "", ""),
    ],
    ids=lambda one: str(one.bucket),
)
def test_what_the_judges_make_is_taken(difference: Difference) -> None:
    assert problem_with(difference.bucket) == ""


@pytest.mark.parametrize(
    ("bucket", "said"),
    [
        ("tabels-map-entry-level2", "perhaps `tables`"),
        ("tables-mapp-entry-level2", "perhaps `map`"),
        ("tables-map-entri-level2", "perhaps `entry`"),
        ("results-map-visits", "one of ran, return"),
        ("events-map-tlbi_vmid_ip-level3", "perhaps `tlbi_vmid_ipa`"),
        ("invalidation-map-tlbi_vmidipa-wrong", "perhaps `tlbi_vmid_ipa`"),
        ("tables-map", "what is wrong stands behind tables-map-"),
        ("flood-map-more", "nothing stands behind"),
        ("hang", "an op stands behind hang-"),
    ],
)
def test_what_none_can_be_called_is_refused(bucket: str, said: str) -> None:
    assert said in problem_with(bucket)


def test_a_list_names_the_line() -> None:
    text = "# known\n\nhang-map-stage2_map_walker  # since 6.12\ntables-map-entri-level2\n"
    assert listed_buckets(text) == {"hang-map-stage2_map_walker", "tables-map-entri-level2"}
    with pytest.raises(BadInput, match=r"^known:4: `tables-map-entri-level2` is no bucket"):
        check_buckets(text, "known")
