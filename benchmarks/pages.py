"""Write the tables and pictures of docs/speed.md from the results in benchmarks/results.

A block of the page begins with `<!-- results: NAME -->` and ends with `<!-- end -->`. It is filled
by the script NAME from results/NAME.json, with limits, plot, tables and machine. The block `<!--
results: claims -->` lists the limits of all scripts. No number is typed by hand.

    python benchmarks/pages.py            # after new results
    python benchmarks/pages.py --check    # fails if the page differs from the results; no writing
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import _scripts
from _scripts import RESULTS, Report
from _tables import Table, limits_table, shown

DOCS = RESULTS.parents[1] / "docs"
PAGE = DOCS / "speed.md"
BLOCK = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
SHORT = 15  # rows; longer tables are collapsed on the page


def filled(page: str, results: Path) -> str:
    """The page with its blocks filled from the results."""
    names = [name for _, name, _ in BLOCK.findall(page) if name != "claims"]
    reports = {
        name: _scripts.read(path) for name in names if (path := results / f"{name}.json").exists()
    }

    def block(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        text = (
            claims(page, names, reports) if name == "claims" else section(name, reports.get(name))
        )
        return f"{begin}\n{text}\n\n{end}"

    return BLOCK.sub(block, page)


def claims(page: str, names: list[str], reports: dict[str, Report]) -> str:
    """Every limit of every script, with the script's name."""
    rows: list[tuple[Any, ...]] = []
    for name in names:
        rows += [
            (
                f"[{limit.what}](#{anchor(name, page)})",
                shown(limit.value),
                limit.allowed,
                limit.holds,
            )
            for limit in script(name).limits(reports.get(name, {"rows": []}))
        ]
    return Table("", ("figure", "measured", "claimed", "holds"), rows).markdown()


def section(name: str, report: Report | None) -> str:
    """The block of one script, as Markdown."""
    command = f"python benchmarks/{name}.py --json benchmarks/results/{name}.json"
    if report is None:
        return f"Not measured yet:\n\n```\n{command}\n```"
    module = script(name)
    machine = ", ".join(f"{key} {value}" for key, value in report["machine"].items())
    seconds = report.get("settings", {}).get("seconds", 1.0)
    given = "" if seconds == 1.0 else f" --seconds {seconds:g}"  # if it is not the default
    parts = [
        limits_table(module.limits(report)).markdown(),
        f"![a plot of these results]({picture(name).relative_to(DOCS).as_posix()})",
    ]
    for table in module.tables(report):
        if len(table.rows) > SHORT:
            folded = f"<summary>{table.title} ({len(table.rows)} rows)</summary>"
            parts.append(f"<details>{folded}\n\n{table.markdown()}\n\n</details>")
        else:
            parts.append(f"{table.title}:\n\n{table.markdown()}")
    parts.append(
        f"Machine: {machine}. [Results](../benchmarks/results/{name}.json) of\n`{command}{given}`"
    )
    return "\n\n".join(parts)


def anchor(name: str, page: str) -> str:
    """The link target of a script's results on a page: the heading before its block.

    >>> anchor("b", "## One\\n<!-- results: a -->\\n## Two, three\\n<!-- results: b -->\\n")
    'two-three'
    """
    before = page[: page.index(f"<!-- results: {name} -->")]
    heading = re.findall(r"^## (.+)$", before, re.MULTILINE)[-1]
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def picture(name: str) -> Path:
    return DOCS / "speed" / f"{name}.png"


def script(name: str) -> Any:
    return importlib.import_module(name)


def _text() -> str:
    return PAGE.read_text(encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    page = filled(_text(), RESULTS)
    if options.check:
        if page != _text():
            sys.exit(f"{PAGE.name} is not what the results say: python benchmarks/pages.py")
        return
    PAGE.write_text(page, encoding="utf-8")
    for _, name, _ in BLOCK.findall(page):
        path = RESULTS / f"{name}.json"
        if path.exists():
            picture(name).parent.mkdir(exist_ok=True)
            script(name).plot(picture(name), _scripts.read(path))


if __name__ == "__main__":
    main()
