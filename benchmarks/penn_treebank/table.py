"""Writes the table and the plots of docs/penn_treebank.md from the results of train.py and
speed.py.

    python benchmarks/penn_treebank/table.py            # after new results
    python benchmarks/penn_treebank/table.py --check    # fails if the page differs from the results

It replaces the part between `<!-- results -->` and `<!-- end -->`; no number is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import _plots  # noqa: E402
from _tables import Table  # noqa: E402

PAGE = HERE.parents[1] / "docs" / "penn_treebank.md"
BLOCK = re.compile(r"(<!-- results -->\n).*?(<!-- end -->)", re.DOTALL)
MODELS = {"small": "2 x 200", "wide-small": "2 x 400", "medium": "2 x 650", "large": "2 x 1500"}
MISSING = "not yet run"
NEAR = 0.01
TICKS = tuple(n * 10**k for k in range(1, 5) for n in (1, 2, 5))
# The planned runs, in the order of the rows: (model, method), and the number of seeds.
PLANNED = {
    ("small", "dense"): 2,
    ("small", "l0"): 2,
    ("small", "iss"): 1,
    ("small", "magnitude"): 1,
    ("small", "gradual_magnitude"): 1,
    ("small", "geometric_median"): 1,
    ("small", "random"): 1,
    ("small", "direct"): 1,
    ("wide-small", "dense"): 1,
    ("wide-small", "l0"): 2,
    ("wide-small", "direct"): 2,
    ("large", "dense"): 1,
    ("large", "l0"): 1,
}
COLUMNS = ("model", "method", "seed", "test", "valid", "at the cut", "sizes", "recurrent weights")
COLUMNS += ("parameters", "multiply-adds", "batch 1, times faster", "training, minutes")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The results of all runs."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*-seed*.json"))]


def table(rows: list[dict[str, Any]], speeds: list[dict[str, Any]]) -> Table:
    """One line for each run, and one for each planned run that has no result yet."""
    lines: list[tuple[Any, ...]] = []
    for (model, method), seeds in PLANNED.items():
        found = [
            row
            for row in rows
            if (row["options"]["model"], row["options"]["method"]) == (model, method)
        ]
        found.sort(key=lambda row: (-row["recurrent_weights"], row["options"]["seed"]))
        lines += [_line(row, speeds) for row in found]
        if len(found) < seeds:
            blank = ("",) * (len(COLUMNS) - 4)
            lines.append((MODELS[model], method, "", MISSING, *blank))
    return Table("", COLUMNS, lines)


def _line(row: dict[str, Any], speeds: list[dict[str, Any]]) -> tuple[Any, ...]:
    options, cut = row["options"], row["at_cut"]
    method, notes = options["method"], []
    for name in ("strength", "settle"):
        if options.get(name) is not None:
            notes.append(f"{name} {options[name]:g}")
    notes += ["shrunk early"] * options["shrink_early"]
    faster = [pair["batch 1"]["faster"] for pair in speeds if pair["small"] == row["sizes"]]
    pruned = options["method"] not in ("dense", "direct")
    return (
        MODELS[options["model"]],
        method + (f" ({', '.join(notes)})" if notes else ""),
        options["seed"],
        f"{row['test']:.1f}",
        f"{row['valid']:.1f}",
        f"{cut['test']:.1f}" if cut else "",
        " + ".join(map(str, row["sizes"])),
        f"{row['recurrent_weights']:,}",
        f"{row['parameters']:,}",
        f"{row['multiply_adds']:,}",
        ", ".join(f"{engine} {value:.1f}" for engine, value in faster[0].items())
        if pruned and faster
        else "",
        f"{row['training_seconds'] / 60:.0f}",
    )


def compared(rows: list[dict[str, Any]]) -> list[str]:
    """Sentences that compare l0 with each run of another method, at no more recurrent weights.

    Runs that differ only in the seed are averaged. Nets of one budget may differ by a fraction of
    up to `NEAR` of their weights, because sizes are whole numbers; such a difference is ignored.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        options = row["options"]
        key = json.dumps(options | {"seed": 0}, sort_keys=True)
        groups.setdefault((options["model"], key), []).append(row)
    sentences = []
    for model, name in MODELS.items():
        own = [runs for (other, _), runs in groups.items() if other == model]
        ours = [runs for runs in own if runs[0]["options"]["method"] == "l0"]
        for rival in (r for r in own if r[0]["options"]["method"] not in ("dense", "l0")):
            most = (1 + NEAR) * _mean(rival, "recurrent_weights")
            smaller = [runs for runs in ours if _mean(runs, "recurrent_weights") <= most]
            if smaller:
                best = min(smaller, key=lambda runs: _mean(runs, "test"))
                word = "better" if _mean(best, "test") < _mean(rival, "test") else "NOT better"
                method = rival[0]["options"]["method"]
                sentences.append(
                    f"{name}: gates reach {_reached(best)}, {word} than {method}, which reaches"
                    f" {_reached(rival)}."
                )
    return sentences


def _mean(runs: list[dict[str, Any]], what: str) -> float:
    return sum(run[what] for run in runs) / len(runs)


def _reached(runs: list[dict[str, Any]]) -> str:
    each = ", ".join(f"{run['test']:.1f}" for run in runs)
    seeds = f" (seeds: {each})" if len(runs) > 1 else ""
    weights = _mean(runs, "recurrent_weights")
    return f"{_mean(runs, 'test'):.1f}{seeds} with {weights:,.0f} recurrent weights"


def filled(page: str, folder: Path) -> str:
    """The page with its block filled from the results."""
    rows, path = rows_of(folder), folder / "speed.json"
    speeds = json.loads(path.read_text())["rows"] if path.exists() else []
    parts = [table(rows, speeds).markdown()]
    if rows:
        parts += ["\n".join(f"- {line}" for line in compared(rows))]
        machines = {json.dumps(row["machine"], sort_keys=True) for row in rows}
        for each in sorted(machines):
            facts = ", ".join(f"{k} {v}" for k, v in json.loads(each).items())
            parts.append(f"Measured on: {facts}.")
        commands = "\n".join(dict.fromkeys(row["command"] for row in rows))
        parts.append(f"<details><summary>Commands</summary>\n\n```\n{commands}\n```\n\n</details>")
        parts.append("![Perplexity against size](penn_treebank.png)")
    text = "\n\n".join(part for part in parts if part)
    return BLOCK.sub(lambda m: f"{m.group(1)}\n{text}\n\n{m.group(2)}", page)


def plot(path: Path, rows: list[dict[str, Any]], speeds: list[dict[str, Any]]) -> None:
    """Plot test perplexity against recurrent weights and, if it was measured, against time."""
    panels = {"recurrent weights, thousands": lambda row: row["recurrent_weights"] / 1000}
    if speeds:
        panels["us for 35 steps, batch 1, l0gate"] = lambda row: _microseconds(row, speeds)
    made, axes = _plots.figure(len(panels), width=7.0 if len(panels) == 1 else 5.0)
    for axis, (label, value) in zip(axes, panels.items(), strict=True):
        kinds = dict.fromkeys((r["options"]["model"], r["options"]["method"]) for r in rows)
        colours = list(dict.fromkeys(method for _, method in kinds))
        for model, method in kinds:
            own = [
                r
                for r in rows
                if (r["options"]["model"], r["options"]["method"]) == (model, method)
            ]
            axis.scatter(
                [value(row) for row in own],
                [row["test"] for row in own],
                color=f"C{colours.index(method)}",
                marker="osD^"[list(MODELS).index(model)],
                label=f"{MODELS[model]}, {method}",
            )
        _plots.log_axes(axis, x=TICKS)
        axis.set_xlabel(label)
        axis.set_ylabel("test perplexity")
    made.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    _plots.save(made, path)


def _microseconds(row: dict[str, Any], speeds: list[dict[str, Any]]) -> float:
    for pair in speeds:
        for side in ("dense", "small"):
            if pair[side] == row["sizes"]:
                return float(pair["batch 1"]["us"][f"l0gate {side}"])
    return math.nan


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--check", action="store_true", help="write nothing")
    given = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    new = filled(page, given.results)
    if given.check:
        return int(page != new)
    PAGE.write_text(new, encoding="utf-8")
    rows, path = rows_of(given.results), given.results / "speed.json"
    if rows:
        speeds = json.loads(path.read_text())["rows"] if path.exists() else []
        plot(PAGE.with_suffix(".png"), rows, speeds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
