"""Parameters of a flame from profiles measured in it, by Levenberg-Marquardt with implicit derivatives."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from simengine.fit.least_squares_training import LeastSquaresTraining
from simengine.fit.parameters import ParameterSet
from simengine.flame.equations.base import AbstractFlame, AbstractFlameProblem
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.solve import AbstractFlameSolver, SpectralSolver

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

Noise = Literal["relative", "absolute"]
OFFSET = "offset"  # [m] by which measured positions are too large: no parameter of a flame, but of its measurement


class FlameTraining(LeastSquaresTraining):
    """Finds parameters of a flame from values of its profiles at a few points.

    Residuals are in standard deviations of the noise (in units of the data where there is none): logarithms of ratios
    for `"relative"` noise, differences over the largest value for `"absolute"`. The Jacobian is implicit: per iteration
    one factorisation and one solve for all parameters.

    Args:
        flame: With the parameters that are not sought; a single condition.
        parameters: Names of the flame's parameters, and `offset` [m] by which all x are too large, where x may have
            been measured from elsewhere than the flame's own origin.
        x: Where was measured [m], shape (q,).
        measured: Profile name -> values, shape (q,).
        noise: Relative standard deviation; 0 to estimate it from the residual.
        scaling: What the noise is relative to: each value, or the largest of its profile.
        solver: Of the flame.
        truth: The flame the data are from, where it is known; drawn beside the fit.
        num_iterations: At most so many steps.
    """

    def __init__(
        self,
        flame: AbstractFlame,
        parameters: ParameterSet,
        *,
        x: torch.Tensor,
        measured: Mapping[str, torch.Tensor],
        noise: float = 0.0,
        scaling: Noise = "relative",
        solver: AbstractFlameSolver | None = None,
        truth: FlameSolution | None = None,
        num_iterations: int = 30,
    ) -> None:
        for name in parameters.names:
            if name != OFFSET:
                flame.parameter(name)  # says which there are
        with torch.no_grad():
            y, z = flame.guess(flame.edges()[:, None, :])
            known = flame.profiles(y[:, 0], z)
        for name in measured:
            if name not in known:
                raise ValueError(f"{name[:40]!r} is no profile of this flame; known: {', '.join(known)[:300]}")
        if scaling == "relative" and any(bool((value <= 0).any()) for value in measured.values()):
            raise ValueError("measured: relative noise needs positive values; use scaling='absolute'")
        self.flame, self.x, self.measured, self.noise, self.scaling = flame, x, dict(measured), noise, scaling
        self.solver = solver or SpectralSolver()
        self.truth = truth
        self.last: FlameSolution | None = None
        self._tried: tuple[tuple[float, ...], FlameSolution | None] | None = None  # the accepted trial is solved once
        super().__init__(
            parameters,
            self._residual,
            jacobian=self._jacobian,
            num_iterations=num_iterations,
            tolerance=1e-9,
            sigma=1.0 if noise else None,
        )

    def solve(self, values: Mapping[str, torch.Tensor]) -> FlameSolution | None:
        """The flame with these parameters, from the last one found; None where there is none."""
        key = tuple(float(value.detach()) for value in values.values())
        if self._tried is not None and self._tried[0] == key:
            return self._tried[1]
        flame = self._flame({name: value.detach() for name, value in values.items()})
        solution = self.solver.solve(flame, start=self.last, throw=False)
        if not solution.success and self.last is not None:
            solution = self.solver.solve(flame, throw=False)
        found = solution.value if solution.success else None
        self._tried = (key, found)
        return found

    def _flame(self, values: Mapping[str, torch.Tensor]) -> AbstractFlame:
        return self.flame.replace(**{name: value for name, value in values.items() if name != OFFSET})

    def _fields(self, found: FlameSolution, state: torch.Tensor, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Fields of a state where was measured, (1, q, m); linear in the offset about its value in `values`."""
        mesh, fields = found.problem.mesh, found.problem.unpack(state)[0]
        if OFFSET not in values:
            return mesh.interpolate(fields, self.x[None])
        offset, step = values[OFFSET], 1e-7 * float(self.x.max() - self.x.min())
        ends = mesh.edges.detach()
        at = torch.minimum(torch.maximum(self.x[None] - offset.detach(), ends[:, :1] + step), ends[:, -1:] - step)
        slope = (mesh.interpolate(fields, at + step) - mesh.interpolate(fields, at - step)).detach() / (2 * step)
        return mesh.interpolate(fields, at) - slope * (offset - offset.detach())

    def _compare(self, profiles: Mapping[str, torch.Tensor]) -> torch.Tensor:
        unit = self.noise or 1.0
        parts = []
        for name, values in self.measured.items():
            if self.scaling == "relative":
                parts.append((profiles[name][0] / values).log() / unit)
            else:
                parts.append((profiles[name][0] - values) / (unit * values.abs().max()))
        return torch.cat(parts)

    def _residual(self, values: dict[str, torch.Tensor]) -> torch.Tensor:
        found = self.solve(values)
        if found is None:
            return torch.full((sum(v.numel() for v in self.measured.values()),), torch.inf, dtype=torch.float64)
        with torch.no_grad():
            y = self._fields(found, found.state, values)
        return self._compare(found.flame.profiles(y, found.eigenvalue))

    def _tangents(self, parameters: ParameterSet) -> tuple[FlameSolution, torch.Tensor]:
        """The flame at the current parameters, and the derivatives of its unknowns in their coordinates."""
        with torch.no_grad():
            found = self.solve(parameters())
        if found is None:
            raise RuntimeError(f"no flame found at {parameters.values()}; start from other values or bound them")
        self.last = found

        def residual(z: torch.Tensor) -> torch.Tensor:
            return found.problem.of(self._flame(parameters(z))).residual(found.state)

        return found, found.tangents(columns(residual, parameters.z.detach()))

    def _jacobian(self, parameters: ParameterSet) -> tuple[torch.Tensor, torch.Tensor]:
        found, tangents = self._tangents(parameters)
        z = parameters.z.detach()

        def observed(step: torch.Tensor) -> torch.Tensor:
            state = found.state + tangents @ step
            values = parameters(z + step)
            return self._compare(self._flame(values).profiles(self._fields(found, state, values), state[:, 0, -1]))

        still = torch.zeros_like(z)
        with torch.no_grad():
            r = observed(still)
        return r, columns(observed, still)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Coordinates, damping, and the flame the next solve starts from."""
        state = super().state_dict()
        if self.last is not None:
            mesh = self.last.problem.mesh
            state |= {"edges": mesh.edges, "anchor": torch.tensor(mesh.anchor), "flame": self.last.state}
        return state

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        super().load_state_dict(state)
        if "flame" in state:
            problem = self.solver.problem(self.flame, state["edges"], int(state["anchor"]))
            problem = problem.near(*_fields(problem, state["flame"]))
            self.last = FlameSolution(self.flame, problem, state["flame"])

    def uncertainty(self) -> dict[str, Any]:
        """As for any least squares, and the eigenvalue with the standard deviation that the parameters leave it."""
        r, j = self.jacobian(self.parameters)
        known = widened(super().uncertainty(), r, given=self.sigma is not None, remedy=_REMEDY)
        found, tangents = self._tangents(self.parameters)
        covariance = known["sigma"] ** 2 * torch.linalg.pinv(j.T @ j, hermitian=True)

        def figures(step: torch.Tensor) -> torch.Tensor:
            flame = self._flame(self.parameters(self.parameters.z.detach() + step))
            return torch.cat(list(flame.figures(found.eigenvalue + tangents[:, 0, -1] @ step).values()))

        still = torch.zeros(len(self.parameters.names), dtype=torch.float64)
        slopes = columns(figures, still)
        for name, value, slope in zip(found.flame.figures(found.eigenvalue), figures(still), slopes, strict=True):
            known[name] = float(value)
            known[f"{name}_std"] = float((slope @ covariance @ slope).clamp_min(0.0).sqrt())
        known["rms"] = float(r.square().mean().sqrt())
        return known

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write `fit.json`, `profiles.npz` and `profiles.png`: the flame found, its data, and the truth where known."""
        from simengine.view.figures import curves

        summary = super().finish(out)
        found = self._tangents(self.parameters)[0]
        solutions = [found] if self.truth is None else [found, self.truth]
        margin = 0.2 * float(self.x.max() - self.x.min())
        first = max(float(self.x.min()) - margin, *(float(s.x.min()) for s in solutions), -float("inf"))
        last = min(float(self.x.max()) + margin, *(float(s.x.max()) for s in solutions), float("inf"))
        x = torch.linspace(first, last, 400, dtype=torch.float64)
        profiles = {name: value[0].numpy() for name, value in found.profiles(x).items()}
        out.write("profiles.npz", {"x": x.numpy(), **profiles})
        truth = {} if self.truth is None else {k: v[0].numpy() for k, v in self.truth.profiles(x).items()}
        millimetres = x.numpy() * 1e3
        panels: dict[str, dict[str, tuple[Any, Any]]] = {}
        for name, values in self.measured.items():
            panels[UNITS.get(name, name)] = {
                **({"true": (millimetres, truth[name])} if truth else {}),
                "found": (millimetres, profiles[name]),
                "measured": (np.asarray(self.x) * 1e3, values.numpy()),
            }
        out.write("profiles.png", curves(panels, xlabel="x [mm]", points=("measured",)))
        if truth and self.truth is not None:
            names = [name for name in self.parameters.names if name != OFFSET]
            summary["true"] = {name: float(self.truth.flame.parameter(name)) for name in names}
            summary["true"] |= {k: float(v) for k, v in self.truth.flame.figures(self.truth.eigenvalue).items()}
        return summary


_REMEDY = (
    "look at profiles.png: are x, the mixture and the noise those of the measurement? Where x may be shifted, seek "
    "offset = { initial = 0.0, lower = -1e-3, upper = 1e-3 }"
)


def widened(known: dict[str, Any], r: torch.Tensor, *, given: bool, remedy: str) -> dict[str, Any]:
    """Uncertainty of a fit whose misfit may exceed the noise it was given: then it is the misfit that counts.

    Where chi-square lies more than five standard deviations above the degrees of freedom, something beside noise is in
    the data or missing in the model. Standard deviations grow by the ratio, nothing counts as identified, and `warning`
    says so.

    Args:
        known: What `LeastSquaresTraining.uncertainty` found.
        r: Residuals in standard deviations of the noise, shape (m,).
        given: Whether the noise was given and not estimated from r.
        remedy: What to look for.
    """
    freedom = max(len(r) - len(known["identified"]), 1)
    chi_square = float(r.square().sum()) / freedom
    if not given or chi_square < 1 + 5 * (2 / freedom) ** 0.5:
        return known
    ratio = chi_square**0.5
    return {
        **known,
        "sigma": known["sigma"] * ratio,
        **({"std": {name: std * ratio for name, std in known["std"].items()}} if "std" in known else {}),
        "identified": dict.fromkeys(known["identified"], False),
        "warning": f"the misfit is {ratio:.3g} times the noise, so that no standard deviation holds; {remedy}",
    }


def _fields(problem: AbstractFlameProblem, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Fields and eigenvalues of a state."""
    y, z = problem.unpack(state)
    return y, z[:, 0, 0, 0]


def columns(function: Callable[[torch.Tensor], torch.Tensor], z: torch.Tensor) -> torch.Tensor:
    """Derivatives of a function of a few numbers z (p,), shape (*shape, p).

    The vector-Jacobian product is linear in its vector u, so its derivative in u is the Jacobian, a column at a time.
    """
    z = z.detach().requires_grad_()
    with torch.enable_grad():
        value = function(z)
        u = torch.zeros_like(value, requires_grad=True)
        (pulled,) = torch.autograd.grad(value, z, u, create_graph=True)
        columns = [torch.autograd.grad(entry, u, retain_graph=True)[0] for entry in pulled]
    return torch.stack(columns, dim=-1)


UNITS = {
    "T": "T [K]",
    "u": "u [m/s]",
    "rho": "rho [kg/m^3]",
    "V": "V [1/s]",
    "omega": "omega [kg/(m^3 s)]",
    "heat": "heat release [W/m^3]",
}
