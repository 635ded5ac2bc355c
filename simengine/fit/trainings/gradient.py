"""Training by a first-order or quasi-Newton optimiser of torch."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from simengine.fit.training import AbstractTraining

Objective = Callable[[], Mapping[str, torch.Tensor]]


class GradientTraining(AbstractTraining):
    """Minimises a sum of named terms over the parameters of a module, by Adam or L-BFGS.

    Args:
        module: Its parameters with `requires_grad` are sought.
        objective: Computes the named terms of the loss from the module's current parameters.
        num_iterations: Length of the training.
        optimiser: `"adam"` or `"lbfgs"` (strong Wolfe line search).
        learning_rate: Of Adam; the initial step of L-BFGS.
        cosine: Let the learning rate of Adam fall to 0 by a half cosine.
        clip_norm: Largest norm of the gradient; None for no limit.

    L-BFGS has converged when a whole step leaves every parameter where it was.
    """

    def __init__(
        self,
        module: nn.Module,
        objective: Objective,
        *,
        num_iterations: int,
        optimiser: str = "adam",
        learning_rate: float = 1e-2,
        cosine: bool = False,
        clip_norm: float | None = None,
    ) -> None:
        self.module = module
        self.objective = objective
        self.num_iterations = num_iterations
        self.clip_norm = clip_norm
        self.iteration: int = 0
        self._stuck = torch.tensor(False)
        leaves = [p for p in module.parameters() if p.requires_grad]
        if not leaves:
            raise ValueError("module: no parameter requires a gradient, so there is nothing to fit")
        self.optimiser: torch.optim.Optimizer
        if optimiser == "adam":
            self.optimiser = torch.optim.Adam(leaves, lr=learning_rate)
        elif optimiser == "lbfgs":
            self.optimiser = torch.optim.LBFGS(
                leaves, lr=learning_rate, line_search_fn="strong_wolfe", max_iter=10, history_size=20
            )
        else:
            raise ValueError(f"optimiser={optimiser!r}: expected 'adam' or 'lbfgs'")
        self.schedule: torch.optim.lr_scheduler.LRScheduler | None = (
            torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, num_iterations)
            if cosine and optimiser == "adam"
            else None
        )

    @property
    def converged(self) -> bool:
        """Whether L-BFGS no longer moves."""
        return bool(self._stuck)

    def step(self) -> dict[str, float]:
        """One step of the optimiser; the figures are the terms before it."""
        figures: dict[str, float] = {}
        quasi_newton = isinstance(self.optimiser, torch.optim.LBFGS)
        before = [p.detach().clone() for p in self.module.parameters()] if quasi_newton else []

        def closure() -> float:
            self.optimiser.zero_grad()
            terms = self.objective()
            total = torch.stack([term.reshape(()) for term in terms.values()]).sum()
            total.backward()
            if self.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.module.parameters(), self.clip_norm)
            if not figures:
                figures.update({"loss": float(total.detach()), **{k: float(v.detach()) for k, v in terms.items()}})
            return float(total.detach())

        self.optimiser.step(closure)
        if self.schedule is not None:
            self.schedule.step()
        self.iteration += 1
        if quasi_newton:
            now = self.module.parameters()
            self._stuck = torch.tensor(all(torch.equal(a, b) for a, b in zip(before, now, strict=True)))
        return figures

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Module, optimiser and schedule."""
        state = {f"module.{name}": value.clone() for name, value in self.module.state_dict().items()}
        state.update(iteration=torch.tensor(self.iteration), stuck=self._stuck)
        return {**state, **_flatten_optimiser(self.optimiser)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        prefix = "module."
        self.module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        self.iteration = int(state["iteration"])
        self._stuck = state["stuck"]
        _restore_optimiser(self.optimiser, state)
        if self.schedule is not None:
            self.schedule.last_epoch = self.iteration
            self.schedule._last_lr = [group["lr"] for group in self.optimiser.param_groups]

    def estimates(self) -> dict[str, float]:
        """The module's `values()` where it is a set of scalar parameters, else none."""
        values = getattr(self.module, "values", None)
        return dict(values()) if callable(values) else {}


def _flatten_optimiser(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's state as flat tensors; Python numbers, None and lists of tensors (L-BFGS) included."""
    flat: dict[str, torch.Tensor] = {}
    state = optimiser.state_dict()
    for group, values in enumerate(state["param_groups"]):
        flat[f"optimiser.lr.{group}"] = torch.tensor(values["lr"], dtype=torch.float64)
    for index, entries in state["state"].items():
        for name, value in entries.items():
            key = f"optimiser.state.{index}.{name}"
            if isinstance(value, torch.Tensor):
                flat[key] = value.clone()
            elif isinstance(value, list):
                present = [item for item in value if item is not None]
                flat[key + ".list"] = torch.stack([torch.as_tensor(v) for v in present]) if present else torch.empty(0)
                flat[key + ".length"] = torch.tensor([len(value), len(present)])
            elif isinstance(value, bool | int):
                flat[key + ".int"] = torch.tensor(value)
            elif isinstance(value, float):
                flat[key + ".float"] = torch.tensor(value, dtype=torch.float64)
    flat["optimiser.count"] = torch.tensor(sum(key.startswith("optimiser.state.") for key in flat))
    return flat


def _restore_optimiser(optimiser: torch.optim.Optimizer, flat: Mapping[str, torch.Tensor]) -> None:
    state = optimiser.state_dict()
    entries: dict[int, dict[str, object]] = {}
    for key, value in flat.items():
        if not key.startswith("optimiser.state."):
            continue
        _, _, index, name, *form = key.split(".")
        entry = entries.setdefault(int(index), {})
        if not form:
            entry[name] = value
        elif form == ["int"] or form == ["float"]:
            entry[name] = value.item()
        elif form == ["list"]:
            length, present = flat[key.removesuffix("list") + "length"].tolist()
            entry[name] = [*value.unbind(), *[None] * (length - present)] if present else [None] * length
    found, expected = sum(key.startswith("optimiser.state.") for key in flat), int(flat["optimiser.count"])
    if found != expected:  # an optimiser would silently start from zero moments
        raise ValueError(f"{found} of the {expected} tensors of the optimiser")
    state["state"] = entries
    for group, values in enumerate(state["param_groups"]):
        values["lr"] = float(flat[f"optimiser.lr.{group}"])
    optimiser.load_state_dict(state)
