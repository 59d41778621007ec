"""What kernels do with vector registers, as LLVM code. In reading order:

- `lanes`: `Lanes`, a number or a vector of numbers, with operators
- `memory`: addresses, loads and stores
- `activations`: sigmoid, tanh and ReLU
- `cells`: the update of a vector's worth of neurons of an LSTM or GRU
- `tiles`: matrix products
"""
