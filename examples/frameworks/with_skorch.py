"""l0gate in skorch: the penalty joins the loss in `get_loss`."""

from __future__ import annotations

import torch
from skorch import NeuralNetClassifier
from task import LENGTH, Classifier, data, show

import l0gate

EPOCHS, BATCH = 5, 64


class PrunedClassifier(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, X=None, training=False):
        loss = super().get_loss(y_pred, y_true, X=X, training=training)
        if training:
            self.steps_ = getattr(self, "steps_", 0) + 1
            loss = loss + self.module_.penalty(min(1.0, self.steps_ / self.total_steps))
        return loss

    def initialize_optimizer(self, *args, **kwargs):
        self.optimizer_ = torch.optim.Adam(self.module_.param_groups(lr=self.lr))
        return self


if __name__ == "__main__":
    torch.manual_seed(0)
    x, y = data(3200, seed=0)
    gated = l0gate.gate(
        Classifier(),
        example_inputs=torch.zeros(2, LENGTH, 1),
        budget=l0gate.Budget(parameters=0.3),
    )
    net = PrunedClassifier(
        gated,
        criterion=torch.nn.CrossEntropyLoss,
        lr=1e-2,
        max_epochs=EPOCHS,
        batch_size=BATCH,
        train_split=None,
        verbose=0,
    )
    net.total_steps = EPOCHS * len(x) // BATCH
    net.fit(x.numpy(), y.numpy())
    show(net.module_.shrink())
