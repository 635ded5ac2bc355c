"""The baseline for learned laws: the few numbers of the law whose form is known, from the same observations."""

import math
from typing import TYPE_CHECKING

import torch

from simengine.fit.trainings.least_squares import LeastSquaresTraining, difference_jacobian
from simengine.fit.trainings.parameters import Parameter, ParameterSet
from simengine.materials import Material
from simengine.mpm import SimulationError
from simengine.worlds.laws.balance import FLOAT32_STEP, with_material
from simengine.worlds.motion.momentum_balance import Motion, follow

if TYPE_CHECKING:
    from simengine.worlds.laws.world import NCLawWorld

UNIT_BOUNDS = {"nu": (0.0, 0.5), "friction_angle": (0.0, 90.0)}


def identify(
    scene: "NCLawWorld", motion: Motion, *, part: float = 0.3, num_iterations: int = 8
) -> tuple[Material, dict[str, float]]:
    """Coefficients of the scene's material from positions, started from a factor of 2 and of 1.3 off.

    Args:
        scene: Names the form of the law.
        motion: What was observed: nothing but `x` and `v[0]` is read.
        part: Of the motion used.
        num_iterations: At most.

    Returns:
        The material and its coefficients.
    """
    model, _ = scene.experiment().build(device="cpu")
    steps = max(2, round(part * len(motion)))
    true = {name: value for name, value in scene.material.coefficients().items() if value}
    start = {n: v * (0.5 if math.isinf(UNIT_BOUNDS.get(n, (0, math.inf))[1]) else 1.3) for n, v in true.items()}
    if scene.material.type == "water":  # E and nu enter by one product only
        start = {"E": start["E"]}
    sought = {}
    for name, value in start.items():
        low, high = UNIT_BOUNDS.get(name, (0.0, math.inf))
        sought[name] = Parameter(initial=value, lower=low, upper=high)
    parameters = ParameterSet(sought)

    def residual(values: dict[str, torch.Tensor]) -> torch.Tensor:
        material = scene.material.make(values, dt=model.grid.dt)
        try:
            return follow(with_material(model, material), motion.x[: steps + 1], motion.v[0])[1].flatten().double()
        except SimulationError:
            return torch.full((steps * motion.x[0].numel(),), math.inf)

    jacobian = difference_jacobian(residual, central=False, step=FLOAT32_STEP)
    search = LeastSquaresTraining(parameters, residual, jacobian=jacobian, tolerance=1e-3)
    for _ in range(num_iterations):
        search.step()
        if search.converged:
            break
    found = parameters.values()
    values = {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}
    return scene.material.make(values, dt=model.grid.dt), found
