"""One process of two that train a gated model together.

tests/backends/torch/gating/test_training.py launches it.

Each process writes what it got to a file in the folder named by the first argument. Half-way the
first process saves a checkpoint, from which both then train once more.
"""

from __future__ import annotations

import copy
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch_models import Language, tokens

import l0gate

STEPS, STOP = 12, 5


def main(folder: Path) -> None:
    warnings.filterwarnings("ignore", message="the gates stalled")
    dist.init_process_group("gloo")
    work(folder, dist.get_rank())
    # By now no wrapper holds the group, and no process leaves while the other still needs it.
    dist.barrier()
    dist.destroy_process_group()


def work(folder: Path, rank: int) -> None:
    gated = fresh()
    ddp = DistributedDataParallel(gated)
    optimizer = torch.optim.Adam(gated.param_groups(lr=1e-2))
    got: dict[str, Any] = {"rank": rank, "gradients": gradients(ddp, rank)}
    got["noise"] = train(ddp, optimizer, range(STOP), rank)
    checkpoint = folder / "checkpoint.pt"
    if rank == 0:
        torch.save({"gated": gated.state_dict(), "optimizer": optimizer.state_dict()}, checkpoint)
    dist.barrier()
    got["noise"] += train(ddp, optimizer, range(STOP, STEPS), rank)
    got["state"] = gated.state_dict()
    got["small"] = gated.shrink().state_dict()

    resumed = fresh()
    saved = torch.load(checkpoint, weights_only=True)
    resumed.load_state_dict(saved["gated"])
    optimizer = torch.optim.Adam(resumed.param_groups(lr=1e-2))
    optimizer.load_state_dict(saved["optimizer"])
    train(DistributedDataParallel(resumed), optimizer, range(STOP, STEPS), rank)
    got["resumed"] = resumed.state_dict()
    torch.save(got, folder / f"rank{rank}.pt")


def fresh() -> Any:
    torch.manual_seed(0)
    budget = l0gate.Budget(parameters=0.5, warmup=0.3, settle=0.6)
    gated = l0gate.gate(Language(), example_inputs=tokens(), budget=budget, distill=True)
    return gated.train()


def loss_of(ddp: Any, step: int, rank: int) -> torch.Tensor:
    gated = getattr(ddp, "module", ddp)
    x = tokens(seed=100 * rank + step)
    outputs = ddp(x)
    loss = outputs[0].square().mean() + gated.distill(x, outputs=outputs)
    return loss + gated.penalty(step / STEPS)


def train(ddp: Any, optimizer: Any, steps: range, rank: int) -> list[torch.Tensor]:
    """Train on data of its own; the noise of every step."""
    noise = []
    for step in steps:
        optimizer.zero_grad()
        loss_of(ddp, step, rank).backward()
        noise.append(torch.cat(list(ddp.module._noise.values())))
        optimizer.step()
    return noise


def gradients(ddp: Any, rank: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """What the wrapper gives, and the mean over the processes of each one's own."""
    alone = copy.deepcopy(ddp.module)
    # Which looks for parameters that a forward pass leaves out; the penalty has none of its own.
    together = DistributedDataParallel(copy.deepcopy(ddp.module), find_unused_parameters=True)
    loss_of(alone, 1, rank).backward()
    loss_of(together, 1, rank).backward()
    pairs = {}
    both = zip(alone.named_parameters(), together.parameters(), strict=True)
    for (name, mine), theirs in both:
        dist.all_reduce(mine.grad)
        pairs[name] = (theirs.grad, mine.grad / dist.get_world_size())
    return pairs


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    # Gloo's threads may still hold tensors; to let go of them while Python shuts down aborts the
    # process now and then (pytorch/pytorch pull request 179291). All has been written by now.
    sys.stderr.flush()
    os._exit(0)
