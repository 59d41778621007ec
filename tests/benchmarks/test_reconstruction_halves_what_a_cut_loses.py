"""The benchmark of reconstruction: what it claims of its rows."""

from __future__ import annotations

import math
from typing import Any

NAME = "reconstruction_halves_what_a_cut_loses"


def test_the_page_shows_the_results_and_they_hold(load: Any) -> None:
    script, scripts = load(NAME), load("_scripts")
    report = scripts.read(scripts.RESULTS / f"{NAME}.json")
    page = script.PAGE.read_text(encoding="utf-8")
    assert script.filled(page, report) == page
    assert f"{report['rows'][0]['chosen']:.3f}" in page
    assert all(limit.met for limit in script.limits(report))
    wanted = {(net, share) for net in script.NETS for share in script.SHARES}
    assert {(row["net"], row["share"]) for row in report["rows"]} == wanted


def test_the_limit_is_the_worst_part_of_the_loss_that_remains(load: Any) -> None:
    script = load(NAME)
    rows = [
        {"dense": 1.0, "magnitude": 2.0, "chosen": 1.25, "torch": 1.5},
        {"dense": 1.0, "magnitude": 3.0, "chosen": 1.2, "torch": 2.5},
    ]
    in_numpy, in_torch = script.limits({"rows": rows})
    assert (in_numpy.value, in_numpy.met) == (0.25, True)
    assert (in_torch.value, in_torch.met) == (0.75, False)
    assert all(math.isnan(limit.value) for limit in script.limits({"rows": []}))


def test_layers_keep_equal_numbers(load: Any) -> None:
    script = load(NAME)
    assert script.equal_axes({"x": 3, "h0": 4}) == []
    assert script.equal_axes({"x": 3, "h0": 4, "h1": 4}) == [["h0", "h1"]]
