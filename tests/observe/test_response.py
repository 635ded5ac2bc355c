"""How light becomes numbers: closed forms, derivatives of all of a camera, another family's curve."""

import dataclasses
import typing
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import simengine as se
from simengine.fit.inference import LeastSquaresFit
from simengine.fit.posterior import posterior
from simengine.fit.problem import Problem
from simengine.observe import Camera, Pictures
from simengine.observe.instruments.picture_settings import PictureSettings
from simengine.observe.response_curve import CameraResponse
from simengine.render.camera import PinholeCamera
from simengine.scene.address import replaced
from simengine.scene.asks import Ask, View
from simengine.scene.base import AbstractRun
from simengine.scene.instrument import AbstractInstrument

LIGHT = torch.linspace(0.0, 1.0, 41, dtype=torch.float64)


def test_the_curve_is_its_formula() -> None:
    """Verification: of one number c, h(x) = (e^(2 c x) - 1)/(e^(2 c) - 1); of none, the base."""
    for c in (-3.0, 0.4, 5.0):
        told = torch.expm1(2 * c * LIGHT) / np.expm1(2 * c)
        assert torch.allclose(CameraResponse("linear", curve=(c,)).stored(LIGHT), told, atol=1e-12)
    for base in ("srgb", "gamma", "linear"):
        plain, flat = CameraResponse(base), CameraResponse(base, curve=(0.0, 0.0))  # type: ignore[arg-type]
        assert torch.allclose(plain.stored(LIGHT), flat.stored(LIGHT), atol=1e-13)


@pytest.mark.parametrize("base", ["srgb", "gamma", "linear"])
@pytest.mark.parametrize("curve", [(), (0.7,), (-1.5, 0.8, 0.6), (4.0, -3.0)])
def test_there_and_back(base: Any, curve: tuple[float, ...]) -> None:
    """It grows, keeps 0 and 1, and is undone; beyond full scale too."""
    response = CameraResponse(base, 1.9, curve)
    beyond = torch.linspace(0.0, 1.6, 81, dtype=torch.float64)
    stored = response.stored(beyond)
    assert bool((stored.diff() > 0).all())
    # sRGB's two halves meet to five digits as the standard rounds them
    assert torch.allclose(response.light(stored), beyond, atol=1e-5 if base == "srgb" else 1e-9)
    assert response.stored(torch.tensor([1.0]).double()).item() == pytest.approx(1, abs=1e-12)


def test_gradcheck_of_both_ways() -> None:
    light = torch.tensor([0.02, 0.3, 0.8, 1.2], dtype=torch.float64, requires_grad=True)
    gamma = torch.tensor(2.1, dtype=torch.float64, requires_grad=True)
    curve = torch.tensor([0.6, -0.4], dtype=torch.float64, requires_grad=True)
    for way in ("stored", "light"):
        assert torch.autograd.gradcheck(
            lambda x, g, c, way=way: getattr(CameraResponse("gamma", g, tuple(c.unbind())), way)(x),
            (light, gamma, curve),
        )


class Cloud(se.OwnWorld):
    """A smooth ball of haze that moves, grey on one side: a world of a test, which any camera may look at."""

    parameters: ClassVar = {"speed": se.OwnNumber(0.5, "m/s")}
    answers = frozenset((View,))

    def simulate(self, values: Any) -> se.OwnMotion:
        raise AssertionError("its run answers views alone")

    def solve(self, asks: Any, **options: Any) -> "CloudRun":
        return CloudRun(self)

    def sizes(self) -> dict[str, float]:
        return {"m": 1.0, "s": 1.0}


@dataclasses.dataclass(frozen=True)
class CloudRun(AbstractRun):
    """Its pictures, smooth in all that a view has."""

    cloud: Any

    def sample(self, ask: Ask) -> torch.Tensor:
        assert isinstance(ask, View)
        cameras = PinholeCamera(
            world_to_camera=ask.world_to_camera, intrinsics=ask.intrinsics, width=ask.size[1], height=ask.size[0]
        )
        origin, way = cameras.rays()
        times = torch.zeros(1, dtype=torch.float64) if ask.times is None else ask.times
        middle = torch.tensor([1.0, 0.2, 0.1], dtype=torch.float64) * self.cloud.speed * times[:, None]
        gap = middle[:, None, None] - origin
        along = (gap * way).sum(-1, keepdim=True)
        square = (gap.square().sum(-1, keepdim=True) - along.square()).clamp_min(0)
        alpha = (-square / 0.5**2).exp()
        side = origin + along * way - middle[:, None, None]
        rgb = alpha * (0.4 + torch.tensor([0.3, 0.2, 0.1]).double() * side)
        parts = {"rgb": rgb, "alpha": alpha}
        return torch.cat([parts[name] for name in ask.channels], -1)


EYE = Camera(eye=(0.3, 0.4, 4.0), target=(0.2, 0.1, 0.0), field_of_view=35.0, width=12, height=10)
POSED = dataclasses.replace(EYE, field_of_view=None, focal=(19.0, 20.0), center=(5.8, 5.3))
LENSES = {
    "pinhole": EYE,
    "brown_conrady": dataclasses.replace(
        POSED, lens="brown_conrady", distortion=(-0.2, 0.05, 0.01, -0.02, 0.01), turn=(0.05, -0.03, 0.1)
    ),
    "fisheye": dataclasses.replace(
        POSED, lens="fisheye", distortion=(0.05, -0.02, 0.01, 0.002), shift=(0.1, 0.05, -0.2), zoom=1.1
    ),
}
BEHIND = {  # numbers behind the lens
    "exposure": 0.8,
    "white": (1.1, 0.9, 1.05),
    "gamma": 2.0,
    "curve": (0.4, -0.3),
    "vignetting": (-0.3, 0.1),
    "shutter": 0.15,
    "read_out": 0.2,
    "aperture": 0.4,
    "focus": 3.0,
}
CLOCK = {"start": 0.1, "clock_rate": 1.2}
ELSEWHERE = {  # numbers that do not change what is predicted of the pictures, or are no unknowns
    "camera.crop",
    "fps",
    "times",
    "background",  # told as the file shows it
    "saturated",
    "gain",  # of tables
    "offset",
    "quantum",
    "sigma",
    "sigma_level",
    "hold_out",
    "correlation",
    "weight",
    "camera.up",  # below, by itself: only across the line of sight does it act
}


def _film(camera: Camera, **how: Any) -> tuple[Pictures, Any]:
    film = Pictures(
        name="film", camera=camera, times=(0.0, 0.6), background=(0.1, 0.1, 0.1), response="gamma", moments=4, **how
    )
    measured, filming = film.planned(Cloud(), torch.Generator())
    return dataclasses.replace(filming, recording=False), measured


@pytest.mark.parametrize("lens", list(LENSES))
def test_derivatives_of_every_number_of_a_camera(lens: str) -> None:
    """Verification: adjoint beside central differences, every number of lens, camera, clock and response."""
    behind = {key: value for key, value in BEHIND.items() if lens == "pinhole" or key not in ("aperture", "focus")}
    film, measured = _film(LENSES[lens], **behind, **CLOCK)
    camera = LENSES[lens]
    own = [
        k for k in ("eye", "target", "turn", "shift", "zoom", "field_of_view", "focal", "center") if getattr(camera, k)
    ]
    keys = [*behind, *CLOCK, *(f"camera.{key}" for key in (*own, *(["distortion"] if camera.distortion else [])))]
    weights = torch.randn(measured.values.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = replaced(film, {"gamma": 2.15, "curve.0": 0.5, "curve.1": -0.2})  # the file was read by others

    def told(values: dict[str, torch.Tensor]) -> torch.Tensor:
        seen = replaced(moved, values)
        (ask,) = seen.asks(measured)
        return (seen.respond([Cloud().solve((ask,)).sample(ask)], measured) * weights).sum()

    values = {key: _value(moved, key) for key in keys}
    at = {key: torch.tensor(value, dtype=torch.float64).reshape(-1) for key, value in values.items()}
    names = {
        key: [f"{key}.{k}" if isinstance(values[key], tuple) else key for k in range(len(at[key]))] for key in keys
    }

    def spread(points: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: own for key, point in points.items() for name, own in zip(names[key], point, strict=True)}

    free = {key: point.clone().requires_grad_() for key, point in at.items()}
    slopes = torch.autograd.grad(told(spread(free)), list(free.values()))
    for key, slope in zip(keys, slopes, strict=True):
        steps = 1e-5 * torch.eye(len(at[key]), dtype=torch.float64)
        ends = [[float(told(spread({key: at[key] + way * step}))) for way in (1, -1)] for step in steps]
        expected = torch.tensor([(ahead - behind) / 2e-5 for ahead, behind in ends], dtype=torch.float64)
        assert float(expected.norm()) > 1e-4, (key, "does nothing")
        assert float((slope - expected).norm() / expected.norm()) < 1e-3, (key, slope, expected)


def _value(film: Pictures, key: str) -> Any:
    """What stands under a dotted key."""
    value: Any = film
    for part in key.split("."):
        value = getattr(value, part)
    return value


def test_no_number_of_a_camera_is_passed_over() -> None:
    """What has a number in the classes stands above, or among those that are told why not."""
    tried = {*BEHIND, *CLOCK, *(f"camera.{key}" for key in ("eye", "target", "turn", "shift", "zoom", "field_of_view"))}
    tried |= {"camera.focal", "camera.center", "camera.distortion"}
    declared = {}
    for prefix, cls in (("", AbstractInstrument), ("", PictureSettings), ("camera.", Camera)):
        for name, hint in typing.get_type_hints(cls).items():
            field = next((f for f in dataclasses.fields(cls) if f.name == name), None)
            if field is not None and not field.metadata.get("internal") and "float" in str(hint):
                declared[prefix + name] = hint
    missing = set(declared) - tried - ELSEWHERE - {"camera.view", "within", "loss", "segment"}
    assert not missing


def _filmic(light: np.ndarray) -> np.ndarray:
    """A response of another family: a shoulder and a toe, between 0 and 1."""
    return np.asarray(1.15 * light**0.55 / (light**0.55 + 0.15) * (0.9 + 0.1 * light))


def test_a_response_is_found_with_the_speed(tmp_path: Path) -> None:
    """Recovery: 8-bit files of a ball of haze through a curve that is not of the family sought; a twin of our own."""
    from PIL import Image

    camera = dataclasses.replace(EYE, width=40, height=32)
    film = Pictures(camera=camera, times=(0.0, 0.5, 1.0), background=(0.0, 0.0, 0.0), recording=True)
    measured, filming = film.planned(Cloud(), torch.Generator())
    light = 2.2 * filming.predict(Cloud(speed=0.7).solve(filming.asks(measured)), measured).reshape(3, 32, 40, 3)
    assert 0.7 < float(light.max()) < 1
    for k, picture in enumerate(light.clamp_min(0).numpy()):
        Image.fromarray((255 * _filmic(picture)).round().astype(np.uint8)).save(tmp_path / f"f_{k}.png")
    found = {}
    for name, curve in (("sought", (0.0, 0.0, 0.0)), ("held", ())):
        seen = Pictures(
            directory=tmp_path,
            file="f_*.png",
            camera=camera,
            times=(0.0, 0.5, 1.0),
            background=(0.0, 0.0, 0.0),
            exposure=2.2,
            curve=curve,
        )
        unknowns = {"speed": se.Unknown(prior=se.Prior(normal=1.0))}
        if curve:
            unknowns["observations.film.curve"] = se.Unknown(prior=se.Prior(normal=1.0))
        problem = Problem(Cloud(), observations={"film": seen}, unknowns=unknowns)
        fit = LeastSquaresFit(problem)
        for _ in range(60):
            if fit.converged:
                break
            fit.step()
        assert fit.converged
        told = posterior(problem, fit.z, problem.predict(fit.z))
        found[name] = dict(told.estimates)
    at = np.linspace(0.05, 0.9, 30)
    numbers = [found["sought"][f"observations.film.curve {k}"].value for k in range(3)]
    curve = CameraResponse("srgb", curve=numbers).stored(torch.from_numpy(at)).numpy()
    off = np.abs(curve - _filmic(at)).max()
    without = np.abs(CameraResponse("srgb").stored(torch.from_numpy(at)).numpy() - _filmic(at)).max()
    assert off < 0.02 < 0.1 < without
    assert abs(found["sought"]["speed"].value - 0.7) < 0.005
