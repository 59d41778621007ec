"""l0gate in Lightning: the penalty joins the loss in `training_step`."""

from __future__ import annotations

import lightning
import torch
from task import LENGTH, STEPS, Classifier, data, show
from torch.utils.data import DataLoader, TensorDataset

import l0gate


class Pruned(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.gated = l0gate.gate(
            Classifier(),
            example_inputs=torch.zeros(2, LENGTH, 1),
            budget=l0gate.Budget(parameters=0.3),
        )

    def training_step(self, batch, index):
        x, y = batch
        progress = self.trainer.global_step / self.trainer.estimated_stepping_batches
        return torch.nn.functional.cross_entropy(self.gated(x), y) + self.gated.penalty(progress)

    def configure_optimizers(self):
        return torch.optim.Adam(self.gated.param_groups(lr=1e-2))


if __name__ == "__main__":
    lightning.seed_everything(0)
    module = Pruned()
    trainer = lightning.Trainer(
        max_steps=STEPS,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(module, DataLoader(TensorDataset(*data(3200, seed=0)), 64, shuffle=True))
    show(module.gated.shrink())
