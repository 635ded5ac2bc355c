"""Modified Cam-clay (Roscoe, Burland 1968): soils that harden as they are pressed, and at last flow on."""

import dataclasses
import math
from typing import Annotated, Literal

import numpy as np

from simengine.scene.base import Refused
from simengine.scene.strict import Positive, Range
from simengine.worlds.laws.flowing import Flowing
from simengine.worlds.motion.laws.clay import refuse_unlikely


@dataclasses.dataclass(frozen=True, kw_only=True)
class CamClay(Flowing):
    """A soil with the yield ellipse q^2 / M^2 + p (p - p_c) = 0 of its effective stresses, and flow along its normal.

    p and q are Cauchy's, volumes logarithms (Butterfield 1979): ln V falls by `swelling` for each e-fold of p below
    p_c, by `compression` along the normal consolidation line, where p_c goes along.

    Attributes:
        M: q over p of the critical state [1].
        compression: Slope of ln V over ln p on the normal consolidation line [1].
        swelling: Slope on the way back [1].
        G: Shear modulus [Pa].
        preconsolidation: p_c, the largest pressure that it has borne [Pa].
        reference: Pressure at which `volume_ratio` is 1 before the test [Pa].
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

    def advance(self, F: np.ndarray, memory: float, dt: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """By the return map, implicit in the step; the memory is the logarithm of the volume that flow has taken."""
        squares, axes = np.linalg.eigh(F @ F.transpose(0, 2, 1))
        logs = 0.5 * np.log(squares)
        stresses, elastic, memories = [], [], []
        for row in logs:
            volume = float(row.sum())
            shape = row - volume / 3
            p, q = self.reference * math.exp(-volume / self.swelling), 2 * self.G * math.sqrt(1.5) * _norm(shape)
            flow, compacted = self.returned(p, q, memory)
            volume, shape = volume + compacted, shape / (1 + 6 * self.G * flow / self.M**2)
            p *= math.exp(-compacted / self.swelling)
            stresses.append(math.exp(volume + memory - compacted) * (2 * self.G * shape - p))
            elastic.append(np.exp(shape + volume / 3))
            memories.append(memory - compacted)

        def turned(values: list[np.ndarray]) -> np.ndarray:
            return (axes * np.array(values)[:, None, :]) @ axes.transpose(0, 2, 1)

        return turned(stresses), turned(elastic), np.array(memories)

    def returned(self, p: float, q: float, memory: float) -> tuple[float, float]:
        """Multiplier of the flow [1/Pa] and the compaction that it brings [1], of trial stresses [Pa]."""
        plastic = self.compression - self.swelling
        bound = self.preconsolidation * math.exp(-memory / plastic)

        def state(flow: float, guess: float) -> tuple[float, float]:
            d = guess  # the compaction, d = flow (2 p - p_c), which falls in d
            for _ in range(100):
                pd, cd = p * math.exp(-d / self.swelling), bound * math.exp(d / plastic)
                step = (d - flow * (2 * pd - cd)) / (1 + flow * (2 * pd / self.swelling + cd / plastic))
                d -= max(-0.5 * self.swelling, min(0.5 * self.swelling, step))
                if abs(step) < 1e-15:
                    break
            pd, cd = p * math.exp(-d / self.swelling), bound * math.exp(d / plastic)
            return (q / (self.M * (1 + 6 * self.G * flow / self.M**2))) ** 2 + pd * (pd - cd), d

        outside, d = state(0.0, 0.0)
        if outside <= 0:
            return 0.0, 0.0
        low, high = 0.0, 1e-3 / self.G
        while True:
            beyond, d = state(high, d)
            if beyond <= 0:
                break
            low, outside, high = high, beyond, 4 * high
            if high > 1e12 / self.G:
                raise Refused("material: no flow brings the soil back to its yield surface")
        from scipy.optimize import brentq

        flow = brentq(lambda f: state(f, d)[0], low, high, xtol=1e-16 * high, rtol=1e-14)
        return flow, state(flow, d)[1]


def _norm(shape: np.ndarray) -> float:
    return float(np.linalg.norm(shape))
