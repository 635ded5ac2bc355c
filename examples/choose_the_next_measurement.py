"""Which row to measure next: the one that shrinks the answer most, and measuring it keeps the promise."""

import dataclasses
import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from matplotlib import pyplot as plt

import simengine as se
from simengine.fit.certainty.design import candidates
from simengine.observe import Curve
from simengine.scene.noise import HoldOut

TIMES = np.array([0.1, 0.5, 1.0, 2.0, 4.0, 8.0])
OPEN = (2, 3, 4, 5)


class Cooling(se.OwnWorld):
    """A cup of tea: room + (hot - room) exp(-rate t)."""

    parameters: ClassVar = {"room": se.OwnNumber(20.0), "rate": se.OwnNumber(0.4, gt=0)}

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 10.0, 201, dtype=torch.float64)
        return se.OwnMotion(t, scalars={"T": values["room"] + (80.0 - values["room"]) * (-values["rate"] * t).exp()})


def main() -> dict[str, float]:
    measured = 20.0 + 60.0 * np.exp(-0.5 * TIMES)
    unknowns = {
        "room": se.Unknown(prior=se.Prior(normal=(20.0, 5.0))),
        "rate": se.Unknown(prior=se.Prior(lognormal=(0.4, 0.5))),
    }
    with tempfile.TemporaryDirectory() as folder:
        lines = ["time [s],T", *(f"{a},{b}" for a, b in zip(TIMES, measured, strict=True))]
        (Path(folder) / "tea.csv").write_text("\n".join(lines), encoding="utf-8")
        tea = Curve(directory=Path(folder), file="tea.csv", columns={"time": "time", "T": "T"}, sigma=0.5,
                    hold_out=HoldOut(rows=OPEN))  # fmt: skip
        problem = se.Problem(Cooling(), observations={"tea": tea}, unknowns=unknowns)
        best = candidates(problem)[0]
        row = next(k for k in OPEN if f"time = {TIMES[k]:g}" == best.label)
        after = dataclasses.replace(tea, hold_out=HoldOut(rows=tuple(k for k in OPEN if k != row)))
        more = se.Problem(Cooling(), observations={"tea": after}, unknowns=unknowns)
        volumes = [float(se.identify(p, progress=False).covariance.det().sqrt()) for p in (problem, more)]  # type: ignore[union-attr]
    kept = volumes[0] / volumes[1]
    t = np.linspace(0, 9, 200)
    plt.plot(t, 20 + 60 * np.exp(-0.5 * t), color="0.6")
    plt.plot(TIMES, measured, "o", mfc="white", label="could be measured")
    plt.plot(np.delete(TIMES, OPEN), np.delete(measured, OPEN), "o", color="0.3", label="measured")
    plt.plot(TIMES[row], measured[row], "o", color="tab:red", label="measure this next")
    plt.gca().set(xlabel="time [min]", ylabel="temperature [°C]", title="A cup of tea")
    plt.legend()
    assert abs(kept / best.shrinks - 1) < 0.2, (kept, best.shrinks)
    return {"measure next at": TIMES[row], "promised": best.shrinks, "kept": kept}


if __name__ == "__main__":
    print(main())
    plt.savefig("choose_the_next_measurement.png")
