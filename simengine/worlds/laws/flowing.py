"""Laws of a specimen whose stress depends on the way it was brought there: metals, pastes, the shipped plastic laws.

Numbers are those that a laboratory prints: the yield stress of a metal is that of a pull, that of a paste is the shear
stress at which it starts to flow.
"""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
import torch

from simengine.scene.base import Refused
from simengine.scene.strict import NonNegative, Positive, Range
from simengine.worlds.laws.elastic import tensor
from simengine.worlds.motion.materials import Plasticine, Sand, TaitWater, Water

_ROOT3 = math.sqrt(3.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Voce:
    """Flow stress grows by A (1 - exp(-b p)) (Voce 1948).

    Attributes:
        A: Growth at large plastic strain [Pa].
        b: Rate of the growth in plastic strain [1].
    """

    type: Literal["voce"] = "voce"
    A: NonNegative
    b: Positive

    def at(self, p: float) -> float:
        """Growth [Pa] at plastic strain p."""
        return -self.A * math.expm1(-self.b * p)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Power:
    """Flow stress grows by K p^n (Ludwik 1909).

    Attributes:
        K: Growth at plastic strain 1 [Pa].
        n: Exponent [1].
    """

    type: Literal["power"] = "power"
    K: NonNegative
    n: Annotated[float, Range(gt=0, le=1)]

    def at(self, p: float) -> float:
        """Growth [Pa] at plastic strain p."""
        return float(self.K * p**self.n)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearHardening:
    """Flow stress grows in proportion to the plastic strain.

    Attributes:
        H: Growth per plastic strain [Pa].
    """

    type: Literal["linear"] = "linear"
    H: NonNegative

    def at(self, p: float) -> float:
        """Growth [Pa] at plastic strain p."""
        return self.H * p


@dataclasses.dataclass(frozen=True, kw_only=True)
class Logarithmic:
    """The yield stress times 1 + C ln(rate/reference), the rate that of plastic strain (Johnson, Cook 1983).

    Attributes:
        C: Growth for a rate e times higher [1].
        reference: Rate below which there is no effect [1/s].
    """

    type: Literal["logarithmic"] = "logarithmic"
    C: NonNegative
    reference: Positive = 1.0


class Flowing(abc.ABC):
    """A law that is advanced step by step."""

    def memory(self) -> float:
        """What it remembers beside its elastic deformation, at rest."""
        return 0.0

    @abc.abstractmethod
    def advance(self, F: np.ndarray, memory: float, dt: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Kirchhoff stresses [Pa] (n, 3, 3), elastic deformations (n, 3, 3) and memories (n,) after trial ones."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Yielding(Flowing):
    """Hencky's elasticity, and plastic flow along the deviator once the von Mises stress reaches the flow stress.

    Attributes:
        E: Young's modulus [Pa].
        nu: Poisson's ratio [1].
    """

    E: Positive
    nu: Annotated[float, Range(gt=-1, lt=0.5)]

    @abc.abstractmethod
    def flow_stress(self, p: float, rate: float) -> float:
        """Of a pull [Pa], at plastic strain p and its rate [1/s]."""

    def flow(self, trial: float, modulus: float, p: float, dt: float) -> float:
        """Plastic strain of a step: trial - modulus d = flow stress(p + d, d/dt), or 0; Newton kept in a bracket."""
        if trial <= self.flow_stress(p, 0.0):
            return 0.0
        low, high = 0.0, trial / modulus
        d = min(max((trial - self.flow_stress(p, high / dt)) / modulus, 1e-3 * high), high)
        for _ in range(200):
            gap = trial - modulus * d - self.flow_stress(p + d, d / dt)
            low, high = (d, high) if gap > 0 else (low, d)
            h = max(1e-7 * d, 1e-14)
            slope = (trial - modulus * (d + h) - self.flow_stress(p + d + h, (d + h) / dt) - gap) / h
            new = d - gap / slope if slope < 0 else low
            if not low < new < high:
                new = 0.5 * (low + high)
            if abs(new - d) <= 1e-14 + 1e-12 * d:
                return new
            d = new
        return d

    def advance(self, F: np.ndarray, memory: float, dt: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """By the return map."""
        mu, bulk = self.E / (2 * (1 + self.nu)), self.E / (3 * (1 - 2 * self.nu))
        squares, axes = np.linalg.eigh(F @ F.transpose(0, 2, 1))
        logs = 0.5 * np.log(squares)
        mean = logs.mean(1, keepdims=True)
        shape = logs - mean
        trial = 2 * mu * math.sqrt(1.5) * np.linalg.norm(shape, axis=1)
        steps = np.array([self.flow(float(t), 3 * mu, memory, dt) for t in trial])
        shape = shape * (1 - 3 * mu * steps / np.maximum(trial, 1e-300))[:, None]
        stress = 2 * mu * shape + 3 * bulk * mean

        def turned(values: np.ndarray) -> np.ndarray:
            return (axes * values[:, None, :]) @ axes.transpose(0, 2, 1)

        return turned(stress), turned(np.exp(shape + mean)), memory + steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metal(Yielding):
    """A metal: flow stress yield_stress (1 + C ln(rate/reference)) + hardening.

    Attributes:
        yield_stress: At which a slow pull starts to flow [Pa].
        hardening: How the flow stress grows with plastic strain.
        rate_effect: How the yield stress grows with the rate.
    """

    type: Literal["metal"] = "metal"
    yield_stress: Positive
    hardening: Voce | Power | LinearHardening | None = None
    rate_effect: Logarithmic | None = None

    def flow_stress(self, p: float, rate: float) -> float:
        """Of a pull [Pa]."""
        stress = self.yield_stress
        if self.rate_effect is not None:
            stress *= 1 + self.rate_effect.C * math.log(max(rate / self.rate_effect.reference, 1.0))
        return stress + (self.hardening.at(p) if self.hardening is not None else 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowingPaste(Yielding):
    """A yield-stress fluid; in shear: stress = yield_stress + consistency rate^exponent (Herschel, Bulkley 1926).

    Attributes:
        yield_stress: Shear stress below which nothing flows [Pa].
        consistency: Shear stress above that at a rate of 1/s [Pa s^n].
        exponent: Of the shear rate [1]; 1 is Bingham's fluid, below 1 it thins.
    """

    type: Literal["paste"] = "paste"
    yield_stress: NonNegative
    consistency: Positive
    exponent: Positive = 1.0

    def flow_stress(self, p: float, rate: float) -> float:
        """Of a pull [Pa]."""
        return _ROOT3 * (self.yield_stress + self.consistency * (_ROOT3 * rate) ** self.exponent)

    def flow_curve(self, rate: torch.Tensor) -> torch.Tensor:
        """Shear stress [Pa] of steady flow at shear rates [1/s]."""
        grown = tensor(self.consistency) * rate.abs().clamp_min(1e-300) ** tensor(self.exponent)
        return rate.sign() * (tensor(self.yield_stress) + grown)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShippedFlow(Flowing):
    """A plastic law of `simengine.materials` at a point.

    Attributes:
        law: The table that names it.
    """

    law: Plasticine | Sand | Water | TaitWater

    def advance(self, F: np.ndarray, memory: float, dt: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """By the return map."""
        material = self.law.make({}, dt=dt)
        with torch.no_grad():
            history = torch.full((len(F),), memory, dtype=torch.float64)
            after, history = material.plasticity(torch.from_numpy(np.ascontiguousarray(F)), history)
            return material.elasticity(after).numpy(), after.numpy(), history.numpy()


FREE: dict[str, Callable[[float, float], tuple[float, float, float]]] = {
    "uniaxial": lambda a, y: (a, y, y),
    "triaxial": lambda a, y: (a, y, y),
    "equibiaxial": lambda a, y: (a, a, y),
    "planar": lambda a, y: (a, 0.0, y),
}


@dataclasses.dataclass
class Point:
    """A material point on its way.

    Attributes:
        law: Of the material.
        test: What is free.
        pressure: On the free faces [Pa].
        step: Largest step of the driven logarithm or shear.
    """

    law: Flowing
    test: str
    pressure: float = 0.0
    step: float = 0.01

    def __post_init__(self) -> None:
        self._elastic, self._memory, self._total, self._free = np.eye(3), self.law.memory(), np.eye(3), 0.0
        self._base = 0.0
        if self.pressure:
            self._consolidate()

    def drive(self, values: list[float], dts: list[float]) -> np.ndarray:
        """Go through driven logarithms (or shears), each reached in its time [s].

        Returns:
            Kirchhoff stresses (driven, side, shear) [Pa], logarithms of the free stretch and the volume, (m, 5).
        """
        rows, at = [], 0.0
        for value, dt in zip(values, dts, strict=True):
            count = max(1, math.ceil(abs(value - at) / self.step - 1e-9))
            for k in range(count):
                row = self._to(at + (value - at) * (k + 1) / count, max(dt, 1e-300) / count)
            rows.append(row)
            at = value
        return np.array(rows)

    def _deformation(self, driven: float, free: float) -> np.ndarray:
        if self.test == "simple_shear":
            return np.array([[1.0, driven, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        a, b, c = FREE[self.test](driven, free)
        base = self._base
        return np.diag(np.exp([a + base, b + base, c + base]))

    def _try(self, driven: float, free: list[float], dt: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        back = np.linalg.inv(self._total) @ self._elastic
        trial = np.stack([self._deformation(driven, y) for y in free]) @ back
        return self.law.advance(trial, self._memory, dt)

    def _to(self, driven: float, dt: float) -> list[float]:
        y, h = self._free, 1e-7
        for _ in range(60 if self.test != "simple_shear" else 1):
            stress, elastic, memory = self._try(driven, [y, y + h], dt)
            if self.test == "simple_shear":
                break
            volume = [float(np.linalg.det(self._deformation(driven, free))) for free in (y, y + h)]
            here, there = (float(stress[k][2, 2]) + self.pressure * volume[k] for k in range(2))
            slope = (there - here) / h
            if here == 0 or slope == 0:
                break
            change = max(-0.1, min(0.1, -here / slope))
            if abs(change) < 1e-12:
                break
            y += change
        else:
            raise Refused(f"material: no state of the specimen leaves its sides free at {driven:.6g}")
        self._total, self._free = self._deformation(driven, y), y
        self._elastic, self._memory = elastic[0], float(memory[0])
        log_volume = float(np.log(np.linalg.det(self._total)))
        return [float(v) for v in (stress[0][0, 0], stress[0][1, 1], stress[0][0, 1], y, log_volume)]

    def _consolidate(self) -> None:
        """Press the point all round until it bears the pressure; logarithms are told from there."""
        y, h = -1e-6, 1e-7
        for _ in range(200):
            trial = np.stack([np.eye(3) * math.exp(v) for v in (y, y + h)])
            stress, elastic, memory = self.law.advance(trial, self._memory, 1e-300)
            here, there = (float(stress[k][0, 0]) + self.pressure * math.exp(3 * (y + k * h)) for k in range(2))
            change = max(-0.05, min(0.05, -here / ((there - here) / h)))
            if abs(change) < 1e-13:
                break
            y += change
        self._base, self._elastic, self._memory = y, elastic[0], float(memory[0])
        self._total = np.eye(3) * math.exp(y)


def pulled(law: Yielding, values: list[float], dts: list[float], step: float = 0.002) -> np.ndarray:
    """As `Point.drive` of a uniaxial test, by its own scalar equation; the stress has one component, so J follows."""
    rows, at, p, plastic = [], 0.0, 0.0, 0.0
    for value, dt in zip(values, dts, strict=True):
        count = max(1, math.ceil(abs(value - at) / step - 1e-9))
        for k in range(count):
            trial = law.E * (at + (value - at) * (k + 1) / count - plastic)
            d = law.flow(abs(trial), law.E, p, max(dt, 1e-300) / count)
            p, plastic = p + d, plastic + math.copysign(d, trial)
        stress, at = law.E * (value - plastic), value
        strain = stress / law.E
        rows.append([stress, 0.0, 0.0, -law.nu * strain - plastic / 2, (1 - 2 * law.nu) * strain])
    return np.array(rows)
