"""Cells that users write themselves, from linear layers or products of matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

X, H = 5, 8
Step = Callable[..., Any]


class Own(nn.Module):
    """A loop over time around a step (m, x, h, c) -> (h, c)."""

    def __init__(self, step: Step, gates: int, bias: bool = True) -> None:
        super().__init__()
        self.hidden = H
        self.i = nn.Linear(X, gates * H, bias=bias)
        self.h = nn.Linear(H, gates * H, bias=bias)
        self.wx = nn.Parameter(torch.randn(X, gates * H) / 3)
        self.wh = nn.Parameter(torch.randn(H, gates * H) / 3)
        self.b = nn.Parameter(torch.randn(gates * H))
        self.peep = nn.Parameter(torch.randn(3, H))
        self.out = nn.Linear(H, 3)
        self.step = step

    def forward(self, x: Tensor) -> Any:
        h = c = x.new_zeros(x.shape[1], self.hidden)
        for x_t in x:
            h, c = self.step(self, x_t, h, c)
        return self.out(h)


def lstm_of(z: Tensor, c: Tensor, parts: Any) -> Any:
    i, f, g, o = parts(z)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def chunked(m: Any, x: Tensor, h: Tensor, c: Tensor) -> Any:
    return lstm_of(m.i(x) + m.h(h), c, lambda z: z.chunk(4, dim=-1))


def split(m: Any, x: Tensor, h: Tensor, c: Tensor) -> Any:
    return lstm_of(m.i(x) + m.h(h), c, lambda z: z.split(m.hidden, dim=1))


def products(m: Any, x: Tensor, h: Tensor, c: Tensor) -> Any:
    return lstm_of(x @ m.wx + h @ m.wh + m.b, c, lambda z: torch.chunk(z, 4, 1))


def fused(m: Any, x: Tensor, h: Tensor, c: Tensor) -> Any:
    return lstm_of(torch.addmm(m.b, x, m.wx) + torch.mm(h, m.wh), c, lambda z: z.chunk(4, 1))


def sliced(m: Any, x: Tensor, h: Tensor, c: Tensor) -> Any:
    z, n = m.i(x) + m.h(h), m.hidden
    return lstm_of(z, c, lambda z: (z[:, :n], z[:, n : 2 * n], z[:, 2 * n : 3 * n], z[:, 3 * n :]))


def in_sizes(m: Any, x: Tensor, h: Tensor, c: Tensor) -> Any:
    z = m.i(x) + m.h(h)
    gates, g = z[:, : 3 * m.hidden].sigmoid(), z[:, 3 * m.hidden :].tanh()
    i, f, o = gates.chunk(3, 1)
    c = f * c + i * g
    return o * c.tanh(), c


def peephole(m: Any, x: Tensor, h: Tensor, c: Tensor) -> Any:
    i, f, g, o = (m.i(x) + m.h(h)).chunk(4, 1)
    new = (f + m.peep[1] * c).sigmoid() * c + (i + m.peep[0] * c).sigmoid() * g.tanh()
    return (o + m.peep[2] * new).sigmoid() * new.tanh(), new


def gru(m: Any, x: Tensor, h: Tensor, c: Tensor) -> Any:
    (xr, xz, xn), (hr, hz, hn) = m.i(x).chunk(3, 1), m.h(h).chunk(3, 1)
    r, z = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
    return (1 - z) * torch.tanh(xn + r * hn) + z * h, c


def minimal(m: Any, x: Tensor, h: Tensor, c: Tensor) -> Any:
    f, n = (m.i(x) + m.h(h)).chunk(2, 1)
    return torch.lerp(h, n.tanh(), f.sigmoid()), c


def elman(m: Any, x: Tensor, h: Tensor, c: Tensor) -> Any:
    return torch.tanh(m.i(x) + m.h(h)), c


def highway(m: Any, x: Tensor, h: Tensor, c: Tensor) -> Any:
    t, n = (m.i(x) + m.h(h)).chunk(2, 1)
    return t.sigmoid() * n.tanh() + (1 - t.sigmoid()) * h, c


def glu(m: Any, x: Tensor, h: Tensor, c: Tensor) -> Any:
    return F.glu(m.i(x) + m.h(h), dim=-1) + 0.5 * h, c


STEPS: dict[Any, int] = {
    chunked: 4,
    split: 4,
    products: 4,
    fused: 4,
    sliced: 4,
    in_sizes: 4,
    peephole: 4,
    gru: 3,
    minimal: 2,
    elman: 1,
    highway: 2,
    glu: 2,
}


class Simple(nn.Module):
    """Simple recurrent units: the only products are those over the inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(X, 3 * H), nn.Linear(H, 3 * H)])
        self.out = nn.Linear(H, 3)

    def forward(self, x: Tensor) -> Any:
        for layer in self.layers:
            u, f, r = layer(x).chunk(3, -1)
            c, outs = torch.zeros_like(u[0]), []
            for t in range(len(x)):
                c = f[t].sigmoid() * c + (1 - f[t].sigmoid()) * u[t]
                outs.append(r[t].sigmoid() * c.tanh() + (1 - r[t].sigmoid()) * u[t])
            x = torch.stack(outs)
        return self.out(x)
