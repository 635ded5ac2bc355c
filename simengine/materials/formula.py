"""Strain energies as formulas: a sum of terms that books give, each with a coefficient and some with a number inside.

A term is an isotropic energy of the Hencky strain H = log(F F^T)/2 with v = tr H = ln J and the deviator D: the
stretches without their volume change are the eigenvalues of exp D. Where a term resists a change of shape or of volume
at rest, its coefficient is the shear or the bulk modulus that it adds there.
"""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import nn

from simengine.materials.neural_energy import hencky_strain


class Strain:
    """What terms are made of, for many material points: D, v and exponentials of D, each taken once.

    Args:
        H: Hencky strains [1], (n, 3, 3), float64.
    """

    def __init__(self, H: torch.Tensor) -> None:
        self.v: torch.Tensor = H.diagonal(dim1=1, dim2=2).sum(1)
        self.eye: torch.Tensor = torch.eye(3, dtype=H.dtype, device=H.device)
        self.H: torch.Tensor = H
        self.D: torch.Tensor = H - self.ball(self.v / 3)
        self.q: torch.Tensor = (self.D * self.D).sum((1, 2))
        self._powers = dict[float, torch.Tensor]()

    @property
    def J(self) -> torch.Tensor:
        """Volume over that at rest [1], (n,)."""
        return self.v.exp()

    def ball(self, pressure: torch.Tensor) -> torch.Tensor:
        """Spherical tensors of these sizes, (n, 3, 3)."""
        return pressure[:, None, None] * self.eye

    def deviator(self, A: torch.Tensor) -> torch.Tensor:
        """Without its trace, (n, 3, 3)."""
        return A - self.ball(trace(A) / 3)

    def power(self, alpha: torch.Tensor | float) -> torch.Tensor:
        """exp(alpha D), (n, 3, 3): stretches without change of volume, to that power."""
        if isinstance(alpha, torch.Tensor) and alpha.requires_grad:
            return torch.linalg.matrix_exp(alpha * self.D)
        key = float(alpha)
        if key not in self._powers:
            self._powers[key] = torch.linalg.matrix_exp(key * self.D)
        return self._powers[key]

    @property
    def first(self) -> torch.Tensor:
        """First invariant of the stretches without change of volume, less 3 [1], (n,)."""
        return trace(self.power(2.0)) - 3

    def stretch(self) -> torch.Tensor:
        """V, with V^2 = F F^T, (n, 3, 3)."""
        return self.power(1.0) * (self.v / 3).exp()[:, None, None]


def trace(A: torch.Tensor) -> torch.Tensor:
    """Traces of matrices (n, 3, 3), shape (n,)."""
    return A.diagonal(dim1=1, dim2=2).sum(1)


@dataclasses.dataclass(frozen=True)
class EnergyTerm:
    """A term of an energy, for a coefficient of 1 Pa.

    Attributes:
        name: How tables and files call it.
        formula: Its energy in words of the page, `c` its coefficient.
        volume: Whether it resists a change of volume alone; else it resists one of shape, or both.
        energy: psi [1], (n,), of strains and the number inside.
        stress: Its derivative in H, Kirchhoff [1], (n, 3, 3).
        number: Name of the number inside; empty where there is none.
        grid: Values of that number at which a search begins [1].
    """

    name: str
    formula: str
    volume: bool
    energy: Callable[[Strain, torch.Tensor], torch.Tensor]
    stress: Callable[[Strain, torch.Tensor], torch.Tensor]
    number: str = ""
    grid: tuple[float, ...] = ()


def _gent_room(s: Strain, limit: torch.Tensor) -> torch.Tensor:
    """1 - (I1 - 3)/J_m: nothing of it is left where chains are straight."""
    return (1 - s.first / limit).clamp_min(1e-9)


TERMS: dict[str, EnergyTerm] = {
    term.name: term
    for term in (
        # of shape: Hencky 1928; Rivlin 1948; Mooney 1940; Yeoh 1990; Ogden 1972; Gent 1996
        EnergyTerm("hencky", "c tr D^2", False, lambda s, _: s.q, lambda s, _: 2 * s.D),
        EnergyTerm("first invariant", "c/2 (I1 - 3)", False,
             lambda s, _: s.first / 2, lambda s, _: s.deviator(s.power(2.0))),
        EnergyTerm("second invariant", "c/2 (I2 - 3)", False,
             lambda s, _: (trace(s.power(-2.0)) - 3) / 2, lambda s, _: -s.deviator(s.power(-2.0))),
        EnergyTerm("first invariant squared", "c/4 (I1 - 3)^2", False,
             lambda s, _: s.first.square() / 4,
             lambda s, _: s.first[:, None, None] * s.deviator(s.power(2.0))),
        EnergyTerm("first invariant cubed", "c/6 (I1 - 3)^3", False,
             lambda s, _: s.first**3 / 6,
             lambda s, _: s.first.square()[:, None, None] * s.deviator(s.power(2.0))),
        EnergyTerm("ogden", "c 2/alpha^2 (l1^alpha + l2^alpha + l3^alpha - 3)", False,
             lambda s, a: 2 / a.square() * (trace(s.power(a)) - 3),
             lambda s, a: 2 / a * s.deviator(s.power(a)),
             "alpha", (-6.0, -5.0, -4.0, -3.0, -1.0, 1.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)),
        EnergyTerm("gent", "c (-J_m/2) ln(1 - (I1 - 3)/J_m)", False,
             lambda s, m: -m / 2 * _gent_room(s, m).log(),
             lambda s, m: s.deviator(s.power(2.0)) / _gent_room(s, m)[:, None, None],
             "J_m", (0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0, 10.0, 30.0)),
        EnergyTerm("third invariant of D", "c tr D^3", False,
             lambda s, _: trace(s.D @ s.D @ s.D), lambda s, _: 3 * s.deviator(s.D @ s.D)),
        EnergyTerm("hencky squared", "c/4 (tr D^2)^2", False,
             lambda s, _: s.q.square() / 4, lambda s, _: s.q[:, None, None] * s.D),
        # of shape and volume: Stomakhin et al. 2012; Ciarlet 1988
        EnergyTerm("corotated", "c tr (V - 1)^2", False,
             lambda s, _: (s.stretch() - s.eye).square().sum((1, 2)),
             lambda s, _: 2 * (s.stretch() @ s.stretch() - s.stretch())),
        EnergyTerm("neo-hooke", "c/2 (tr F F^T - 3 - 2 ln J)", False,
             lambda s, _: (trace(s.stretch() @ s.stretch()) - 3 - 2 * s.v) / 2,
             lambda s, _: s.stretch() @ s.stretch() - s.eye),
        # of volume
        EnergyTerm("ln J squared", "c/2 (ln J)^2", True,
             lambda s, _: s.v.square() / 2, lambda s, _: s.ball(s.v)),
        EnergyTerm("J - 1 squared", "c/2 (J - 1)^2", True,
             lambda s, _: (s.J - 1).square() / 2, lambda s, _: s.ball(s.J * (s.J - 1))),
        EnergyTerm("J squared", "c/4 (J^2 - 1 - 2 ln J)", True,
             lambda s, _: (s.J.square() - 1 - 2 * s.v) / 4, lambda s, _: s.ball((s.J.square() - 1) / 2)),
        EnergyTerm("J", "c (J - 1 - ln J)", True, lambda s, _: s.J - 1 - s.v, lambda s, _: s.ball(s.J - 1)),
        EnergyTerm("1/J", "c (1/J - 1 + ln J)", True,
             lambda s, _: 1 / s.J - 1 + s.v, lambda s, _: s.ball(1 - 1 / s.J)),
    )
}  # fmt: skip


def strain_of(F: torch.Tensor) -> Strain:
    """Of deformation gradients (n, 3, 3), in float64."""
    return Strain(hencky_strain(F.double()))


class FormulaEnergy(nn.Module):
    """The Kirchhoff stress of a sum of terms, tau = sum c dpsi/dH.

    Args:
        terms: Names, of `TERMS`; one may come twice.
        coefficients: c of each [Pa].
        numbers: The number inside each [1]; any value where a term has none.

    Raises:
        ValueError: A term is not known, or has no coefficient.
    """

    coefficients: torch.Tensor
    numbers: torch.Tensor

    def __init__(
        self, terms: Sequence[str], coefficients: Sequence[float] | None = None, numbers: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        for name in terms:
            if name not in TERMS:
                raise ValueError(f"terms: {name!r} is none of {', '.join(TERMS)}")
        c = torch.as_tensor([0.0] * len(terms) if coefficients is None else coefficients, dtype=torch.float64)
        inside = torch.as_tensor([1.0] * len(terms) if numbers is None else numbers, dtype=torch.float64)
        if c.shape != (len(terms),) or inside.shape != (len(terms),):
            raise ValueError(f"coefficients, numbers: expected {len(terms)} of each, one for each term")
        self.terms: tuple[str, ...] = tuple(terms)
        self.register_buffer("coefficients", c)
        self.register_buffer("numbers", inside)

    def energy(self, F: torch.Tensor) -> torch.Tensor:
        """Energy psi [J per m^3 at rest], (n,), of F [1], (n, 3, 3)."""
        s = strain_of(F)
        parts = [c * TERMS[t].energy(s, a) for t, c, a in zip(self.terms, self.coefficients, self.numbers, strict=True)]
        return torch.stack(parts).sum(0).to(F)

    def forward(self, F: torch.Tensor) -> torch.Tensor:
        """Kirchhoff stress [Pa] from F [1], both (n, 3, 3)."""
        s = strain_of(F)
        tau = torch.zeros_like(s.D)
        for term, c, a in zip(self.terms, self.coefficients, self.numbers, strict=True):
            tau = tau + c * TERMS[term].stress(s, a)
        return tau.to(F)

    def __str__(self) -> str:
        parts = []
        for name, c, a in zip(self.terms, self.coefficients.tolist(), self.numbers.tolist(), strict=True):
            term = TERMS[name]
            text = term.formula.replace(term.number, f"{a:.4g}") if term.number else term.formula
            parts.append(text.replace("c", f"{c:.4g}", 1))
        return " + ".join(parts)
