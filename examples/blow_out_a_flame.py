"""How hard can one blow at a flame before it goes out? The burning flames are followed to where they turn back."""

import torch
from matplotlib import pyplot as plt

from simengine.flame import DiffusionFlame, Gas, GridSolver, Mixture, load_mechanism
from simengine.flame.solver.turning import extinction

GAS = Gas(load_mechanism("methane_1step"), smoothing=1e-7)
SOLVER = GridSolver().set_refine_criteria(ratio=3, slope=0.2, curve=0.4, prune=0.05)


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def flame(flux: torch.Tensor, A: torch.Tensor | float = 1.0) -> DiffusionFlame:
    """Methane against air, with mass fluxes of flux and twice that [kg/(m^2 s)]; A times the rate."""
    return DiffusionFlame(
        gas=GAS,
        mixture=Mixture({"CH4": 1.0}),
        p=number(101325.0),
        T_in=number(300.0),
        mass_flux_left=flux,
        mass_flux_right=2 * flux,
        A=A * GAS.rate_parameters.A,
    )


def main() -> dict[str, float]:
    start = SOLVER.solve(flame(number(6.0))).value
    found = extinction(start, flame, 6.0, SOLVER)
    flux, hottest = found.path[:-1].unbind(-1)
    plt.plot(flux, hottest, "o-", mfc="white")
    plt.axvline(found.value, ls="--", color="0.5")
    plt.gca().set(xlabel="mass flux of the fuel [kg/(m$^2$ s)]", ylabel="hottest [K]", title="Where a flame goes out")
    faster = found.derivative(flame, torch.ones(1, dtype=torch.float64))[0] / found.value
    assert abs(faster - 1) < 0.05  # a reaction twice as fast bears twice the flow, but for the distance of the nozzles
    return {"goes out at": found.value, "d ln flux / d ln A": float(faster)}


if __name__ == "__main__":
    print(main())
    plt.savefig("blow_out_a_flame.png")
