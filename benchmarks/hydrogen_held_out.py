"""Measured hydrogen speeds, one publication held out: does a calibration predict it worse than the published mechanism?

`python benchmarks/hydrogen_held_out.py`: the rows of the shipped scene `calibrate_hydrogen` that its mechanism can
compute, solved once as published, with exact sensitivities to every rate constant. From there each way of fitting is
one Gauss-Newton step: nothing fitted, all rows, all publications but one, every second row; each without a gain of a
publication and with one of 3 and 5 % (the standard deviation of ln gain). Beside the misfit of the rows that were not
fitted stands that over what is known of it: their bars, what the fitted rows leave of the constants, and their gain.
"""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from simengine.fit.problem import Problem
from simengine.scene.loader import load_scene

SCENE = "calibrate_hydrogen"
GAINS = (0.0, 0.03, 0.05)


def linearised() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, list[str]]:
    """Of all rows: gap (n,), slopes (n, p) and speed (n,) over sigma, deviations of the prior (p,), publications."""
    scene = load_scene(SCENE)
    every = {name: dataclasses.replace(own, hold_out=False) for name, own in scene.observations.items()}
    problem = Problem(dataclasses.replace(scene, observations=every))
    z = problem.start()
    problem.settle(z)
    r, j = problem.linearise(z)
    ((name, prediction),) = problem.predict(z).items()
    used = problem.rows(name)[:, 0]
    n = int(used.sum())
    with Path(problem.instruments[name].file).open(encoding="utf-8", newline="") as file:
        published = {row["key"]: row["reference"] for row in csv.DictReader(file)}
    keys = prediction.measured.row_names
    assert keys is not None
    sources = [published[key] for key, mine in zip(keys, used.tolist(), strict=True) if mine]
    sharp = (prediction.values / prediction.sigma)[used, 0]
    return r[:n], j[:n], sharp, 1 / j[n:].square().sum(0).sqrt(), sources


def step(
    r: torch.Tensor, j: torch.Tensor, deviations: torch.Tensor, fitted: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gaps of all rows after a Gauss-Newton step on the fitted ones, their covariance (n, n), and the step (p,)."""
    own = j[fitted]
    covariance = torch.linalg.inv(own.T @ own + torch.diag(deviations**-2))
    moved = -covariance @ (own.T @ r[fitted])
    return r + j @ moved, j @ covariance @ j.T, moved


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A row for each choice of rows and gain."""
    torch.set_num_threads(1)
    r, j, sharp, deviations, sources = linearised()
    names = sorted(set(sources))
    second = torch.zeros(len(r), dtype=torch.bool)
    for name in names:
        second[[k for k, source in enumerate(sources) if source == name][::2]] = True
    choices = {
        "nothing": torch.zeros(len(r), dtype=torch.bool),
        "all": torch.ones(len(r), dtype=torch.bool),
        "every second row of each": second,
    }
    choices |= {
        f"all but {name}": torch.tensor([source != name for source in sources]) for name in names if len(names) > 1
    }
    found = []
    for choice, fitted in choices.items():
        for gain in GAINS:
            slopes, widths = j, deviations
            if gain:  # one column for each publication
                member = torch.tensor([[float(source == name) for name in names] for source in sources])
                slopes = torch.cat((j, sharp[:, None] * member.to(j)), 1)
                widths = torch.cat((deviations, torch.full((len(names),), gain, dtype=torch.float64)))
            left, spread, moved = step(r, slopes, widths, fitted)
            of_model = r + j @ moved[: len(deviations)]  # without the gain, which a publication held out has not told
            told: dict[str, Any] = {"name": f"{choice}, gain {100 * gain:g} %", "rows fitted": int(fitted.sum())}
            told["largest move [prior sd]"] = float((moved[: len(deviations)] / deviations).abs().max())
            if bool(fitted.any()):
                told["chi-square a fitted row"] = float(left[fitted].square().mean())
            if not bool(fitted.all()):
                out = ~fitted
                bars = spread[out][:, out] + torch.eye(int(out.sum()), dtype=torch.float64)
                told["chi-square a row held out"] = float(of_model[out].square().mean())
                told["the same, over its own bars"] = float(
                    left[out] @ torch.linalg.solve(bars, left[out]) / int(out.sum())
                )
                told["held out, over measured"] = ", ".join(
                    f"{v:+.1%} +- {s:.1%}"
                    for v, s in zip(
                        (of_model / (sharp - r))[out].tolist(),
                        (spread.diagonal().sqrt() / (sharp - r))[out].tolist(),
                        strict=True,
                    )
                )
            found.append(told)
            print(", ".join(f"{k} {v if isinstance(v, str | int) else format(v, '.3g')}" for k, v in told.items()))
    return found


if __name__ == "__main__":
    main()
