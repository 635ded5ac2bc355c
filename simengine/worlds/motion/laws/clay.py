"""A soil that hardens as it is pressed, as a scene of moving bodies names it."""

import dataclasses
from typing import Annotated, Literal

from simengine.scene.strict import Positive, Range
from simengine.worlds.motion.laws.shipped import KnownLaw


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clay(KnownLaw):
    """A soil that is under a pressure from the start (modified Cam-clay, effective stresses).

    Attributes:
        M: q over p of the critical state [1].
        compression: Slope of ln V over ln p on the normal consolidation line [1].
        swelling: Slope on the way back [1].
        G: Shear modulus [Pa].
        preconsolidation: p_c, the largest pressure that it has borne [Pa].
        reference: Pressure that it is under at the start [Pa].
    """

    type: Literal["cam_clay"] = "cam_clay"
    M: Annotated[float, Range(gt=0, lt=3)]
    compression: Annotated[float, Range(gt=0, lt=1)]
    swelling: Annotated[float, Range(gt=0, lt=1)]
    G: Positive
    preconsolidation: Positive
    reference: Positive = 1e3

    def __post_init__(self) -> None:
        refuse_unlikely(self.compression, self.swelling, self.preconsolidation, self.reference)


def refuse_unlikely(compression: float, swelling: float, preconsolidation: float, reference: float) -> None:
    """Refuse slopes and pressures that no soil has.

    Raises:
        ValueError: It names the number.
    """
    if not swelling < compression:
        raise ValueError(f"swelling: must lie below compression, {float(compression):g}, got {float(swelling):g}")
    if not reference <= preconsolidation:
        raise ValueError(
            f"reference: must not lie above preconsolidation, {float(preconsolidation):g} Pa, got "
            f"{float(reference):g} Pa"
        )
