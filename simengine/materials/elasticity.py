"""The shipped elastic laws, F -> Kirchhoff stress; formulas and sources: `simengine.kernels.matter.elasticity`."""

from typing import ClassVar

import torch

from simengine.materials.law import AbstractElasticity, Coefficient, lame
from simengine.ops.matter.constitutive import elasticity as kernel


class _Solid(AbstractElasticity):
    """A law with Young's modulus E [Pa] and Poisson's ratio nu [1]."""

    E: torch.Tensor
    nu: torch.Tensor

    def __init__(self, E: Coefficient, nu: Coefficient) -> None:
        super().__init__()
        self._set("E", E, above=0.0)
        self._set("nu", nu, above=-1.0, below=0.5)

    def coefficients(self) -> tuple[torch.Tensor, ...]:
        """Lamé coefficients [Pa]."""
        return lame(self.E, self.nu)


class FixedCorotated(_Solid):
    """2 mu (F - R) F^T + lam J (J - 1) I: the jelly (Stomakhin et al. 2012).

    Args:
        E: Young's modulus [Pa].
        nu: Poisson's ratio [1].
    """

    kind: ClassVar[int] = kernel.FIXED_COROTATED


class Hencky(_Solid):
    """StVK with the Hencky strain, U diag(2 mu log s + lam tr log s) U^T: plasticine and sand (Klar et al. 2016).

    Args:
        E: Young's modulus [Pa].
        nu: Poisson's ratio [1].
    """

    kind: ClassVar[int] = kernel.HENCKY


class NeoHookean(_Solid):
    """mu (F F^T - I) + lam / 2 (J^2 - 1) I (Ciarlet 1988): finite for every F.

    Args:
        E: Young's modulus [Pa].
        nu: Poisson's ratio [1].
    """

    kind: ClassVar[int] = kernel.NEO_HOOKEAN


class Fluid(_Solid):
    """A weakly compressible fluid, lam J (J - 1) I: the water of Ma et al. 2023.

    Args:
        E: Young's modulus [Pa]; only lam = E nu / ((1 + nu)(1 - 2 nu)) matters.
        nu: Poisson's ratio [1].
    """

    kind: ClassVar[int] = kernel.FLUID

    def coefficients(self) -> tuple[torch.Tensor, ...]:
        """Second Lamé coefficient [Pa]."""
        return lame(self.E, self.nu)[1:]


class TaitFluid(AbstractElasticity):
    """A weakly compressible fluid with Tait's equation of state, pressure K / gamma (J^-gamma - 1) (Monaghan 1994).

    Args:
        K: Bulk modulus [Pa].
        gamma: Exponent [1]; 7 for water.
    """

    kind: ClassVar[int] = kernel.TAIT

    K: torch.Tensor
    gamma: torch.Tensor

    def __init__(self, K: Coefficient, gamma: Coefficient = 7.0) -> None:
        super().__init__()
        self._set("K", K, above=0.0)
        self._set("gamma", gamma, above=0.0)

    def coefficients(self) -> tuple[torch.Tensor, ...]:
        """K [Pa], gamma [1]."""
        return self.K, self.gamma


class Snow(_Solid):
    """Fixed corotated with both moduli times exp(hardening (1 - det F_plastic)) (Stomakhin et al. 2013).

    Args:
        E: Young's modulus of fresh snow [Pa].
        nu: Poisson's ratio [1].
        hardening: Exponent xi [1].
    """

    kind: ClassVar[int] = kernel.SNOW
    uses_history = True

    hardening: torch.Tensor

    def __init__(self, E: Coefficient, nu: Coefficient, hardening: Coefficient = 10.0) -> None:
        super().__init__(E, nu)
        self._set("hardening", hardening)

    def coefficients(self) -> tuple[torch.Tensor, ...]:
        """mu, lam [Pa], hardening [1]."""
        return (*lame(self.E, self.nu), self.hardening)
