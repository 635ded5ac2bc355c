"""Constitutive laws as modules: F -> Kirchhoff stress and F -> F, and the materials made of them."""

from simengine.materials.dissipation import Dissipation
from simengine.materials.elasticity import FixedCorotated, Fluid, Hencky, NeoHookean, Snow, TaitFluid
from simengine.materials.law import AbstractElasticity, AbstractLaw, AbstractPlasticity, Material, lame
from simengine.materials.orthotropic import Orthotropic
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
from simengine.materials.presets import (
    cam_clay,
    grains,
    jelly,
    orthotropic,
    paste,
    plasticine,
    rubber,
    sand,
    snow,
    tait_water,
    water,
)

__all__ = [
    "AbstractElasticity",
    "AbstractLaw",
    "AbstractPlasticity",
    "Dissipation",
    "DruckerPrager",
    "FixedCorotated",
    "Fluid",
    "FluidProjection",
    "Hencky",
    "HerschelBulkley",
    "Identity",
    "InertialFriction",
    "Material",
    "MohrCoulomb",
    "NeoHookean",
    "Orthotropic",
    "Snow",
    "SnowCompaction",
    "TaitFluid",
    "VonMises",
    "cam_clay",
    "grains",
    "jelly",
    "lame",
    "orthotropic",
    "paste",
    "plasticine",
    "rubber",
    "sand",
    "snow",
    "tait_water",
    "water",
]
