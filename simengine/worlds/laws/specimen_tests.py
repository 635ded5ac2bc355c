"""How a specimen is tested: what drives it, and which of its stresses are free."""

import dataclasses
from typing import ClassVar, Literal

from simengine.scene.strict import NonNegative, Positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """What a testing machine must know of a specimen to tell strain and stress from its own travel and load.

    Attributes:
        length: At rest, of what is stretched; sheared, the distance of the plates [m].
        area: At rest, of the section that the force goes through; sheared, of a plate [m^2].
    """

    length: Positive
    area: Positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Test:
    """What all tests have.

    Attributes:
        drivers: Abscissas through which the test can be driven, the usual one first.
        travel: What a machine drives a specimen of known size through [m], and the stress that its force tells; None
            where there is none.
        span: Values of the usual one that `simengine run` goes through.
    """

    drivers: ClassVar[tuple[str, ...]]
    span: ClassVar[tuple[float, float]]
    logarithmic: ClassVar[bool] = False
    travel: ClassVar[tuple[str, str] | None] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extension(_Test):
    """Tests along the axes of the specimen.

    Attributes:
        rate: At which the engineering strain is driven [1/s].
    """

    drivers: ClassVar[tuple[str, ...]] = ("stretch", "strain", "true_strain", "time")
    span: ClassVar[tuple[float, float]] = (1.0, 2.0)
    travel: ClassVar[tuple[str, str]] = ("extension", "nominal_stress")
    rate: Positive = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uniaxial(Extension):
    """Pulled or pressed along one axis, free on its sides."""

    type: Literal["uniaxial"] = "uniaxial"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Equibiaxial(Extension):
    """Stretched alike along two axes, free along the third."""

    type: Literal["equibiaxial"] = "equibiaxial"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planar(Extension):
    """Stretched along one axis, held along the second, free along the third: pure shear."""

    type: Literal["planar"] = "planar"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Triaxial(Extension):
    """Pressed along one axis under a pressure on its sides, from the state under that pressure all round.

    Attributes:
        pressure: All round, then on the sides [Pa].
        drained: Whether water can leave; kept in, the volume stays and the water bears what the soil does not.
    """

    type: Literal["triaxial"] = "triaxial"
    span: ClassVar[tuple[float, float]] = (1.0, 0.9)
    pressure: NonNegative
    drained: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Isotropic(_Test):
    """Pressed all round, through the pressures in their order."""

    type: Literal["isotropic"] = "isotropic"
    drivers: ClassVar[tuple[str, ...]] = ("pressure",)
    span: ClassVar[tuple[float, float]] = (1e4, 1e6)
    logarithmic = True
    rate: ClassVar[float] = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimpleShear(_Test):
    """Sheared at constant volume between parallel plates.

    Attributes:
        rate: At which the shear is driven [1/s].
    """

    type: Literal["simple_shear"] = "simple_shear"
    drivers: ClassVar[tuple[str, ...]] = ("shear", "time")
    span: ClassVar[tuple[float, float]] = (0.0, 1.0)
    travel: ClassVar[tuple[str, str]] = ("displacement", "shear_stress")
    rate: Positive = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class SteadyShear(_Test):
    """Sheared at each rate until the stress no longer changes: a flow curve.

    Attributes:
        pressure: That grains bear meanwhile [Pa]; other laws feel none.
    """

    type: Literal["steady_shear"] = "steady_shear"
    drivers: ClassVar[tuple[str, ...]] = ("shear_rate",)
    span: ClassVar[tuple[float, float]] = (1e-3, 1e3)
    logarithmic = True
    pressure: NonNegative = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relaxation(_Test):
    """Sheared at once, then held.

    Attributes:
        shear: That is held [1].
    """

    type: Literal["relaxation"] = "relaxation"
    drivers: ClassVar[tuple[str, ...]] = ("time",)
    span: ClassVar[tuple[float, float]] = (1e-3, 1e3)
    logarithmic = True
    shear: Positive = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Creep(_Test):
    """A shear stress put on at once, then held.

    Attributes:
        shear_stress: That is held [Pa].
    """

    type: Literal["creep"] = "creep"
    drivers: ClassVar[tuple[str, ...]] = ("time",)
    span: ClassVar[tuple[float, float]] = (1e-3, 1e3)
    logarithmic = True
    shear_stress: Positive = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Oscillation(_Test):
    """Sheared to and fro, weakly, at each angular frequency."""

    type: Literal["oscillation"] = "oscillation"
    drivers: ClassVar[tuple[str, ...]] = ("angular_frequency",)
    span: ClassVar[tuple[float, float]] = (1e-2, 1e3)
    logarithmic = True


_Driven = Uniaxial | Equibiaxial | Planar | Triaxial | Isotropic | SimpleShear
TestSpec = _Driven | SteadyShear | Relaxation | Creep | Oscillation
