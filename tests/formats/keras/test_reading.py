"""What a configuration of Keras means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import l0gate
from l0gate.formats._keras.reading import layers_of_model
from l0gate.formats.layers import Activation, Linear, Other, Recurrent


def entry(kind: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": kind.lower(), **config}}


def read(
    *entries: dict[str, Any], arrays: Any = (), version: str = "3.1", kind: str = "Sequential"
) -> Any:
    model = {"class_name": kind, "config": {"layers": list(entries)}}
    return layers_of_model(model, lambda *_: list(arrays), version)


LSTM = entry("LSTM", units=2, return_sequences=True)
ARRAYS = (np.ones((1, 8), "f4"), np.ones((2, 8), "f4"), np.ones(8, "f4"))


def test_hard_sigmoid_depends_on_the_version() -> None:
    given = entry("LSTM", units=2, return_sequences=True, recurrent_activation="hard_sigmoid")
    (new,) = read(given, arrays=ARRAYS)
    (old,) = read(given, arrays=ARRAYS, version="2.4")
    assert (new.recurrent_activation, old.recurrent_activation) == (
        "hard_sigmoid",
        "hard_sigmoid_keras2",
    )


def test_a_dense_layer_with_an_activation_is_two() -> None:
    dense, function = read(
        entry("Dense", units=3, activation="relu", use_bias=False), arrays=[np.ones((2, 3))]
    )
    assert isinstance(dense, Linear)
    assert dense.bias is None
    assert function == Activation("relu")


def test_a_gru_of_old_files_resets_before() -> None:
    arrays = (np.ones((1, 6), "f4"), np.ones((2, 6), "f4"), np.ones(6, "f4"))
    (gru,) = read(entry("GRU", units=2, return_sequences=True), arrays=arrays)
    assert isinstance(gru, Recurrent)
    assert not gru.reset_after


def test_convolutions_and_norms_keep_their_options() -> None:
    (conv,) = read(
        entry("Conv1D", strides=[1], dilation_rate=[2], padding="causal", use_bias=False),
        arrays=[np.ones((3, 2, 4), "f4")],
    )
    assert isinstance(conv, Other)
    assert conv.entry["dilation"] == 2
    assert conv.arrays["weight"].shape == (4, 2, 3)
    (norm,) = read(
        entry("BatchNormalization", scale=False, epsilon=0.01),
        arrays=[np.zeros(4, "f4"), np.full(4, 2, "f4"), np.full(4, 3, "f4")],
    )
    assert isinstance(norm, Other)
    assert norm.arrays["weight"].tolist() == [1] * 4
    assert norm.arrays["running_var"].tolist() == [3] * 4


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry("Attention")], "'attention' of class 'Attention'; l0gate reads LSTM"),
        ([entry("LSTM", units=2**40)], "`units`"),
        ([entry("LSTM", units=2, go_backwards=True)], "go_backwards"),
        ([entry("LSTM", units=2, activation="mish")], "activation 'mish'"),
        ([entry("LSTM", units=3)], "expected"),
        ([entry("LSTM", units=2), LSTM], "after a layer with return_sequences=False"),
        ([entry("Bidirectional", merge_mode="sum")], "merge_mode"),
        ([entry("Bidirectional", merge_mode="concat", layer=entry("LSTM", units=2))], "return_seq"),
        ([entry("TimeDistributed", layer=entry("LSTM"))], "expected Dense"),
        ([entry("Embedding", mask_zero=True)], "mask_zero"),
        ([entry("ReLU", max_value=6.0)], "slope, threshold or maximum"),
        ([{"class_name": "LSTM"}], "`config`"),
        ([3], "`class_name`"),
    ],
)
def test_what_it_cannot_read_is_refused(entries: list[Any], message: str) -> None:
    with pytest.raises(l0gate.L0GateError, match=message):
        read(*entries, arrays=ARRAYS)


def test_a_model_that_branches_is_refused() -> None:
    first = {**entry("InputLayer"), "inbound_nodes": []}
    second = {**LSTM, "inbound_nodes": [{"args": [{"keras_history": ["other", 0, 0]}]}]}
    with pytest.raises(l0gate.L0GateError, match="does not read the one layer before it"):
        read(first, second, arrays=ARRAYS, kind="Functional")
    with pytest.raises(l0gate.L0GateError, match="class 'Subclassed'"):
        read(kind="Subclassed")
