"""Does the suite notice faults? Mutation testing of `l0gate/` and `reference/`.

    python tests/mutate.py l0gate                every mutant of the algorithm, by mutmut
    python tests/mutate.py l0gate --sample 300   300 of them, drawn by lot and run anew
    python tests/mutate.py reference             200 random mutants of the reference, by cosmic-ray

Without `--sample` both go on where they stopped, in another checkout too: what is known stands in
docs/mutation.json, for functions and files as they were. `--again` starts over, `--show` only
prints what is known. The package is laid out as it is installed, in `build/mutation`, and mutated
there, never in the checkout. Survivors are explained in docs/mutation.md.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable

from mutation import algorithm, known, reference
from mutation.lab import KILLED, LABS, SURVIVED, TYPED, UNSEEN

WANTED = 0.9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=("l0gate", "reference"))
    parser.add_argument("--sample", type=int, metavar="N", help="so many mutants, drawn by lot")
    parser.add_argument("--again", action="store_true", help="forget earlier results")
    parser.add_argument("--show", action="store_true", help="run nothing")
    given = parser.parse_args()
    part = algorithm if given.part == "l0gate" else reference
    if given.show:
        return report(part.known_results())
    lab = LABS / (given.part if given.sample is None else f"{given.part}-{given.sample}")
    if given.again:
        shutil.rmtree(lab, ignore_errors=True)
        known.write(given.part, {})
    try:
        chosen = part.run(lab, given.sample)
    finally:
        # A run that failed before it took up what was known must not forget it.
        known.write(given.part, known.read(given.part) | part.found(lab))
    return report(
        (module, mutant, result)
        for module, mutant, result in part.results(lab)
        if chosen is None or (module, mutant) in chosen
    )


def report(found: Iterable[tuple[str, str, str]]) -> int:
    """Print a line per module and every survivor; 0 if enough were killed."""
    results = list(found)
    print(f"{'module':40} mutants   mypy  tests  survived  noticed  by tests alone")
    modules = sorted({module for module, _, _ in results})
    noticed = 0.0
    for module in [*modules, "all"]:
        own = [result for m, _, result in results if module in (m, "all") and result != UNSEEN]
        typed, killed, left = (own.count(kind) for kind in (TYPED, KILLED, SURVIVED))
        if own:
            noticed = 1 - left / len(own)
            alone = killed / max(1, killed + left)
            print(
                f"{module:40} {len(own):7} {typed:6} {killed:6} {left:9} {noticed:8.1%}"
                f" {alone:8.1%}"
            )
    print(*(f"{m} {name}" for m, name, result in results if result == SURVIVED), sep="\n")
    unseen = sum(result == UNSEEN for _, _, result in results)
    if unseen:
        print(f"{unseen} mutants have not been run")
    return int(not results or unseen > 0 or noticed < WANTED)


if __name__ == "__main__":
    sys.exit(main())
