"""Isotropic elastic laws of a specimen: the logarithms of the principal stretches -> principal Kirchhoff stresses.

With nu = 0.5 a law is exactly incompressible and its stress known up to a pressure, which the free face tells. Below
that it is a function of the stretches without their volume change, and a pressure K/2 (J^2 - 1), K the bulk modulus
that goes with nu and the shear modulus at rest.
"""

import abc
import dataclasses
from typing import Annotated, Any, Literal

import torch

from simengine.scene.base import Refused
from simengine.scene.strict import Positive, Range
from simengine.worlds.motion.materials import Jelly, Rubber

Poisson = Annotated[float, Range(gt=-1, le=0.5)]


def tensor(value: Any) -> torch.Tensor:
    """A number of the tree, or a tuple of them, as float64 that keeps its gradient."""
    if isinstance(value, tuple):
        return torch.stack([tensor(entry) for entry in value])
    return torch.as_tensor(value, dtype=torch.float64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Elastic(abc.ABC):
    """A law whose stress depends on the stretches alone."""

    @property
    def incompressible(self) -> bool:
        """Whether the volume cannot change."""
        return False

    @abc.abstractmethod
    def principal(self, logs: torch.Tensor) -> torch.Tensor:
        """Principal Kirchhoff stresses [Pa], (m, 3), of the logarithms of the principal stretches, (m, 3)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Rubbery(Elastic):
    """A law of shape, with a volume that resists as nu tells.

    Attributes:
        nu: Poisson's ratio at rest [1]; 0.5 is exactly incompressible.
    """

    nu: Poisson = 0.5

    @property
    def incompressible(self) -> bool:
        """Whether nu is 0.5."""
        return float(tensor(self.nu).detach()) == 0.5

    @abc.abstractmethod
    def shear_modulus(self) -> torch.Tensor:
        """At rest [Pa]."""

    @abc.abstractmethod
    def shape_stress(self, logs: torch.Tensor) -> torch.Tensor:
        """Kirchhoff stress up to a pressure, (m, 3), of stretches without change of volume."""

    def principal(self, logs: torch.Tensor) -> torch.Tensor:
        """Principal Kirchhoff stresses [Pa]."""
        mean = logs.mean(-1, keepdim=True)
        stress = self.shape_stress(logs - mean)
        stress = stress - stress.mean(-1, keepdim=True)
        if self.incompressible:
            return stress
        nu = tensor(self.nu)
        bulk = 2 * self.shear_modulus() * (1 + nu) / (3 * (1 - 2 * nu))
        return stress + bulk / 2 * torch.expm1(6 * mean)


def _powers(logs: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """(l^alpha - 1)/alpha of each stretch and exponent, (m, 3, terms); ln l at alpha = 0."""
    small = alpha.abs() < 1e-9
    safe = torch.where(small, torch.ones_like(alpha), alpha)
    return torch.where(small, logs[..., None] * torch.ones_like(alpha), torch.expm1(logs[..., None] * safe) / safe)


def _same_length(**lists: tuple[float, ...]) -> None:
    if len({len(entries) for entries in lists.values()}) > 1 or not next(iter(lists.values())):
        told = ", ".join(f"{name} has {len(entries)}" for name, entries in lists.items())
        raise ValueError(f"every term needs its own number of each: {told}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ogden(_Rubbery):
    """W = sum 2 mu/alpha^2 (l1^alpha + l2^alpha + l3^alpha - 3) (Ogden 1972, in the form with every mu above 0).

    Attributes:
        mu: Shear modulus of each term [Pa]; their sum is that of the law.
        alpha: Exponent of each term [1].
    """

    type: Literal["ogden"] = "ogden"
    mu: tuple[Positive, ...]
    alpha: tuple[float, ...]

    def __post_init__(self) -> None:
        _same_length(mu=self.mu, alpha=self.alpha)

    def shear_modulus(self) -> torch.Tensor:
        """At rest [Pa]."""
        return tensor(self.mu).sum()

    def shape_stress(self, logs: torch.Tensor) -> torch.Tensor:
        """By the derivative of the energy."""
        return 2 * (_powers(logs, tensor(self.alpha)) * tensor(self.mu)).sum(-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MooneyRivlin(_Rubbery):
    """W = c10 (I1 - 3) + c01 (I2 - 3) (Mooney 1940, Rivlin 1948).

    Attributes:
        c10: Of the first invariant [Pa].
        c01: Of the second [Pa]; the shear modulus is 2 (c10 + c01).
    """

    type: Literal["mooney_rivlin"] = "mooney_rivlin"
    c10: Positive
    c01: Annotated[float, Range(ge=0)]

    def shear_modulus(self) -> torch.Tensor:
        """At rest [Pa]."""
        return 2 * (tensor(self.c10) + tensor(self.c01))

    def shape_stress(self, logs: torch.Tensor) -> torch.Tensor:
        """By the derivative of the energy."""
        return 2 * tensor(self.c10) * torch.expm1(2 * logs) - 2 * tensor(self.c01) * torch.expm1(-2 * logs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _FirstInvariant(_Rubbery):
    """A law of I1 = l1^2 + l2^2 + l3^2 alone."""

    @abc.abstractmethod
    def slope(self, first: torch.Tensor) -> torch.Tensor:
        """dW/dI1 [Pa] of I1 - 3."""

    def shear_modulus(self) -> torch.Tensor:
        """At rest [Pa]."""
        return 2 * self.slope(torch.zeros(1, dtype=torch.float64))[0]

    def shape_stress(self, logs: torch.Tensor) -> torch.Tensor:
        """By the derivative of the energy."""
        # sum of expm1(2 x) of logs that sum to 0
        return 2 * self.slope(torch.expm1(2 * logs).sum(-1))[..., None] * torch.exp(2 * logs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Yeoh(_FirstInvariant):
    """W = c1 (I1 - 3) + c2 (I1 - 3)^2 + c3 (I1 - 3)^3 (Yeoh 1990).

    Attributes:
        c1: Half the shear modulus [Pa].
        c2: Of the square [Pa]; below 0 for filled rubbers that soften.
        c3: Of the cube [Pa].
    """

    type: Literal["yeoh"] = "yeoh"
    c1: Positive
    c2: float = 0.0
    c3: float = 0.0

    def slope(self, first: torch.Tensor) -> torch.Tensor:
        """By the formula of the class."""
        return tensor(self.c1) + 2 * tensor(self.c2) * first + 3 * tensor(self.c3) * first.square()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gent(_FirstInvariant):
    """W = -mu limit/2 ln(1 - (I1 - 3)/limit) (Gent 1996).

    Attributes:
        mu: Shear modulus [Pa].
        limit: I1 - 3 at which the chains are straight [1].
    """

    type: Literal["gent"] = "gent"
    mu: Positive
    limit: Positive

    def slope(self, first: torch.Tensor) -> torch.Tensor:
        """By the formula of the class."""
        room = tensor(self.limit) - first
        if not bool((room > 0).all()):
            raise Refused(f"material.limit: the specimen is stretched to I1 - 3 = {float(first.max()):.4g}, beyond it")
        return tensor(self.mu) * tensor(self.limit) / (2 * room)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArrudaBoyce(_FirstInvariant):
    """Eight chains with Langevin statistics, the inverse of the Langevin function taken exactly (Arruda, Boyce 1993).

    Attributes:
        mu: Modulus n k T of the chains [Pa]; somewhat below the shear modulus at rest.
        segments: Rigid links in a chain [1]; their root is the greatest stretch of a chain.
    """

    type: Literal["arruda_boyce"] = "arruda_boyce"
    mu: Positive
    segments: Annotated[float, Range(gt=1)]

    def slope(self, first: torch.Tensor) -> torch.Tensor:
        """By the formula of the class."""
        y = ((first / 3 + 1) / tensor(self.segments)).sqrt()
        if not bool((y < 1).all()):
            raise Refused("material.segments: a chain is stretched beyond its length")
        return tensor(self.mu) / 6 * inverse_langevin(y) / y


def inverse_langevin(y: torch.Tensor) -> torch.Tensor:
    """Find x with coth x - 1/x = y, 0 < y < 1: Newton from Cohen's approximation y (3 - y^2)/(1 - y^2)."""

    def langevin(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        series = x < 1e-2
        safe = torch.where(series, torch.ones_like(x), x)
        value = torch.where(series, x / 3 - x**3 / 45, 1 / torch.tanh(safe) - 1 / safe)
        square = torch.sinh(safe.clamp_max(300.0)).square()
        return value, torch.where(series, 1 / 3 - x.square() / 15, 1 / safe.square() - 1 / square)

    still = y.detach()
    x = still * (3 - still.square()) / (1 - still.square())
    for _ in range(8):
        value, slope = langevin(x)
        x = x - (value - still) / slope
    value, slope = langevin(x)
    return x - (value - y) / slope  # once more, for the gradient of y


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyperfoam(Elastic):
    """W = sum 2 mu/alpha^2 [l1^alpha + l2^alpha + l3^alpha - 3 + (J^(-alpha beta) - 1)/beta] (Hill 1978).

    Attributes:
        mu: Shear modulus of each term [Pa].
        alpha: Exponent of each term [1].
        beta: nu/(1 - 2 nu) of each term [1].
    """

    type: Literal["hyperfoam"] = "hyperfoam"
    mu: tuple[Positive, ...]
    alpha: tuple[float, ...]
    beta: tuple[Annotated[float, Range(gt=-1 / 3)], ...]

    def __post_init__(self) -> None:
        _same_length(mu=self.mu, alpha=self.alpha, beta=self.beta)

    def principal(self, logs: torch.Tensor) -> torch.Tensor:
        """Principal Kirchhoff stresses [Pa]."""
        alpha = tensor(self.alpha)
        total = logs.sum(-1, keepdim=True)
        # (J^(-alpha beta) - 1)/alpha, as the powers of a stretch J^-beta
        shrunk = torch.cat([_powers(-total * b, a[None]) for a, b in zip(alpha, tensor(self.beta), strict=True)], -1)
        return 2 * ((_powers(logs, alpha) - shrunk) * tensor(self.mu)).sum(-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shipped(Elastic):
    """An elastic law of `simengine.materials` at a point.

    Attributes:
        law: The table that names it.
    """

    law: Jelly | Rubber

    def principal(self, logs: torch.Tensor) -> torch.Tensor:
        """Principal Kirchhoff stresses [Pa]."""
        names = {name: tensor(value) for name, value in self.law.coefficients().items()}
        material = self.law.make(names, dt=1.0)
        return material.elasticity(torch.diag_embed(logs.exp())).diagonal(dim1=-2, dim2=-1)


def extended(law: Elastic, held: Elastic, test: str, driven: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """State of a specimen pulled along its axes.

    Args:
        law: The law; its numbers may be tensors.
        held: The same with floats.
        test: uniaxial, equibiaxial or planar.
        driven: Logarithm of the driven stretch, (m,).

    Returns:
        Logarithms of the stretches and Kirchhoff stresses [Pa], (m, 3); the third face is free.

    Raises:
        Refused: There is no state of equilibrium.
    """

    def logs(a: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
        second = {"uniaxial": free, "equibiaxial": a, "planar": torch.zeros_like(a)}[test]
        return torch.stack((a, second, free), -1)

    free = driven * {"uniaxial": -0.5, "equibiaxial": -2.0, "planar": -1.0}[test]
    if law.incompressible:
        state = logs(driven, free)
        stress = law.principal(state)
        return state, stress - stress[:, 2:]
    still = driven.detach()
    y = _relaxed(held, still, free.detach(), logs)
    stress, slope = _free_stress(held, still, y, logs)
    y = y - law.principal(logs(driven, y))[:, 2] / slope  # the gradient of the implicit function
    state = logs(driven, y)
    return state, law.principal(state)


def _free_stress(law: Elastic, a: torch.Tensor, y: torch.Tensor, logs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Stress on the free face and its slope in the free stretch, (m,)."""
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        stress = law.principal(logs(a, y))[:, 2]
        (slope,) = torch.autograd.grad(stress.sum(), y)
    return stress.detach(), slope


def _relaxed(law: Elastic, a: torch.Tensor, y: torch.Tensor, logs: Any) -> torch.Tensor:
    """The free stretch that leaves its face without stress, by Newton with halved steps."""
    stress, slope = _free_stress(law, a, y, logs)
    for _ in range(80):
        step = (-stress / slope).clamp(-0.5, 0.5)
        step = torch.where(slope > 0, step, -0.1 * stress.sign())
        for _ in range(12):
            trial, new_slope = _free_stress(law, a, y + step, logs)
            worse = ~(trial.abs() <= stress.abs()) & (step.abs() > 1e-13)
            if not bool(worse.any()):
                break
            step = torch.where(worse, step / 2, step)
        y, stress, slope = y + step, trial, new_slope
        if bool((step.abs() < 1e-13).all()):
            return y
    if bool((stress.abs() <= 1e-8 * slope.abs()).all()):
        return y
    raise Refused("material: no free stretch leaves the sides of the specimen without stress")


def sheared(law: Elastic, shear: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Shear stress and first normal stress difference [Pa], (m,), of a simple shear."""
    half = torch.asinh(shear / 2)  # the stretches in the plane are exp(+-half)
    stress = law.principal(torch.stack((half, -half, torch.zeros_like(half)), -1))
    along = (stress[:, 0] - stress[:, 1]) / (2 * torch.cosh(half))
    return along, shear * along
