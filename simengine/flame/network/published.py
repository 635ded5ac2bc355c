"""The published network, written from its description, to run beside ours: nested derivatives, first-order training.

J. Wu et al., "FlamePINN-1D", arXiv 2406.09071: a gated network of six layers of 64 tanh, temperature in its range by a
sigmoid and mass fractions by a softmax, the thin layer normalised to [-2, 2], a warm-up on a first guess, Adam with a
rate of 1e-3 that falls by 0.95 every thousand iterations, derivatives by autograd of autograd. The paper keeps the
conditions at the ends hard; its code keeps them softly. Both are here.
"""

import torch
from torch import nn

from simengine.flame.equations.base import AbstractFlame
from simengine.flame.equations.counterflow import CounterflowFlame
from simengine.flame.equations.free import FreeFlame


class PublishedNetwork(nn.Module):
    """Fields of a freely propagating or counterflow flame of a real gas.

    Args:
        flame: A single condition.
        points: Collocation points.
        seed: Of the first weights.
        hard: Blend the network with what the ends prescribe, which keeps every range; else penalties.
    """

    def __init__(self, flame: FreeFlame | CounterflowFlame, *, points: int = 100, seed: int = 0, hard: bool = True):
        super().__init__()
        torch.manual_seed(seed)
        self.flame: FreeFlame | CounterflowFlame = flame
        self.points: int = points
        self.hard: bool = hard
        width = 64
        edges, held = flame.edges()[0], flame.anchor_end == "right"
        self.low, self.high = (float(edges[0]), float(edges[-1])) if held else (float(edges[3]), float(edges[-3]))
        self.where: int = flame.fields.index("T")
        self.encoders: nn.ModuleList = nn.ModuleList(nn.Linear(1, width) for _ in range(2))
        self.layers: nn.ModuleList = nn.ModuleList(nn.Linear(1 if k == 0 else width, width) for k in range(6))
        self.out: nn.Linear = nn.Linear(width, len(flame.fields))
        self.double()
        known, z = flame.guess(edges.clamp(self.low, self.high)[None, None])
        zero = torch.zeros_like(known[:, :, :1])
        left = -flame.left(zero, zero, z)[0, 0, 0].detach()
        right = -flame.right(zero, zero, z)[0, 0, 0].detach() if held else known[0, 0, -1]
        self.ends: torch.Tensor = torch.stack((left, right))
        self.held_right: bool = held
        self.scale: torch.Tensor = flame.limits()[0][0, :-1]
        self.sign: float = float(z.sign())
        self.log_size: nn.Parameter = nn.Parameter(z.abs().log())
        self.T_in: float = float(flame.T_in)
        self.T_max: float = 1.05 * float(flame.burnt()[0][0])
        self.optimiser: torch.optim.Adam = torch.optim.Adam(self.parameters(), lr=1e-3)
        self.schedule: torch.optim.lr_scheduler.StepLR = torch.optim.lr_scheduler.StepLR(self.optimiser, 1000, 0.95)

    @property
    def eigenvalue(self) -> torch.Tensor:
        """z, shape (1,)."""
        return self.sign * self.log_size.exp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Fields at x (n,), shape (n, m): flow between its ends, T and Y in their ranges."""
        s = (4 * (x - self.low) / (self.high - self.low) - 2)[:, None]
        u, v = (torch.tanh(encoder(s)) for encoder in self.encoders)
        h = s
        for k, layer in enumerate(self.layers):
            h = torch.tanh(layer(h))
            h = h if k == 0 else h * u + (1 - h) * v
        raw, T = self.out(h), self.where
        parts = [self.T_in + (self.T_max - self.T_in) * torch.sigmoid(raw[:, T : T + 1]), raw[:, T + 1 :].softmax(1)]
        if T:  # rho u between the nozzles' and V below ten times the strain
            first, last = self.ends[:, 0]
            flux = last + (first - last) * torch.sigmoid(raw[:, :1])
            parts = [flux, 10 * self.scale[1] * torch.sigmoid(raw[:, 1:2]), *parts]
        y = torch.cat(parts, dim=1)
        if not self.hard:
            return y
        unit = (s + 2) / 4
        if self.held_right:
            base, inside = self.ends[0] + (self.ends[1] - self.ends[0]) * unit, 1 - (2 * unit - 1) ** 8
        else:
            base, inside = self.ends[0].expand_as(y), 1 - torch.exp(-20 * unit)
        return base + inside * (y - base)

    def _slope(self, value: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Derivative in x of every column, one sweep each, kept for the next derivative."""
        columns = [torch.autograd.grad(v.sum(), x, create_graph=True)[0] for v in value.unbind(-1)]
        return torch.stack(columns, dim=-1)

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        """Equations at x (n,), conditions at both ends and the anchor, scaled and summed."""
        flame: AbstractFlame = self.flame
        x = x.requires_grad_()
        y = self(x)
        dy = self._slope(y, x)
        z = self.eigenvalue.expand(1, 1, len(x), 1)
        m = y.shape[1]
        values = flame.flux_and_source(y[None, None], dy[None, None], z)[0, 0]
        flux, source = values[:, :m], values[:, m:]
        second = torch.tensor([o == 2 for o in flame.order])
        kept = torch.tensor([o > 0 for o in flame.order])
        residual = torch.where(second, self._slope(flux, x) + source, source)[:, kept]
        size = source.detach()[:, kept].abs().amax(0).clamp_min(1e-6)
        ends = self(torch.tensor([self.low, self.high], dtype=x.dtype))
        soft = ((ends - self.ends) / self.scale).square().sum()  # left to itself by the hard form, but for an open end
        loss = (residual / size).square().mean() + soft
        if flame.anchor_end == "origin":
            here = self(torch.zeros(1, dtype=x.dtype))[None, None]
            loss = loss + 10 * (flame.anchor(here, here, z) / self.scale[0]).square().sum()
        return loss

    def sample(self) -> torch.Tensor:
        """Random points of the domain; of a free flame, half of them in the flame."""
        length, half = self.high - self.low, 0 if self.held_right else self.points // 2
        near = 0.05 * length * torch.randn(half, dtype=torch.float64)
        far = self.low + length * torch.rand(self.points - half, dtype=torch.float64)
        return torch.cat((near, far)).clamp(self.low, self.high)

    def warm_up(self, iterations: int) -> None:
        """Fit the flame's first guess: steps from fresh to burnt gas."""
        for _ in range(iterations):
            x = self.sample()
            guess = self.flame.guess(x[None, None])[0][0, 0]
            loss = ((self(x) - guess) / self.scale).square().mean()
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()

    def step(self) -> float:
        """One iteration of Adam; returns the loss."""
        loss = self.loss(self.sample())
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.schedule.step()
        return float(loss.detach())
