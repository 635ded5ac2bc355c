"""Materials by name: an elastic and a plastic law that belong together, sharing their moduli."""

from typing import Literal

import torch

from simengine.materials.cam_clay import CamClayFlow, CamClayStress
from simengine.materials.elasticity import FixedCorotated, Fluid, Hencky, NeoHookean, Snow, TaitFluid
from simengine.materials.law import Coefficient, Material
from simengine.materials.orthotropic import Orthotropic, Three
from simengine.materials.plasticity import (
    DruckerPrager,
    FluidProjection,
    HerschelBulkley,
    Identity,
    InertialFriction,
    MohrCoulomb,
    SnowCompaction,
    VonMises,
)


def _shared(value: Coefficient) -> torch.Tensor:
    """One tensor for both laws, so that one name sets both (`torch.func.functional_call` ties them)."""
    return value if isinstance(value, torch.Tensor) else torch.tensor(float(value), dtype=torch.float64)


def jelly(E: Coefficient = 1e5, nu: Coefficient = 0.2) -> Material:
    """Fixed corotated elasticity; E [Pa], nu [1]."""
    return Material(FixedCorotated(E, nu), Identity())


def rubber(E: Coefficient = 1e5, nu: Coefficient = 0.2) -> Material:
    """Neo-Hookean elasticity; E [Pa], nu [1]."""
    return Material(NeoHookean(E, nu), Identity())


def orthotropic(E: Three, nu: Three, G: Three, turn: Three = (0.0, 0.0, 0.0)) -> Material:
    """An elastic solid with three axes; see `Orthotropic`.

    Args:
        E: Young's moduli along the axes 1, 2, 3 [Pa].
        nu: nu_12, nu_13, nu_23 [1].
        G: Shear moduli G_12, G_13, G_23 [Pa].
        turn: Rotation vector from x, y, z to the axes [rad].
    """
    return Material(Orthotropic(E, nu, G, turn), Identity())


def plasticine(
    E: Coefficient = 3e5, nu: Coefficient = 0.25, yield_stress: Coefficient = 5e3, hardening: Coefficient = 0.0
) -> Material:
    """Hencky elasticity and von Mises plasticity; E [Pa], nu [1], yield_stress [Pa], hardening [Pa]."""
    E, nu = _shared(E), _shared(nu)
    return Material(Hencky(E, nu), VonMises(E, nu, yield_stress, hardening))


def sand(
    E: Coefficient = 1e6,
    nu: Coefficient = 0.2,
    friction_angle: Coefficient = 25.0,
    cohesion: Coefficient = 0.0,
    *,
    volume_correction: bool = True,
    critical_packing: float = 0.0,
    yield_surface: Literal["drucker_prager", "mohr_coulomb"] = "drucker_prager",
) -> Material:
    """Hencky elasticity and the plasticity of grains.

    Args:
        E: Young's modulus [Pa].
        nu: Poisson's ratio [1].
        friction_angle: Of internal friction [degrees].
        cohesion: Log strain per axis at the tip of the cone [1].
        volume_correction: Without it the law of Klar et al. 2016, by which sand that was thrown stays swollen.
        critical_packing: Over that at rest, below which grains press on nothing, say 0.86: then thrown sand comes back
            to its volume [1].
        yield_surface: Drucker-Prager's cone or Mohr-Coulomb's hexagon.
    """
    E, nu = _shared(E), _shared(nu)
    cls = MohrCoulomb if yield_surface == "mohr_coulomb" else DruckerPrager
    flow = cls(E, nu, friction_angle, cohesion, volume_correction=volume_correction, critical_packing=critical_packing)
    return Material(Hencky(E, nu), flow)


def grains(
    E: Coefficient = 1e6,
    nu: Coefficient = 0.2,
    static: Coefficient = 0.38,
    fast: Coefficient = 0.64,
    number: Coefficient = 0.28,
    *,
    diameter: Coefficient,
    grain_density: Coefficient = 2500.0,
    dt: float,
) -> Material:
    """Hencky elasticity and mu(I) friction of grains that flow.

    Args:
        E: Young's modulus [Pa].
        nu: Poisson's ratio [1].
        static: mu_s, shear stress over pressure where flow begins [1].
        fast: mu_2, of rapid flow [1].
        number: I_0, at which friction is half way between [1].
        diameter: Of a grain [m].
        grain_density: Of a grain itself [kg/m^3].
        dt: Time step of the simulation [s].
    """
    E, nu = _shared(E), _shared(nu)
    flow = InertialFriction(E, nu, static, fast, number, diameter=diameter, density=grain_density, dt=dt)
    return Material(Hencky(E, nu), flow)


def cam_clay(
    M: Coefficient = 1.1,
    compression: Coefficient = 0.12,
    swelling: Coefficient = 0.03,
    G: Coefficient = 4e6,
    preconsolidation: Coefficient = 2e5,
    reference: Coefficient = 1e3,
) -> Material:
    """Modified Cam-clay, a soil that is under pressure from the start; in torch.

    Args:
        M: q over p of the critical state [1].
        compression: Slope of ln V over ln p on the normal consolidation line [1].
        swelling: Slope on the way back, below `compression` [1].
        G: Shear modulus [Pa].
        preconsolidation: The largest pressure that it has borne [Pa].
        reference: Pressure that it is under where F = I, at most `preconsolidation` [Pa].
    """
    numbers = [_shared(value) for value in (M, compression, swelling, G, preconsolidation, reference)]
    return Material(CamClayStress(*numbers), CamClayFlow(*numbers))


def water(E: Coefficient = 1e5, nu: Coefficient = 0.3) -> Material:
    """A weakly compressible fluid, lam J (J - 1); E [Pa], nu [1]."""
    return Material(Fluid(E, nu), FluidProjection())


def tait_water(K: Coefficient = 5e4, gamma: Coefficient = 7.0) -> Material:
    """A weakly compressible fluid with Tait's equation of state; K [Pa], gamma [1]."""
    return Material(TaitFluid(K, gamma), FluidProjection())


def snow(
    E: Coefficient = 1.4e5,
    nu: Coefficient = 0.2,
    hardening: Coefficient = 10.0,
    critical_compression: Coefficient = 2.5e-2,
    critical_stretch: Coefficient = 7.5e-3,
) -> Material:
    """Snow of Stomakhin et al. 2013.

    E [Pa], nu [1], hardening [1], critical_compression [1], critical_stretch [1].
    """
    return Material(Snow(E, nu, hardening), SnowCompaction(critical_compression, critical_stretch))


def paste(
    E: Coefficient = 1e5,
    nu: Coefficient = 0.3,
    yield_stress: Coefficient = 200.0,
    consistency: Coefficient = 50.0,
    exponent: Coefficient = 0.6,
    *,
    dt: float,
) -> Material:
    """Hencky elasticity and a Herschel-Bulkley fluid.

    E [Pa], nu [1], yield_stress [Pa], consistency [Pa s^n], exponent [1], dt [s].
    """
    E, nu = _shared(E), _shared(nu)
    return Material(Hencky(E, nu), HerschelBulkley(E, nu, yield_stress, consistency, exponent, dt=dt))
