"""The report of a finished job as text: a table of its nets, and sentences about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from l0gate.cli._report_data import NETS


def show_report(console: Console, report: Mapping[str, Any]) -> None:
    """Print the table, and the sentences about it."""
    console.print(_table(report))
    for line in _sentences(report):
        console.print(line, markup=False)


def _table(report: Mapping[str, Any]) -> Table:
    title = f"{report['text']['name']}, {report['options']['steps']:,} steps each"
    table = Table(title=Text(title))  # as `Text`, because a file name may look like markup
    table.add_column("")
    for name in NETS:
        table.add_column(name, justify="right")
    figure = report["metric"]
    cells: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "parameters": lambda net: f"{net['parameters']:,}",
        "recurrent parameters": lambda net: f"{net['recurrent_parameters']:,}",
        "size in kB": lambda net: f"{net['bytes'] / 1000:,.0f}",
        "embedding": lambda net: str(net["input_size"]),
        "hidden": lambda net: " + ".join(map(str, net["hidden_sizes"])),
        f"valid {figure}".replace("_", " "): lambda net: _number(net.get(f"valid_{figure}")),
        figure.replace("_", " "): lambda net: _number(net.get(figure)),
    }
    for label, cell in cells.items():
        row = [cell(report[name]) for name in NETS]
        if set(row) != {"-"}:
            table.add_row(label, *row)
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value < 100 else f"{value:.1f}"


def _sentences(report: Mapping[str, Any]) -> list[str]:
    dense, small = report["dense"], report["small"]
    fraction = small["recurrent_parameters"] / dense["recurrent_parameters"]
    budget, speed, certificate = report["budget"], report["speedup"], report["certificate"]
    lines = [f"The small net keeps {fraction:.1%} of the recurrent parameters"]
    if budget is not None:
        lines[0] += f": {budget['used']:,} of at most {budget['limit']:,.0f}"
        if budget["with_one_more_neuron"] is not None:
            lines[0] += f" (one more neuron: {budget['with_one_more_neuron']:,} or more)"
    lines[0] += "."
    gap = report["comparison"]["gap_recovered"]
    taught = report["options"].get("teacher", "none") == "dense"  # older reports do not say
    if gap is not None and gap > 0:
        lines.append(
            f"It recovers {gap:.0%} of the distance from a net of its sizes trained from scratch"
            f"{' without a teacher' if taught else ''} to the dense one"
            f"{', its teacher' if taught else ''}."
        )
    elif gap is not None:
        lines.append("A net of its sizes trained from scratch does better.")
    times = speed["latency_step_microseconds"]
    lines.append(
        f"At batch 1 it runs {speed['latency_step']:.1f} times as fast step by step"
        f" ({times['dense']:.0f} -> {times['small']:.0f} us) and {speed['sequence']:.1f} times on"
        f" whole sequences ({speed['engine']})."
    )
    difference = certificate["max_abs_difference"]
    lines.append(
        f"Gated and small net differ by at most {difference:.1e} (allowed"
        f" {certificate['tolerance']:.1e})"
        if difference
        else "Gated and small net agree to the last bit"
    )
    lines[-1] += (
        f" on {certificate['sequences']} batches of random {report['text']['unit']}s;"
        f" {certificate['forced_open']} neurons were forced open, {certificate['forced_closed']}"
        " closed."
    )
    seconds = report["seconds"]
    lines.append(f"Gated training took {seconds['gated']:.0f} s")
    if "direct" in seconds:
        lines[-1] += f", the twins {seconds['dense']:.0f} s and {seconds['direct']:.0f} s"
    elif "dense" in seconds:
        lines[-1] += f", its teacher {seconds['dense']:.0f} s"
    lines[-1] += f"; this run {seconds['this_run']:.0f} s in all."
    return lines
