"""What a smoke says at its end: every count says of what."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fuzz.cli.display import summary
from fuzz.engine.smoke import SmokeProgress
from fuzz.engine.stats import Stats


def test_every_count_says_of_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stats = Stats(
        executions=31_234,
        replayed=412,
        skipped=13,
        lacking=Counter({"kernel:6.12 lacks mkold": 12, "model:6.12 lacks is_young": 1}),
        unconfirmed=1,
        inconclusive=2,
        sizes=Counter({12: 31_234}),
        ops=Counter(map=10),
        succeeded=Counter(map=9),
        splits=10_000,
        merges=1,
    )
    progress = SmokeProgress(
        60.0,
        stats,
        edges=[(297, 326), (10, 326)],
        images=["kernel:6.12, 4k", "kernel:6.12, 16k"],
        model_lines=(900, 1200),
    )
    lines = summary(progress, Path("out here"))
    assert lines[1:] == [
        "kernel:6.12, 4k: 297 of 326 edges of its page-table code reached",
        "kernel:6.12, 16k: 10 of 326 edges of its page-table code reached",
        "corpora: 412 programs replayed, 13 skipped:",
        "  12: kernel:6.12 lacks mkold",
        "  1: model:6.12 lacks is_young",
        "generated programs: 12 ops in the median, 90% of ops succeeded, 10,000 blocks split, 1 table merged",
        "the inputs that were kept reach 900 of 1,200 lines of the model",
        "flaky: 1 program did not come to the same on every fresh kernel; kept in 'out here/flaky'",
        "  how often one shows: s2fuzz replay 'out here/flaky'/… --times 20",
        "2 programs inconclusive: the budget cut the sides at different events",
        "nothing found",
    ]
