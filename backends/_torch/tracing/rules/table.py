"""`RULES`: the table that names every torch function that is followed, with its rule.

To follow another function, add it here, and write a rule if none of these fits.
"""

from __future__ import annotations

from l0gate.backends._torch.tracing.rules import (
    indexing,
    joining,
    layers,
    products,
    recurrent,
    reductions,
    reshaping,
)
from l0gate.backends._torch.tracing.rules.common import along_other_dimension
from l0gate.backends._torch.tracing.rules.elementwise import (
    ELEMENTWISE,
    elementwise,
    maximum_or_reduction,
    prelu,
)
from l0gate.backends._torch.tracing.tracer import LayerRule, Rule, Rules
from l0gate.layout.stacked import BLOCKS

_LAYERS: dict[str, LayerRule] = {
    "embedding": layers.embedding,
    "linear": layers.linear,
    "conv1d": layers.conv1d,
    "conv2d": layers.conv2d,
    "batch_norm": layers.batch_norm,
    **dict.fromkeys(BLOCKS, recurrent.recurrent),
    **dict.fromkeys((f"{kind}_cell" for kind in BLOCKS), recurrent.recurrent_cell),
}


def _all(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


_CALLS: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    "prelu": prelu,
    **_all("max min", maximum_or_reduction),
    **_all("cat concat concatenate", joining.concatenation),
    "stack": joining.stack,
    "pad_sequence": joining.pad_sequence,
    **_all("matmul mm bmm rmatmul", products.matmul),
    "addmm": products.addmm,
    "einsum": products.einsum,
    "glu": indexing.glu,
    "scaled_dot_product_attention": products.attention,
    **_all("contiguous data.get detach", reshaping.identity),
    **_all("to type type_as", reshaping.cast),
    **_all("flatten reshape unflatten view", reshaping.reshape),
    **_all(
        "permute transpose swapaxes swapdims movedim moveaxis t T.get mT.get", reshaping.permute
    ),
    **_all("squeeze unsqueeze", reshaping.squeeze),
    "pad": reshaping.pad,
    **_all("repeat tile", reshaping.repeat),
    "repeat_interleave": along_other_dimension(2),
    "new_tensor": reshaping.new_tensor,
    **_all("_pack_padded_sequence _pad_packed_sequence", reshaping.packing),
    "flip": along_other_dimension(1, "dims", several=True),
    "roll": along_other_dimension(2, "dims", several=True),
    "getitem": indexing.index,
    "setitem": indexing.assignment,
    **_all("select unbind", indexing.select),
    "narrow": indexing.narrow,
    **_all("chunk split tensor_split", indexing.chunk),
    "index_select": indexing.index_select,
    **_all("gather take_along_dim", along_other_dimension(1)),
    **_all("cumsum cumprod logcumsumexp softmax log_softmax softmin", along_other_dimension(1)),
    **_all(
        "all amax amin any logsumexp mean median nanmean nansum prod std sum var",
        reductions.reduction,
    ),
    **_all(
        "adaptive_avg_pool2d adaptive_max_pool2d avg_pool2d max_pool2d max_pool2d_with_indices"
        " adaptive_avg_pool1d adaptive_max_pool1d avg_pool1d lp_pool1d max_pool1d"
        " max_pool1d_with_indices",
        reductions.pooling,
    ),
    "prunable_layer_norm": reductions.prunable_norm,
    **_all("group_norm layer_norm rms_norm normalize norm", reductions.norm_over_neurons),
}
_QUERIES = (
    "_version.get data_ptr device.get dim dtype.get element_size format get_device grad.get"
    " grad_fn.get"
    " itemsize.get layout.get len ndim.get ndimension nelement new_empty new_full new_ones"
    " new_zeros numel repr requires_grad requires_grad.get shape.get size"
    " storage_offset stride"
)
_ACTIVATIONS = (  # of a chain, see `l0gate._vocabulary`
    "tanh sigmoid relu leaky_relu elu softmax silu gelu softplus softsign hardtanh relu6"
    " hardsigmoid"
)
RULES = Rules(
    layers=_LAYERS,
    calls=_CALLS,
    products=frozenset({"matmul", "mm", "addmm"}),
    elementwise=ELEMENTWISE,
    queries=frozenset(_QUERIES.split()),
    activations=frozenset(_ACTIVATIONS.split()),
)
