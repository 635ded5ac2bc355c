"""What a search for fields makes small: residuals over sigma of what is seen, and minus the logarithm of the priors.

The gradient goes back through the world to the cells, by the exact transpose of what is seen.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch

from simengine.fit.fields.gaussian import GaussianField
from simengine.fit.fields.prior import FieldEnergy, field_energy
from simengine.fit.problem import Problem
from simengine.scene.address import bounds, replaced, value_at
from simengine.scene.asks import Ask
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.instrument import AbstractInstrument

KEPT_OUT = 16  # one value in so many judges the weights
Fields = dict[str, torch.Tensor]
Frozen = dict[str, tuple[AbstractInstrument, tuple[Ask, ...], torch.Tensor]]  # sigma of the values that are fitted


class FieldObjective:
    """Half the sum of squares over sigma and the energies of the fields, of cells x and numbers z beside them.

    Args:
        problem: With at least one unknown that is a field of its world.

    Attributes:
        world: The world whose fields are sought.
        shapes: Field -> shape of its cells.
        logarithmic: Fields whose cells x are logarithms.
        scales: Field -> unit of x, SI; 1 of a logarithm.
        energies: Field -> its prior, of the logarithm where cells are logarithms.
        estimated: Fields whose total variation is to be estimated.
        edges: Whether a prior leaves edges, which go from cell to cell as numbers move.
        alone: Cells of a point where each value sees one point of the one field, and no prior joins them; else 0.
        factor: Of the weights that are estimated.
        judging: Whether some values are kept out, to judge the weights.
        start: Cells at the start, in units of their scales, (n,).

    Raises:
        SceneError: A prior is none of a field, or nothing is to be compared.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        scene = problem.scene
        self.world: AbstractWorld = next(iter(problem.worlds.values()))
        self.shapes: dict[str, tuple[int, ...]] = {
            key: self.world.fields()[key] for key in scene.unknowns if key in self.world.fields()
        }
        if not self.shapes:
            raise SceneError("unknowns: no field is sought; use the method least_squares")
        blind = sorted(set(self.shapes) - set(self.world.traced()))
        if blind:
            raise SceneError(f"unknowns.{blind[0]}: this field has no gradient")
        self.judging: bool = False
        self.factor: float = 1.0
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
        self._frozen: tuple[torch.Tensor, Frozen] | None = None
        z = problem.start()
        starts = {key: self._start(key) for key in self.shapes}
        priors = {key: scene.unknowns[key].prior for key in self.shapes}
        self.logarithmic: frozenset[str] = frozenset(k for k, p in priors.items() if p and p.lognormal is not None)
        for key in self.logarithmic:
            if not bool((starts[key] > 0).all()):
                raise SceneError(f"unknowns.{key}.initial: a lognormal prior needs a start above 0 everywhere")
        self.scales: dict[str, float] = {key: self._scale(key, starts, z) for key in self.shapes}
        self.start: torch.Tensor = self.flat(starts)
        self.energies: dict[str, FieldEnergy | GaussianField] = {
            key: self._energy(key, float(starts[key].mean())) for key in self.shapes
        }
        plain = [e for e in self.energies.values() if isinstance(e, FieldEnergy)]
        self.edges: bool = any(energy.total_variation for energy in plain)
        free = len(self.shapes) == len(plain) == 1 and not self.edges and not plain[0].smooth
        last = {key: shape[-1] for key, shape in self.shapes.items() if self.world.by_points(key)}
        self.alone: int = next(iter(last.values()), 0) if free else 0
        self.estimated: list[str] = [
            k for k in self.shapes if (p := scene.unknowns[k].prior) and p.total_variation == "estimate"
        ]
        if self.estimated:
            self._first_weights(z)

    # the start

    def _start(self, key: str) -> torch.Tensor:
        told = self.problem.scene.unknowns[key].initial
        if isinstance(told, tuple):
            raise SceneError(f"unknowns.{key}.initial: one number for the whole field, got {len(told)}")
        value = told if told is not None else value_at(self.world, key)
        if isinstance(value, float):
            start = self.world.field_of(key, value)
        else:  # a file or a tensor: the world reads it
            start = self.world.field_at(key)
        low, high = self.bounds(key)
        return start.expand(self.shapes[key]).clamp(low, high).contiguous()

    def bounds(self, key: str) -> tuple[float, float]:
        """Least and greatest value of a field, SI."""
        low, high = bounds(self.world, key)
        unknown = self.problem.scene.unknowns[key]
        low = low if unknown.lower is None else max(low, unknown.lower)
        return low, high if unknown.upper is None else min(high, unknown.upper)

    def limits(self) -> torch.Tensor:
        """Least and greatest of each cell, in units of their scales, (n, 2)."""
        return torch.cat(
            [
                self._cells(key, torch.tensor(self.bounds(key), dtype=torch.float64)).expand(math.prod(shape), 2)
                for key, shape in self.shapes.items()
            ]
        )

    def _scale(self, key: str, starts: Fields, z: torch.Tensor) -> float:
        """The even field that explains the data best, or what the scene says."""
        if key in self.logarithmic:
            return 1.0
        if told := self.problem.scene.unknowns[key].scale:
            return told
        with torch.no_grad():
            none = {k: s if k in self.logarithmic else torch.zeros_like(s) for k, s in starts.items()}
            here, one = (self.seen({**none, key: self.world.field_of(key, v)}, z) for v in (0.0, 1.0))
        top = sum(float((one[n] - here[n]) @ (self._measured[n] - here[n])) for n in one)
        below = sum(float((one[n] - here[n]).square().sum()) for n in one)
        if not below > 0:
            raise SceneError(f"unknowns.{key}: no observation sees this field; does a ray meet its box?")
        return abs(top / below) or 1.0

    def _energy(self, key: str, start: float) -> FieldEnergy | GaussianField:
        unknown, shape = self.problem.scene.unknowns[key], self.shapes[key]
        return field_energy(unknown.prior, key, self.world.extent(key), shape, self.scales[key], start)

    def _first_weights(self, z: torch.Tensor) -> None:
        """Weights of total variation beyond which the data leave nothing but an even field, about."""
        even = self.flat({key: self.world.field_of(key, self.scales[key]) for key in self.shapes}).requires_grad_()
        (gradient,) = torch.autograd.grad(self.residuals(even, z).square().sum() / 2, even)
        at = 0
        for key, shape in self.shapes.items():
            count, energy = math.prod(shape), self.energies[key]
            own = gradient[at : at + count].abs().max() / self.scales[key]
            at += count
            if key in self.estimated and isinstance(energy, FieldEnergy):
                slope = math.prod(energy.sizes) / min(energy.sizes)  # of the energy by one cell
                self.energies[key] = dataclasses.replace(energy, total_variation=float(own) / slope)

    # cells as one vector, in units of their scale

    def flat(self, fields: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Fields, SI, as cells in units of their scales, (n,)."""
        return torch.cat([self._cells(key, fields[key]).reshape(-1) for key in self.shapes])

    def _cells(self, key: str, values: torch.Tensor) -> torch.Tensor:
        return values.clamp_min(0.0).log() if key in self.logarithmic else values / self.scales[key]

    def fields(self, x: torch.Tensor) -> Fields:
        """Cells x (n,) as fields, SI."""
        own = self.believed(x)
        return {key: field.exp() if key in self.logarithmic else field for key, field in own.items()}

    def believed(self, x: torch.Tensor) -> Fields:
        """Cells x (n,) as what the priors are of: fields, SI, or their logarithms."""
        fields, at = {}, 0
        for key, shape in self.shapes.items():
            count = math.prod(shape)
            fields[key] = (x[at : at + count] * self.scales[key]).reshape(shape)
            at += count
        return fields

    # what is seen

    def _asks(self, z: torch.Tensor) -> Frozen:
        """Instruments with the numbers z, and what they ask; those of the last z are kept."""
        if self._frozen is None or not torch.equal(self._frozen[0], z):
            own = {n: i for n, i in self.problem.instruments_at(z).items() if len(self._measured[n])}
            frozen = {}
            for name, instrument in own.items():
                sigma = self.problem.sigma(name, instrument)[self.problem.rows(name)]
                frozen[name] = instrument, instrument.asks(self._asked[name]), sigma
            self._frozen = z.clone(), frozen
        return self._frozen[1]

    def renew(self) -> None:
        """Forget what was kept: standard deviations have changed."""
        self._frozen = None

    def seen(self, fields: Fields, z: torch.Tensor) -> dict[str, torch.Tensor]:
        """The values that are fitted, by observation, differentiable in the fields."""
        frozen, found = self._asks(z), {}
        gradient = any(f.requires_grad for f in fields.values())
        for run in self.problem.worlds:
            own = {n: f for n, f in frozen.items() if f[0].run == run}
            world = replaced(self.problem.world_at(z, run), fields)
            solved = world.solve([ask for _, asks, _ in own.values() for ask in asks], gradient=gradient)
            for name, (instrument, asks, _) in own.items():
                values = instrument.respond([solved.sample(ask) for ask in asks], self._asked[name])
                found[name] = values[self._rows[name]]
        self.problem.runs.solves += 1
        return found

    def parts(self, x: torch.Tensor, z: torch.Tensor, *, judges: bool = False) -> dict[str, torch.Tensor]:
        """Residuals over sigma by observation, shaped by the loss; of the values kept out alone for `judges`."""
        found = {}
        for name, values in self.seen(self.fields(x), z).items():
            instrument, _, sigma = self._asks(z)[name]
            r = (values - self._measured[name]) / sigma
            r = r if instrument.shape_of_loss is None else instrument.shape_of_loss.shaped(r)
            if self.judging:
                r = r[self._judges[name] if judges else ~self._judges[name]]
            found[name] = r
        return found

    def residuals(self, x: torch.Tensor, z: torch.Tensor, *, judges: bool = False) -> torch.Tensor:
        """As `parts`, one after the other, (rows,)."""
        return torch.cat(list(self.parts(x, z, judges=judges).values()))

    def energy(self, x: torch.Tensor) -> torch.Tensor:
        """Minus the logarithm of the fields' priors, 0-d."""
        total = x.new_zeros(())
        for key, field in self.believed(x).items():
            total = total + (self.factor if key in self.estimated else 1.0) * self.energies[key](field)
        return total

    def stiffness(self, x: torch.Tensor) -> Any:
        """Matrix of the quadratic that touches the energy at cells x (n,) from above, sparse (n, n) of scipy."""
        from scipy.sparse import block_diag

        parts = [
            (self.factor if key in self.estimated else 1.0)
            * self.scales[key] ** 2
            * self.energies[key].stiffness(field)
            for key, field in self.believed(x.detach()).items()
        ]
        return block_diag(parts, format="csr")

    def prior_covariance(self, v: torch.Tensor) -> torch.Tensor:
        """Covariance of Gaussian priors times cells v (b, n), in units of the scales."""
        found, at = [], 0
        for key, shape in self.shapes.items():
            own = v[:, at : at + math.prod(shape)].reshape(-1, *shape)
            at += math.prod(shape)
            found.append((self.energies[key].covariance(own) / self.scales[key] ** 2).reshape(len(v), -1))
        return torch.cat(found, 1)

    def prior_variance(self) -> torch.Tensor:
        """Of each cell by Gaussian priors, (n,), in units of the scales."""
        own = [self.energies[k].variance(shape) / self.scales[k] ** 2 for k, shape in self.shapes.items()]
        return torch.cat([v.reshape(-1) for v in own])

    def value_and_gradient(self, x: torch.Tensor, z: torch.Tensor) -> tuple[float, torch.Tensor]:
        """The objective and its gradient by the cells (n,); the priors of z are left out."""
        x = x.detach().clone().requires_grad_()
        total = self.residuals(x, z).square().sum() / 2 + self.energy(x)
        (gradient,) = torch.autograd.grad(total, x)
        return float(total.detach()), gradient

    def estimate_sigmas(self, x: torch.Tensor, z: torch.Tensor) -> float:
        """Standard deviations from what is left over; weights that were estimated keep their balance with the data.

        Returns:
            The largest relative change.
        """
        with torch.no_grad():
            seen = self.seen(self.fields(x), z)
        change, ratios = 0.0, []
        for name, values in seen.items():
            if name not in self.problem.sigmas:
                continue
            old = self.problem.sigmas[name]
            new = (values - self._measured[name]).square().mean().sqrt().reshape(1).clamp_min(1e-300)
            self.problem.sigmas[name] = new
            ratios.append(float(old / new))
        self.renew()
        if ratios:
            self.factor *= math.prod(ratios) ** (2 / len(ratios))
            alone = len(ratios) == len(seen) == 1 and not len(z)
            fixed = [key for key in self.shapes if key not in self.estimated]
            # with one sigma and weights that follow it the best cells stay, whatever sigma is
            change = 0.0 if alone and not fixed else max(abs(r - 1) for r in ratios)
        return change
