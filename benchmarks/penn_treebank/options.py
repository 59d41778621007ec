"""The options that the results of a run depend on: allowed combinations, and the run's name."""

from __future__ import annotations

from dataclasses import dataclass

from model import MODELS

from l0gate import L0GateError

_UNPRUNED = ("dense", "direct")


@dataclass(frozen=True)
class Options:
    """The options that the results of a run depend on; train.py describes them."""

    model: str
    method: str = "dense"
    budget: float | None = None
    strength: float | None = None
    sizes: tuple[int, int, int] | None = None
    seed: int = 1
    epochs: int | None = None
    shrink_early: bool = False
    settle: float | None = None
    cosine: bool | None = None

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise L0GateError(f"`--model` is {self.model!r}; allowed: {', '.join(MODELS)}")
        if (self.method == "direct") != (self.sizes is not None):
            raise L0GateError("`--sizes` and `--method direct` go together")
        budget, strength = self.budget is not None, self.strength is not None
        neither = not (budget or strength), "no budget and no strength"
        allowed, what = {
            "l0": (budget != strength, "either `--budget` or `--strength`"),
            "iss": (
                budget,
                "`--budget`, and `--strength` where it is to have another than its own",
            ),
            **dict.fromkeys(_UNPRUNED, neither),
        }.get(self.method, (budget and not strength, "`--budget`"))
        if not allowed:
            raise L0GateError(f"`--method` is {self.method!r}; it takes {what}")
        if self.settle is not None and not budget:
            raise L0GateError(
                f"`--settle` is {self.settle}; it needs a `--budget`, whose cut it times"
            )
        if self.budget is not None and not 0 < self.budget <= 1:
            raise L0GateError(
                f"`--budget` is {self.budget}; it must be above 0 and at most 1, the part of the"
                " recurrent parameters that stays"
            )

    @property
    def pruned(self) -> bool:
        return self.method not in _UNPRUNED

    @property
    def name(self) -> str:
        """The name of the run's files, made of all options that were given."""
        parts = [self.model, self.method]
        if self.budget is not None:
            parts.append(f"{self.budget:g}")
        if self.strength is not None:
            parts.append(f"strength{self.strength:g}")
        if self.settle is not None:
            parts.append(f"settle{self.settle:g}")
        if self.sizes is not None:
            parts.append("x".join(map(str, self.sizes)))
        parts += ["early"] * self.shrink_early
        parts += [f"{self.epochs}epochs"] * (self.epochs is not None)
        parts += ["cosine"] * bool(self.cosine)
        return "-".join([*parts, f"seed{self.seed}"])
