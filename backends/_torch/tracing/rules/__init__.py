"""The propagation rules: how labels of neurons pass through each torch function.

In reading order:

    table         the name of every function that is followed, with its rule
    common        helpers of several rules
    elementwise   channel-wise operations: activations, sums, products, dropout
    joining       cat, stack, pad_sequence
    products      matmul, einsum, attention
    reshaping     reshape, permute, squeeze, pad, repeat, packed sequences
    indexing      indices, slices, chunks
    reductions    mean, sum, max, pooling, norms
    layers        embedding, linear, conv1d, batch_norm
    recurrent     lstm, gru, rnn and their cells
"""

from l0gate.backends._torch.tracing.rules.table import RULES

__all__ = ["RULES"]
