"""The report of a gated model: what its gates have decided, and what the model costs.

In reading order:

- `report`: the function `l0gate.report`, which computes the figures, and the `Report` it returns
- `data`: the figures as plain dataclasses, and as dicts for JSON
- `text`: the figures as tables and sentences
- `picture`: the figures as bars
"""
