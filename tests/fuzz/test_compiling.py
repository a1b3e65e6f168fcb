"""The compiled modules: the same programs, the same observations, and what happens where compiling is impossible."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import s2fuzz

from fuzz.cli import doctor
from fuzz.cli.main import status_of
from fuzz.engine import compiling
from fuzz.engine.compiling import MODULES, CannotCompile, _with_imported, compiled

ROOT = Path(__file__).parents[2]

OBSERVE = """
import importlib, json, sys
from pathlib import Path
from random import Random
from fuzz.engine import compiling
if sys.argv[1:]:
    compiling.install(Path(sys.argv[1]))
from fuzz.generate import mutation
from fuzz.generate.fresh import fresh
from harness.program.codec import decode, dialect_for
from harness.program.granule import GRANULES
from harness.model.executor import Model
said = []
for version, built in (("6.12", "host"), ("6.12", "hyp"), ("6.1", "host"), ("6.12+flag", "host")):
    model = Model(version, kernel_object=built)
    for granule in GRANULES:
        dialect = dialect_for(model.capabilities, granule)
        data = b""
        for seed in range(120):
            data = fresh(Random(seed), dialect) if seed % 3 else mutation.mutate(data, Random(seed), dialect)
            model.start(decode(data, dialect))
            said.append([data.hex(), repr(model.finish().digest)])
for module in compiling.MODULES:
    importlib.import_module(module)
files = sorted(name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")).endswith(".so"))
print(json.dumps({"files": files, "said": said}))
"""


def observe(*folder: Path) -> dict[str, list[object]]:
    result = subprocess.run(
        [sys.executable, "-c", OBSERVE, *map(str, folder)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    said: dict[str, list[object]] = json.loads(result.stdout)
    return said


def test_compiled_modules_observe_the_same() -> None:
    as_it_is, fast = observe(), observe(compiled(print))
    assert set(compiling.MODULES) <= set(fast["files"])
    assert not set(compiling.MODULES) & set(as_it_is["files"])
    assert len(as_it_is["said"]) == 4 * 3 * 120
    assert fast["said"] == as_it_is["said"]


def test_what_they_import_is_part_of_their_name() -> None:
    """Constants of modules that are not compiled are copied into those that are."""
    files = _with_imported(MODULES)
    assert {ROOT / "reference/memory_map.py", ROOT / "fuzz/sides.py", ROOT / "pgtable/__init__.py"} <= set(files)
    assert ROOT / "fuzz/cli/main.py" not in files


def test_an_entry_of_the_cache_is_used_again() -> None:
    said: list[str] = []
    assert compiled(print) == compiled(said.append)
    assert said == []


def test_doctor_has_it_done_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or finds that it was."""
    monkeypatch.setattr(doctor, "examine", lambda: ())  # of the machine; that takes longer
    monkeypatch.setenv("S2FUZZ_CACHE", str(tmp_path))
    (tmp_path / "compiled" / compiling._entry()).mkdir(parents=True)
    assert status_of(["doctor", "--compile"]) == 0
    assert capsys.readouterr().out.startswith(f"compiled  {tmp_path / 'compiled' / compiling._entry()}\n")


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(CannotCompile, match=r"there is no C compiler .*: apt-get install gcc"):
        compiled(print)


def test_a_run_goes_on_without_a_compiler(tmp_path: Path) -> None:
    """With a cache of its own and no compiler on the path; two models need no kernel."""
    result = s2fuzz(
        *("smoke", "--sides", "model:6.12,model:6.12", "--no-corpora", "--executions", "50", "--seed", "1"),
        cwd=tmp_path,
        env={"PATH": str(tmp_path), "S2FUZZ_CACHE": str(tmp_path / "cache")},
    )
    assert result.returncode == 0, result.stderr
    assert "the model runs as it is, more slowly than compiled: there is no C compiler" in result.stderr
