"""Gravity from the swing of a pendulum: a world of one's own, a table with gaps, a clock that began late."""

import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from matplotlib import pyplot as plt
from scipy.integrate import solve_ivp

import simengine as se
from simengine.observe import Curve


class Pendulum(se.OwnWorld):
    """l angle'' = -g sin(angle), let go at an angle; leapfrog, two thousand steps."""

    parameters: ClassVar = {"g": se.OwnNumber(9.0, gt=0), "length": se.OwnNumber(1.0, gt=0), "angle": se.OwnNumber(0.4)}

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        steps, dt = 2000, 5e-3
        angle, rate, found = values["angle"], torch.zeros((), dtype=torch.float64), []
        for _ in range(steps):
            found.append(angle)
            rate = rate - dt / 2 * values["g"] / values["length"] * torch.sin(angle)
            angle = angle + dt * rate
            rate = rate - dt / 2 * values["g"] / values["length"] * torch.sin(angle)
        t = dt * torch.arange(steps, dtype=torch.float64)
        return se.OwnMotion(t, scalars={"angle": torch.stack(found)})


def main() -> dict[str, float]:
    late, t = 0.12, np.linspace(0.2, 9.0, 60)
    swing = solve_ivp(lambda _, y: [y[1], -9.81 * np.sin(y[0])], (0, 10), [0.5, 0.0], rtol=1e-10, dense_output=True)
    seen = swing.sol(t - late)[0] + 2e-3 * np.random.default_rng(0).standard_normal(60)
    lines = ["time [ms];angle [deg]", *(f"{1e3 * a:.1f};{np.degrees(b):.4f}" for a, b in zip(t, seen, strict=True))]
    lines[7:9] = ["800;", "950;"]  # the camera missed these
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "swing.csv").write_text("\n".join(lines), encoding="utf-8")
        curve = Curve(directory=Path(folder), file="swing.csv", columns={"time": "time", "angle": "angle"}, sigma=2e-3)
        unknowns = {
            "g": se.Unknown(),
            "angle": se.Unknown(),
            "observations.swing.start": se.Unknown(prior=se.Prior(normal=0.2)),
        }
        problem = se.Problem(Pendulum(), observations={"swing": curve}, unknowns=unknowns)
        result = se.identify(problem, progress=False)
    found, g = result.estimates, result.estimates["g"]
    swing = result.predictions["swing"]
    time, fitted = swing.measured.at["time"], swing.values[:, 0]
    plt.plot(time, swing.measured.values.rad2deg(), "o", mfc="white", label="seen")
    plt.plot(time, fitted.rad2deg(), label="fitted")
    plt.gca().set(xlabel="time of the camera [s]", ylabel="angle [degrees]", title="A pendulum")
    plt.legend()
    assert g.std is not None and abs(g.value - 9.81) < 4 * g.std < 0.05
    return {"g": g.value, "standard deviation": g.std, "clock began late by": found["observations.swing.start"].value}


if __name__ == "__main__":
    print(main())
    plt.savefig("time_a_pendulum.png")
