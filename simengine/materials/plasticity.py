"""The shipped return maps F -> F; their formulas and sources are in `simengine.kernels.matter.plasticity`."""

import math
from typing import ClassVar

import torch

from simengine.materials.law import AbstractPlasticity, Coefficient, lame
from simengine.ops.matter.constitutive import plasticity as kernel


class Identity(AbstractPlasticity):
    """No plastic flow."""

    kind: ClassVar[int] = kernel.IDENTITY

    def coefficients(self) -> tuple[torch.Tensor, ...]:
        """None."""
        return ()


class VonMises(AbstractPlasticity):
    """2 mu |dev log s| stays below yield_stress + hardening * (accumulated plastic strain).

    Args:
        E: Young's modulus [Pa].
        nu: Poisson's ratio [1].
        yield_stress: Yield stress [Pa], as a Frobenius norm of the deviatoric stress.
        hardening: Linear isotropic hardening [Pa].
    """

    kind: ClassVar[int] = kernel.VON_MISES
    uses_history = True

    E: torch.Tensor
    nu: torch.Tensor
    yield_stress: torch.Tensor
    hardening: torch.Tensor

    def __init__(
        self, E: Coefficient, nu: Coefficient, yield_stress: Coefficient, hardening: Coefficient = 0.0
    ) -> None:
        super().__init__()
        self._set("E", E, above=0.0)
        self._set("nu", nu, above=-1.0, below=0.5)
        self._set("yield_stress", yield_stress, above=0.0)
        self._set("hardening", hardening)

    def coefficients(self) -> tuple[torch.Tensor, ...]:
        """mu, yield stress, hardening [Pa]."""
        return lame(self.E, self.nu)[0], self.yield_stress, self.hardening


class DruckerPrager(AbstractPlasticity):
    """Sand: no tension, shear bounded by Coulomb friction (Klar et al. 2016).

    Args:
        E: Young's modulus [Pa].
        nu: Poisson's ratio [1].
        friction_angle: Angle of internal friction [degrees].
        cohesion: Hencky strain per axis at which the cone has its tip [1].
        volume_correction: Grains that were apart press again only when they have lost the volume they gained
            (Tampubolon et al. 2017), of which q is the logarithm. Without it sand that was thrown stays swollen.
        critical_packing: Packing on the grid over that at rest below which grains press on nothing, whatever q says
            (`simengine.kernels.matter.packing`) [1]; 0 for none. For explicit steps of `MPMSolver`.

    Raises:
        ValueError: A number is out of its range, or `critical_packing` comes without `volume_correction`.
    """

    kind: ClassVar[int] = kernel.DRUCKER_PRAGER

    E: torch.Tensor
    nu: torch.Tensor
    friction_angle: torch.Tensor
    cohesion: torch.Tensor

    def __init__(
        self,
        E: Coefficient,
        nu: Coefficient,
        friction_angle: Coefficient = 25.0,
        cohesion: Coefficient = 0.0,
        *,
        volume_correction: bool = True,
        critical_packing: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= critical_packing < 1:
            raise ValueError(f"critical_packing must lie between 0 (none) and 1 (exclusive), got {critical_packing:g}")
        if critical_packing and not volume_correction:
            raise ValueError(
                f"critical_packing: {critical_packing:g} bounds what volume_correction follows; leave it out"
            )
        self.uses_history = volume_correction
        self.critical_packing: float = float(critical_packing)
        self._set("E", E, above=0.0)
        self._set("nu", nu, above=-1.0, below=0.5)
        self._set("friction_angle", friction_angle, above=0.0, below=90.0)
        self._set("cohesion", cohesion)

    def coefficients(self) -> tuple[torch.Tensor, ...]:
        """mu, lam [Pa], slope alpha of the cone [1], cohesion [1], and 1 where volume is corrected."""
        sine = torch.sin(self.friction_angle.double() * (math.pi / 180))
        corrects = torch.full_like(self.cohesion, float(self.uses_history)).detach()
        return (*lame(self.E, self.nu), math.sqrt(2 / 3) * 2 * sine / (3 - sine), self.cohesion, corrects)


class MohrCoulomb(DruckerPrager):
    """Grains whose middle principal stress does not help them: Coulomb friction on the most loaded plane alone.

    Its hexagon touches the cone of `DruckerPrager` at the corners of triaxial compression and lies inside it elsewhere:
    in plane strain sand of the same angle is weaker. The flow keeps the volume. Arguments as there.
    """

    kind: ClassVar[int] = kernel.MOHR_COULOMB

    def coefficients(self) -> tuple[torch.Tensor, ...]:
        """mu, lam [Pa], sin of the friction angle [1], cohesion [1], and 1 where volume is corrected."""
        mu, lam, _, cohesion, corrects = super().coefficients()
        return mu, lam, torch.sin(self.friction_angle.double() * (math.pi / 180)), cohesion, corrects


class InertialFriction(AbstractPlasticity):
    """Grains whose friction grows with the rate: mu(I) between rest and rapid flow (Jop, Forterre, Pouliquen 2006).

    mu(I) = static + (fast - static) / (number / I + 1) with the inertial number I = rate d sqrt(rho / p). The flow
    keeps the volume, there is no tension, and grains that were apart press again as in `DruckerPrager`.

    Args:
        E: Young's modulus [Pa].
        nu: Poisson's ratio [1].
        static: mu_s, shear stress over pressure where flow begins [1].
        fast: mu_2, of rapid flow, above `static` [1].
        number: I_0, at which mu is half way between [1].
        diameter: d, of a grain [m].
        density: rho, of a grain itself [kg/m^3].
        dt: Time step of the simulation [s].

    Raises:
        ValueError: A number is out of its range.
    """

    kind: ClassVar[int] = kernel.INERTIAL
    uses_history = True

    E: torch.Tensor
    nu: torch.Tensor
    static: torch.Tensor
    fast: torch.Tensor
    number: torch.Tensor
    diameter: torch.Tensor
    density: torch.Tensor
    dt: torch.Tensor

    def __init__(
        self,
        E: Coefficient,
        nu: Coefficient,
        static: Coefficient = 0.38,
        fast: Coefficient = 0.64,
        number: Coefficient = 0.28,
        *,
        diameter: Coefficient,
        density: Coefficient = 2500.0,
        dt: float,
    ) -> None:
        super().__init__()
        self._set("E", E, above=0.0)
        self._set("nu", nu, above=-1.0, below=0.5)
        given = {"static": static, "fast": fast, "number": number, "diameter": diameter, "density": density, "dt": dt}
        for name, value in given.items():
            self._set(name, value, above=0.0)
        with torch.no_grad():
            if not bool((self.fast > self.static).all()):
                raise ValueError(f"fast must lie above static, {self.static.tolist()}, got {self.fast.tolist()}")

    def coefficients(self) -> tuple[torch.Tensor, ...]:
        """mu, lam [Pa], mu_s, mu_2 [1], I_0 dt / (d sqrt(rho)) [1/sqrt(Pa)]."""
        slow = self.number.double() * self.dt / (self.diameter.double() * self.density.double().sqrt())
        return (*lame(self.E, self.nu), self.static, self.fast, slow)


class FluidProjection(AbstractPlasticity):
    """A fluid forgets shear: F -> J^(1/3) I."""

    kind: ClassVar[int] = kernel.FLUID

    def coefficients(self) -> tuple[torch.Tensor, ...]:
        """None."""
        return ()


class SnowCompaction(AbstractPlasticity):
    """Singular values beyond critical compression and stretch flow into det F_plastic (Stomakhin et al. 2013).

    Args:
        critical_compression: theta_c [1].
        critical_stretch: theta_s [1].
    """

    kind: ClassVar[int] = kernel.SNOW
    uses_history = True

    critical_compression: torch.Tensor
    critical_stretch: torch.Tensor

    def __init__(self, critical_compression: Coefficient = 2.5e-2, critical_stretch: Coefficient = 7.5e-3) -> None:
        super().__init__()
        self._set("critical_compression", critical_compression, above=0.0, below=1.0)
        self._set("critical_stretch", critical_stretch, above=0.0)

    def coefficients(self) -> tuple[torch.Tensor, ...]:
        """theta_c, theta_s [1]."""
        return self.critical_compression, self.critical_stretch


class HerschelBulkley(AbstractPlasticity):
    """A viscoplastic fluid: above yield the stress is yield_stress + consistency * rate^exponent.

    Args:
        E: Young's modulus [Pa].
        nu: Poisson's ratio [1].
        yield_stress: Yield stress [Pa], as a Frobenius norm of the deviatoric stress.
        consistency: k [Pa s^n].
        exponent: n [1]; 1 is Bingham's fluid, below 1 it thins under shear.
        dt: Time step of the simulation [s].
    """

    kind: ClassVar[int] = kernel.HERSCHEL_BULKLEY
    uses_history = True

    E: torch.Tensor
    nu: torch.Tensor
    yield_stress: torch.Tensor
    consistency: torch.Tensor
    exponent: torch.Tensor
    dt: torch.Tensor

    def __init__(
        self,
        E: Coefficient,
        nu: Coefficient,
        yield_stress: Coefficient,
        consistency: Coefficient,
        exponent: Coefficient = 1.0,
        *,
        dt: float,
    ) -> None:
        super().__init__()
        self._set("E", E, above=0.0)
        self._set("nu", nu, above=-1.0, below=0.5)
        self._set("yield_stress", yield_stress, above=0.0)
        self._set("consistency", consistency, above=0.0)
        self._set("exponent", exponent, above=0.0)
        self._set("dt", dt, above=0.0)

    def coefficients(self) -> tuple[torch.Tensor, ...]:
        """mu, yield stress [Pa], consistency [Pa s^n], exponent [1], dt [s]."""
        return lame(self.E, self.nu)[0], self.yield_stress, self.consistency, self.exponent, self.dt
