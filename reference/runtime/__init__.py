"""Nets bound to their parameters, for inference on sequences and streams. In reading order:

- `numpy_step`: one time step, layer by layer in NumPy
- `compiled_net`: `CompiledNet`, a sequence or a step as one compiled call
- `stream`: `Stream`, which reads a sequence step by step and keeps the state
- `bound_net`: `StreamingNet`, a net with its parameters, which uses the three above
"""
