"""The report of a finished job as text, word by word."""

from __future__ import annotations

import io
from typing import Any

from cli_runs import REPORT, net
from rich.console import Console

from l0gate.cli._report_text import show_report


def shown(**changes: Any) -> list[str]:
    out = io.StringIO()
    show_report(Console(file=out, width=120, soft_wrap=True), {**REPORT, **changes})
    return [line.rstrip() for line in out.getvalue().splitlines()]


def sentences(**changes: Any) -> list[str]:
    return shown(**changes)[-5:]


def test_the_table_and_what_follows() -> None:
    lines = shown()
    assert lines[0].strip() == "book.txt, 2,000 steps each"
    cells = [[c.strip() for c in line.strip("┃│").split("┃│"[line[0] == "│"])] for line in lines]
    rows = [row for row in cells if len(row) == 5]
    assert rows == [
        ["", "dense", "gated", "small", "direct"],
        ["parameters", "1,234,567", "1,234,567", "234,567", "234,567"],
        ["recurrent parameters", "1,000,000", "1,000,000", "271,000", "271,000"],
        ["size in kB", "4,938", "4,938", "938", "938"],
        ["embedding", "64", "64", "60", "60"],
        ["hidden", "256 + 128", "256 + 128", "99 + 8", "99 + 8"],
        ["bits per character", "1.500", "1.750", "1.750", "2.000"],
    ]
    assert "│ size in kB           │     4,938 │" in lines[6]  # figures stand at the right
    assert lines[-5:] == [
        "The small net keeps 27.1% of the recurrent parameters: 271,000 of at most 280,000 (one"
        " more neuron: 280,123 or more).",
        "It recovers 50% of the distance from a net of its sizes trained from scratch to the dense"
        " one.",
        "At batch 1 it runs 2.2 times as fast step by step (45 -> 20 us) and 3.5 times on whole"
        " sequences (numpy with numba).",
        "Gated and small net agree to the last bit on 4 batches of random characters; 1 neurons"
        " were forced open, 23 closed.",
        "Gated training took 60 s, the twins 30 s and 10 s; this run 123 s in all.",
    ]


def test_sentences_of_other_jobs() -> None:
    none_fits = {**REPORT["budget"], "with_one_more_neuron": None}
    assert sentences(budget=none_fits)[0] == (
        "The small net keeps 27.1% of the recurrent parameters: 271,000 of at most 280,000."
    )
    free = "The small net keeps 27.1% of the recurrent parameters."
    assert sentences(budget=None)[0] == free
    # Without twins nothing is compared.
    seconds = {"gated": 60.4, "this_run": 123.4}
    alone = sentences(budget=None, comparison={"gap_recovered": None}, seconds=seconds)
    assert alone[1] == free
    assert alone[-1] == "Gated training took 60 s; this run 123 s in all."
    text = {"name": "a[b]c", "unit": "word"}
    assert shown(text=text)[0].strip() == "a[b]c, 2,000 steps each"
    taught = sentences(options={"steps": 2000, "teacher": "dense"})
    assert taught[1] == (
        "It recovers 50% of the distance from a net of its sizes trained from scratch without a"
        " teacher to the dense one, its teacher."
    )
    assert sentences(options={"steps": 2000, "teacher": "none"}) == sentences()
    seconds = {"gated": 60.4, "dense": 30.2, "this_run": 123.4}
    alone = sentences(comparison={"gap_recovered": None}, seconds=seconds)
    assert alone[-1] == "Gated training took 60 s, its teacher 30 s; this run 123 s in all."
    for gap in (0.0, -0.5):
        better = sentences(comparison={"gap_recovered": gap})[1]
        assert better == "A net of its sizes trained from scratch does better."
    assert (
        "(as [fast] as can be)"
        in sentences(speedup={**REPORT["speedup"], "engine": "as [fast] as can be"})[2]
    )
    differing = {**REPORT["certificate"], "max_abs_difference": 1.23e-10}
    assert sentences(certificate=differing)[3].startswith(
        "Gated and small net differ by at most 1.2e-10 (allowed 1.0e-09) on 4 batches of"
    )


def test_the_figures_of_held_out_parts() -> None:
    nets = {
        name: net(9, 9, [1, 1], valid_perplexity=valid, perplexity=test)
        for name, valid, test in (("gated", 99.9994, 100.0), ("small", 5e3, 0.5))
    }
    twins = {name: net(9, 9, [1, 1]) for name in ("dense", "direct")}
    lines = "\n".join(shown(metric="perplexity", **nets, **twins))
    table = [line.split("│")[1:-1] for line in lines.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in table[-2:]] == [
        ["valid perplexity", "-", "99.999", "5000.0", "-"],
        ["perplexity", "-", "100.0", "0.500", "-"],
    ]
    held_out = {**REPORT["small"], "valid_bits_per_character": 1.25}
    assert any("│ valid bits per character │" in line for line in shown(small=held_out))
