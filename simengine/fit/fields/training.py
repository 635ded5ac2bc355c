"""A field of many numbers as the unknown: L-BFGS with bounds on its cells, by the exact transpose of what is seen.

`Problem` has no columns for a field. Here the gradient of the misfit goes back through the world to the cells; the few
numbers beside the field (an axis, a gain) are linear in a round, with columns by differences, and move with it. The
weight of a total variation that is to be estimated is the one that best predicts values kept from the search.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simengine.fit.fields.prior import FieldEnergy, field_energy
from simengine.fit.problem import Problem
from simengine.fit.training import AbstractTraining
from simengine.scene.address import bounds, replaced, value_at
from simengine.scene.asks import Ask
from simengine.scene.base import AbstractScene, SceneError
from simengine.scene.instrument import AbstractInstrument

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

CHUNK = 20  # iterations of L-BFGS in a step
FEW, FEW_CHUNK = 3000, 300  # cells below which iterations are cheap and a spline's are badly conditioned
TRIED = 1e-2  # relative drop in a step that ends a trial weight
SETTLED = 1e-3  # and a round
# Of central differences in z: a ray along the edge of cells jumps from one to the next, so a step must be wide enough
# to see the mean slope of many rays; each round takes new columns where the numbers have come to.
STEP = 0.1
PATH_STEPS = 4  # steps on a trial weight, at most
PATH = 10  # trial weights, at most
FIRST = 0.03  # of the weight beyond which nothing is left but an even field
FINER = math.sqrt(10.0)  # from one trial weight to the next
KEPT_OUT = 16  # one value in so many judges the weights
WORSE = 0.999  # of the best score: a trial weight has to better it by so much
ROUNDS = 6  # of the numbers beside the field and of an estimated sigma
MOVED = 0.02  # of a coordinate, or of a sigma: less ends the rounds
Finish = Callable[["FieldFit", "RunDirectory"], dict[str, Any]]
Fields = dict[str, torch.Tensor]


class FieldFit(AbstractTraining):
    """The search for fields and the numbers beside them.

    Args:
        problem: With at least one unknown that is a field of its world.
        finish: Writes the answer; None for none.

    Attributes:
        z: Coordinates of the numbers beside the fields, (p,).

    Raises:
        SceneError: A prior is none of a field, or nothing is to be compared.
    """

    def __init__(self, problem: Problem, *, finish: Finish | None = None) -> None:
        self.problem = problem
        scene = problem.scene
        self._world = next(iter(problem.worlds.values()))
        self.shapes = {key: self._world.fields()[key] for key in scene.unknowns if key in self._world.fields()}
        if not self.shapes:
            raise SceneError("unknowns: no field is sought; use the method least_squares")
        blind = sorted(set(self.shapes) - set(self._world.traced()))
        if blind:
            raise SceneError(f"unknowns.{blind[0]}: this field has no gradient")
        self._finish = finish
        self.z = problem.start()
        self._starts = {key: self._start(key) for key in self.shapes}
        self._rows = {name: problem.rows(name) for name in problem.measured}
        self._measured = {name: m.values[self._rows[name]] for name, m in problem.measured.items()}
        self._asked = dict(problem.measured)  # what is fitted, without what is not, where the instrument can
        for name, rows in self._rows.items():
            if problem.instruments[name].rows_alone:
                self._asked[name], self._rows[name] = problem.measured[name].only(rows.any(1)), rows[rows.any(1)]
        if not sum(len(v) for v in self._measured.values()):
            raise SceneError("observations: nothing is left to fit; everything is held out")
        g = torch.Generator().manual_seed(scene.world.seed)
        self._judges = {n: torch.rand(len(v), generator=g) < 1 / KEPT_OUT for n, v in self._measured.items()}
        for name in self._measured:
            if bool(problem.instruments[name].noise(problem.measured[name]).isnan().any()):
                size = self._measured[name].square().mean().sqrt().reshape(1)
                problem.sigmas[name] = (0.01 * size).clamp_min(1e-300)
        self._frozen: dict[str, tuple[AbstractInstrument, tuple[Ask, ...]]] = {}
        self._columns: dict[str, torch.Tensor] = {}
        self._freeze()
        self.scales = {key: self._scale(key) for key in self.shapes}
        self.energies = {key: self._energy(key) for key in self.shapes}
        estimated = [k for k in self.shapes if (p := scene.unknowns[k].prior) and p.total_variation == "estimate"]
        self._sought_weights = estimated
        self._path = bool(estimated)
        if self._path:
            self._first_weights()
        self.x = self._flat(self._starts)
        self._dz = torch.zeros(len(self.z), dtype=torch.float64)
        self._best = (math.inf, 1.0, self.x)  # score, factor of the weights, cells
        self._factor = FIRST if self._path else 1.0
        if len(self.z):
            problem.doubts.append(
                "numbers beside a field move in rounds, and no test has found one yet: check them by hand"
            )
        self._held = bool(len(self.z))  # the numbers beside the fields: columns at a poor field mislead
        self._steps = self._weights_tried = self._round = 0
        self._done = False
        self.scores: list[tuple[float, float]] = []
        self.num_iterations = PATH * PATH_STEPS + ROUNDS * self._most_steps() + 1

    # the start

    def _start(self, key: str) -> torch.Tensor:
        told = self.problem.scene.unknowns[key].initial
        if isinstance(told, tuple):
            raise SceneError(f"unknowns.{key}.initial: one number for the whole field, got {len(told)}")
        value = told if told is not None else value_at(self._world, key)
        if isinstance(value, float):
            start = self._world.field_of(key, value)
        else:  # a file or a tensor: the world reads it
            start = torch.as_tensor(self._world.build()[key.rpartition(".")[2]], dtype=torch.float64)
        low, high = self._bounds(key)
        return start.expand(self.shapes[key]).clamp(low, high).contiguous()

    def _bounds(self, key: str) -> tuple[float, float]:
        low, high = bounds(self._world, key)
        unknown = self.problem.scene.unknowns[key]
        low = low if unknown.lower is None else max(low, unknown.lower)
        return low, high if unknown.upper is None else min(high, unknown.upper)

    def _scale(self, key: str) -> float:
        """The even field that explains the data best, or what the scene says."""
        if told := self.problem.scene.unknowns[key].scale:
            return told
        with torch.no_grad():
            none = {k: torch.zeros_like(s) for k, s in self._starts.items()}
            here, one = self._seen(none), self._seen({**none, key: self._world.field_of(key, 1.0)})
        top = sum(float((one[n] - here[n]) @ (self._measured[n] - here[n])) for n in one)
        below = sum(float((one[n] - here[n]).square().sum()) for n in one)
        if not below > 0:
            raise SceneError(f"unknowns.{key}: no observation sees this field; does a ray meet its box?")
        return abs(top / below) or 1.0

    def _energy(self, key: str) -> FieldEnergy:
        unknown, shape = self.problem.scene.unknowns[key], self.shapes[key]
        start = float(self._starts[key].mean())
        return field_energy(unknown.prior, key, self._world.extent(key), shape, self.scales[key], start)

    def _first_weights(self) -> None:
        """Weights of total variation beyond which the data leave nothing but an even field, about."""
        x = self._flat({key: self._world.field_of(key, self.scales[key]) for key in self.shapes})
        gradient = self._data_gradient(x)
        at = 0
        for key, shape in self.shapes.items():
            count, energy = math.prod(shape), self.energies[key]
            own = gradient[at : at + count].abs().max() / self.scales[key]
            at += count
            if key in self._sought_weights:
                slope = math.prod(energy.sizes) / min(energy.sizes)  # of the energy by one cell
                self.energies[key] = dataclasses.replace(energy, total_variation=float(own) / slope)

    # what is seen

    def _freeze(self) -> None:
        """What the instruments ask at z, and the columns of the numbers beside the fields."""
        instruments = self.problem.instruments_at(self.z)
        self._frozen = {
            name: (own, own.asks(self._asked[name])) for name, own in instruments.items() if len(self._measured[name])
        }
        rows = {name: self.problem.rows(name) for name in self._frozen}
        self._sigmas = {n: self.problem.sigma(n, own)[rows[n]] for n, (own, _) in self._frozen.items()}

    def _seen(self, fields: Fields, z: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """The values that are fitted, by observation, differentiable in the fields."""
        here = self.z if z is None else z
        frozen = self._frozen
        if z is not None:
            instruments = self.problem.instruments_at(z)
            frozen = {n: (instruments[n], instruments[n].asks(self._asked[n])) for n in frozen}
        found = {}
        gradient = any(f.requires_grad for f in fields.values())
        for run in self.problem.worlds:
            own = {n: f for n, f in frozen.items() if f[0].run == run}
            world = replaced(self.problem.world_at(here, run), fields)
            solved = world.solve([ask for _, asks in own.values() for ask in asks], gradient=gradient)
            for name, (instrument, asks) in own.items():
                values = instrument.respond([solved.sample(ask) for ask in asks], self._asked[name])
                found[name] = values[self._rows[name]]
        self.problem.solves += 1
        return found

    def _linearise(self) -> None:
        """Columns of the numbers beside the fields, by differences."""
        self._freeze()
        self._columns = {}
        with torch.no_grad():
            fields = self.fields()
            columns: dict[str, list[torch.Tensor]] = {name: [] for name in self._frozen}
            for index in range(len(self.z)):
                unit = torch.zeros_like(self.z)
                unit[index] = STEP
                ahead, behind = self._seen(fields, self.z + unit), self._seen(fields, self.z - unit)
                for name in ahead:
                    columns[name].append((ahead[name] - behind[name]) / (2 * STEP))
        self._columns = {name: torch.stack(own, 1) for name, own in columns.items() if own}

    def _best_numbers(self) -> torch.Tensor:
        """Change of the numbers beside the fields that fits best while the fields stay, in closed form (p,).

        L-BFGS begins there: from zero its first line search, on a gradient that these numbers dominate, finds no step.
        """
        zero = torch.zeros_like(self.z, requires_grad=True)

        def gradient(dz: torch.Tensor) -> torch.Tensor:
            total = self._misfit(self.x, dz)[0] + self.problem.prior_rows(self.z + dz)[0].square().sum() / 2
            return torch.autograd.grad(total, dz, create_graph=True)[0]

        slope = gradient(zero)
        hessian = torch.stack([torch.autograd.grad(part, zero, retain_graph=True)[0] for part in slope])
        return -torch.linalg.solve(hessian, slope.detach()).clamp(-1.0, 1.0)

    # cells as one vector, in units of their scale; then dz

    def _flat(self, fields: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([(fields[key] / self.scales[key]).reshape(-1) for key in self.shapes])

    def _split(self, x: torch.Tensor) -> Fields:
        fields, at = {}, 0
        for key, shape in self.shapes.items():
            count = math.prod(shape)
            fields[key] = (x[at : at + count] * self.scales[key]).reshape(shape)
            at += count
        return fields

    @property
    def world(self) -> AbstractScene:
        """The world whose fields are sought."""
        return self._world

    def unit(self, key: str) -> str:
        """Of a field, SI."""
        return self._world.scalars().get(key.rpartition(".")[2], "")

    def fields(self) -> Fields:
        """The fields by key, in the shapes of their cells, SI."""
        return self._split(self.x)

    def _misfit(self, x: torch.Tensor, dz: torch.Tensor, *, judging: bool = False) -> tuple[torch.Tensor, int]:
        """Half the sum of squares over sigma and the number of values; of the judges alone where they judge."""
        total, count = x.new_zeros(()), 0
        for name, values in self._seen(self._split(x)).items():
            if name in self._columns:
                values = values + self._columns[name] @ dz
            instrument = self._frozen[name][0]
            r = (values - self._measured[name]) / self._sigmas[name]
            r = r if instrument.shape_of_loss is None else instrument.shape_of_loss.shaped(r)
            if self._path:
                r = r[self._judges[name] if judging else ~self._judges[name]]
            total, count = total + r.square().sum() / 2, count + len(r)
        return total, count

    def _data_gradient(self, x: torch.Tensor) -> torch.Tensor:
        x = x.clone().requires_grad_()
        misfit, _ = self._misfit(x, torch.zeros(0, dtype=torch.float64))
        (gradient,) = torch.autograd.grad(misfit, x)
        return gradient

    def _objective(self, v: np.ndarray) -> tuple[float, np.ndarray]:
        vector = torch.from_numpy(v.astype(np.float64)).requires_grad_()
        count = len(self.x)
        x, dz = vector[:count], vector[count:]
        total, _ = self._misfit(x, dz)
        for key, field in self._split(x).items():
            energy = self.energies[key]
            factor = self._factor if key in self._sought_weights else 1.0
            total = total + factor * energy(field)
        if len(dz):  # free in this round
            total = total + self.problem.prior_rows(self.z + dz)[0].square().sum() / 2
        (gradient,) = torch.autograd.grad(total, vector)
        return float(total.detach()), gradient.numpy()

    # the search

    def step(self) -> dict[str, float]:
        """Some iterations of L-BFGS with bounds."""
        from scipy.optimize import minimize

        count, free = len(self.x), 0 if self._path or self._held else len(self.z)
        if free and not self._columns:
            self._linearise()
            self._dz = self._best_numbers()
        start = torch.cat((self.x, self._dz[:free])).numpy()
        limits = []
        for key, shape in self.shapes.items():
            low, high = (b / self.scales[key] for b in self._bounds(key))
            limits.append(np.broadcast_to(np.array([[low, high]]), (math.prod(shape), 2)))
        limits.append(np.tile([[-1.0, 1.0]], (free, 1)))
        chunk, remembered = (FEW_CHUNK, 60) if count < FEW else (CHUNK, 12)
        before = self._objective(start)[0]
        found = minimize(
            self._objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=np.concatenate(limits),
            options={"maxiter": chunk, "maxcor": remembered, "maxfun": 2 * chunk, "ftol": 1e-10, "gtol": 1e-12},
        )
        self.x = torch.from_numpy(found.x[:count].copy())
        if free:
            self._dz = torch.from_numpy(found.x[count:].copy())
        self._steps += 1
        drop = (before - found.fun) / max(abs(found.fun), 1e-300)
        with torch.no_grad():
            misfit, rows = self._misfit(self.x, self._dz[:free])
        figures = {"loss": 2 * float(misfit) / rows, "drop": drop, "stage": float(not self._path) + self._round}
        if self._path:
            if drop < TRIED or self._steps >= PATH_STEPS:
                self._judge()
        elif drop < SETTLED or self._steps >= self._most_steps():
            self._settle()
        return figures

    def _most_steps(self) -> int:
        return max(math.ceil(self.problem.scene.inference.iterations / CHUNK), 1)

    def _judge(self) -> None:
        """The score of a trial weight, and the next one; the best one where the last was no better."""
        with torch.no_grad():
            misfit, rows = self._misfit(self.x, self._dz[:0], judging=True)
        score = 2 * float(misfit) / max(rows, 1)
        self.scores.append((self._factor, score))
        self._steps, self._weights_tried = 0, self._weights_tried + 1
        better = score < WORSE * self._best[0]
        if better:
            self._best = (score, self._factor, self.x)
        if better and self._weights_tried < PATH:
            self._factor /= FINER
            return
        _, self._factor, self.x = self._best
        self._path = False

    def _settle(self) -> None:
        """The end of a round: new columns where the numbers moved, a new sigma where it is estimated."""
        moved = float(self._dz.abs().max()) if len(self._dz) else 0.0
        self.z, self._dz, self._columns = self.z + self._dz, torch.zeros_like(self._dz), {}
        self._freeze()
        change = self._estimate_sigmas()
        self._freeze()
        self._round, self._steps = self._round + 1, 0
        self._done = (not self._held and moved < MOVED and change < MOVED) or self._round >= ROUNDS
        self._held = False

    def _estimate_sigmas(self) -> float:
        """Standard deviations from what is left over; weights that were estimated keep their balance with the data."""
        with torch.no_grad():
            seen = self._seen(self.fields())
        change, ratios = 0.0, []
        for name, values in seen.items():
            if name not in self.problem.sigmas:
                continue
            old = self.problem.sigmas[name]
            new = (values - self._measured[name]).square().mean().sqrt().reshape(1).clamp_min(1e-300)
            self.problem.sigmas[name] = new
            ratios.append(float(old / new))
        if ratios:
            balance = math.prod(ratios) ** (2 / len(ratios))
            alone = len(ratios) == len(seen) == 1
            self._factor *= balance
            fixed = [key for key in self.shapes if key not in self._sought_weights]
            change = 0.0 if alone and not fixed else max(abs(r - 1) for r in ratios)
        return change

    @property
    def converged(self) -> bool:
        """Whether the last round moved nothing."""
        return self._done

    def weights(self) -> dict[str, float]:
        """Total variation of each field that the prior finds typical, where it was estimated."""
        return {key: 1.0 / (self._factor * self.energies[key].total_variation) for key in self._sought_weights}

    def estimates(self) -> dict[str, float]:
        """The numbers beside the fields."""
        values = self.problem.values(self.z + self._dz).tolist()
        return {c.name: v for c, v in zip(self.problem.coordinates, values, strict=True) if c.chosen}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Everything the next step depends on."""
        counters = [
            self._path,
            self._held,
            self._done,
            self._steps,
            self._weights_tried,
            self._round,
            self.problem.solves,
        ]
        return {
            "x": self.x,
            "z": self.z,
            "dz": self._dz,
            "best_x": self._best[2],
            "figures": torch.tensor([self._factor, *self._best[:2]], dtype=torch.float64),
            "counters": torch.tensor([int(c) for c in counters]),
            "scores": torch.tensor(self.scores, dtype=torch.float64).reshape(-1, 2),
            **{f"columns.{name}": value for name, value in self._columns.items()},
            **{f"sigma.{name}": value for name, value in self.problem.sigmas.items()},
        }

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        self.x, self.z, self._dz = state["x"], state["z"], state["dz"]
        self._factor, score, factor = state["figures"].tolist()
        self._best = (score, factor, state["best_x"])
        path, held, done, self._steps, self._weights_tried, self._round, self.problem.solves = (
            int(c) for c in state["counters"]
        )
        self._path, self._held, self._done = bool(path), bool(held), bool(done)
        self.scores = [(float(a), float(b)) for a, b in state["scores"]]
        self._columns = {k.removeprefix("columns."): v for k, v in state.items() if k.startswith("columns.")}
        self.problem.sigmas = {k.removeprefix("sigma."): v for k, v in state.items() if k.startswith("sigma.")}
        self._freeze()

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write the answer."""
        self.problem.place(self.fields())
        return self._finish(self, out) if self._finish is not None else dict(self.estimates())
