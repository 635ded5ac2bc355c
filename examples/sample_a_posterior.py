"""Bars where the posterior is no ellipse: early rows of a saturating curve tell a product, and badly its factors."""

import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from matplotlib import pyplot as plt

import simengine as se
from simengine.observe import Curve

T, SIGMA = np.linspace(0.1, 1.2, 12), 0.03


class Uptake(se.OwnWorld):
    """c = most (1 - exp(-rate t))."""

    parameters: ClassVar = {"most": se.OwnNumber(1.0, gt=0), "rate": se.OwnNumber(1.0, gt=0)}

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0, 1.3, 131, dtype=torch.float64)
        return se.OwnMotion(t, scalars={"c": values["most"] * (1 - torch.exp(-values["rate"] * t))})


def main() -> dict[str, float]:
    seen = 2.0 * (1 - np.exp(-0.6 * T)) + SIGMA * np.random.default_rng(5).standard_normal(len(T))
    with tempfile.TemporaryDirectory() as folder:
        np.savetxt(Path(folder) / "c.csv", np.stack((T, seen), -1), delimiter=",", header="t,c", comments="")
        curve = Curve(directory=Path(folder), file="c.csv", columns={"time": "t [s]", "c": "c [1]"}, sigma=SIGMA)
        unknowns = {name: se.Unknown(prior=se.Prior(lognormal=(1.0, 1.0))) for name in ("most", "rate")}
        inference = se.Inference(posterior="ensemble", samples=400)
        problem = se.Problem(Uptake(), observations={"c": curve}, unknowns=unknowns, inference=inference)
        result = se.identify(problem, progress=False)
    assert result.samples is not None and result.samples.converged
    most, rate = (result.samples.values[name].ravel() for name in ("most", "rate"))
    a, b = np.meshgrid(np.geomspace(0.5, 20, 600), np.geomspace(0.02, 3, 600), indexing="ij")  # by quadrature
    misfit = sum(((c - a * (1 - np.exp(-b * t))) / SIGMA) ** 2 for t, c in zip(T, seen, strict=True))
    density = np.exp(-0.5 * (misfit - misfit.min() + np.log(a) ** 2 + np.log(b) ** 2))
    share = density.sum(1).cumsum() / density.sum()
    right = np.exp(np.interp([0.025, 0.5, 0.975], share, np.log(a[:, 0])))
    found = np.quantile(most, [0.025, 0.5, 0.975])
    plt.plot(most, rate, ".", ms=2)
    plt.gca().set(xlabel="most", ylabel="rate [1/s]", title="What early rows of a saturating curve tell")
    assert np.abs(np.log(found / right)).max() < 0.1  # some 500 effective samples
    return {"most, 2.5 %": found[0], "median": found[1], "97.5 %": found[2]}


if __name__ == "__main__":
    print(main())
    plt.savefig("sample_a_posterior.png")
