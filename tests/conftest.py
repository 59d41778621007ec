"""Profiles for hypothesis: `fast` by default, `deep` for long runs (HYPOTHESIS_PROFILE=deep).

`mutation` is for tests/mutate.py: the same examples in every run, and no search for small ones.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

# Kernels compile on their first call, which no per-example deadline survives.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("fast", max_examples=25, stateful_step_count=20, **_COMMON)
settings.register_profile("deep", max_examples=500, stateful_step_count=30, **_COMMON)
settings.register_profile(
    "mutation",
    max_examples=25,
    stateful_step_count=20,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    report_multiple_bugs=False,
    **{**_COMMON, "suppress_health_check": list(HealthCheck)},
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

# What else is installed must not change what the suite sees.
os.environ.setdefault("L0GATE_PLUGINS", "")
