"""Kinetics from measured flame speeds: one batch of flames a step, least squares with implicit derivatives."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simengine.fit.least_squares_training import LeastSquaresTraining
from simengine.fit.parameters import ParameterSet
from simengine.flame.equations.free import FreeFlame
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.solve import AbstractFlameSolver, SpectralSolver
from simengine.worlds.flames.training import columns, widened

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory


IMPLAUSIBLE = 20.0  # times faster or slower than computed at the start: a mistake of units


_REMEDY = (
    "look at speeds.png: are fuel, oxidiser, T_in, p and sigma those of the measurements, and may the rate follow them?"
)


class FlameSpeedTraining(LeastSquaresTraining):
    """Finds parameters of the mechanism from flame speeds at several conditions.

    Residuals are ln(sL/measured) over the relative noise.

    Args:
        flame: At the measured conditions, a batch.
        parameters: Names of the flame's parameters, `A` or `Ea-0` for instance.
        measured: Flame speeds [m/s], shape (b,).
        noise: Relative standard deviation of the measurements, one or each its own (b,); 0 to estimate it from the
            residual.
        solver: Of the flames.
        further: Measurements outside the fit, phi and speed, each (c,); drawn beside it.
        num_iterations: At most so many steps.
    """

    def __init__(
        self,
        flame: FreeFlame,
        parameters: ParameterSet,
        *,
        measured: torch.Tensor,
        noise: float | torch.Tensor = 0.0,
        solver: AbstractFlameSolver | None = None,
        further: tuple[torch.Tensor, torch.Tensor] | None = None,
        num_iterations: int = 15,
    ) -> None:
        for name in parameters.names:
            flame.parameter(name)
        if measured.shape != (flame.batch,) or not bool((measured > 0).all()):
            raise ValueError(f"measured: expected {flame.batch} positive speeds, got {measured.tolist()}")
        known = bool(torch.as_tensor(noise).gt(0).all())
        self.flame, self.measured, self.further = flame, measured, further
        self.unit = torch.as_tensor(noise if known else 1.0, dtype=torch.float64)  # of the residual
        self.solver = solver or SpectralSolver(resolution=1e-5)
        self.last: FlameSolution | None = None
        sigma = 1.0 if known else None
        super().__init__(
            parameters,
            self._residual,
            jacobian=self._jacobian,
            num_iterations=num_iterations,
            tolerance=1e-6,
            sigma=sigma,
        )

    def _with(self, values: dict[str, torch.Tensor]) -> FreeFlame:
        flame = self.flame.replace(**values)
        assert isinstance(flame, FreeFlame)
        return flame

    def _solve(self, values: dict[str, torch.Tensor]) -> FlameSolution | None:
        flame = self._with({name: value.detach() for name, value in values.items()})
        for start in (self.last, None):
            solution = self.solver.solve(flame, start=start, throw=False)
            if solution.success:
                return solution.value
        return None

    def _compare(self, speeds: torch.Tensor) -> torch.Tensor:
        return (speeds / self.measured).log() / self.unit

    def _residual(self, values: dict[str, torch.Tensor]) -> torch.Tensor:
        found = self._solve(values)
        if found is None:
            return torch.full_like(self.measured, torch.inf)
        return self._compare(found.flame.figures(found.eigenvalue)["flame_speed"])

    def _jacobian(self, parameters: ParameterSet) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            found = self._solve(parameters())
        if found is None:
            raise RuntimeError(f"no flame found at {parameters.values()}; start from other values or bound them")
        if self.last is None:
            self._plausible(found)
        self.last = found
        z = parameters.z.detach()

        def residual(z: torch.Tensor) -> torch.Tensor:
            return found.problem.of(self._with(parameters(z))).residual(found.state)

        tangents = found.tangents(columns(residual, z))[:, 0, -1]  # of the mass flux, (b, p)

        def compared(step: torch.Tensor) -> torch.Tensor:
            flame = self._with(parameters(z + step))
            return self._compare(flame.flame_speed(found.eigenvalue + tangents @ step))

        still = torch.zeros_like(z)
        return compared(still), columns(compared, still)

    def _plausible(self, found: FlameSolution) -> None:
        """Refuse speeds that no rate constant will explain, before a fit tries to."""
        ratio = float((self.measured / found.flame.figures(found.eigenvalue)["flame_speed"]).log().median().exp())
        if not 1 / IMPLAUSIBLE < ratio < IMPLAUSIBLE:
            raise ValueError(
                f"measured: the speeds are {ratio:.3g} times those of the mechanism at the start; are they in m/s, and "
                "fuel, oxidiser, T_in and p those of the measurements?"
            )

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Coordinates, damping, and the flames the next solve starts from."""
        state = super().state_dict()
        if self.last is not None:
            mesh = self.last.problem.mesh
            state |= {"edges": mesh.edges, "anchor": torch.tensor(mesh.anchor), "flame": self.last.state}
        return state

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:  # type: ignore[override]
        """Continue from what `state_dict` returned."""
        super().load_state_dict(state)
        if "flame" in state:
            problem = self.solver.problem(self.flame, state["edges"], int(state["anchor"]))
            y, z = problem.unpack(state["flame"])
            problem = problem.near(y, z[:, 0, 0, 0])
            self.last = FlameSolution(self.flame, problem, state["flame"])

    def uncertainty(self) -> dict[str, Any]:
        """As for any least squares; a misfit beyond the noise widens what is found."""
        r, _ = self.jacobian(self.parameters)
        return widened(super().uncertainty(), r, given=self.sigma is not None, remedy=_REMEDY)

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write `fit.json`, `speeds.npz` and `speeds.png`: speeds over phi with data, before and after."""
        from simengine.view.figures import curves

        before = self.flame.replace(**{name: self.flame.parameter(name) for name in self.parameters.names})
        summary = super().finish(out)
        phi = self.flame.phi
        low, high = float(phi.min()), float(phi.max())
        if self.further is not None:
            low, high = min(low, float(self.further[0].min())), max(high, float(self.further[0].max()))
        dense = torch.linspace(low, high, 13, dtype=torch.float64)
        lines: dict[str, tuple[Any, Any]] = {}
        rows: dict[str, list[Any]] = {"phi": [], "T_in": [], "p": [], "speed": []}
        conditions = sorted(
            set(zip(*(v.expand(phi.shape).tolist() for v in (self.flame.T_in, self.flame.p)), strict=True))
        )
        for T_in, p in conditions:
            where = "" if len(conditions) == 1 else f", {T_in:g} K, {p / 101325:.3g} atm"
            for name, flame in (("as shipped", before), ("calibrated", self._with(self.parameters()).detached())):
                at = flame.replace(phi=dense, T_in=torch.tensor(T_in), p=torch.tensor(p))
                assert isinstance(at, FreeFlame)
                solution = self.solver.solve(at, throw=False)
                found = solution.stats["converged"]
                speeds = at.flame_speed(solution.value.eigenvalue)[found].detach().numpy()
                lines[name + where] = (dense[found].numpy(), speeds)
                if name == "calibrated":
                    for key, value in (("phi", dense[found].numpy()), ("T_in", T_in), ("p", p), ("speed", speeds)):
                        rows[key].append(np.broadcast_to(value, speeds.shape))
        data = {"measured": (phi.numpy(), self.measured.numpy())}
        if self.further is not None:
            data["measured, not fitted"] = (self.further[0].numpy(), self.further[1].numpy())
        picture = curves({"flame speed [m/s]": {**lines, **data}}, xlabel="equivalence ratio", points=tuple(data))
        out.write("speeds.png", picture)
        out.write("speeds.npz", {key: np.concatenate(values) for key, values in rows.items()})
        r = self._compare(self._speeds())
        summary["rms_relative"] = float(np.sqrt(float((r * self.unit).square().mean())))
        return summary

    def _speeds(self) -> torch.Tensor:
        assert self.last is not None
        return self.last.flame.figures(self.last.eigenvalue)["flame_speed"]
