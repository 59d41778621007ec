"""Train, prune and test one language model on Penn TreeBank: one row of the table.

    python benchmarks/penn_treebank/train.py --data FOLDER --model small
    python benchmarks/penn_treebank/train.py --data FOLDER --model small --method l0 --budget 0.285
    python benchmarks/penn_treebank/train.py --data FOLDER --model small --method direct \\
        --sizes 129 82 132

Models: Zaremba, Sutskever and Vinyals (arXiv 1409.2329), two LSTM layers, 35 steps, batches of 20,
plain SGD with decay, clipped gradients. Methods: `dense`; `l0` with a budget, or with `--strength`
as published; the other methods of `l0gate methods list`; and `direct`, which trains a net of the
given sizes (embedding, first and second layer) from scratch. Gates are trained by Adam. With
`--shrink-early`, closed neurons are removed as soon as they are selected, and training continues
with the small net.

Runs on a CPU or, with `--device cuda`, on a GPU. Checkpoints are written every minute and at the
end of every epoch; the same command continues from the last one, with the same results as without
the interruption. The result is a JSON file in `--out`, with everything needed to repeat the run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from data import Corpus
from model import MODELS
from options import Options
from run import Run

from l0gate import L0GateError

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with the texts train, valid and test"
    )
    parser.add_argument("--model", default="small", choices=[m for m in MODELS if m != "tiny"])
    parser.add_argument("--method", default="dense", help="dense, direct, l0 or another method")
    parser.add_argument("--budget", type=float, help="fraction of recurrent parameters to keep")
    parser.add_argument(
        "--strength", type=float, help="of the penalty: for l0 instead of a budget, or for iss"
    )
    parser.add_argument(
        "--sizes",
        type=int,
        nargs=3,
        help="of embedding, first and second layer, for --method direct",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="instead of the model's default")
    parser.add_argument(
        "--cosine",
        action="store_true",
        help="the learning rate falls from 1 to 0 as a half cosine, for runs of few epochs",
    )
    parser.add_argument(
        "--settle", type=float, help="when neurons are selected, as a fraction of training"
    )
    parser.add_argument(
        "--shrink-early", action="store_true", help="shrink at the selection; train the small net"
    )
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    try:
        options = Options(
            given.model,
            given.method,
            given.budget,
            given.strength,
            None if given.sizes is None else tuple(given.sizes),
            given.seed,
            given.epochs,
            given.shrink_early,
            given.settle,
            given.cosine or None,
        )
        run = Run(options, Corpus.read(given.data), given.out, given.device)
        if run.path.exists():
            print(f"'{run.path}' is there already")
            return 0
        run.finish(lambda text: print(text, flush=True))
    except L0GateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written: {run.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
