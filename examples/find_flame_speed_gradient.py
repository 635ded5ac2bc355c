"""The flame speed of a methane-air flame and its sensitivities to conditions, kinetics and transport, by one solve."""

import torch
from matplotlib import pyplot as plt

from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.free import FreeFlame
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.solver.solve import SpectralSolver


def main() -> dict[str, float]:
    gas = Gas(load_mechanism("methane_1step"), smoothing=1e-8)
    conditions = {"phi": 0.8, "p": 101325.0, "T_in": 300.0}
    leaves = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in conditions.items()}
    A = gas.rate_parameters.A.clone().requires_grad_()
    flame = FreeFlame(gas=gas, mixture=Mixture({"CH4": 1.0}), A=A, **leaves)
    solution = SpectralSolver(resolution=1e-5).solve(flame).value
    speed = flame.flame_speed(solution.eigenvalue)[0]
    speed.log().backward()
    slopes = {f"dlnsL/dln{name}": float(leaf.grad * leaf.detach()) for name, leaf in leaves.items()}
    slopes["dlnsL/dlnA"] = float(A.grad[0] * A.detach()[0])
    assert abs(slopes["dlnsL/dlnA"] - 0.5) < 1e-6  # exact for one reaction: scale lengths with A^-1/2
    names = {"phi": "mixture", "p": "pressure", "T_in": "inlet temperature", "A": "rate"}
    plt.bar(list(names.values()), [slopes[f"dlnsL/dln{name}"] for name in names])
    plt.gca().set(ylabel="d ln (flame speed) / d ln (...)", title="Sensitivities by one solve")
    return {"flame_speed": float(speed.detach()), **slopes}


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:16} {value:.6f}")
    plt.savefig("find_flame_speed_gradient.png")
