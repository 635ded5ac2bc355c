"""Training of networks for flames, forward and inverse, with an ensemble for the spread that data do not explain."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from simengine.fit.flame import UNITS
from simengine.fit.training import AbstractTraining
from simengine.flame.equations import AbstractFlame
from simengine.flame.field_network import FieldNetwork, spread_cells
from simengine.flame.integral_residual import IntegralResidual
from simengine.flame.network_training import NetworkTrainer
from simengine.flame.solver import FlameSolution, GridSolver

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory


class FlameNetworkTraining(AbstractTraining):
    """Trains some networks on the equations of a flame and, where there are data, on these with unknown parameters.

    Every member starts from other weights, fitted to a coarse solution at the first values of the parameters. The
    spread of the members is the uncertainty of the method; that of the data is `FlameTraining`'s covariance.

    Args:
        flame: A single condition, with the first values of the sought parameters.
        sought: Parameters to find, name -> first value; empty for a forward problem.
        data: x (q,), profile -> values (q,), profile -> standard deviation; None for none.
        members: Networks.
        width: Of their layers.
        cells: Of their equations.
        optimiser: Of the steps.
        num_iterations: Steps of each.
        seed: Of the first member.
        truth: The flame, where it is known.
    """

    def __init__(
        self,
        flame: AbstractFlame,
        *,
        sought: Mapping[str, float] | None = None,
        data: tuple[torch.Tensor, Mapping[str, torch.Tensor], Mapping[str, float]] | None = None,
        members: int = 1,
        width: int = 28,
        cells: int = 80,
        optimiser: Literal["lm", "adam", "lbfgs", "soap"] = "lm",
        num_iterations: int = 30,
        seed: int = 0,
        truth: FlameSolution | None = None,
    ) -> None:
        start = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in (sought or {}).items()}
        first = flame.replace(**start) if start else flame
        coarse = GridSolver().set_refine_criteria(slope=0.12, curve=0.25).solve(first.detached()).value
        network = FieldNetwork(first.detached(), width=width, sought=sought)
        edges = spread_cells(network, torch.zeros_like(network.initial(0)), 150)
        x = edges.clamp(float(coarse.x.min()), float(coarse.x.max()))
        self.members = []
        for k in range(members):
            trainer = NetworkTrainer(network=network, cells=cells, optimiser=optimiser, seed=seed + k, data=data)
            trainer.warm_start(x, coarse.at(x)[0], float(coarse.eigenvalue[0]))
            self.members.append(trainer)
        self.num_iterations, self.truth, self.network, self.data = num_iterations, truth, network, data

    def step(self) -> dict[str, float]:
        """One step of every member."""
        losses = [member.step() for member in self.members]
        return {"loss": float(np.mean(losses)), "worst": max(losses)}

    def estimates(self) -> dict[str, float]:
        """Means over the members: the sought parameters and what the eigenvalue means."""
        rows = [self._figures(member) for member in self.members]
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    @staticmethod
    def _figures(member: NetworkTrainer) -> dict[str, float]:
        result = member.result
        with torch.no_grad():
            figures = result.flame.figures(result.eigenvalue)
            own = {**member.network.parameters(member.theta), **figures}
        return {name: float(value) for name, value in own.items()}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Weights, cells and damping of every member."""
        state = {}
        for k, member in enumerate(self.members):
            state[f"theta{k}"], state[f"edges{k}"] = member.theta.clone(), member.edges
            state[f"sizes{k}"] = member.residual.sizes
            state[f"scalars{k}"] = torch.tensor([member.damping, member.iteration], dtype=torch.float64)
        return state

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned; the moments of a first-order method start anew."""
        for k, member in enumerate(self.members):
            member.theta, member.edges = state[f"theta{k}"].clone(), state[f"edges{k}"]
            member.residual = IntegralResidual(self.network, member.edges, state[f"sizes{k}"])
            member.damping, member.iteration = float(state[f"scalars{k}"][0]), int(state[f"scalars{k}"][1])

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write `fit.json`, `profiles.npz` and `profiles.png`; whether each member passes the check of its branch."""
        from simengine.view.figures import curves

        rows = [self._figures(member) for member in self.members]
        checks = [member.result.check() for member in self.members]
        summary: dict[str, Any] = {
            **{name: float(np.mean([row[name] for row in rows])) for name in rows[0]},
            "spread": {name: float(np.std([row[name] for row in rows])) for name in rows[0]},
            "checks": checks,
            "ok": all(check["ok"] for check in checks),
        }
        low, high = float(self.network.edges[0]), float(self.network.edges[-1])
        if self.truth is not None:
            low, high = max(low, float(self.truth.x.min())), min(high, float(self.truth.x.max()))
        x = spread_cells(self.network, self.members[0].theta, 300).clamp(low, high)
        with torch.no_grad():
            found = [member.result.profiles(x) for member in self.members]
        profiles = {name: torch.stack([f[name][0] for f in found]).mean(0) for name in found[0]}
        out.write("profiles.npz", {"x": x.numpy(), **{name: value.numpy() for name, value in profiles.items()}})
        panels: dict[str, dict[str, tuple[Any, Any]]] = {}
        if self.truth is not None:
            exact = {name: value[0].detach() for name, value in self.truth.profiles(x).items()}
            summary["relative_l2"] = {
                name: float((profiles[name] - exact[name]).norm() / exact[name].norm().clamp_min(1e-300))
                for name in profiles
                if float(exact[name].abs().max()) > 1e-12
            }
        for name in ("T", "u"):
            panel = {"network": (x.numpy() * 1e3, profiles[name].numpy())}
            if self.truth is not None:
                panel["solver"] = (x.numpy() * 1e3, exact[name].numpy())
            panels[UNITS[name]] = panel
        out.write("profiles.png", curves(panels, xlabel="x [mm]"))
        out.write("fit.json", summary)
        return summary
