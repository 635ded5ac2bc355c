"""What is read off a solved flame: profiles against x or another field, scalars, and their derivatives by columns."""

from collections.abc import Callable, Sequence
from typing import TypeGuard

import torch

from simengine.flame.equations.base import AbstractFlame, AbstractFlameProblem
from simengine.flame.equations.counterflow import DiffusionFlame
from simengine.flame.equations.detailed import AbstractDetailedFlame
from simengine.flame.solver.solution import FlameSolution
from simengine.scene.asks import Series
from simengine.scene.base import SceneError
from simengine.scene.strict import nearest

# unit, least and largest value that is no mistake of units
PLAUSIBLE = {
    "T_in": ("K", 150.0, 3000.0),  # behind shock waves
    "T_right": ("K", 150.0, 3000.0),
    "T_wall": ("K", 150.0, 3000.0),
    "p": ("Pa", 500.0, 5e7),
    "phi": ("1", 1e-3, 100.0),
    "flame_speed": ("m/s", 0.0, 15.0),  # only preheated hydrogen with oxygen burns faster
    "consumption_speed": ("m/s", 0.0, 15.0),
    "ignition_delay": ("s", 1e-8, 100.0),
    "stirred_T": ("K", 150.0, 6000.0),
    "residence": ("s", 1e-7, 1e3),
    "T_max": ("K", 150.0, 6000.0),
    "T": ("K", 100.0, 6000.0),
}
DENSE = 4  # points between two of the solution where a profile is inverted or integrated


def named_profiles(flame: AbstractFlame, y: torch.Tensor, z: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
    """Fields by name at q points, (q, names): those of the flame, `Y_CH4`, and `X_CH4` of a real gas.

    Raises:
        SceneError: There is no field of that name.
    """
    known = flame.profiles(y, z)
    columns = []
    for name in names:
        species = name[2:]
        if name in known:
            columns.append(known[name][0])
        elif name[:2] == "Y_" and species in known:
            columns.append(known[species][0])
        elif name[:2] == "X_" and isinstance(flame, AbstractDetailedFlame) and species in flame.gas.mechanism.species:
            K = len(flame.gas.mechanism.species)
            columns.append(flame.gas.mole_fractions(y[..., -K:])[0, :, flame.gas.mechanism.index(species)])
        else:
            raise SceneError(f"{name!r} is no field of this flame; {nearest(name, list(scalars_of(flame)))}")
    return torch.stack(columns, -1)


def profiles(
    flame: AbstractFlame,
    problem: AbstractFlameProblem,
    state: torch.Tensor,
    ask: Series,
    places: torch.Tensor,
    slopes: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Values at places (q,), (q, names); to first order at the places where the abscissa keeps its value."""
    fields, z = problem.unpack(state)
    y = problem.mesh.interpolate(fields, places[None])
    values = named_profiles(flame, y, z[:, 0, 0, 0], ask.names)
    if slopes is None or ask.against == "x":
        return values
    along, across = slopes
    level = named_profiles(flame, y, z[:, 0, 0, 0], (ask.against,))[:, 0]
    return values - across * ((level - level.detach()) / along)[:, None]


def slopes_along(found: FlameSolution, ask: Series, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """d/dx of the abscissa (q,) and of the values (q, names) at places."""
    if ask.against == "x":
        return None
    step = 1e-6 * float(found.x.max() - found.x.min())
    low, high = found.x[0].min(), found.x[0].max()
    ends = [(places + s * step).clamp(low, high) for s in (-1, 1)]
    with torch.no_grad():
        both = [named_profiles(found.flame, found.at(at), found.eigenvalue, (ask.against, *ask.names)) for at in ends]
    slope = (both[1] - both[0]) / (ends[1] - ends[0])[:, None]
    return slope[:, 0], slope[:, 1:]


def places_of(found: FlameSolution, ask: Series) -> torch.Tensor:
    """Where along x the abscissa has its values, (q,) [m].

    Raises:
        SceneError: Beyond the nozzles, or where the abscissa turns back.
    """
    values = ask.values.detach().to(torch.float64)
    low, high = float(found.x.min()), float(found.x.max())
    if ask.against == "x":
        if found.flame.folds and len(values) and not (low <= float(values.min()) and float(values.max()) <= high):
            raise SceneError(
                f"x goes from {float(values.min()):g} to {float(values.max()):g} m, the flame from {low:g} to {high:g} "
                "m; cut the observation by `within`, or shift it"
            )
        return values.clamp(low, high)  # beyond a free flame the gas is fresh or burnt
    x = _between(found.x[0])
    with torch.no_grad():
        level = named_profiles(found.flame, found.at(x), found.eigenvalue, (ask.against,))[:, 0]
    if float(level[0]) > float(level[-1]):
        x, level = x.flip(0), level.flip(0)
    back = float((torch.cummax(level, 0).values - level).max())
    if back > 1e-3 * float(level.max() - level.min()):
        raise SceneError(f"{ask.against!r} turns back along this flame, so nothing can be told against it; use x")
    level = torch.cummax(level, 0).values
    k = torch.searchsorted(level.contiguous(), values.contiguous()).clamp(1, len(level) - 1)
    part = ((values - level[k - 1]) / (level[k] - level[k - 1]).clamp_min(1e-300)).clamp(0.0, 1.0)
    at, ends = x[k - 1] + part * (x[k] - x[k - 1]), (torch.minimum(x[k - 1], x[k]), torch.maximum(x[k - 1], x[k]))
    for _ in range(3):  # from the straight piece to the solution's own polynomial
        slopes = slopes_along(found, ask, at)
        assert slopes is not None
        with torch.no_grad():
            off = named_profiles(found.flame, found.at(at), found.eigenvalue, (ask.against,))[:, 0] - values
        step = torch.where(slopes[0] == 0, 0.0, off / slopes[0])
        at = torch.minimum(torch.maximum(at - step, ends[0]), ends[1])
    return at


def scalars(
    flame: AbstractFlame, problem: AbstractFlameProblem, state: torch.Tensor, names: Sequence[str]
) -> torch.Tensor:
    """Scalars by name, (names,)."""
    fields, z = problem.unpack(state)
    T = fields[..., flame.fields.index("T")].flatten(1)[0]
    known = {name: value[0] for name, value in flame.figures(z[:, 0, 0, 0]).items()}
    known |= {"T_max": T.max(), "thickness": _thickness(problem.mesh.x.flatten(), T)}
    if "consumption_speed" in names and consumes(flame):
        x = _between(problem.mesh.x.flatten())[None]
        known["consumption_speed"] = _consumption(flame, x, problem.mesh.interpolate(fields, x), T.max())
    for name in names:
        if name not in known:
            raise SceneError(f"{name!r} is no scalar of this flame; {nearest(name, known)}")
    return torch.stack([known[name] for name in names])


def _thickness(x: torch.Tensor, T: torch.Tensor) -> torch.Tensor:
    step = x.diff()
    inside = step > 0
    return (T.max() - T.min()) / (T.diff()[inside] / step[inside]).abs().max()


def consumes(flame: AbstractFlame) -> TypeGuard[AbstractDetailedFlame]:
    """Whether a consumption speed has a meaning: of fresh gas that burns, not of streams that mix."""
    return isinstance(flame, AbstractDetailedFlame) and not isinstance(flame, DiffusionFlame)


def _between(x: torch.Tensor) -> torch.Tensor:
    """Points of a solution (N,), once each, and `DENSE` - 1 between any two."""
    x = x.unique()
    share = torch.arange(DENSE, dtype=x.dtype) / DENSE
    return torch.cat(((x[:-1, None] + x.diff()[:, None] * share).flatten(), x[-1:]))


def _consumption(flame: AbstractDetailedFlame, x: torch.Tensor, y: torch.Tensor, hottest: torch.Tensor) -> torch.Tensor:
    """Integral of heat/cp over that of fresh gas heated to `hottest` [K], () [m/s]; x (1, q), y (1, q, m)."""
    first = flame.fields.index("T")
    T, Y = y[..., first], y[..., first + 1 :]
    burnt = torch.trapezoid(flame.heat_release(T, Y) / flame.gas.cp(T, Y), x)[0]
    return burnt / (flame.rho_in[0] * (hottest - flame.T_in.expand(1)[0]))


def scalars_of(flame: AbstractFlame) -> dict[str, str]:
    """Every scalar and field of a flame and its unit."""
    figures = {"flame_speed": "m/s", "mass_flux": "kg/(m^2 s)", "pressure_curvature": "Pa/m^2"}
    found = {name: figures[name] for name in flame.figures(torch.zeros(flame.batch, dtype=torch.float64))}
    found |= {"T_max": "K", "thickness": "m", "T": "K", "u": "m/s", "rho": "kg/m^3", "heat": "W/m^3"}
    if not isinstance(flame, AbstractDetailedFlame):
        return {**found, "Y_F": "1", "omega": "kg/(m^3 s)"}
    if consumes(flame):
        found["consumption_speed"] = "m/s"
    if flame.folds:
        found["V"] = "1/s"
    if isinstance(flame, DiffusionFlame):
        found["Z"] = "1"
    for name in flame.gas.mechanism.species:
        found |= {name: "1", f"Y_{name}": "1", f"X_{name}": "1"}
    return found


def columns(function: Callable[[torch.Tensor], torch.Tensor], z: torch.Tensor) -> torch.Tensor:
    """Derivatives of a function of a few numbers z (p,), shape (*shape, p).

    The vector-Jacobian product is linear in its vector u, so its derivative in u is the Jacobian, a column at a time.
    """
    z = z.detach().requires_grad_()
    with torch.enable_grad():
        value = function(z)
        if not value.requires_grad:  # a place in space is no number of the equations
            return torch.zeros(*value.shape, len(z), dtype=value.dtype)
        u = torch.zeros_like(value, requires_grad=True)
        (pulled,) = torch.autograd.grad(value, z, u, create_graph=True)
        columns = [torch.autograd.grad(entry, u, retain_graph=True)[0] for entry in pulled]
    return torch.stack(columns, dim=-1)
