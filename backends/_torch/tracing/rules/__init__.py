"""Every call that neurons are followed through, and its row."""

from __future__ import annotations

from l0gate.backends._torch.tracing.rules.elementwise import MET
from l0gate.backends._torch.tracing.rules.reshaping import MOVED
from l0gate.backends._torch.tracing.tracer import Row

FOLLOWED: dict[str, Row] = {**MOVED, **MET}
CHAIN_ACTIVATIONS = frozenset({"tanh", "sigmoid", "relu"})
# Calls that read sizes and kinds, but no values.
_QUERIES = (
    "_version.get data_ptr device.get dim dtype.get element_size format get_device grad.get"
    " grad_fn.get"
    " itemsize.get layout.get len ndim.get ndimension nelement new_empty new_full new_ones"
    " new_zeros numel repr requires_grad requires_grad.get shape.get size"
    " storage_offset stride"
)
QUERIES = frozenset(_QUERIES.split())
