"""Keras files: `.keras`, which is read and written, and legacy `.h5`, which is read.

- `keras_format`: the two formats
- `h5`: arrays from HDF5 files of strangers
- `reading`: layers from a model's configuration and its arrays
- `writing`: the configuration and the arrays of a sequential model
- `running`: the written file, run by Keras in a process of its own
"""
