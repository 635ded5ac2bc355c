"""The few numbers beside a field by variable projection (Golub & Pereyra 1973): what the cells take up is taken out.

At cells that are best for the numbers z, the gradient of the profile min_x J(x, z) is that of J by z alone, and its
Hessian in Gauss-Newton's approximation is the Schur complement C'C - C'A H^-1 A'C of the cells, with H = A'A + R of the
data and of the prior; A and C are the columns of the residuals by cells and by numbers. It gives the step of the
numbers, how the cells move with them, and the bars: the information on z that is left when every cell is free.
"""

import dataclasses
from collections.abc import Callable, Mapping

import torch

from simengine.fit.certainty.worth import inverse
from simengine.fit.fields.newton import Linearised
from simengine.fit.fields.objective import FieldObjective
from simengine.solve.conjugate_gradients import conjugate_gradients

TOLERANCE = 1e-2  # of the conjugate gradients; the complement is off by its square
PRODUCTS, LEAST_PRODUCTS, TOGETHER = 150, 25, 1500  # for one number; for many; of all numbers together, about
LONGEST = 1.0  # of a coordinate in one step
FLATTEST = 0.02


@dataclasses.dataclass(frozen=True)
class ProfiledObjective:
    """The objective with its cells at their best, as a quadratic of the numbers.

    Attributes:
        gradient: By the numbers, without their priors (p,).
        along: How the cells move with each number, (p, n).
        information: Observation -> its share of the Hessian, (p, p).
        stiffness: What the prior of the cells adds, (p, p).
        prior: Gradient of the numbers' own priors, (p,).
        belief: And their Hessian, (p, p).
        bend: Curvature over that of the quadratic, as measured between two rounds: edges that go from cell to cell make
            the profile of a total variation flatter than it is about any one place.
    """

    gradient: torch.Tensor
    along: torch.Tensor
    information: Mapping[str, torch.Tensor]
    stiffness: torch.Tensor
    prior: torch.Tensor
    belief: torch.Tensor
    bend: float = 1.0

    def covariance(self, factors: Mapping[str, float] | None = None) -> torch.Tensor:
        """Of the numbers (p, p); each observation's information over a factor by which its rows count less."""
        total = self.stiffness
        for name, own in self.information.items():
            total = total + own / (factors or {}).get(name, 1.0)
        return inverse(self.bend * total + self.belief)

    def step(self) -> tuple[torch.Tensor, torch.Tensor]:
        """To the minimum, none of it longer than a coordinate's unit: of the cells (n,) and the numbers (p,)."""
        dz = -self.covariance() @ (self.gradient + self.prior)
        dz = dz * min(1.0, LONGEST / max(float(dz.abs().max()), 1e-300))
        return dz @ self.along, dz

    def bent(self, gradient: torch.Tensor, dz: torch.Tensor) -> float:
        """`bend` by the gradient (p,) that this one turned into along dz (p,), the objective being the same."""
        plain = dz @ sum(self.information.values(), self.stiffness) @ dz
        return min(max(float(dz @ (gradient - self.gradient)) / max(float(plain), 1e-300), FLATTEST), 1.0)


def profile(objective: FieldObjective, x: torch.Tensor, z: torch.Tensor, widths: torch.Tensor) -> ProfiledObjective:
    """The profile about cells x (n,) that are best, or nearly so, for z (p,).

    Args:
        objective: With no values kept out.
        x: Cells.
        z: Numbers.
        widths: Of the differences in z, (p,): rays along the edges of cells jump from one to the next, so a difference
            must be wide enough to see the mean slope of many rays.
    """
    problem = objective.problem
    here = Linearised(objective, x, z)
    curved = _curvature(objective, x)

    def product(v: torch.Tensor) -> torch.Tensor:
        return torch.stack([here.back(here.across(each)) + curved(each) for each in v * here.free]) * here.free

    columns = []
    with torch.no_grad():
        for index in range(len(z)):
            unit = torch.zeros_like(z)
            unit[index] = widths[index]
            ahead, behind = objective.residuals(x, z + unit), objective.residuals(x, z - unit)
            columns.append((ahead - behind) / (2 * widths[index]))
    c = torch.stack(columns)  # (p, rows)
    b = torch.stack([here.back(each) for each in c]) * here.free
    most = min(PRODUCTS, max(LEAST_PRODUCTS, TOGETHER // max(len(z), 1)))
    v = conjugate_gradients(
        product, b, precondition=here.preconditioner(), tolerance=TOLERANCE, max_iterations=most, truncated=True
    )
    failed = v.isnan().any(1)  # where H does not curve upwards: nobody knows what the cells take up
    v = torch.where(failed[:, None], 0.0, v)
    left = c - torch.stack([here.across(each) for each in v])  # what the cells cannot take up
    left[failed] = 0.0  # so the data tell nothing of such a number, and no bar comes out too small
    information, at = {}, 0
    with torch.no_grad():
        lengths = {name: len(part) for name, part in objective.parts(x, z).items()}
    for name, length in lengths.items():
        information[name] = left[:, at : at + length] @ left[:, at : at + length].T
        at += length
    rows, slopes = problem.prior_rows(z)[0], problem.prior_slopes(z)
    return ProfiledObjective(
        gradient=c @ here.r - v @ (here.slope * here.free),
        along=-v,
        information=information,
        stiffness=v @ torch.stack([curved(each) for each in v]).T,
        prior=slopes.T @ rows,
        belief=slopes.T @ slopes,
    )


def _curvature(objective: FieldObjective, x: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Products (n,) with the Hessian of the prior at cells x (n,)."""
    own = x.detach().clone().requires_grad_()
    energy = objective.energy(own)
    if not energy.requires_grad:
        return torch.zeros_like
    (slope,) = torch.autograd.grad(energy, own, create_graph=True)
    return lambda v: torch.autograd.grad(slope, own, v, retain_graph=True)[0]
