"""Scenes of kind specimen: a material point in the tests of a laboratory, without a grid.

The values of the abscissa are gone through in their order, from rest, so that a path is a path. Elastic laws and
relaxation spectra are closed forms with gradients; laws that flow are advanced step by step.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from simengine.scene.address import floats_in, numbers
from simengine.scene.asks import Ask, Series
from simengine.scene.base import AbstractRun, AbstractWorld, SceneError
from simengine.scene.strict import nearest
from simengine.worlds.laws.elastic import (
    ArrudaBoyce,
    Elastic,
    Gent,
    Hyperfoam,
    MooneyRivlin,
    Ogden,
    Shipped,
    Yeoh,
    extended,
    sheared,
    tensor,
)
from simengine.worlds.laws.flowing import Flowing, FlowingPaste, Metal, Point, ShippedFlow, Yielding, pulled
from simengine.worlds.laws.specimen_tests import Extension, Size, TestSpec, Triaxial
from simengine.worlds.laws.spectrum import Maxwell
from simengine.worlds.motion.materials import Jelly, Plasticine, Rubber, Sand, TaitWater, Water

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

MaterialSpec = (
    Ogden
    | Hyperfoam
    | MooneyRivlin
    | Yeoh
    | Gent
    | ArrudaBoyce
    | Metal
    | FlowingPaste
    | Maxwell
    | Jelly
    | Rubber
    | Plasticine
    | Sand
    | Water
    | TaitWater
)
_EXTENSION = {"nominal_stress": "Pa", "cauchy_stress": "Pa", "transverse_stretch": "1", "volume_ratio": "1"}
SCALARS: dict[str, dict[str, str]] = {
    **dict.fromkeys(("uniaxial", "equibiaxial", "planar", "triaxial"), _EXTENSION),
    "simple_shear": {"shear_stress": "Pa", "normal_stress_difference": "Pa"},
    "steady_shear": {"shear_stress": "Pa", "viscosity": "Pa s"},
    "relaxation": {"relaxation_modulus": "Pa", "shear_stress": "Pa"},
    "creep": {"creep_compliance": "1/Pa", "shear": "1"},
    "oscillation": {
        "storage_modulus": "Pa",
        "loss_modulus": "Pa",
        "loss_factor": "1",
        "complex_viscosity": "Pa s",
    },
}
DRIVERS = {
    **dict.fromkeys(("stretch", "strain", "true_strain", "shear"), "1"),
    **dict.fromkeys(("extension", "displacement"), "m"),
    "shear_rate": "1/s",
    "angular_frequency": "rad/s",
}
_ELASTIC_TESTS = ("uniaxial", "equibiaxial", "planar", "simple_shear")
_MAXWELL_TESTS = ("relaxation", "creep", "oscillation", "steady_shear", "simple_shear", "uniaxial")
_FLOWING_TESTS = (*_ELASTIC_TESTS, "triaxial")
ROWS = 101  # of the curve that `simengine run` writes


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpecimenWorld(AbstractWorld):
    """A material point under test.

    Attributes:
        material: The law.
        test: What is done to it; a run of an observation may say it instead.
        size: Of the specimen: then a machine's travel drives it (`extension`, of a shear test `displacement`) and its
            `force` is answered.
    """

    kind: ClassVar[str] = "specimen"
    answers: ClassVar[frozenset[type[Ask]]] = frozenset((Series,))
    material: MaterialSpec
    test: TestSpec | None = None
    size: Size | None = None

    def tested(self) -> TestSpec:
        """The test.

        Raises:
            SceneError: None is said, or the law cannot be tested so.
        """
        if self.test is None:
            raise SceneError('test: say what is done to the specimen, as in test.type = "uniaxial"')
        law = self.law()
        known: tuple[str, ...] = _FLOWING_TESTS
        if isinstance(self.material, Sand) and self.material.critical_packing:
            critical = self.material.critical_packing
            raise SceneError(
                f"material.critical_packing: {critical:g} is of grains on a grid, not of a point; leave it out"
            )
        if isinstance(law, Elastic):
            known = _ELASTIC_TESTS
        elif isinstance(law, Maxwell):
            known = _MAXWELL_TESTS
        elif isinstance(law, FlowingPaste):
            known = (*_FLOWING_TESTS, "steady_shear")
        if self.test.type not in known:
            raise SceneError(f"test.type: {self.test.type!r} does not test {self.material.type!r}; {', '.join(known)}")
        return self.test

    def law(self) -> "Elastic | Maxwell | Flowing":
        """The law as it is solved."""
        if isinstance(self.material, Jelly | Rubber):
            return Shipped(law=self.material)
        if isinstance(self.material, Plasticine | Sand | Water | TaitWater):
            return ShippedFlow(law=self.material)
        return self.material

    def solve(
        self,
        asks: Sequence[Ask],
        *,
        gradient: bool = False,
        near: AbstractRun | None = None,
        device: str | None = None,
    ) -> "SpecimenRun":
        """Go through what is asked; always in float64 on the CPU."""
        run = SpecimenRun(world=self, gradient=gradient)
        for ask in asks:
            run.sample(ask)
        return run

    def traced(self) -> frozenset[str]:
        """All numbers of closed forms; laws that flow are differentiated by differences."""
        flows = isinstance(self.law(), Flowing) and not (self.test is not None and self.test.type == "steady_shear")
        return (
            frozenset() if flows else frozenset(key for key in numbers(self) if key.startswith(("material.", "size.")))
        )

    def scalars(self) -> Mapping[str, str]:
        """What the test answers."""
        if self.test is None:
            return {}
        known = SCALARS[self.test.type]
        return known if self.size is None or self.test.travel is None else {**known, "force": "N"}

    def abscissas(self) -> Mapping[str, str]:
        """Those of every test, and a machine's travel."""
        return {**super().abscissas(), **DRIVERS}

    def drivers(self) -> tuple[str, ...]:
        """Abscissas through which the test can be driven."""
        test = self.tested()
        return test.drivers if self.size is None or test.travel is None else (*test.drivers, test.travel[0])

    def build(self, *, device: str | None = None) -> "SpecimenRun":
        """The specimen, ready to be asked."""
        self.tested()
        return SpecimenRun(world=self, gradient=False)

    def check(self, *, device: str | None = None) -> dict[str, Any]:
        """What drives the test and what it answers."""
        return {"against": list(self.drivers()), "scalars": dict(self.scalars())}

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Go through the usual span of the test; write `curve.csv`."""
        test = self.tested()
        low, high = (torch.tensor(v, dtype=torch.float64) for v in test.span)
        values = torch.linspace(0, 1, ROWS, dtype=torch.float64)
        values = low * (high / low) ** values if test.logarithmic else low + (high - low) * values
        names, against = tuple(self.scalars()), test.drivers[0]
        table = torch.cat(
            (values[:, None], self.solve(()).sample(Series(names=names, against=against, values=values))), 1
        )
        lines = [",".join((against, *names)), *(",".join(f"{cell:.9g}" for cell in row) for row in table.tolist())]
        (out.path / "curve.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return {"rows": ROWS, against: [test.span[0], test.span[1]]} | {
            f"last {name}": float(table[-1, k + 1]) for k, name in enumerate(names)
        }


@dataclasses.dataclass(frozen=True)
class SpecimenRun(AbstractRun):
    """A specimen that answers what it is driven through.

    Attributes:
        world: The specimen, tensors in its tree where gradients are wanted.
        gradient: Whether they are.
    """

    world: SpecimenWorld
    gradient: bool
    _kept: dict[tuple[Any, ...], dict[str, torch.Tensor]] = dataclasses.field(default_factory=dict, repr=False)

    def sample(self, ask: Ask) -> torch.Tensor:
        """Scalars along the abscissa."""
        if not isinstance(ask, Series):
            raise SceneError(f"a specimen does not answer {type(ask).__name__}")
        test = self.world.tested()
        drivers = self.world.drivers()
        if ask.against not in drivers:
            if self.world.size is None and test.travel is not None and ask.against == test.travel[0]:
                raise SceneError(
                    f"against: {ask.against!r} needs the specimen's size: size = {{ length = ..., area = ... }}"
                )
            raise SceneError(
                f"against: {ask.against!r} does not drive a test of type {test.type!r}; {nearest(ask.against, drivers)}"
            )
        known = self.world.scalars()
        for name in ask.names:
            if name == "force" and self.world.size is None:
                raise SceneError("'force' needs the specimen's size: size = { length = ..., area = ... }, in m and m^2")
            if name not in known:
                raise SceneError(f"{name!r} is no scalar of a test of type {test.type!r}; {nearest(name, known)}")
        values = ask.values.to(torch.float64)
        if self.gradient:
            found = self._answers(test, ask.against, values)
        else:
            key = (ask.against, values.detach().numpy().tobytes())
            with torch.no_grad():
                found = self._kept.get(key) or self._answers(test, ask.against, values)
            self._kept[key] = found
        return torch.stack([found[name] for name in ask.names], -1)

    def _answers(self, test: TestSpec, against: str, values: torch.Tensor) -> dict[str, torch.Tensor]:
        size = self.world.size
        if size is None or test.travel is None:
            return self._of_the_point(test, against, values)
        driver, stress = test.travel
        if against == driver:
            along = values / tensor(size.length)
            against, values = ("shear", along) if test.type == "simple_shear" else ("strain", along)
        found = self._of_the_point(test, against, values)
        return {**found, "force": found[stress] * tensor(size.area)}

    def _of_the_point(self, test: TestSpec, against: str, values: torch.Tensor) -> dict[str, torch.Tensor]:
        law = self.world.law()
        if isinstance(law, Maxwell):
            return _viscoelastic(law, test, against, values)
        if test.type == "steady_shear":
            assert isinstance(law, FlowingPaste)
            stress = law.flow_curve(values)
            return {"shear_stress": stress, "viscosity": stress / values}
        driven = _driven(test, against, values)
        if isinstance(law, Flowing):
            return _flowing(floats_in(law), test, driven)
        if test.type == "simple_shear":
            stress, difference = sheared(law, driven)
            return {"shear_stress": stress, "normal_stress_difference": difference}
        if not bool((driven > 0).all()):
            raise SceneError(f"against: a stretch must be above 0, got {float(driven.min()):.4g}")
        logs, kirchhoff = extended(law, floats_in(law), test.type, driven.log())
        return _along(logs[:, 0], kirchhoff[:, 0], logs[:, 2], logs.sum(1))


def _driven(test: TestSpec, against: str, values: torch.Tensor) -> torch.Tensor:
    """Shear, or stretch, of the values of an abscissa."""
    if against == "time":
        assert hasattr(test, "rate")
        values = values * test.rate * (1.0 if test.type != "triaxial" else -1.0)
        return values if test.type == "simple_shear" else 1 + values
    return {"strain": 1 + values, "true_strain": values.exp()}.get(against, values)


def _along(
    log: torch.Tensor, stress: torch.Tensor, free: torch.Tensor, volume: torch.Tensor
) -> dict[str, torch.Tensor]:
    return {
        "nominal_stress": stress / log.exp(),
        "cauchy_stress": stress / volume.exp(),
        "transverse_stretch": free.exp(),
        "volume_ratio": volume.exp(),
    }


def _flowing(law: Flowing, test: TestSpec, driven: torch.Tensor) -> dict[str, torch.Tensor]:
    """A path, gone through from rest at the rate of the test."""
    shear = test.type == "simple_shear"
    rest = torch.tensor([0.0 if shear else 1.0], dtype=torch.float64)
    times = (torch.diff(driven.detach(), prepend=rest).abs() / test.rate).tolist()  # type: ignore[union-attr]
    if not shear and not bool((driven > 0).all()):
        raise SceneError(f"against: a stretch must be above 0, got {float(driven.min()):.4g}")
    values = driven if shear else driven.log()
    if isinstance(law, Yielding) and test.type == "uniaxial":
        rows = pulled(law, values.tolist(), times)
    else:
        pressure = test.pressure if isinstance(test, Triaxial) else 0.0
        rows = Point(law, test.type, pressure).drive(values.tolist(), times)
    stress, _, along, free, volume = torch.from_numpy(rows).unbind(1)
    if shear:
        return {"shear_stress": along, "normal_stress_difference": stress - torch.from_numpy(rows[:, 1])}
    return _along(values, stress, free, volume)


def _viscoelastic(law: Maxwell, test: TestSpec, against: str, values: torch.Tensor) -> dict[str, torch.Tensor]:
    if test.type == "relaxation":
        modulus = law.relaxation(values)
        return {"relaxation_modulus": modulus, "shear_stress": modulus * test.shear}
    if test.type == "creep":
        compliance = law.creep(values)
        return {"creep_compliance": compliance, "shear": compliance * test.shear_stress}
    if test.type == "oscillation":
        storage, loss = law.dynamic(values)
        size = (storage.square() + loss.square()).sqrt()
        return {
            "storage_modulus": storage,
            "loss_modulus": loss,
            "loss_factor": loss / storage,
            "complex_viscosity": size / values,
        }
    if test.type == "steady_shear":
        if float(tensor(law.equilibrium).detach()) > 0:
            raise SceneError("material.equilibrium: what never relaxes has no steady flow; set it to 0")
        viscosity = (tensor(law.moduli) * tensor(law.times)).sum().expand_as(values)
        return {"shear_stress": viscosity * values, "viscosity": viscosity}
    driven = _driven(test, against, values)
    strain = driven if test.type == "simple_shear" else driven.log()
    assert hasattr(test, "rate")
    stress = test.rate * law.startup(strain.abs() / test.rate) * strain.sign()
    if test.type == "simple_shear":
        return {"shear_stress": stress, "normal_stress_difference": torch.zeros_like(stress)}
    assert isinstance(test, Extension)
    nu = law.nu
    return _along(strain, 2 * (1 + nu) * stress, -nu * strain, (1 - 2 * nu) * strain)
