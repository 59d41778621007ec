"""Plain NumPy reference of gated LSTMs and GRUs."""
