"""Mechanism files as people write them: rates beside Cantera's, or refused in one line with file and line number."""

import math
import random
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.flame.gas.document import read_document
from simengine.flame.gas.mechanism import MechanismError
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.ops.fields import gas as gas_op
from simengine.ops.fields import gas_reference

ASSET = Path(__file__).resolve().parents[3] / "assets" / "methane_1step.yaml"
HEAD = """units: {length: cm, time: s, quantity: mol, activation-energy: cal/mol}
phases:
- name: gas
  thermo: ideal-gas
  species:
  - h2o2.yaml/species: all
  kinetics: gas
"""
ONE = "rate-constant: {A: 3.87e+04, b: 2.7, Ea: 6260.0}"
LOW, HIGH = (
    "low-P-rate-constant: {A: 2.3e+18, b: -0.9, Ea: -1700}",
    "high-P-rate-constant: {A: 7.4e+13, b: -0.37, Ea: 0}",
)
LIMITS = f"  {LOW}\n  {HIGH}\n  efficiencies: {{H2: 2.0, H2O: 6.0, AR: 0.7}}\n"
PEROXIDE = f"- equation: 2 OH (+M) <=> H2O2 (+M)\n  type: falloff\n{LIMITS}"
TWICE = """- equation: 2 HO2 <=> O2 + H2O2
  rate-constant: {A: 1.3e+11, b: 0, Ea: -1630}
  FLAG
- equation: HO2 + HO2 <=> O2 + H2O2
  rate-constant: {A: 4.2e+14, b: 0, Ea: 12000}
  FLAG
"""
PLOG = """- equation: H2O2 <=> OH + OH
  type: pressure-dependent-Arrhenius
  rate-constants:
  - {P: 10 atm, A: 1.0e+14, b: 0.1, Ea: 42000}
  - {P: 0.1 atm, A: 1.0e+13, b: 0, Ea: 40000}
  - {P: 0.1 atm, A: 3.0e+12, b: 0.2, Ea: 38000}
  - {P: 1 bar, A: 4.0e+13, b: 0, Ea: 41000}
"""
CHEBYSHEV = """- equation: H2 + O <=> OH + H
  type: Chebyshev
  temperature-range: [290, 3000]
  pressure-range: [0.01 atm, 100 bar]
  data: [[8.2883, -1.1397, 0.05], [1.9764, 1.0037, -0.02]]
"""
TROE = "    Troe: {A: 0.5, T3: 30, T1: 90000}\n"
LINDEMANN = """    type: falloff
    low-P-rate-constant: {A: 6.366e+20, b: -1.72, Ea: 524.8}
    high-P-rate-constant: {A: 4.7e+12, b: 0.44, Ea: 0.0}
"""
BURKE = f"""- equation: H + O2 (+M) <=> HO2 (+M)
  type: linear-Burke
  colliders:
  - name: M
{LINDEMANN}{TROE}"""
WATER = "  - name: H2O\n    efficiency: {A: 10, b: 0.1, Ea: 100}\n"
OWN = f"""{BURKE}  - name: H2O
    efficiency: {{A: 10, b: 0.1, Ea: 100}}
    type: pressure-dependent-Arrhenius
    rate-constants:
    - {{P: 0.1 atm, A: 3.0e+14, b: -1.1, Ea: 500}}
    - {{P: 10 atm, A: 1.0e+16, b: -1.2, Ea: 700}}
  - name: AR
    efficiency: {{A: 0.6, b: 0, Ea: 0}}
  - name: H2
    efficiency: {{A: 2.5, b: 0, Ea: -50}}
    type: Chebyshev
    temperature-range: [290, 3000]
    pressure-range: [0.01 atm, 100 bar]
    data: [[12.3, 1.1, 0.05], [-0.9, 0.1, -0.02]]
  - name: N2
    efficiency: {{A: 1.4, b: 0.02, Ea: 0}}
{LINDEMANN.replace("6.366", "9.1")}{TROE}- equation: H2O2 <=> OH + OH
  type: linear-Burke
  units: {{length: m, quantity: kmol, activation-energy: K}}
  colliders:
  - name: M
    eig0: {{A: 2.0e+10, b: 0.3, Ea: 300}}
    type: pressure-dependent-Arrhenius
    rate-constants:
    - {{P: 1 bar, A: 4.0e+13, b: 0, Ea: 21000}}
    - {{P: 30 bar, A: 9.0e+14, b: 0, Ea: 22000}}
  - name: H2O
    eig0: {{A: 1.0e+11, b: 0.1, Ea: 100}}
"""
HEATS = """- equation: O + H2 <=> H + OH
  type: Blowers-Masel
  rate-constant: {A: 3.87e+04, b: 2.7, Ea0: 6260.0, w: 100 kcal/mol}
- equation: H2O2 + H => HO2 + H2
  type: Blowers-Masel
  units: {length: m, quantity: kmol, activation-energy: K}
  rate-constant: {A: 2.41e+10, b: 0, Ea0: 1200, w: 1e6}
- equation: H + O2 <=> O + OH
  type: Blowers-Masel
  rate-constant: {A: 2.65e+16, b: -0.6707, Ea0: 1000, w: 8e4}
- equation: H2 + O2 <=> HO2 + H
  type: Blowers-Masel
  rate-constant: {A: 1e+13, b: 0.1, Ea0: 0, w: 9e4}
"""
RATES = {
    "sections of the phase": (
        "  reactions: [first, second]\n",
        f"first:\n- equation: O + H2 <=> H + OH\n  {ONE}\nsecond:\n- equation: OH + H2 <=> H + H2O\n  {ONE}\n",
    ),
    "sections with a rule": (
        "  reactions:\n  - first: all\n  - second: none\n",
        f"first:\n- equation: O + H2 <=> H + OH\n  {ONE}\nsecond: []\n",
    ),
    "reactions of another file": ("  reactions:\n  - h2o2.yaml/reactions: declared-species\n", ""),
    "units of a reaction": (
        "",
        "reactions:\n- equation: O + H2 <=> H + OH\n  units: {length: m, quantity: kmol, activation-energy: K}\n"
        "  rate-constant: {A: 38.7, b: 2.7, Ea: 3150}\n",
    ),
    "units of a section": (
        "",
        "reactions:\n- units: {length: m, quantity: kmol, activation-energy: K}\n- equation: O + H2 <=> H + OH\n"
        "  rate-constant: {A: 38.7, b: 2.7, Ea: 3150}\n",
    ),
    "units of a number": (
        "",
        "reactions:\n- equation: O + H2 <=> H + OH\n  rate-constant: {A: 3.87e+01 m^3/kmol/s, b: 2.7, Ea: 26 kJ/mol}\n",
    ),
    "a rate constant as a list": (
        "",
        "reactions:\n- equation: O + H2 <=> H + OH\n  rate-constant: [3.87e+04, 2.7, 6260]\n",
    ),
    "declared duplicates": ("", "reactions:\n" + TWICE.replace("FLAG", "duplicate: true")),
    "negative A with its flag": (
        "",
        "reactions:\n" + TWICE.replace("FLAG", "duplicate: true\n  negative-A: true").replace("A: 1.3", "A: -1.3"),
    ),
    "Troe with T2 = 0": ("", f"reactions:\n{PEROXIDE}  Troe: {{A: 0.7346, T3: 94, T1: 1756, T2: 0.0}}\n"),
    "Troe with T3 = 0": ("", f"reactions:\n{PEROXIDE}  Troe: {{A: 0.7346, T3: 0, T1: 1756, T2: 5182}}\n"),
    "SRI of three": ("", f"reactions:\n{PEROXIDE}  SRI: {{A: 0.45, B: 797, C: 979}}\n"),
    "SRI of five": ("", f"reactions:\n{PEROXIDE}  SRI: {{A: 0.45, B: 797, C: 979, D: 1.2, E: 0.1}}\n"),
    "Tsang": ("", f"reactions:\n{PEROXIDE}  Tsang: {{A: 0.95, B: -1.0e-04}}\n"),
    "chemically activated": ("", f"reactions:\n{PEROXIDE.replace('falloff', 'chemically-activated')}"),
    "chemically activated with Troe": (
        "",
        f"reactions:\n{PEROXIDE.replace('falloff', 'chemically-activated')}  Troe: {{A: 0.7, T3: 94, T1: 1756}}\n",
    ),
    "pressure table": ("", f"reactions:\n{PLOG}"),
    "Chebyshev": ("", f"reactions:\n{CHEBYSHEV}"),
    "linear Burke": ("", f"reactions:\n{BURKE}{WATER}"),
    "linear Burke of four kinds of rate constants": ("", f"reactions:\n{OWN}{CHEBYSHEV}"),
    "by the heat of reaction": ("", f"reactions:\n{HEATS}"),
    "duplicates of another type": (
        "",
        f"reactions:\n{PLOG}  duplicate: true\n- equation: H2O2 <=> 2 OH\n  rate-constant: [1e13, 0, 40000]\n"
        "  duplicate: true\n",
    ),
    "all of them": (
        "",
        f"reactions:\n{PLOG}{CHEBYSHEV}{PEROXIDE}  SRI: {{A: 0.45, B: 797, C: 979}}\n"
        "- equation: H + O2 + M <=> HO2 + M\n  rate-constant: {A: 2.8e+18, b: -0.86, Ea: 0}\n"
        f"- equation: H + HO2 (+M) <=> H2O2 (+M)\n  type: falloff\n{LIMITS}",
    ),
    "fractional and reversible": (
        "",
        "reactions:\n- equation: H2 + 0.5 O2 <=> H2O\n  rate-constant: [1.8e+13, 0, 41000]\n",
    ),
    "colliders the phase lacks": (
        "  skip-undeclared-third-bodies: true\n",
        "reactions:\n- equation: H + O2 + M <=> HO2 + M\n  rate-constant: [2.8e+18, -0.86, 0]\n"
        "  efficiencies: {C2H6: 3.0, H2O: 0.0}\n",
    ),
    "there and back, each irreversible": (
        "",
        f"reactions:\n- equation: O + H2 => H + OH\n  {ONE}\n- equation: H + OH => O + H2\n  {ONE}\n",
    ),
    "three bodies without one in common": (
        "",
        "reactions:\n- equation: H + O2 + M <=> HO2 + M\n  rate-constant: [2.8e+18, -0.86, 0]\n"
        "  efficiencies: {H2O: 0}\n"
        "- equation: H + O2 + M <=> HO2 + M\n  rate-constant: [1.1e+19, -0.76, 0]\n  efficiencies: {H2O: 1}\n"
        "  default-efficiency: 0\n",
    ),
}


def _written(folder: Path, phase: str, rest: str) -> Path:
    file = folder / "case.yaml"
    file.write_text(HEAD + phase + rest)
    return file


@pytest.mark.parametrize("case", RATES)
def test_rates_are_canteras(case: str, tmp_path: Path) -> None:
    cantera = pytest.importorskip("cantera")
    file = _written(tmp_path, *RATES[case])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Cantera warns of T2 = 0
        solution = cantera.Solution(file)
    gas = Gas(load_mechanism(file))
    assert len(gas.mechanism.reactions.equations) == solution.n_reactions > 0
    rng, T, C, expected = np.random.default_rng(1), [], [], []
    for _ in range(8):
        solution.TPY = rng.uniform(400, 2800), 10 ** rng.uniform(3.5, 7), rng.dirichlet(np.ones(solution.n_species))
        T.append(solution.T)
        C.append(solution.concentrations * 1e3)
        expected.append(solution.net_production_rates * 1e3)
    T, C, expected = (torch.tensor(np.array(v)) for v in (T, C, expected))
    scale = expected.abs().amax(1, keepdim=True)
    assert float(((gas.production(T, C) - expected) / scale).abs().max()) < 1e-9
    w, of_T, of_C = gas.production_jacobian(T, C)  # by kernels
    assert float(((w - expected) / scale).abs().max()) < 1e-9
    _, by_T, by_C = gas_reference.production_jacobian(gas.kinetics, T, C, gas.kinetics.rates)
    assert torch.allclose(of_T / scale, by_T / scale, rtol=1e-9, atol=1e-14)
    assert torch.allclose(of_C / scale[..., None], by_C / scale[..., None], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(
    "case",
    [
        "all of them",
        "chemically activated with Troe",
        "linear Burke of four kinds of rate constants",
        "by the heat of reaction",
    ],
)
def test_rate_constants_that_depend_on_pressure_have_gradients(case: str, tmp_path: Path) -> None:
    pytest.importorskip("cantera")
    k = Gas(load_mechanism(_written(tmp_path, *RATES[case]))).kinetics
    rng = np.random.default_rng(2)
    T, C = torch.tensor(rng.uniform(500, 2500, 3)), torch.tensor(10 * rng.dirichlet(np.ones(10), 3))
    weights = 1 / gas_reference.production(k, T, C, k.rates).abs().amax(1, keepdim=True)
    found = []
    for op in (gas_op.production, gas_reference.production):
        r = k.rates
        leaves = [t.clone().requires_grad_() for t in (T, C, r.A, r.b, r.Ea, r.A_low, r.b_low, r.Ea_low)]
        rates = gas_reference.Rates(leaves[2], leaves[3], leaves[4], r.orders, *leaves[5:])
        found.append(
            torch.autograd.grad((op(k, leaves[0], leaves[1], rates) * weights).sum(), leaves, materialize_grads=True)
        )
    for kernel, torch_ in zip(*found, strict=True):
        assert torch.allclose(kernel, torch_, rtol=1e-9, atol=1e-13 * float(torch_.abs().max()))
    Cs = C.clone().requires_grad_()
    (slope,) = torch.autograd.grad((gas_reference.production(k, T, Cs, k.rates) * weights).sum(), Cs)
    for entry in (0, 3, 7):
        step = torch.zeros_like(C)
        step[:, entry] = 1e-5
        ahead, behind = (gas_reference.production(k, T, C + s * step, k.rates) * weights for s in (1, -1))
        assert torch.allclose((ahead - behind).sum(1) / 2e-5, slope[:, entry], rtol=1e-6, atol=1e-7)


def test_a_mixture_in_which_all_colliders_are_alike_is_the_ordinary_fall_off(tmp_path: Path) -> None:
    pytest.importorskip("cantera")
    plain = BURKE.replace("linear-Burke", "falloff").replace("  colliders:\n  - name: M\n    type: falloff\n", "")
    plain = plain.replace("\n    ", "\n  ") + "  efficiencies: {H2O: 10}\n"
    rng = np.random.default_rng(3)
    T, C = torch.tensor(rng.uniform(500, 2500, 9)), torch.tensor(10 * rng.dirichlet(np.ones(10), 9))
    found = []
    for text in (BURKE + WATER.replace("b: 0.1, Ea: 100", "b: 0, Ea: 0"), plain):
        found.append(Gas(load_mechanism(_written(tmp_path, "", f"reactions:\n{text}"))).rates_of_progress(T, C))
    assert torch.allclose(*found, rtol=1e-12, atol=0.0)


def test_a_part_of_a_mixture_rule_keeps_its_rates(tmp_path: Path) -> None:
    pytest.importorskip("cantera")
    whole = Gas(load_mechanism(_written(tmp_path, "", f"reactions:\n{OWN}{PLOG}")))
    part, species, reactions = whole.reaching(["H2O2", "N2"])
    assert part.mechanism.species == ("OH", "H2O2", "N2") and reactions.tolist() == [1, 2]
    rng = np.random.default_rng(4)
    T, C = torch.tensor(rng.uniform(500, 2500, 5)), torch.tensor(rng.uniform(0, 10, (5, 3)))
    full = torch.zeros(5, 10, dtype=torch.float64)
    full[:, species] = C
    assert torch.allclose(part.production(T, C), whole.production(T, full)[:, species], rtol=1e-12, atol=0.0)
    found, expected = (gas.production_jacobian(T, c) for gas, c in ((part, C), (whole, full)))
    assert torch.allclose(found[2], expected[2][:, species][:, :, species], rtol=1e-11, atol=0.0)


REFUSED = {
    "undeclared duplicates": (TWICE.replace("  FLAG\n", ""), "same as the reaction on line 9.*duplicate: true"),
    "a duplicate alone": (f"- equation: O + H2 <=> H + OH\n  {ONE}\n  duplicate: true\n", "no other reaction like it"),
    "negative A": ("- equation: O + H2 <=> H + OH\n  rate-constant: [-1e4, 0, 0]\n", "negative-A: true"),
    "a misspelt Ea": ("- equation: O + H2 <=> H + OH\n  rate-constant: {A: 1, b: 0, E: 1}\n", "did you mean 'Ea'"),
    "no colliders": ("- equation: H + O2 (+M) <=> HO2 (+M)\n  type: linear-Burke\n", "key 'colliders' is missing"),
    "no reference": (BURKE.split("  - name: M")[0] + WATER, "the first must be M"),
    "a reference without a type": (BURKE.replace("    type: falloff\n", ""), "low-P-rate-constant: type missing"),
    "a reference of 2": (f"{BURKE}    efficiency: {{A: 2, b: 0, Ea: 0}}\n", "that of M is 1"),
    "a collider without efficiency": (f"{BURKE}  - name: H2O\n", "efficiency missing"),
    "two scales": (f"{BURKE}{WATER}    eig0: {{A: 2, b: 0, Ea: 0}}\n", "give one of them"),
    "negative efficiency": (BURKE + WATER.replace("A: 10", "A: -10"), "positive number, got -10"),
    "a collider twice": (f"{BURKE}{WATER}{WATER}", "collider 'H2O': given twice"),
    "a collider the phase lacks": (BURKE + WATER.replace("H2O", "CH4"), "skip-undeclared-third-bodies: true"),
    "a collider's chemical activation": (BURKE.replace("falloff", "chemically-activated"), "is not supported here"),
    "a mixture rule with M": (BURKE.replace("(+M)", "+ M"), r"write \(\+M\) or leave it out"),
    "Chebyshev with M": (CHEBYSHEV.replace("H2 + O <=> OH + H", "H2 + M <=> 2 H + M"), r"write \(\+M\)"),
    "a barrier without its bonds": ("- equation: O + H2 <=> H + OH\n  type: Blowers-Masel\n", "rate-constant"),
    "a barrier above its bonds": (HEATS.replace("1e6", "900"), "expected 0 <= Ea0 < w, got 9977"),
    "a barrier with a collider": (
        HEATS.replace("- equation: O + H2 <=> H + OH", "- equation: H + O2 + M <=> HO2 + M"),
        "Blowers-Masel with a collider is not supported",
    ),
    "plasma": ("- equation: O + H2 => H + OH\n  type: two-temperature-plasma\n", "two-temperature-plasma' is not supp"),
    "no equation": (f"- {ONE}\n", "key 'equation' is missing"),
    "no table": ("- O + H2 <=> H + OH\n", "expected a table"),
    "unit": ("- equation: O + H2 <=> H + OH\n  units: {length: furlong}\n", "'furlong' in 'furlong' is not known"),
    "units of a rate constant": (
        "- equation: O + H2 <=> H + OH\n  rate-constant: {units: {length: m}, A: 1, b: 0, Ea: 0}\n",
        "units: give them in the reaction",
    ),
    "units": ("- equation: O + H2 <=> H + OH\n  units: []\n", "expected a table such as"),
    "orders": (f"- equation: O + H2 => H + OH\n  {ONE}\n  orders: abc\n", "orders: expected a table"),
    "no orders": (f"- equation: O + H2 => H + OH\n  {ONE}\n  orders:\n", "orders: expected a table"),
    "negative order": (f"- equation: O + H2 => H + OH\n  {ONE}\n  orders: {{O: -1}}\n", "negative-orders: true"),
    "order of no reactant": (f"- equation: O + H2 => H + OH\n  {ONE}\n  orders: {{AR: 1}}\n", "nonreactant-orders"),
    "not finite": ("- equation: O + H2 <=> H + OH\n  rate-constant: [.inf, 0, 0]\n", "expected a finite number"),
    "half a list": ("- equation: O + H2 <=> H + OH\n  rate-constant: [1.0, 0]\n", r"expected \[A, b, Ea\]"),
    "collider on one side": (f"- equation: H + O2 + M <=> HO2\n  {ONE}\n", "same on both sides"),
    "a key twice": (f"- equation: O + H2 <=> H + OH\n  {ONE}\n  {ONE}\n", "given twice"),
    "merged": (f"- &a\n  equation: O + H2 <=> H + OH\n  {ONE}\n- <<: *a\n", "key 'equation' is missing"),
    "empty pressures": (PLOG.split("  - {")[0].replace("constants:", "constants: []"), "empty"),
    "two forms": (f"{PEROXIDE}  SRI: {{A: 1, B: 1, C: 1}}\n  Tsang: {{A: 1, B: 0}}\n", "one form of fall-off"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_right_is_refused_with_its_place(case: str, tmp_path: Path) -> None:
    pytest.importorskip("cantera")
    text, message = REFUSED[case]
    with pytest.raises(MechanismError, match=message) as told:
        load_mechanism(_written(tmp_path, "", f"reactions:\n{text}"))
    line = str(told.value)
    assert "\n" not in line and len(line) < 400 and re.search(r"case\.yaml(:\d+|.*line \d+)", line)


def test_thermodynamics_of_every_model_are_canteras(tmp_path: Path) -> None:
    cantera = pytest.importorskip("cantera")
    text = """
phases:
- {name: gas, thermo: ideal-gas, species: [A, B, N, P]}
species:
- name: A
  composition: {Ar: 1}
  thermo: {model: constant-cp, T0: 300 K, cp0: 20.786 J/mol/K, h0: 4 kJ/mol, s0: 154.8 J/mol/K}
- name: B
  composition: {Ar: 1}
  thermo:
    units: {energy: cal, quantity: mol}
    model: constant-cp
    cp0: 4.97
    h0: 1000
- name: N
  composition: {N: 2}
  thermo:
    model: Shomate
    temperature-ranges: [298, 1000, 6000]
    data:
    - [26.092, 8.218801, -1.976141, 0.159274, 0.044434, -7.98923, 221.02]
    - [22.0, 9.0, -1.5, 0.1, 0.5, -7.0, 220.0]
- name: P
  composition: {H: 1}
  thermo:
    model: NASA7
    temperature-ranges: [200, 3500]
    data:
    - [2.5, 1.0e-5, 1.0e-9, -1.0e-12, 1.0e-16, 2.5e4, -0.4]
"""
    file = tmp_path / "thermo.yaml"
    file.write_text(text)
    solution, gas = cantera.Solution(file), Gas(load_mechanism(file))
    for T in (350.0, 900.0, 1001.0, 2500.0):
        at = torch.tensor(T, dtype=torch.float64)
        solution.TP = T, gas.kinetics.p_ref
        for ours, theirs in (
            (gas.cp_over_R(at), solution.standard_cp_R),
            (gas.h_over_RT(at), solution.standard_enthalpies_RT),
            (gas.s_over_R(at), solution.standard_entropies_R),
        ):
            assert np.allclose(ours.numpy(), theirs, rtol=1e-12, atol=1e-12)
    # Cantera refuses different reference pressures. s(p) = s(1 bar) - R ln(p/1 bar):
    file.write_text(text.replace("    model: NASA7\n", "    model: NASA7\n    reference-pressure: 1 bar\n"))
    at = torch.tensor(900.0, dtype=torch.float64)
    shift = Gas(load_mechanism(file)).s_over_R(at) - gas.s_over_R(at)
    assert torch.allclose(shift, torch.tensor([0, 0, 0, -math.log(1.01325)], dtype=torch.float64), atol=1e-13)


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("SiF4_NH3_mec", "gas"),
        ("ohn", "gas"),
        ("gri30_ion", "gas"),
        ("ptcombust", "gas"),
        ("example_data/ammonia-CO-H2-Alzueta-2023", "baseline"),
        ("example_data/ammonia-CO-H2-Alzueta-2023", "linear-Burke"),
        ("nDodecane_Reitz", "nDodecane_IG"),
    ],
)
def test_mechanisms_of_canteras_folder(name: str, phase: str) -> None:
    cantera = pytest.importorskip("cantera")
    file = Path(cantera.__file__).parent / "data" / f"{name}.yaml"
    solution, gas = cantera.Solution(file, phase), Gas(load_mechanism(f"{name}.yaml", phase=phase))
    assert len(gas.mechanism.reactions.equations) == solution.n_reactions > 0
    rng = np.random.default_rng(0)
    for _ in range(5):
        solution.TPY = rng.uniform(400, 2800), 10 ** rng.uniform(3.5, 6.5), rng.dirichlet(np.ones(solution.n_species))
        C, expected = torch.tensor(solution.concentrations * 1e3), solution.net_production_rates * 1e3
        found = gas.production(torch.tensor(solution.T, dtype=torch.float64), C).numpy()
        assert np.abs(found - expected).max() < 1e-9 * np.abs(expected).max()


def test_aliases_cannot_make_a_file_large(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    file = tmp_path / "bomb.yaml"
    file.write_text("\n".join(lines) + "\nphases: [{name: gas, thermo: *a9}]\nspecies: []\n")
    with pytest.raises(MechanismError, match=r"bomb\.yaml: anchors and aliases make more than") as told:
        load_mechanism(file)
    assert len(str(told.value)) < 300
    file.write_text("phases: &p [*p]\nspecies: []\n")
    with pytest.raises(MechanismError, match="anchors and aliases"):
        load_mechanism(file)
    file.write_text("phases: " + "[" * 5000 + "]" * 5000)
    with pytest.raises(MechanismError, match="bomb"):
        load_mechanism(file)


def test_a_message_is_short_whatever_the_file_holds(tmp_path: Path) -> None:
    file = tmp_path / "long.yaml"
    for text in (
        f"phases: [{{name: gas, thermo: {'x' * 100000}}}]\nspecies: []\n",
        f"phases: [{{name: gas, thermo: ideal-gas, species: [{'x' * 100000}]}}]\nspecies: []\n",
        f"phases: [{{name: gas, thermo: {list(range(20000))}}}]\nspecies: []\n",
        f"phases: [{{name: gas, thermo: ideal-gas}}]\nspecies: [{{name: A, composition: {{H: {'9' * 5000}}}}}]\n",
    ):
        file.write_text(text)
        with pytest.raises(MechanismError, match=r"long\.yaml") as told:
            load_mechanism(file)
        assert len(str(told.value)) < 500 and "\n" not in str(told.value)


def test_a_chemkin_file_is_told_and_a_byte_order_mark_read(tmp_path: Path) -> None:
    file = tmp_path / "chem.inp"
    file.write_text("ELEMENTS\nH O N\nEND\nSPECIES\nH2 O2\nEND\nREACTIONS\nO+H2=H+OH  3.87E4 2.7 6260\nEND\n")
    with pytest.raises(MechanismError, match="ck2yaml"):
        load_mechanism(file)
    marked = tmp_path / "marked.yaml"
    marked.write_bytes(b"\xef\xbb\xbf" + ASSET.read_bytes())
    assert load_mechanism(marked).species == load_mechanism(ASSET).species
    (tmp_path / "latin.yaml").write_bytes(ASSET.read_bytes() + b"# \xe9")
    with pytest.raises(MechanismError, match="not UTF-8"):
        load_mechanism(tmp_path / "latin.yaml")


def test_spoilt_files_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    """Keys renamed, values replaced, lines dropped or indented: never another exception than `MechanismError`."""
    rng, source, file = random.Random(0), ASSET.read_text().splitlines(), tmp_path / "spoilt.yaml"
    values = (
        "",
        "null",
        "[]",
        "{}",
        "-1",
        "0",
        "abc",
        ".nan",
        "1e400",
        "[1, {a: 2}]",
        "true",
        "1.0 furlong",
        "*x",
        "'",
        "- 1",
    )
    refused = 0
    for _ in range(250):
        lines = list(source)
        for _ in range(rng.choice((1, 1, 2))):
            k = rng.randrange(len(lines))
            key, colon, _ = lines[k].partition(":")
            change = rng.randrange(5)
            if change == 0:
                del lines[k]
            elif change == 1 and colon:
                lines[k] = f"{key}: {rng.choice(values)}"
            elif change == 2 and colon:
                lines[k] = lines[k].replace(key.strip(" -"), key.strip(" -")[::-1], 1)
            elif change == 3:
                lines[k] = "  " + lines[k]
            else:
                lines[k] = re.sub(r"-?\d[\d.e+-]*", lambda _: rng.choice(values), lines[k], count=1)
        file.write_text("\n".join(lines))
        try:
            load_mechanism(file)
        except MechanismError as error:
            refused += 1
            assert "spoilt.yaml" in str(error) and "\n" not in str(error) and len(str(error)) < 500, lines[k]
    assert refused > 100


def test_lines_are_counted_as_editors_count(tmp_path: Path) -> None:
    file = tmp_path / "lines.yaml"
    file.write_text("\n\nphases:\n- name: gas\n  thermo: plasma\nspecies: []\n")
    with pytest.raises(MechanismError, match=r"lines\.yaml:4: phase 'gas': thermo is 'plasma'"):
        load_mechanism(file)
    assert read_document(file)["phases"][0].line == 4
