"""Finds out whether a whole model is a chain of layers: such a model can run without torch.

`l0gate._chain` defines chains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import nn

from l0gate._chain import Chain
from l0gate._vocabulary import RECURRENT
from l0gate.backends._torch.examples import Observed
from l0gate.backends._torch.pytree import Inputs, tensors
from l0gate.backends._torch.recurrent_axes import StateAxes
from l0gate.backends._torch.shrinking.ragged import CELLS
from l0gate.layout.layout import Layout
from l0gate.reference import Net

#: The torch functions that the layers of a chain call, to compute or to query their inputs.
CHAIN_CALLS = {"embedding", "lstm", "gru", "linear", "tanh", "sigmoid", "relu", "dropout"}
CHAIN_CALLS |= {"__get__", "size", "dim", "zeros", "squeeze", "unsqueeze", "contiguous", "detach"}
CHAIN_CALLS |= {"is_floating_point", "to", "long", "untyped_storage", "rnn_tanh", "rnn_relu"}
CHAIN_CALLS |= {"leaky_relu", "elu", "softmax", "silu", "gelu", "softplus", "softsign", "hardtanh"}
CHAIN_CALLS |= {"relu6", "hardsigmoid", *(_SUMS := {"add", "__add__", "__iadd__", "__radd__"})}

# The modules of activation functions, and their names in a chain.
_FUNCTIONS = {
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.ReLU: "relu",
    nn.SiLU: "swish",
    nn.Softsign: "softsign",
    nn.ReLU6: "relu6",
    nn.Hardsigmoid: "hard_sigmoid",
}


def find_chain(
    model: nn.Module,
    layers: Sequence[Mapping[str, Any]],
    layout: Layout,
    state_axes: Mapping[str, StateAxes],
    inputs: Inputs,
    observed: Observed,
) -> Chain | None:
    """The chain of these layers if the whole model computes exactly that; None otherwise.

    `layers` is a guess. It is checked by running it on `inputs` and comparing the result with the
    model's own output, which is in `observed`. `state_axes` are those of `recurrent_axes`.

    The result is None if the model takes other tensors than one sequence and the initial states of
    its recurrent layers. It is also None if the model calls a torch function that is not in
    `CHAIN_CALLS`: its effect may not show on these inputs.
    """
    layers = getattr(model, "chain_layers", layers)  # a `ChainModel` knows them
    given, returned = list(tensors(inputs)), next(tensors(observed.output), None)
    stateful = [model.get_submodule(path) for path in observed.stateful]
    states = sum(2 if isinstance(module, nn.LSTM) else 1 for module in stateful)
    if returned is None or len(given) not in (1, 1 + states) or observed.calls - CHAIN_CALLS:
        return None
    parameters = {name: _host(p) for name, p in model.named_parameters()}
    # A model in half precision rounds its outputs so much.
    rtol, atol = (2e-2, 2e-2) if returned.dtype in _HALF else (1e-4, 1e-5)
    guesses = [[_in_words_of_chains(layer) for layer in layers]]
    if observed.calls & _SUMS and guesses[0] and not hasattr(model, "chain_layers"):
        *rest, last = guesses[0]  # as in many models of amplifiers
        added = {"type": "add", "inputs": ["before_skip", "input"]}
        guesses = [[*rest, {**last, "label": "before_skip"}, added]]
    # The order of time and batch that the modules use is tried first, since for some inputs, such
    # as those of shape (1, 1), both orders give the same output.
    likely = any(m.batch_first for m in model.modules() if isinstance(m, nn.RNNBase))
    for guess, batch_first in product(guesses, (likely, not likely)):
        try:
            chain = Chain(guess, batch_first)
            x = _host(given[0])
            y, _ = Net(chain.layers, batch_first).apply(parameters, x, engine="numpy")
            expected = _host(returned)
            same = y.shape == expected.shape and np.allclose(y, expected, rtol, atol)
        except Exception:  # a wrong guess may fail in any way
            return None
        if same and set(chain.layout.patterns) == set(model.state_dict()):
            # A sum with the input needs all its features: none may be pruned.
            if chain.input_axis in chain.frozen and x.shape[-1] > 1:
                return None
            return chain if _names_agree(chain, layout, state_axes) else None
    return None


_HALF = (torch.float16, torch.bfloat16)


def _host(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as an array; in float32 if it has half precision, which NumPy nets lack."""
    return (tensor.float() if tensor.dtype in _HALF else tensor).detach().cpu().numpy()


# torch's names of functions whose name in a chain differs.
_RENAMED = {"silu": "swish", "hardsigmoid": "hard_sigmoid", "hardtanh": "hard_tanh"}


def _in_words_of_chains(layer: Mapping[str, Any]) -> dict[str, Any]:
    """A layer named after the torch function that computes it, as a layer of a chain."""
    kind, function = layer["type"], layer.get("function")
    if kind in ("rnn_tanh", "rnn_relu"):
        return {**layer, "type": "rnn", "activation": kind.removeprefix("rnn_")}
    return {**layer, "function": _RENAMED.get(function, function)} if function else dict(layer)


def layers_of(model: nn.Module) -> list[dict[str, Any]]:
    """The model's modules as the layers of a chain, in the order of `named_modules`."""
    layers: list[dict[str, Any]] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            layers.append({"type": "embedding", "name": name})
        elif isinstance(module, nn.Linear):
            layers.append({"type": "linear", "name": name, "bias": module.bias is not None})
        elif type(module) is nn.RNN:
            options = {k: getattr(module, k) for k in ("num_layers", "bidirectional", "bias")}
            options["activation"] = module.nonlinearity
            layers.append({"type": "rnn", "name": name, **options})
        elif type(module) in CELLS.values():
            assert isinstance(module, nn.RNNBase)
            options = {k: getattr(module, k) for k in ("num_layers", "bidirectional", "bias")}
            layers.append({"type": module.mode.lower(), "name": name, **options})
        elif type(module) in _FUNCTIONS:
            layers.append({"type": "activation", "function": _FUNCTIONS[type(module)]})
        elif type(module) is nn.GELU:
            function = {"none": "gelu", "tanh": "gelu_tanh"}[module.approximate]
            layers.append({"type": "activation", "function": function})
        elif type(module) in (nn.LeakyReLU, nn.ELU):
            named = isinstance(module, nn.ELU)
            slope = module.alpha if named else module.negative_slope
            function = "elu" if named else "leaky_relu"
            layers.append({"type": "activation", "function": function, "slope": float(slope)})
        elif type(module) is nn.Softmax and module.dim in (-1, 2):
            layers.append({"type": "activation", "function": "softmax"})
    return layers


def _names_agree(chain: Chain, layout: Layout, state_axes: Mapping[str, StateAxes]) -> bool:
    """Whether the layout and the chain use the same names for the same neurons."""
    ours = {path: states[0] for path, states in state_axes.items()}
    names = [layer["name"] for layer in chain.layers if layer["type"] in RECURRENT]
    theirs = dict(zip(names, chain.groups, strict=True))
    others = set(layout.axes) - {axis for own in ours.values() for axis in own}
    if any(own != theirs[path] for path, own in ours.items()) or others & set(chain.state_axes):
        return False
    # An axis that no parameter writes is one of input features; the chain has one name for these.
    inputs = {axis for axis in layout.axes if not layout.writers(axis)}
    return inputs <= {chain.input_axis}
