"""A law nobody wrote down from a video: the coefficients of an energy network, with the loss on pixels alone.

The network's directions and offsets are random features and stay; the stress is linear in its moduli and last weights.
Sought are the moduli and the few combinations of weights that change the stress of such a motion most, beyond what
moduli do: few enough for Levenberg-Marquardt over whole motions, though the network is wide. Beside it, for comparison,
the law that is learned from the positions of all particles (`simengine.worlds.laws.training`).
"""

import math
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from simengine.fit.training import AbstractTraining
from simengine.fit.trainings.least_squares import LeastSquaresTraining
from simengine.fit.trainings.parameters import Parameter, ParameterSet
from simengine.fit.trainings.staged import StagedTraining
from simengine.materials import Identity, Material
from simengine.materials.neural_energy import EnergyNetwork
from simengine.materials.weights import save_material
from simengine.mpm import MPMModel, MPMSolver, MPMState
from simengine.render import Look, SurfelRenderer
from simengine.solve import rollout
from simengine.view.report import Block, Picture, Table, write_report
from simengine.view.sheets import comparison, contact_sheet, pyramid, summary_rows
from simengine.worlds.laws.balance import BalanceTraining, with_material
from simengine.worlds.motion.momentum_balance import record
from simengine.worlds.motion.world import MPMWorld
from simengine.worlds.objects.law_video_spec import LawVideoSpec

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

Values = dict[str, torch.Tensor]
MODULI = ("mu", "kappa")
START = 0.5  # of both, in units of `modulus`
WEIGHT = 5.0  # what weights come to; coordinates are in units of it
EVERY = 20  # steps of the motion of the law at the start between those whose strains tell the combinations
ROUNDS = 5  # of the law that is learned from positions
POSITIONS_WIDTH = 48  # its hidden units


class LawMisfit:
    """Videos of a body whose law is hidden, and how those of other laws differ from them; float64.

    Attributes:
        observed: Linear RGB, shape (cameras, frames, h, w, 3).
        combinations: Of the last weights that are sought, shape (width, spec.combinations).
    """

    def __init__(self, spec: LawVideoSpec, *, seed: int) -> None:
        self.spec: LawVideoSpec = spec
        self.seed: int = seed
        motion = spec.motion
        x, volumes, _ = (torch.as_tensor(array) for array in motion.particles())
        radius = 0.9 * float(volumes.mean()) ** (1 / 3)
        look = Look(background=(1.0, 1.0, 1.0), shading=False)
        self._renderers = [SurfelRenderer(c.pinhole(double=True), radius=radius, look=look) for c in spec.cameras]
        self._colours = _colours(motion, x)
        with torch.no_grad():
            exact = self.pictures({})
        noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(seed), dtype=exact.dtype)
        self.observed: torch.Tensor = exact + spec.noise * noise
        self.combinations: torch.Tensor = self._combinations()

    def pictures(self, values: Values, *, frames: int | None = None) -> torch.Tensor:
        """Videos of the motion under a law of these coefficients, shape (cameras, frames, h, w, 3)."""
        frames = frames or self.spec.frames
        every = self.spec.motion.grid.num_steps // self.spec.frames
        model, state = self.build(values)
        positions = rollout(MPMSolver(model), state, frames * every, save_every=every).states.x[1:]
        return torch.stack([renderer(positions, colours=self._colours) for renderer in self._renderers])

    def contact_sheet(self, images: torch.Tensor) -> NDArray[Any]:
        """The pictures of each camera in a row."""
        return contact_sheet(images, columns=images.shape[-4])

    def _network(self, coefficients: torch.Tensor) -> EnergyNetwork:
        spec = self.spec.law
        network = EnergyNetwork(
            width=spec.width,
            modulus=spec.modulus,
            strain_scale=spec.strain_scale,
            convexity=spec.convexity,
            seed=self.seed,
        ).double()
        network.set_linear(coefficients.double())
        return network.requires_grad_(False)

    def law(self, values: Values) -> EnergyNetwork:
        """The network with these coefficients, float64."""
        moduli = torch.stack([values[name] for name in MODULI]).detach()
        sought = torch.stack([value for name, value in values.items() if name not in MODULI]).detach()
        return self._network(torch.cat((moduli, self.combinations @ sought)))

    def _combinations(self) -> torch.Tensor:
        """Weights that change the stress most where the strains are those of the law at the start.

        Leading eigenvectors of the Gram matrix of the stress columns of the weights, without the part that the moduli
        explain, shape (width, spec.combinations).
        """
        start = torch.zeros(2 + self.spec.law.width, dtype=torch.float64)
        start[: len(MODULI)] = START
        network = self._network(start)
        model, state = self.spec.motion.build(device="cpu", double=True)
        motion = record(with_material(model, Material(network, Identity())), state, self.spec.motion.grid.num_steps)
        columns = network.stress_columns(motion.F[::EVERY].flatten(0, 1)).flatten(1) / self.spec.law.modulus
        gram = columns @ columns.T / columns.shape[1]
        among, across, weights = gram[:2, :2], gram[:2, 2:], gram[2:, 2:]
        _, vectors = torch.linalg.eigh(weights - across.T @ torch.linalg.pinv(among, hermitian=True) @ across)
        return WEIGHT * vectors.flip(1)[:, : self.spec.combinations]

    def build(self, values: Values) -> tuple[MPMModel, MPMState]:
        """Model and start of the motion with the law of these coefficients; with the true one where there are none."""
        model, state = self.spec.motion.build(device="cpu", double=True)
        return (with_material(model, Material(self.law(values), Identity())) if values else model), state

    def residual(self, values: Values, *, frames: int | None = None) -> torch.Tensor:
        """Differences of the pictures and of their halvings, each resolution with the same weight, flat.

        And the weights, which stay small where the pictures say nothing.
        """
        frames = frames or self.spec.frames
        ours = pyramid(self.pictures(values, frames=frames), self.spec.blur)
        theirs = pyramid(self.observed[:, :frames], self.spec.blur)
        pixels = [((a - b) / math.sqrt(a.numel())).flatten() for a, b in zip(ours, theirs, strict=True)]
        weights = torch.stack([value for name, value in values.items() if name not in MODULI])
        return torch.cat([*pixels, self.spec.ridge**0.5 * weights])

    def parameters(self) -> ParameterSet:
        """Moduli in units of `modulus`, positive, and the combinations of the weights of the hidden units."""
        entries = {name: Parameter(initial=START, lower=0.0) for name in MODULI}
        entries |= {f"w{k}": Parameter(initial=0.0, scale=1.0) for k in range(self.spec.combinations)}
        return ParameterSet(entries)

    def training(self) -> AbstractTraining:
        """The search, over growing parts of the video."""
        spec, parameters = self.spec, self.parameters()
        stages = [self._part(parameters, max(1, round(part * spec.frames))) for part in spec.stages]
        return StagedTraining(stages, finish=lambda last, out: _finish(self, parameters, out))

    def _part(self, parameters: ParameterSet, frames: int) -> AbstractTraining:
        return LeastSquaresTraining(
            parameters,
            lambda values: self.residual(values, frames=frames),
            num_iterations=self.spec.iterations,
            tolerance=1e-3,
        )

    def from_positions(self) -> EnergyNetwork:
        """The law learned from the positions of all particles at every step of the same motion."""
        model, state = self.spec.motion.build(device="cpu")
        motion = record(model, state, self.spec.motion.grid.num_steps)
        network = EnergyNetwork(
            width=POSITIONS_WIDTH,
            modulus=self.spec.law.modulus,
            strain_scale=self.spec.law.strain_scale,
            convexity=self.spec.law.convexity,
            seed=self.seed,
        )
        learner = with_material(model, Material(network, Identity()))
        training = BalanceTraining(learner, [motion], positions_only=True, num_iterations=ROUNDS, frames=40)
        for _ in range(ROUNDS):
            training.step()
        return network

    def position_error(self, law: EnergyNetwork, motion: MPMWorld) -> float:
        """Mean squared position error [m^2] of a law against the true material, over the frames of a motion."""
        every = motion.grid.num_steps // self.spec.frames
        model, state = motion.build(device="cpu", double=True)
        learned = with_material(model, Material(law.double(), Identity()))
        with torch.no_grad():
            paths = [rollout(MPMSolver(m), state, motion.grid.num_steps, save_every=every) for m in (model, learned)]
        return float((paths[0].states.x - paths[1].states.x).square().mean())


def _finish(misfit: LawMisfit, parameters: ParameterSet, out: "RunDirectory") -> dict[str, Any]:
    """Write weights, pictures and a report; return position errors beside those of the law learned from positions."""
    spec = misfit.spec
    start = {name: torch.tensor(entry.initial, dtype=torch.float64) for name, entry in parameters.entries.items()}
    with torch.no_grad():
        initial, fitted = misfit.pictures(start), misfit.pictures(parameters())
    seen, filmed = misfit.law(parameters()), misfit.from_positions()
    motions = {"filmed motion": spec.motion, "another throw": spec.other_throw()}
    errors = {
        name: {"video": misfit.position_error(seen, motion), "positions": misfit.position_error(filmed, motion)}
        for name, motion in motions.items()
    }
    summary: dict[str, Any] = {
        "position_mse": errors,
        "video_over_positions": {name: value["video"] / value["positions"] for name, value in errors.items()},
        "start_position_mse": misfit.position_error(misfit.law(start), spec.motion),
        "longitudinal_modulus": seen.longitudinal_modulus(),
        "pixel_rmse": float((fitted - misfit.observed).square().mean().sqrt()),
        "initial_pixel_rmse": float((initial - misfit.observed).square().mean().sqrt()),
    }
    save_material(out.path / "weights.safetensors", Material(seen.float(), Identity()))
    rows = {"observed": misfit.observed[0], "initial guess": initial[0], "fitted": fitted[0]}
    sheet = comparison(rows)
    out.write("pictures.png", sheet)
    out.write("fit.json", summary)
    out.write("comparison.mp4", torch.cat(list(rows.values()), dim=2), fps=10)
    blocks: dict[str, list[Block]] = {
        "Figures": [Table(("figure", "value"), summary_rows(summary))],
        "Pictures of the first camera": [Picture(sheet, "observed, initial, fitted")],
    }
    write_report(out.path / "report.html", "A law from a video", blocks)
    return summary


def _colours(motion: MPMWorld, x: torch.Tensor) -> torch.Tensor:
    """Linear RGB of the particles, (n, 3): the body's colour, brighter towards one corner, so that turns are seen.

    All channels by the same factor, 0.3 at the lowest corner of the body's bounds and 1.5 at the highest.
    """
    place = (x - x.amin(0)) / (x.amax(0) - x.amin(0)).clamp_min(1e-9)
    colour = torch.tensor(motion.bodies[0].color, dtype=torch.float64)
    return (colour * (0.3 + 1.2 * place.mean(dim=1, keepdim=True))).clamp(0, 1)
