"""ONNX files, written and read.

- `onnx_format`: the format
- `package`: the package onnx, imported when it is needed
- `order`: the order of gate blocks, and the names of functions
- `writing`: a graph for whole sequences and for streaming
- `reading`: layers from a graph that is one line of operators
- `constants`: the values in a graph that do not depend on its inputs
- `runtime`: the written file, run by ONNX Runtime
"""
