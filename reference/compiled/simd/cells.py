# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""The cells of LSTM and GRU, for as many neurons as a vector register holds.

Each function is called as function(like, addresses). It loads one vector for each input from the
first addresses, and stores its results at the others. `exact_...` use exact activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba import types
from numba.core import cgutils

from l0gate.reference.compiled.simd.activations import sigmoid, sigmoid_tanh, tanh
from l0gate.reference.compiled.simd.lanes import Lanes, intrinsic
from l0gate.reference.compiled.simd.memory import Memory


def _on_vectors(inputs: int) -> Any:
    """Compile a formula of `Lanes` as a function (like, addresses) on vectors of neurons.

    The formula takes the vectors at the first `inputs` addresses. Its results are stored at the
    other addresses. There are two versions: with approximate and with exact activations.
    """

    def decorate(formula: Any) -> tuple[Any, Any]:
        def compiled(exact: bool) -> Any:
            @intrinsic
            def function(typingctx, like, addresses):
                def generate(context, builder, signature, arguments):
                    memory = Memory(context, builder, like)
                    where = cgutils.unpack_tuple(builder, arguments[1])
                    results = formula(*map(memory.load, where[:inputs]), exact)
                    for result, output in zip(results, where[inputs:], strict=True):
                        memory.store(result, output)
                    return context.get_dummy_value()

                return types.void(like, addresses), generate

            return function

        return compiled(False), compiled(True)

    return decorate


@_on_vectors(inputs=5)
def _lstm(i: Lanes, f: Lanes, g: Lanes, o: Lanes, c: Lanes, exact: bool) -> Sequence[Lanes]:
    """The new c and h, from the pre-activations and the old c."""
    c = sigmoid(f, exact) * c + sigmoid_tanh(i, g, exact)
    return c, sigmoid_tanh(o, c, exact)


@_on_vectors(inputs=7)
def _gru(
    xr: Lanes, xz: Lanes, xn: Lanes, hr: Lanes, hz: Lanes, hn: Lanes, h: Lanes, exact: bool
) -> Sequence[Lanes]:
    """The new h, with reset_after.

    xr, xz, xn are the input pre-activations, hr, hz, hn the recurrent ones with their biases.
    """
    r, z = sigmoid(xr + hr, exact), sigmoid(xz + hz, exact)
    n = tanh(xn + r * hn, exact)
    return (n + z * (h - n),)


@_on_vectors(inputs=3)
def _gru_gates(r: Lanes, z: Lanes, h: Lanes, exact: bool) -> Sequence[Lanes]:
    """Without reset_after, before the recurrent product: returns its input r h, and z."""
    return sigmoid(r, exact) * h, sigmoid(z, exact)


@_on_vectors(inputs=3)
def _gru_update(n: Lanes, z: Lanes, h: Lanes, exact: bool) -> Sequence[Lanes]:
    """Without reset_after, after the recurrent product: the new h. n is the pre-activation."""
    n = tanh(n, exact)
    return (n + z * (h - n),)


(lstm_block, exact_lstm_block), (gru_block, exact_gru_block) = _lstm, _gru
(gru_gates_block, exact_gru_gates_block) = _gru_gates
(gru_update_block, exact_gru_update_block) = _gru_update
