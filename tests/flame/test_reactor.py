"""Parity and gradcheck: closed and stirred reactors beside Cantera; derivatives beside differences."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.reactor import ClosedReactor, StirredReactor, ignite, ignite_all, ignition, ignition_delay, stirred
from simengine.solve.radau import StiffError, stepped, steps
from simengine.solve.solution import SolveError

ct = pytest.importorskip("cantera")
FEED = "H2:2, O2:1, N2:3.76"


@pytest.fixture(scope="module")
def gas() -> Gas:
    return Gas(load_mechanism(Path(ct.__file__).parent / "data" / "h2o2.yaml"))


def _closed(gas: Gas, hold: str = "volume", **changes: object) -> ClosedReactor:
    state = ct.Solution("h2o2.yaml")
    state.TPX = 1100.0, 2e5, FEED
    own = {"T": torch.tensor(1100.0), "p": torch.tensor(2e5), "Y": torch.as_tensor(state.Y), **changes}
    return ClosedReactor(gas=gas, hold=hold, **own)  # type: ignore[arg-type]


def test_steps_decay() -> None:
    """Verification: y' = -1000 (y - cos t) beside its closed form, in few steps."""

    def f(y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # y = (value, cos t, sin t)
        matrix = torch.tensor([[-1000.0, 1000, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
        return y @ matrix.T, matrix.expand(len(y), 3, 3)

    start = torch.tensor([0.0, 1, 0], dtype=torch.float64)
    taken = list(steps(f, start, 2.0, rtol=1e-8, atol=torch.full((3,), 1e-10, dtype=torch.float64)))
    k = 1000.0
    exact = (k * k * np.cos(2.0) + k * np.sin(2.0)) / (k * k + 1)
    assert float(taken[-1].end[0]) == pytest.approx(exact, rel=1e-8)
    assert len(taken) < 200
    with pytest.raises(StiffError):
        list(steps(f, start, 2.0, rtol=1e-8, atol=torch.full((3,), 1e-10, dtype=torch.float64), most=5))


@pytest.mark.parametrize("hold", ["volume", "pressure"])
def test_jacobian(gas: Gas, hold: str) -> None:
    """Gradcheck: the written-out Jacobian beside reverse sweeps."""
    reactor = _closed(gas, hold)
    y = torch.cat((torch.tensor([1500.0], dtype=torch.float64), 0.5 * reactor.Y + 0.5 / len(reactor.Y)))
    leaf = y.clone().requires_grad_()
    sweeps = torch.stack([torch.autograd.grad(reactor.rate(leaf[None])[0, k], leaf)[0] for k in range(len(y))])
    rate, J = reactor.linearised(y[None])
    assert torch.allclose(J[0], sweeps, rtol=1e-12, atol=1e-12 * float(sweeps.abs().max()))
    assert torch.allclose(rate[0], reactor.rate(y[None])[0], rtol=1e-12)


@pytest.mark.parametrize("hold", ["volume", "pressure"])
def test_delay_beside_cantera(gas: Gas, hold: str) -> None:
    """Parity: 1e-4, of both events; Cantera's read off steps of at most 50 ns."""
    reactor = _closed(gas, hold)
    ours = [float(ignition_delay(reactor, rise=rise)) for rise in (None, 400.0)]
    state = ct.Solution("h2o2.yaml")
    state.TPX = 1100.0, 2e5, FEED
    kind = ct.IdealGasReactor if hold == "volume" else ct.IdealGasConstPressureReactor
    own = kind(state, clone=False)
    net = ct.ReactorNet([own])
    net.rtol, net.atol, net.max_time_step = 1e-10, 1e-16, 5e-8
    t, T = [], []
    while net.time < 1.5 * max(ours):
        net.step()
        t.append(net.time)
        T.append(own.T)
    t, T = np.array(t), np.array(T)
    k = int(np.argmax(T > 1500.0))
    crossed = np.interp(1500.0, T[k - 2 : k + 2], t[k - 2 : k + 2])
    middle, slope = 0.5 * (t[1:] + t[:-1]), np.diff(T) / np.diff(t)
    k = int(np.argmax(slope))
    near = slice(k - 10, k + 11)
    a, b, _ = np.polyfit(middle[near] - middle[k], slope[near] / slope[k], 2)
    assert ours[0] == pytest.approx(middle[k] - b / (2 * a), rel=1e-4)
    assert ours[1] == pytest.approx(crossed, rel=1e-4)


@pytest.mark.parametrize("rise", [None, 400.0])
def test_delay_gradients(gas: Gas, rise: float | None) -> None:
    """Gradcheck: a rate constant, temperature and pressure beside central differences over the same steps, 1e-6.

    Steps are kept, since those chosen anew move a delay by their error, which a difference would divide by its step.
    """
    event = ignition._steepest if rise is None else ignition._above(rise)
    tolerance = torch.full((len(gas.W) + 1,), 1e-12, dtype=torch.float64)

    def reactor(x: torch.Tensor) -> ClosedReactor:  # ln k, ln T, ln p
        rates, factor = gas.rate_parameters, torch.ones_like(gas.rate_parameters.A)
        rates = dataclasses.replace(rates, A=rates.A * torch.cat((factor[:10], x[:1].exp(), factor[11:])))
        return _closed(gas, T=1100 * x[1].exp(), p=2e5 * x[2].exp(), rates=rates)

    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    tau = ignition_delay(reactor(x), rise=rise, rtol=1e-4)
    (exact,) = torch.autograd.grad(tau, x)
    taken = ignite(reactor(x), rise=rise, longest=1.0, rtol=1e-4).taken

    def again(x: torch.Tensor) -> float:
        own = reactor(x).detached()
        y = own.start
        for step in taken:
            scale = tolerance + 1e-6 * y.abs()
            made = stepped(own.linearised, step.t, y, step.h, scale)
            assert made is not None
            last = made[0]
            y = last.end if step is not taken[-1] else y
        ends = []
        for factor in (0.5, 1.3):
            wide = stepped(own.linearised, last.t, y, factor * last.h, scale)
            assert wide is not None
            ends.append((wide, float(event(own, wide[0].end).detach())))
        low, high = (h * last.h for h in (0.5, 1.3))
        for _ in range(60):  # by halves
            middle = 0.5 * (low + high)
            cut = stepped(own.linearised, last.t, y, middle, scale)
            assert cut is not None
            if float(event(own, cut[0].end).detach()) < 0:
                low = middle
            else:
                high = middle
        assert ends[0][1] < 0 < ends[1][1]
        return last.t + 0.5 * (low + high)

    for k, move in enumerate((1e-5, 1e-6, 1e-5)):  # of about the same effect
        unit = torch.zeros(3, dtype=torch.float64)
        unit[k] = move
        difference = (again(unit) - again(-unit)) / (2 * move)
        assert float(exact[k]) == pytest.approx(difference, rel=1e-6)


def test_no_ignition(gas: Gas) -> None:
    """A cold gas does not ignite, and it is said."""
    with pytest.raises(SolveError, match="no ignition within"):
        ignition_delay(_closed(gas, T=torch.tensor(600.0)), longest=1e-3)
    with pytest.raises(ValueError, match="rise"):
        ignition_delay(_closed(gas), rise=-1.0)


@pytest.mark.parametrize("rise", [None, 400.0])
def test_many_at_once_are_those_one_by_one(gas: Gas, rise: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes its own steps; one evaluation serves all, and what does not ignite is told in its place."""
    calls = []
    plain = ClosedReactor.linearised
    monkeypatch.setattr(ClosedReactor, "linearised", lambda *own: calls.append(len(own[1])) or plain(*own))
    states = [(1100.0, 2e5), (1300.0, 1e5), (600.0, 1e5), (1200.0, 8e5)]
    reactors = [_closed(gas, T=torch.tensor(T), p=torch.tensor(p)) for T, p in states]
    together = ignite_all(reactors, rise=rise, longest=1e-3)
    once, asked = len(calls), sum(calls)
    alone = [ignite(reactor, rise=rise) for k, reactor in enumerate(reactors) if k != 2]
    assert isinstance(together[2], SolveError) and "no ignition within" in str(together[2])
    for mine, theirs in zip((together[0], together[1], together[3]), alone, strict=True):
        assert not isinstance(mine, SolveError)
        assert mine.delay == pytest.approx(theirs.delay, rel=1e-11)
        assert len(mine.taken) == len(theirs.taken)
    assert once < 0.5 * (len(calls) - once) and max(calls[:once]) == 12 and asked > sum(calls[once:])
    with pytest.raises(ValueError, match="one thing that is held"):
        ignite_all([_closed(gas), _closed(gas, "pressure")])


def _stirred(gas: Gas, residence: float, **changes: object) -> StirredReactor:
    state = ct.Solution("h2o2.yaml")
    state.TPX = 300.0, 101325.0, FEED
    own = {"T_in": torch.tensor(300.0), "p": torch.tensor(101325.0), "Y_in": torch.as_tensor(state.Y), **changes}
    return StirredReactor(gas=gas, residence=torch.tensor(residence, dtype=torch.float64), **own)  # type: ignore[arg-type]


def test_stirred_beside_cantera(gas: Gas) -> None:
    """Parity: 1e-6 of temperature and of every mass fraction above 1e-6."""
    residence = 1e-4
    T, Y = stirred(_stirred(gas, residence))
    fresh, state = ct.Solution("h2o2.yaml"), ct.Solution("h2o2.yaml")
    fresh.TPX = state.TPX = 300.0, 101325.0, FEED
    state.equilibrate("HP")
    own = ct.IdealGasConstPressureReactor(state, clone=False)
    inlet = ct.MassFlowController(ct.Reservoir(fresh, clone=False), own, mdot=lambda t: own.mass / residence)
    ct.PressureController(own, ct.Reservoir(fresh, clone=False), primary=inlet, K=0.0)
    net = ct.ReactorNet([own])
    net.rtol, net.atol = 1e-12, 1e-18
    net.advance(1.0)
    assert float(T) == pytest.approx(state.T, rel=1e-6)
    large = state.Y > 1e-6
    assert np.abs(Y.numpy()[large] / state.Y[large] - 1).max() < 1e-6


def test_stirred_gradients_and_blow_out(gas: Gas) -> None:
    """Gradcheck: rate constants and residence time; below the shortest time the reactor goes out, and it is said."""

    def temperature(x: torch.Tensor) -> torch.Tensor:
        rates = gas.rate_parameters
        factor = torch.ones_like(rates.A)
        rates = dataclasses.replace(rates, A=rates.A * torch.cat((factor[:10], x[:1].exp(), factor[11:])))
        reactor = dataclasses.replace(_stirred(gas, 1e-4), rates=rates, residence=1e-4 * x[1].exp())
        return stirred(reactor)[0]

    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(temperature(x), x)
    for k in range(2):
        unit = torch.zeros(2, dtype=torch.float64)
        unit[k] = 1e-4
        with torch.no_grad():
            difference = float(temperature(unit) - temperature(-unit)) / 2e-4
        assert float(exact[k]) == pytest.approx(difference, rel=1e-6)
    with pytest.raises(SolveError, match="goes out at a residence time"):
        stirred(_stirred(gas, 1e-7))


def _crossed(state: "ct.Solution", rise: float, near: float) -> float:
    """Cantera's time until the gas of a closed vessel is hotter by so much, from steps that are short beside `near`."""
    start = state.T
    net = ct.ReactorNet([own := ct.IdealGasReactor(state, clone=False)])
    net.rtol, net.atol, net.max_time_step = 1e-10, 1e-18, near / 2000
    t, T = [0.0], [start]
    while T[-1] < start + 1.2 * rise:
        net.step()
        t.append(net.time)
        T.append(own.T)
    return float(np.interp(start + rise, T, t))


def _delay_over_cantera(state: "ct.Solution", whole: Gas) -> float:
    first = torch.tensor(state.T), torch.tensor(state.P), torch.as_tensor(state.Y)
    tau = float(ignition_delay(ClosedReactor(gas=whole, T=first[0], p=first[1], Y=first[2]), rise=400.0))
    return tau / _crossed(state, 400.0, tau)


def test_methane_ignites_as_in_cantera() -> None:
    """Parity: GRI-Mech 3.0, with fall-off; 1e-4 (5e-9 is found)."""
    state = ct.Solution("gri30.yaml")
    state.TPX = 1300.0, 1e6, "CH4:1, O2:2, N2:7.52"
    assert _delay_over_cantera(state, Gas(load_mechanism(Path(ct.__file__).parent / "data" / "gri30.yaml"))) == (
        pytest.approx(1.0, rel=1e-4)
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:NasaPoly2")
def test_rates_over_pressure_ignite_as_in_cantera() -> None:
    """Parity: what NUIG's mechanism of hexane says of up to two carbons: 94 species, 523 reactions, 1e-4."""
    file = str(Path(ct.__file__).parent / "data" / "example_data" / "n-hexane-NUIG-2015.yaml")
    species = [one for one in ct.Species.list_from_file(file) if one.composition.get("C", 0) <= 2]
    names = {one.name for one in species}
    reactions = [one for one in ct.Solution(file).reactions() if {*one.reactants, *one.products} <= names]
    for one in reactions:
        if one.third_body is not None:
            one.third_body.efficiencies = {k: v for k, v in one.third_body.efficiencies.items() if k in names}
    assert any(one.reaction_type == "pressure-dependent-Arrhenius" for one in reactions)
    state = ct.Solution(thermo="ideal-gas", kinetics="gas", species=species, reactions=reactions)
    state.TPX = 1300.0, 1e6, "CH4:1, O2:2, N2:7.52"
    assert _delay_over_cantera(state, Gas(load_mechanism(state))) == pytest.approx(1.0, rel=1e-4)
