"""l0gate in the Trainer of Hugging Face: the penalty joins the loss in `compute_loss`."""

from __future__ import annotations

import tempfile

import torch
from task import LENGTH, STEPS, Classifier, data, show
from transformers import Trainer, TrainingArguments

import l0gate


class PruningTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        scores = model(inputs["x"])
        loss = torch.nn.functional.cross_entropy(scores, inputs["labels"])
        if model.training:
            loss = loss + self.model.penalty(self.state.global_step / self.state.max_steps)
        return (loss, {"logits": scores}) if return_outputs else loss


if __name__ == "__main__":
    torch.manual_seed(0)
    gated = l0gate.gate(
        Classifier(),
        example_inputs=torch.zeros(2, LENGTH, 1),
        budget=l0gate.Budget(parameters=0.3),
    )
    rows = [{"x": x, "labels": y} for x, y in zip(*data(3200, seed=0), strict=True)]
    optimizer = torch.optim.Adam(gated.param_groups(lr=1e-2))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=STEPS,
            per_device_train_batch_size=64,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        PruningTrainer(gated, arguments, train_dataset=rows, optimizers=(optimizer, None)).train()
    show(gated.shrink())
