"""The published network, written from its description, to run beside ours: nested derivatives, first-order training.

J. Wu et al., "FlamePINN-1D", arXiv 2406.09071: a gated network of six layers of 64 tanh, temperature in its range by a
sigmoid and mass fractions by a softmax, the thin layer normalised to [-2, 2], a Z-shaped warm-up, Adam with a rate of
1e-3 that falls by 0.95 every thousand iterations, derivatives by autograd of autograd. Conditions are kept softly.
"""

import torch
from torch import nn

from simengine.flame.equations import AbstractFlame
from simengine.flame.free import FreeFlame


class PublishedNetwork(nn.Module):
    """Fields of a freely propagating flame of a real gas.

    Args:
        flame: A single condition.
        points: Collocation points.
        seed: Of the first weights.
    """

    def __init__(self, flame: FreeFlame, *, points: int = 100, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.flame, width = flame, 64
        edges = flame.edges()[0]
        self.low, self.high = float(edges[3]), float(edges[-3])
        self.points = points
        self.encoders = nn.ModuleList(nn.Linear(1, width) for _ in range(2))
        self.layers = nn.ModuleList(nn.Linear(1 if k == 0 else width, width) for k in range(6))
        self.out = nn.Linear(width, 1 + len(flame.gas.W))
        self.double()
        self.log_flux = nn.Parameter(flame.first_flux()[0].detach().log())
        self.T_in, self.T_max = float(flame.T_in), 1.05 * float(flame.burnt()[0][0])
        self.optimiser = torch.optim.Adam(self.parameters(), lr=1e-3)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimiser, 1000, 0.95)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """T and Y at x (n,), shape (n, 1 + K)."""
        s = (4 * (x - self.low) / (self.high - self.low) - 2)[:, None]
        u, v = (torch.tanh(encoder(s)) for encoder in self.encoders)
        h = s
        for k, layer in enumerate(self.layers):
            h = torch.tanh(layer(h))
            h = h if k == 0 else h * u + (1 - h) * v
        raw = self.out(h)
        T = self.T_in + (self.T_max - self.T_in) * torch.sigmoid(raw[:, :1])
        return torch.cat((T, torch.softmax(raw[:, 1:], dim=1)), dim=1)

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
        z = self.log_flux.exp().expand(1, 1, len(x), 1)
        m = y.shape[1]
        values = flame.flux_and_source(y[None, None], dy[None, None], z)[0, 0]
        flux, source = values[:, :m], values[:, m:]
        second = [a for a, o in enumerate(flame.order) if o == 2]
        residual = (self._slope(flux, x) + source)[:, second]
        size = source.detach()[:, second].abs().amax(0).clamp_min(1e-6)
        ends = torch.tensor([self.low, 0.0, self.high], dtype=x.dtype).requires_grad_()
        at = self(ends)
        scale = self.flame.limits()[0][0, :-1]
        fresh = torch.cat((self.flame.T_in.reshape(1), self.flame.Y_in[0]))
        inlet = ((at[0] - fresh) / scale).square().sum()
        burnt = torch.cat((self.flame.burnt()[0], self.flame.burnt()[1][0]))
        outlet = ((at[2] - burnt) / scale).square().sum()
        anchor = ((at[1, 0] - self.flame.T_fix) / scale[0]).square()
        return (residual / size).square().mean() + inlet + outlet + 10 * anchor

    def sample(self) -> torch.Tensor:
        """Random points of the domain, most of them in the flame."""
        near = 0.25 * (self.high - self.low) * torch.randn(self.points // 2, dtype=torch.float64) * 0.2
        far = self.low + (self.high - self.low) * torch.rand(self.points - self.points // 2, dtype=torch.float64)
        return torch.cat((near, far)).clamp(self.low, self.high)

    def warm_up(self, iterations: int) -> None:
        """Fit the Z shape: fresh gas, a straight rise, burnt gas."""
        T_burnt, Y_burnt = self.flame.burnt()
        fresh = torch.cat((self.flame.T_in.reshape(1), self.flame.Y_in[0]))
        burnt = torch.cat((T_burnt, Y_burnt[0]))
        scale, rise = self.flame.limits()[0][0, :-1], 4 * float(self.flame.thickness(self.flame.first_flux())[0])
        for _ in range(iterations):
            x = self.sample()
            share = ((x + 0.5 * rise) / (2 * rise)).clamp(0, 1)[:, None]
            loss = ((self(x) - fresh - (burnt - fresh) * share) / scale).square().mean()
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
