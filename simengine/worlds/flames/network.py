"""Training of networks for flames, forward and inverse, with an ensemble for the spread that data do not explain."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simengine.fit.training import AbstractTraining
from simengine.flame.equations.base import AbstractFlame
from simengine.flame.equations.simplified import SimplifiedFlame
from simengine.flame.network.field_network import FieldNetwork
from simengine.flame.network.pinn import SimplifiedNetwork, SimplifiedTrainer
from simengine.flame.network.training import AbstractTrainer, Data, NetworkTrainer, Optimiser
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.solve import GridSolver

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

UNITS = {
    "T": "T [K]",
    "u": "u [m/s]",
    "rho": "rho [kg/m^3]",
    "V": "V [1/s]",
    "omega": "omega [kg/(m^3 s)]",
    "heat": "heat release [W/m^3]",
}


def trainers(
    flame: AbstractFlame,
    *,
    sought: Mapping[str, float] | None = None,
    data: Data | None = None,
    members: int = 1,
    width: int | None = None,
    cells: int | None = None,
    optimiser: Optimiser = "lm",
    seed: int = 0,
) -> list[AbstractTrainer]:
    """Networks at their beginning: for a flame of a real gas at a coarse solution, for a simplified one at nothing.

    Args:
        flame: A single condition, with the first values of the sought parameters.
        sought: Parameters to find, name -> first value; empty for a forward problem.
        data: x (q,), profile -> values (q,), profile -> standard deviations; None for none.
        members: Networks; each has other first weights.
        width: Units of each; None for 60, or 36 of a simplified flame.
        cells: Of their equations; None for 110, or 181 of a simplified flame.
        optimiser: Of the steps; a simplified flame knows Levenberg-Marquardt only.
        seed: Of the first member.

    Raises:
        ValueError: An unknown name, or an optimiser that the flame does not have.
    """
    start = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in (sought or {}).items()}
    for name in start:
        flame.parameter(name)  # says which there are
    first = flame.replace(**start).detached() if start else flame.detached()
    seeds = range(seed, seed + members)
    if isinstance(first, SimplifiedFlame):
        if optimiser != "lm":
            raise ValueError(f"optimiser={optimiser!r}: the network of a simplified flame is trained by 'lm' only")
        simple = SimplifiedNetwork(first, width or 36, sought=dict(sought or {}))
        return [SimplifiedTrainer(simple, points=cells or 181, seed=k, data=data) for k in seeds]
    coarse = GridSolver().set_refine_criteria(slope=0.12, curve=0.25).solve(first).value
    network, made = FieldNetwork(first, width=width or 60, sought=sought), []
    for k in seeds:
        trainer = NetworkTrainer(network, cells=cells or 110, optimiser=optimiser, seed=k, data=data)
        trainer.warm_start(coarse)
        made.append(trainer)
    return list(made)


class FlameNetworkTraining(AbstractTraining):
    """Trains some networks on the equations of a flame and, where there are data, on these with unknown parameters.

    The spread of the members is the uncertainty of the method; `std` is that of the data, from the Jacobian.

    Args:
        members: Networks at their beginning; see `trainers`.
        num_iterations: Steps of each.
        truth: The flame, where it is known.
    """

    def __init__(
        self,
        members: Sequence[AbstractTrainer],
        *,
        num_iterations: int = 30,
        truth: FlameSolution | None = None,
    ) -> None:
        self.members: list[AbstractTrainer] = list(members)
        self.num_iterations = num_iterations
        self.truth: FlameSolution | None = truth

    def step(self) -> dict[str, float]:
        """One step of every member that has not converged."""
        for member in self.members:
            if not member.converged:
                member.step()
        losses = [member.loss for member in self.members]
        return {"loss": float(np.mean(losses)), "worst": max(losses)}

    @property
    def converged(self) -> bool:
        """Whether all have."""
        return all(member.converged for member in self.members)

    def estimates(self) -> dict[str, float]:
        """Means over the members: the sought parameters and what the eigenvalue means."""
        return self._mean([self._figures(member) for member in self.members])

    @staticmethod
    def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    @staticmethod
    def _figures(member: AbstractTrainer) -> dict[str, float]:
        with torch.no_grad():
            result = member.result
            own = {**result.parameters, **result.flame.figures(result.eigenvalue)}
        return {name: float(value) for name, value in own.items()}

    @staticmethod
    def _deviations(member: AbstractTrainer) -> dict[str, float]:
        """Standard deviations of the sought parameters and the figures, given the noise of the data."""
        covariance = member.covariance()
        theta = member.theta.detach().clone().requires_grad_()
        with torch.enable_grad():
            result = member.found(theta)
            values = {**result.parameters, **result.flame.figures(result.eigenvalue)}
            deviations = {}
            for name, value in values.items():
                (row,) = torch.autograd.grad(value.sum(), theta, retain_graph=True)
                row = row[member.num_weights :]
                deviations[name] = float((row @ covariance @ row).clamp_min(0.0).sqrt())
        return deviations

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Of every member."""
        return {f"{k}.{name}": v for k, m in enumerate(self.members) for name, v in m.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned; the moments of a first-order method start anew."""
        for k, member in enumerate(self.members):
            start = f"{k}."
            member.load_state_dict({n.removeprefix(start): v for n, v in state.items() if n.startswith(start)})

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write `fit.json`, `profiles.npz` and `profiles.png`; whether each member passes the check of its branch.

        The means are over the members that pass, where any does.
        """
        from simengine.view.figures import curves

        checks = [member.result.check() for member in self.members]
        passed = [m for m, check in zip(self.members, checks, strict=True) if check["ok"]] or self.members
        rows = [self._figures(member) for member in passed]
        summary: dict[str, Any] = {
            **self._mean(rows),
            "spread": (
                {name: float(np.std([row[name] for row in rows], ddof=1)) for name in rows[0]}
                if len(rows) > 1
                else "of one network none is known; let at least two pass their check (network.members)"
            ),
            "checks": checks,
            "ok": all(check["ok"] for check in checks),
            "starts": [member.starts for member in self.members],
        }
        if self.members[0].data is not None:
            summary["std"] = self._mean([self._deviations(member) for member in passed])
        x = self._positions()
        with torch.no_grad():
            found = [member.result.profiles(x) for member in passed]
        profiles = {name: torch.stack([f[name][0] for f in found]).mean(0) for name in found[0]}
        out.write("profiles.npz", {"x": x.numpy(), **{name: value.numpy() for name, value in profiles.items()}})
        exact = {}
        if self.truth is not None:
            exact = {name: value[0].detach() for name, value in self.truth.profiles(x).items()}
            summary["relative_l2"] = {
                name: float((profiles[name] - exact[name]).norm() / exact[name].norm().clamp_min(1e-300))
                for name in profiles
                if float(exact[name].abs().max()) > 1e-12
            }
        out.write("profiles.png", curves(self._panels(x, profiles, exact), xlabel="x [mm]", points=("measured",)))
        out.write("fit.json", summary)
        return summary

    def _positions(self) -> torch.Tensor:
        """Where the flame is, a margin on both sides; without a truth, where the network is."""
        if self.truth is not None:
            x, T = self.truth.x[0], self.truth.field("T")[0].detach()
        else:
            x = self.members[0].domain()
            T = self.members[0].result.profiles(x)["T"][0].detach()
        rise = (T - T.min()) / (T.max() - T.min())
        changes = x[(rise > 0.002) & (rise < 0.995)]
        margin = 0.3 * (changes.max() - changes.min())
        low, high = max(float(x[0]), float(changes.min() - margin)), min(float(x[-1]), float(changes.max() + margin))
        if self.members[0].data is not None:
            low, high = min(low, float(self.members[0].data[0].min())), max(high, float(self.members[0].data[0].max()))
        return torch.linspace(low, high, 400, dtype=torch.float64)

    def _panels(
        self, x: torch.Tensor, profiles: Mapping[str, torch.Tensor], exact: Mapping[str, torch.Tensor]
    ) -> dict[str, dict[str, tuple[Any, Any]]]:
        """Curves of T, u and what was measured: by the networks, by the solver, and the data."""
        data, panels = self.members[0].data, {}
        millimetres = x.numpy() * 1e3
        for name in dict.fromkeys(("T", "u", *(data[1] if data is not None else ()))):
            panel = {"solver": (millimetres, exact[name].numpy())} if exact else {}
            panel["network"] = (millimetres, profiles[name].numpy())
            if data is not None and name in data[1]:
                panel["measured"] = (data[0].numpy() * 1e3, data[1][name].numpy())
            panels[UNITS.get(name, name)] = panel
        return panels
