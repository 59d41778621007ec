"""A layout with its sizes and cost, for tests of budgets and selection."""

from __future__ import annotations

from cases import arrays_for

from l0gate import Layout
from l0gate.layout.cost import Cost

LAYOUT = Layout.lstm(2)
SIZES = {"x": 4, "h0": 5, "h1": 6}
COST = Cost(LAYOUT, arrays_for(LAYOUT, SIZES))
