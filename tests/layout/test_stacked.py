"""Ready-made layouts of stacked LSTM and GRU layers."""

from __future__ import annotations

import pytest

from l0gate import L0GateError, Layout


def test_ready_made_layouts_fit_torch_names() -> None:
    layout = Layout.lstm(2, bidirectional=True)
    assert str(layout.patterns["rnn.weight_ih_l1_reverse"]) == "(4 b1) <- (f0 + b0)"
    assert str(layout.patterns["decoder.weight"]) == "_ <- (f1 + b1)"
    assert layout.axes == ("x", "f0", "b0", "f1", "b1")
    gru = Layout.gru(2, bias=False, name="g", embedding=None, decoder=None)
    assert gru.to_dict() == {
        "g.weight_ih_l0": "(3 h0) <- x",
        "g.weight_hh_l0": "(3 h0) <- h0",
        "g.weight_ih_l1": "(3 h1) <- h0",
        "g.weight_hh_l1": "(3 h1) <- h1",
    }
    with pytest.raises(L0GateError, match="`num_layers` is 0"):
        Layout.gru(0)


def test_ready_made_layouts_have_the_names_of_a_plain_model() -> None:
    for layout, blocks in ((Layout.lstm(), 4), (Layout.gru(), 3)):
        assert layout.to_dict() == {
            "embedding.weight": "_ -> x",
            "rnn.weight_ih_l0": f"({blocks} h0) <- x",
            "rnn.weight_hh_l0": f"({blocks} h0) <- h0",
            "rnn.bias_ih_l0": f"({blocks} h0)",
            "rnn.bias_hh_l0": f"({blocks} h0)",
            "decoder.weight": "_ <- h0",
            "decoder.bias": "_",
        }
    named = Layout.gru(name="r", embedding="e", decoder="d").to_dict()
    assert {name.partition(".")[0] for name in named} == {"e", "r", "d"}
    bare = Layout.gru(embedding=None, decoder=None, bias=False)
    assert list(bare.to_dict()) == ["rnn.weight_ih_l0", "rnn.weight_hh_l0"]
