"""ONNX files: written for any runtime, with states in and out; read from any exporter.

- `onnx_format`: the format
- `package`: the package onnx, imported when it is needed
- `functions`: activation functions by l0gate's names and by ONNX's
- `order`: the axes of a value through transposes, squeezes and reshapes; where gate blocks stand
- `writing`: the graph of a net
- `tensors`: files and arrays of strangers
- `constants`: operators on constants, and on shapes that are computed in the graph
- `values`: what the reader knows about a value of a graph
- `recurrent`: layers from the nodes LSTM, GRU and RNN
- `moving`: what moves, chooses or joins axes and features
- `operators`: what each operator makes of the values that it reads
- `reading`: a graph from its inputs to its outputs
- `runtime`: the written file, run by ONNX Runtime
"""
