"""A net as one C99 header, without allocation, with the state owned by the caller.

- `c_format`: the format
- `code`: the functions of the header, layer by layer
- `arrays`: weights in the order in which the functions read them
- `header`: the whole file, with its comment and its self test
- `compiler`: the written header, compiled and run by the system's C compiler
"""
