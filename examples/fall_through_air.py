"""A world of one's own: a ball that falls with drag, found from a video's tracks. Which drag, and when was it let go?

The tracks are made here from the closed form with 4 mm of noise, thirty frames a second, as such videos have.
"""

import math
import tempfile
from pathlib import Path
from typing import ClassVar

import torch
from matplotlib import pyplot as plt

import simengine as se

GRAVITY, AIR, MASS, RADIUS = 9.81, 1.2, 2.8e-3, 0.0201  # [m/s^2], [kg/m^3], [kg], [m]: a table-tennis ball


class FallingBall(se.OwnWorld):
    """y = h - u^2/g ln cosh(g t/u), with the terminal speed u."""

    parameters: ClassVar = {"drag": se.OwnNumber(0.8, gt=0), "height": se.OwnNumber(1.0, "m")}

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        """The closed form."""
        t = torch.linspace(0.0, 0.7, 400, dtype=torch.float64)
        area = math.pi * RADIUS**2
        u = torch.sqrt(2 * MASS * GRAVITY / (AIR * values["drag"] * area))
        y = values["height"] - u**2 / GRAVITY * torch.log(torch.cosh(GRAVITY * t / u))
        return se.OwnMotion(t, points={"ball": torch.stack([0 * y, y, 0 * y], -1)})


def tracks(folder: Path, *, drag: float, release: float) -> None:
    """Write ball.csv as a tracking program does."""
    t = torch.arange(0, 15, dtype=torch.float64) / 30
    run = FallingBall(drag=drag, height=1.03).solve(())
    y = run.sample(se.scene.Tracks(points=torch.zeros(1, 3), times=(t - release).clamp_min(0)))[:, 0, 1]
    y = y + 4e-3 * torch.randn(len(t), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    lines = ["t_s,y_cm", *(f"{a:.4f},{100 * b:.3f}" for a, b in zip(t.tolist(), y.tolist(), strict=True))]
    (folder / "ball.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> dict[str, float]:
    """Find what was hidden."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tracks(folder, drag=0.46, release=0.02)
        seen = se.observe.Markers(
            directory=folder,
            file="ball.csv",
            columns={"time": "t_s", "y": "y_cm [cm]"},
            markers={"ball": se.observe.Marker(on="ball", at=(0.0, 0.0, 0.0))},
            sigma=4e-3,
            seat_sigma=0.0,
        )
        unknowns = {
            "drag": se.Unknown(),
            "height": se.Unknown(prior=se.Prior(normal=0.05)),
            "observations.track.start": se.Unknown(prior=se.Prior(normal=0.03)),
        }
        result = se.identify(se.Problem(FallingBall(), observations={"track": seen}, unknowns=unknowns), progress=False)
    print(result)
    track = result.predictions["track"]
    plt.plot(track.measured.at["time"], track.measured.values, "o", mfc="white", label="tracked")
    plt.plot(track.measured.at["time"], track.values, label="fitted")
    plt.gca().set(xlabel="time of the film [s]", ylabel="height [m]", title="A ball that falls through air")
    plt.legend()
    for key, true in (("drag", 0.46), ("observations.track.start", 0.02)):
        estimate = result.estimates[key]
        assert estimate.std is not None and abs(estimate.value - true) < 3 * estimate.std, key
    return dict(result.parameters)


if __name__ == "__main__":
    main()
    plt.savefig("fall_through_air.png")
