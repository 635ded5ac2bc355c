"""Specimens against closed forms of their tests, written here from the papers and not from the program."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simengine.scene.address import replaced
from simengine.scene.asks import Series
from simengine.scene.base import Refused, SceneError
from simengine.scene.grammar import make_world
from simengine.worlds.laws.elastic import inverse_langevin
from simengine.worlds.laws.flowing import Point
from simengine.worlds.laws.specimen import SpecimenWorld
from simengine.worlds.laws.spectrum import Maxwell


def world(material: dict[str, Any], test: str | dict[str, Any]) -> SpecimenWorld:
    data = {"kind": "specimen", "material": material, "test": {"type": test} if isinstance(test, str) else test}
    made = make_world(data, directory=Path(), locate=lambda key: "scene.toml")
    assert isinstance(made, SpecimenWorld)
    return made


def answers(specimen: SpecimenWorld, against: str, values: Any, *names: str) -> np.ndarray:
    ask = Series(names=names, against=against, values=torch.as_tensor(values, dtype=torch.float64))
    return specimen.solve((ask,)).sample(ask).numpy()


L = np.array([0.6, 0.9, 1.0, 1.3, 2.0, 4.0])


def ogden_energy(l1: float, l2: float, l3: float, mu: tuple[float, ...], alpha: tuple[float, ...]) -> float:
    return sum(2 * m / a**2 * (l1**a + l2**a + l3**a - 3) for m, a in zip(mu, alpha, strict=True))


def test_incompressible_laws_meet_their_textbook_curves() -> None:
    """Verification: nominal stress of neo-Hooke, Mooney-Rivlin and Yeoh in closed form (Treloar 1975, Yeoh 1990)."""
    neo: dict[str, Any] = {"type": "ogden", "mu": [3e5], "alpha": [2.0]}
    pull = answers(world(neo, "uniaxial"), "stretch", L, "nominal_stress", "transverse_stretch", "cauchy_stress")
    np.testing.assert_allclose(pull[:, 0], 3e5 * (L - L**-2), rtol=1e-12, atol=1e-6)
    np.testing.assert_allclose(pull[:, 1], L**-0.5, rtol=1e-14)
    np.testing.assert_allclose(pull[:, 2], 3e5 * (L**2 - 1 / L), rtol=1e-12, atol=1e-6)
    biaxial = answers(world(neo, "equibiaxial"), "stretch", L, "nominal_stress")[:, 0]
    np.testing.assert_allclose(biaxial, 3e5 * (L - L**-5), rtol=1e-12, atol=1e-6)
    planar = answers(world(neo, "planar"), "strain", L - 1, "nominal_stress")[:, 0]
    np.testing.assert_allclose(planar, 3e5 * (L - L**-3), rtol=1e-12, atol=1e-6)
    shear = np.array([-2.0, -0.3, 0.0, 0.1, 1.5])
    shown = answers(world(neo, "simple_shear"), "shear", shear, "shear_stress", "normal_stress_difference")
    np.testing.assert_allclose(shown, 3e5 * np.stack([shear, shear**2], 1), rtol=1e-12, atol=1e-6)
    mooney: dict[str, Any] = {"type": "mooney_rivlin", "c10": 1e5, "c01": 2e4}
    pull = answers(world(mooney, "uniaxial"), "stretch", L, "nominal_stress")[:, 0]
    np.testing.assert_allclose(pull, 2 * (L - L**-2) * (1e5 + 2e4 / L), rtol=1e-12, atol=1e-6)
    yeoh: dict[str, Any] = {"type": "yeoh", "c1": 1e5, "c2": -2e3, "c3": 50.0}
    first = L**2 + 2 / L - 3
    pull = answers(world(yeoh, "uniaxial"), "stretch", L, "nominal_stress")[:, 0]
    np.testing.assert_allclose(pull, 2 * (L - L**-2) * (1e5 - 4e3 * first + 150 * first**2), rtol=1e-11, atol=1e-6)


@pytest.mark.parametrize("test", ["uniaxial", "equibiaxial", "planar"])
def test_ogden_is_the_slope_of_its_energy(test: str) -> None:
    """Verification: dW/dl along the path of a test is its nominal stress (twice that, biaxial)."""
    mu, alpha = (4e5, 2e3, 9e3), (1.4, 5.5, -2.1)
    specimen = world({"type": "ogden", "mu": list(mu), "alpha": list(alpha)}, test)
    shown = answers(specimen, "stretch", L, "nominal_stress")[:, 0]

    def energy(x: float) -> float:
        sides = {"uniaxial": (x**-0.5, x**-0.5), "equibiaxial": (x, x**-2), "planar": (1.0, 1 / x)}[test]
        return ogden_energy(x, *sides, mu, alpha)

    h = 1e-5
    slope = np.array([(energy(x + h) - energy(x - h)) / (2 * h) for x in L]) / (2 if test == "equibiaxial" else 1)
    np.testing.assert_allclose(shown, slope, rtol=1e-7, atol=1e-2)


def test_chains_of_finite_length() -> None:
    """Verification: Gent's stress; the inverse Langevin function by its definition; neo-Hooke for endless chains."""
    gent: dict[str, Any] = {"type": "gent", "mu": 2e5, "limit": 30.0}
    first = L**2 + 2 / L - 3
    pull = answers(world(gent, "uniaxial"), "stretch", L, "nominal_stress")[:, 0]
    np.testing.assert_allclose(pull, 2e5 * 30 / (30 - first) * (L - L**-2), rtol=1e-12, atol=1e-6)
    with pytest.raises(Refused, match="limit"):
        answers(world(gent, "uniaxial"), "stretch", [7.0], "nominal_stress")
    chain = answers(
        world({"type": "arruda_boyce", "mu": 2e5, "segments": 9.0}, "uniaxial"), "stretch", L, "nominal_stress"
    )[:, 0]
    away = L != 1
    y = np.sqrt((first[away] + 3) / 27)
    x = chain[away] / (2e5 / 3 / y * (L - L**-2)[away])
    np.testing.assert_allclose(1 / np.tanh(x) - 1 / x, y, rtol=1e-10)
    long = answers(
        world({"type": "arruda_boyce", "mu": 2e5, "segments": 1e9}, "uniaxial"), "stretch", L, "nominal_stress"
    )[:, 0]
    np.testing.assert_allclose(long, 2e5 * (L - L**-2), rtol=1e-7, atol=1e-3)


def test_compressible_laws_free_their_sides() -> None:
    """Verification: one term of hyperfoam narrows as l^-nu (Storakers 1986); small strains follow E and nu."""
    beta = 0.25
    nu = beta / (1 + 2 * beta)
    foam = world({"type": "hyperfoam", "mu": [1e5], "alpha": [6.0], "beta": [beta]}, "uniaxial")
    shown = answers(foam, "stretch", L, "transverse_stretch", "nominal_stress")
    np.testing.assert_allclose(shown[:, 0], L**-nu, rtol=1e-11)
    volume = L ** (1 - 2 * nu)
    np.testing.assert_allclose(shown[:, 1], 2e5 / 6 * (L**6 - volume ** (-6 * beta)) / L, rtol=1e-9, atol=1e-6)
    e = 1e-6
    laws: list[tuple[dict[str, Any], float, float]] = [
        ({"type": "ogden", "mu": [1e5], "alpha": [-4.0], "nu": 0.3}, 2.6e5, 0.3),
        ({"type": "mooney_rivlin", "c10": 4e4, "c01": 1e4, "nu": 0.45}, 2.9e5, 0.45),
        ({"type": "jelly", "E": 1e5, "nu": 0.2}, 1e5, 0.2),
        ({"type": "rubber", "E": 1e5, "nu": 0.4}, 1e5, 0.4),
        ({"type": "plasticine", "E": 1e5, "nu": 0.25, "yield_stress": 1e4}, 1e5, 0.25),
        ({"type": "metal", "E": 1e5, "nu": 0.25, "yield_stress": 1e4}, 1e5, 0.25),
    ]
    for material, modulus, poisson in laws:
        stress, side = answers(world(material, "uniaxial"), "strain", [e], "nominal_stress", "transverse_stretch")[0]
        assert stress / e == pytest.approx(modulus, rel=1e-4), material
        assert (1 - side) / e == pytest.approx(poisson, rel=1e-4), material


def test_gradients_against_differences() -> None:
    """Gradcheck: through the implicit function of the free side too."""
    keys = ("material.mu.0", "material.alpha.0", "material.nu")
    base = world({"type": "ogden", "mu": [1e5, 3e4], "alpha": [3.0, -2.0], "nu": 0.4}, "uniaxial")
    ask = Series(names=("nominal_stress",), against="stretch", values=torch.tensor([0.7, 1.5], dtype=torch.float64))
    held = {key: torch.tensor(value, dtype=torch.float64) for key, value in zip(keys, (1e5, 3.0, 0.4), strict=True)}
    assert set(keys) <= base.traced()
    sought = {key: value.clone().requires_grad_() for key, value in held.items()}
    total = replaced(base, sought).solve((ask,), gradient=True).sample(ask).sum()
    slopes = torch.autograd.grad(total, list(sought.values()))
    for key, slope in zip(keys, slopes, strict=True):
        h = 1e-5 * float(held[key])
        ends = [float(replaced(base, {key: float(held[key]) + s * h}).solve(()).sample(ask).sum()) for s in (1.0, -1.0)]
        assert float(slope) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-7)


METAL: dict[str, Any] = {
    "type": "metal",
    "E": 200e9,
    "nu": 0.27,
    "yield_stress": 2.3e8,
    "hardening": {"type": "voce", "A": 1.1e9, "b": 2.0},
}


def test_metal_yields_where_the_laboratory_says() -> None:
    """Verification: yield in a pull at Y, in shear at Y/sqrt 3; Voce's curve; E on the way back; the way counts."""
    strain = np.array([0.01, 0.1, 0.4])
    stress = answers(world(METAL, "uniaxial"), "true_strain", strain, "nominal_stress")[:, 0] * np.exp(strain)
    p = strain - stress / 200e9
    np.testing.assert_allclose(stress, 2.3e8 + 1.1e9 * (1 - np.exp(-2 * p)), rtol=1e-10)
    there_and_back = answers(world(METAL, "uniaxial"), "true_strain", [0.1, 0.1 - 1e-4], "nominal_stress")[:, 0]
    back = there_and_back * np.exp([0.1, 0.1 - 1e-4])
    assert (back[0] - back[1]) / 1e-4 == pytest.approx(200e9, rel=1e-9)
    ideal = {**METAL, "hardening": {"type": "linear", "H": 0.0}}
    shear = answers(world(ideal, "simple_shear"), "shear", [1e-3, 0.05], "shear_stress")[:, 0]
    assert shear[0] == pytest.approx(1e-3 * 200e9 / 2.54, rel=1e-4)
    assert shear[1] == pytest.approx(2.3e8 / math.sqrt(3), rel=1e-3)
    # a rate e^2 times the reference raises the yield stress by 2 C
    rated = {**ideal, "rate_effect": {"type": "logarithmic", "C": 0.05, "reference": 1e-4}}
    fast = world(rated, {"type": "uniaxial", "rate": 1e-4 * math.exp(2) * 1.1})
    flow = answers(fast, "strain", np.linspace(0.002, 0.1, 50), "nominal_stress")[-1, 0] * 1.1
    assert flow == pytest.approx(2.3e8 * 1.1, rel=1e-3)


def test_a_pull_is_the_same_by_its_own_equation_and_as_a_point_with_free_sides() -> None:
    """Parity: the scalar equation of a pull against the tensor equations with the sides set free by Newton."""
    law = world({**METAL, "rate_effect": {"type": "logarithmic", "C": 0.04, "reference": 1e-5}}, "uniaxial")
    path = np.array([0.004, 0.02, 0.05, 0.049, 0.03, 0.06])
    shown = answers(law, "true_strain", path, "nominal_stress", "transverse_stretch", "volume_ratio")
    times = np.abs(np.diff(np.exp(path), prepend=1.0)) / 1e-3
    rows = Point(law.material, "uniaxial", step=0.002).drive(path.tolist(), times.tolist())  # type: ignore[arg-type]
    np.testing.assert_allclose(shown[:, 0], rows[:, 0] / np.exp(path), rtol=1e-8)
    np.testing.assert_allclose(shown[:, 1], np.exp(rows[:, 3]), rtol=1e-9)
    np.testing.assert_allclose(shown[:, 2], np.exp(rows[:, 4]), rtol=1e-9)


def test_shipped_plastic_laws_at_a_point() -> None:
    """Verification: plasticine at its von Mises stress, sand at its friction angle under pressure (Coulomb's ratio)."""
    clay = world({"type": "plasticine", "E": 3e5, "nu": 0.25, "yield_stress": 5e3}, "uniaxial")
    flow = answers(clay, "true_strain", [0.06], "cauchy_stress", "volume_ratio")[0]
    assert flow[0] * flow[1] == pytest.approx(math.sqrt(1.5) * 5e3, rel=1e-6)  # the law's norm is Frobenius'
    grains: dict[str, Any] = {"type": "sand", "E": 1e6, "nu": 0.2, "friction_angle": 30.0}
    pressed = world(grains, {"type": "triaxial", "pressure": 1000.0})
    stress = answers(pressed, "true_strain", [-0.04], "cauchy_stress")[0, 0]
    assert -stress / 1000.0 == pytest.approx((1 + 0.5) / (1 - 0.5), rel=1e-6)
    rest = answers(pressed, "true_strain", [0.0], "cauchy_stress")[0, 0]
    assert rest == pytest.approx(-1000.0, rel=1e-9)


def test_a_point_under_pressure_starts_where_it_bears_it() -> None:
    """Kirchhoff's K log J is -p J in the equilibrium, before anything is driven; logarithms are told from there."""
    p, K = 1e8, 200e9 / (3 * (1 - 2 * 0.27))
    point = Point(world(METAL, "uniaxial").material, "uniaxial", pressure=p)  # type: ignore[arg-type]
    np.testing.assert_allclose(point._elastic, point._total, rtol=0, atol=1e-13)  # nothing has flowed
    axial, side, _, free, volume = point.drive([0.0], [1.0])[0]
    np.testing.assert_allclose([axial, side, K * volume], -p * np.exp(volume), rtol=1e-10)
    assert abs(free) < 1e-12


def test_paste_flows_along_its_flow_curve() -> None:
    """Verification: steady flow is Herschel-Bulkley's formula, and a plate driven long enough comes to it."""
    fluid: dict[str, Any] = {
        "type": "paste", "E": 1e4, "nu": 0.4, "yield_stress": 5.0, "consistency": 3.0, "exponent": 0.5,
    }  # fmt: skip
    rates = np.array([1e-3, 1.0, 100.0])
    steady = answers(world(fluid, "steady_shear"), "shear_rate", rates, "shear_stress", "viscosity")
    np.testing.assert_allclose(steady[:, 0], 5 + 3 * rates**0.5, rtol=1e-13)
    np.testing.assert_allclose(steady[:, 1], (5 + 3 * rates**0.5) / rates, rtol=1e-13)
    driven = answers(world(fluid, {"type": "simple_shear", "rate": 4.0}), "shear", [0.5], "shear_stress")[0, 0]
    assert driven == pytest.approx(5 + 3 * 2.0, rel=1e-3)


def test_spectrum_in_every_test() -> None:
    """Verification: one Maxwell branch and the standard solid in closed form; creep and relaxation undo each other."""
    one: dict[str, Any] = {"type": "maxwell", "times": [2.0], "moduli": [1e4]}
    t = np.array([0.1, 1.0, 10.0])
    modulus = answers(world(one, "relaxation"), "time", t, "relaxation_modulus")[:, 0]
    np.testing.assert_allclose(modulus, 1e4 * np.exp(-t / 2), rtol=1e-13)
    compliance = answers(world(one, "creep"), "time", t, "creep_compliance")[:, 0]
    np.testing.assert_allclose(compliance, 1e-4 + t / 2e4, rtol=1e-12)
    waves = answers(world(one, "oscillation"), "angular_frequency", t, "storage_modulus", "loss_modulus")
    np.testing.assert_allclose(waves[:, 0] + 1j * waves[:, 1], 1e4 * 2j * t / (1 + 2j * t), rtol=1e-12)
    derived = answers(world(one, "oscillation"), "angular_frequency", t, "complex_viscosity", "loss_factor")
    np.testing.assert_allclose(derived[:, 0], abs(2e4 / (1 + 2j * t)), rtol=1e-12)
    np.testing.assert_allclose(derived[:, 1], 1 / (2 * t), rtol=1e-12)
    solid = {**one, "equilibrium": 3e3}
    compliance = answers(world(solid, "creep"), "time", t, "creep_compliance")[:, 0]
    late = 2.0 * 1.3e4 / 3e3  # retardation time of the standard linear solid
    np.testing.assert_allclose(compliance, 1 / 3e3 - (1 / 3e3 - 1 / 1.3e4) * np.exp(-t / late), rtol=1e-12)
    wide: dict[str, Any] = {"type": "maxwell", "times": [1e-2, 0.3, 1.0, 50.0], "moduli": [2e5, 1e5, 3e4, 500.0]}
    grid = np.linspace(0, 3.0, 6001)
    g = answers(world(wide, "relaxation"), "time", grid, "relaxation_modulus")[:, 0]
    j = answers(world(wide, "creep"), "time", grid, "creep_compliance")[:, 0]
    # integral of G(t - s) J(s) from 0 to t is t (trapezoids: G falls within 20 of them)
    assert np.trapezoid(g[::-1] * j, grid) == pytest.approx(3.0, rel=1e-3)
    viscosity = answers(world(wide, "steady_shear"), "shear_rate", [1.0], "viscosity")[0, 0]
    assert viscosity == pytest.approx(2e3 + 3e4 + 3e4 + 2.5e4, rel=1e-12)


def test_the_slope_of_creep_where_a_melt_begins_to_be_a_solid() -> None:
    """One branch of modulus G and time tau: J = (1 + s - (1 + 2 s + s^2/2) Ge/G) / G to first order, s = t / tau."""
    rest = torch.zeros((), dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.4, 2.0, 9.0], dtype=torch.float64)
    with torch.enable_grad():
        compliance = Maxwell(times=(2.0,), moduli=(1e4,), equilibrium=rest).creep(t)  # type: ignore[arg-type]
    slopes = [float(torch.autograd.grad(one, rest, retain_graph=True)[0]) for one in compliance]
    s = t.numpy() / 2.0
    np.testing.assert_allclose(slopes, -(1 + 2 * s + s**2 / 2) / 1e8, rtol=1e-6)


@pytest.mark.parametrize(
    ("material", "test", "against", "name", "told"),
    [
        ({"type": "ogden", "mu": [1e5], "alpha": [2.0, 3.0]}, "uniaxial", "stretch", "nominal_stress", "alpha has 2"),
        ({"type": "ogden", "mu": [-1.0], "alpha": [2.0]}, "uniaxial", "stretch", "nominal_stress", "above 0"),
        ({"type": "gent", "mu": 1e5, "limit": 9.0}, "creep", "time", "shear", "does not test 'gent'"),
        ({"type": "gent", "mu": 1e5, "limit": 9.0}, "uniaxial", "strech", "nominal_stress", "did you mean 'stretch'"),
        (
            {"type": "gent", "mu": 1e5, "limit": 9.0},
            "uniaxial",
            "stretch",
            "nominal_stres",
            "did you mean 'nominal_stress'",
        ),
        ({"type": "gent", "mu": 1e5, "limit": 9.0}, "uniaxial", "strain", "nominal_stress", "above 0, got -0.5"),
        ({"type": "maxwell", "times": [1.0], "moduli": [1.0, 2.0]}, "creep", "time", "shear", "2 numbers for 1"),
    ],
)
def test_faults_are_told_in_one_line(material: dict[str, Any], test: str, against: str, name: str, told: str) -> None:
    with pytest.raises(SceneError) as caught:
        answers(world(material, test), against, [-1.5], name)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shipped_rubber_beats_the_published_fit() -> None:
    """Treloar's three tests of 1944, one law: relative rms below the 13, 9 and 6 % of Ogden 1972 (above 0.05 MPa)."""
    import tomllib

    from simengine.fit.inference import LeastSquaresFit
    from simengine.fit.problem import Problem
    from simengine.scene.grammar import build_scene

    file = Path(__file__).resolve().parents[3] / "scenes" / "rubber_treloar.toml"
    data = tomllib.loads(file.read_text())
    problem = Problem(build_scene(data, directory=file.parent, locate=lambda key: file.name))
    fit = LeastSquaresFit(problem)
    while not fit.converged:
        fit.step()
    for name, published in (("tension", 0.13), ("biaxial", 0.09), ("shear", 0.06)):
        shown = problem.predict(fit.z)[name]
        measured = shown.measured.values
        relative = ((shown.values - measured) / measured)[measured > 5e4]
        assert float(relative.square().mean().sqrt()) < published, name


@pytest.mark.parametrize(
    "material",
    [
        {"type": "ogden", "mu": [3e5], "alpha": [2.0], "nu": 0.4},
        {"type": "hyperfoam", "mu": [3e5], "alpha": [4.0], "beta": [0.3]},
        {"type": "metal", "E": 1e9, "nu": 0.3, "yield_stress": 2e7},
        {"type": "maxwell", "times": [1.0], "moduli": [1e5], "equilibrium": 1e4, "nu": 0.3},
        {"type": "jelly", "E": 1e5, "nu": 0.2},
    ],
    ids=lambda material: material["type"],
)
def test_volume_is_the_product_of_the_stretches(material: dict[str, Any]) -> None:
    """Kinematics, whatever the law: V = stretch transverse^2, and Cauchy's stress is the nominal one stretch / V."""
    stretch = np.array([1.02, 1.1, 1.2])
    names = ("volume_ratio", "transverse_stretch", "cauchy_stress", "nominal_stress")
    volume, across, cauchy, nominal = answers(world(material, "uniaxial"), "stretch", stretch, *names).T
    np.testing.assert_allclose(volume, stretch * across**2, rtol=1e-9)
    np.testing.assert_allclose(cauchy, nominal * stretch / volume, rtol=1e-9)
    assert (volume > 1 + 1e-4).all()


def test_travel_and_load_of_a_machine() -> None:
    """A strip 50 mm long of 20 mm^2, in newtons and metres: neo-Hooke's 3e5 (l - l^-2) of the stretch 1 + u / L."""
    neo: dict[str, Any] = {"type": "ogden", "mu": [3e5], "alpha": [2.0]}
    sized = world(neo, "uniaxial")
    assert "force" not in sized.scalars() and "extension" not in sized.drivers()
    with pytest.raises(SceneError, match="needs the specimen's size"):
        answers(sized, "extension", [0.01], "nominal_stress")
    with pytest.raises(SceneError, match="'force' needs the specimen's size"):
        answers(sized, "stretch", [1.1], "force")
    size = {"length": 0.05, "area": 20e-6}
    data = {"kind": "specimen", "material": neo, "test": {"type": "uniaxial"}, "size": size}
    strip = make_world(data, directory=Path(), locate=lambda key: "scene.toml")
    assert isinstance(strip, SpecimenWorld)
    travel = np.array([-0.01, 0.0, 0.02, 0.1])
    stretch = 1 + travel / 0.05
    force = answers(strip, "extension", travel, "force")[:, 0]
    np.testing.assert_allclose(force, 20e-6 * 3e5 * (stretch - stretch**-2), rtol=1e-12, atol=1e-12)
    sheared = make_world({**data, "test": {"type": "simple_shear"}}, directory=Path(), locate=lambda key: "scene.toml")
    assert isinstance(sheared, SpecimenWorld)
    # a plate of 20 mm^2 at 50 mm, moved by 5 mm: a shear of .1
    np.testing.assert_allclose(answers(sheared, "displacement", [0.005], "force"), [[20e-6 * 3e5 * 0.1]], rtol=1e-12)


def test_the_slope_of_force_by_size_is_exact() -> None:
    ask = Series(names=("force",), against="extension", values=torch.tensor([0.02], dtype=torch.float64))
    data = {
        "kind": "specimen",
        "material": {"type": "ogden", "mu": [3e5], "alpha": [2.0]},
        "test": {"type": "uniaxial"},
        "size": {"length": 0.05, "area": 20e-6},
    }
    strip = make_world(data, directory=Path(), locate=lambda key: "scene.toml")
    assert {"size.length", "size.area"} <= strip.traced()
    at = torch.tensor([0.05, 20e-6], dtype=torch.float64, requires_grad=True)
    moved = replaced(strip, {"size.length": at[0], "size.area": at[1]})
    (slope,) = torch.autograd.grad(moved.solve((ask,), gradient=True).sample(ask).sum(), at)
    stretch, mu = 1.4, 3e5
    by_length = 20e-6 * mu * (1 + 2 * stretch**-3) * (-0.02 / 0.05**2)
    np.testing.assert_allclose(slope.numpy(), [by_length, mu * (stretch - stretch**-2)], rtol=1e-10)


def test_the_inverse_of_langevins_function_is_one_everywhere_and_has_its_slope() -> None:
    """coth x - 1/x of it is y, from nearly nothing to nearly one; the slope is 1/(1/x^2 - 1/sinh^2 x)."""
    y = torch.tensor([1e-4, 3e-3, 3.4e-3, 0.1, 0.5, 0.9, 0.99, 0.998], dtype=torch.float64, requires_grad=True)
    x = inverse_langevin(y)
    small = x < 0.1
    series = x / 3 - x**3 / 45 + 2 * x**5 / 945
    torch.testing.assert_close(torch.where(small, series, 1 / torch.tanh(x) - 1 / x), y, rtol=1e-8, atol=0)
    (slope,) = torch.autograd.grad(x.sum(), y)
    square = torch.sinh(x.clamp_max(300)).square()
    expected = torch.where(small, 1 / (1 / 3 - x.square() / 15 + 2 * x**4 / 189), 1 / (1 / x.square() - 1 / square))
    torch.testing.assert_close(slope, expected, rtol=1e-6, atol=0)
