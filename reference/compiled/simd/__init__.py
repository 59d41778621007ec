"""Code for vector registers that kernels call, generated as LLVM code. In reading order:

- `lanes`: `Lanes`, a number or a vector of numbers, with operators
- `memory`: addresses, loads and stores
- `activations`: sigmoid, tanh and ReLU
- `cells`: the update of as many LSTM or GRU neurons as a vector register holds
- `tiles`: matrix products
"""
