"""On PYTHONPATH, Python runs this at the start of every process: it is how the benchmark gets into the fuzzing process,
which `s2fuzz smoke` starts. It changes nothing there but what `measured` says."""

import json
import os

if "S2FUZZ_BENCH" in os.environ and "S2FUZZ_ASSIGNMENT" in os.environ:
    from bench.inside.measured import install

    install(json.loads(os.environ["S2FUZZ_BENCH"]))
