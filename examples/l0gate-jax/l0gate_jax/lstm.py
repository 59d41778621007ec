"""A language model as pure functions: embedding, LSTM by `jax.lax.scan`, linear layer.

Matrices have the shape (inputs, outputs). All sizes are read from the parameters, so the same
functions run the dense and the small model.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import l0gate

Parameters = dict[str, jax.Array]
State = tuple[jax.Array, jax.Array]  # h and c, each (batch, hidden)

LAYOUT = l0gate.Layout(
    {
        "embedding": "_ -> x",
        "lstm.input": "x -> (4 h)",
        "lstm.recurrent": "h -> (4 h)",
        "lstm.bias": "(4 h)",
        "decoder.kernel": "h -> _",
        "decoder.bias": "_",
    },
    uses={"embedding": 0},
)


def init(key: jax.Array, vocabulary: int, embedding: int, hidden: int) -> Parameters:
    """Random float32 parameters; the bias of the forget gates is 1, so that they start open."""
    keys = iter(jax.random.split(key, 4))

    def kernel(rows: int, columns: int, scale: float) -> jax.Array:
        return scale * jax.random.normal(next(keys), (rows, columns), jnp.float32)

    ones, zeros = jnp.ones(hidden, jnp.float32), jnp.zeros(hidden, jnp.float32)
    return {
        "embedding": kernel(vocabulary, embedding, 1.0),
        "lstm.input": kernel(embedding, 4 * hidden, embedding**-0.5),
        "lstm.recurrent": kernel(hidden, 4 * hidden, hidden**-0.5),
        "lstm.bias": jnp.concatenate([zeros, ones, zeros, zeros]),
        "decoder.kernel": kernel(hidden, vocabulary, hidden**-0.5),
        "decoder.bias": jnp.zeros(vocabulary, jnp.float32),
    }


def empty_state(parameters: Parameters, batch: int) -> State:
    """The state before the first token, in the dtype of the parameters."""
    kernel = parameters["lstm.recurrent"]
    zeros = jnp.zeros((batch, kernel.shape[0]), kernel.dtype)
    return zeros, zeros


def apply(
    parameters: Parameters, tokens: jax.Array, state: State | None = None
) -> tuple[jax.Array, State]:
    """Scores (time, batch, vocabulary) for tokens (time, batch), and the state after them."""
    before = empty_state(parameters, tokens.shape[1]) if state is None else state
    inputs = parameters["embedding"][tokens] @ parameters["lstm.input"] + parameters["lstm.bias"]

    def cell(state: State, row: jax.Array) -> tuple[State, jax.Array]:
        h, c = state
        i, f, g, o = jnp.split(row + h @ parameters["lstm.recurrent"], 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    after, outputs = jax.lax.scan(cell, before, inputs)
    return outputs @ parameters["decoder.kernel"] + parameters["decoder.bias"], after


def loss(scores: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean cross-entropy in nats of scores (..., vocabulary) and targets (...)."""
    chosen = jnp.take_along_axis(scores, targets[..., None], axis=-1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(scores, axis=-1) - chosen)


def soft_loss(scores: jax.Array, targets: jax.Array, teacher: jax.Array) -> jax.Array:
    """Half the cross-entropy, half the KL divergence from a teacher's scores, in nats."""
    log_p, log_q = jax.nn.log_softmax(scores), jax.nn.log_softmax(teacher)
    divergence = jnp.mean(jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=-1))
    return 0.5 * loss(scores, targets) + 0.5 * divergence


def numpy_net(parameters: Parameters) -> Any:
    """The model as l0gate's NumPy net, which streams, and which `l0gate.save` writes to a file."""
    net = l0gate.get_backend("numpy").net(
        [
            {"type": "embedding", "name": "embedding"},
            {"type": "lstm", "name": "rnn"},
            {"type": "linear", "name": "decoder"},
        ]
    )
    host = {name: np.asarray(value) for name, value in parameters.items()}
    return net.bind(
        {
            "embedding.weight": host["embedding"],
            "rnn.weight_ih_l0": host["lstm.input"].T,
            "rnn.weight_hh_l0": host["lstm.recurrent"].T,
            "rnn.bias_ih_l0": host["lstm.bias"],
            "rnn.bias_hh_l0": np.zeros_like(host["lstm.bias"]),
            "decoder.weight": host["decoder.kernel"].T,
            "decoder.bias": host["decoder.bias"],
        }
    )
