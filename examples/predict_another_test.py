"""Fit rubber to two tests of 1944 and predict the third, which the fit has not seen, from the folder of the run."""

import json
import tempfile
from pathlib import Path

from matplotlib import pyplot as plt

import simengine as se
from simengine.cli import main as simengine

TEST = """
[observations.{0}]
type = "curve"
file = "asset:rubber_treloar.csv"
against = "stretch"
columns = {{ stretch = "stretch", nominal_stress = "nominal_stress_MPa [MPa]" }}
where.test = "{1}"
run.test.type = "{2}"
sigma = 7e4
"""
LAW = 'kind = "specimen"\nmaterial = { type = "ogden", mu = [4e5, 3e3, 1e4], alpha = [1.3, 5.0, -2.0], nu = 0.5 }\n'
SOUGHT = '[unknowns]\n"material.mu" = { prior.lognormal = 1.5 }\n"material.alpha" = { prior.normal = 3.0 }\n'


def main() -> dict[str, float]:
    seen = TEST.format("tension", "uniaxial", "uniaxial") + TEST.format("biaxial", "equibiaxial", "equibiaxial")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "two.toml").write_text(LAW + seen + SOUGHT, encoding="utf-8")
        (folder / "third.toml").write_text(LAW + TEST.format("shear", "pure_shear", "planar"), encoding="utf-8")
        fitted = se.identify(se.load_scene(folder / "two.toml"), out=folder / "run", progress=False)
        third = fitted.predict(se.load_scene(folder / "third.toml"))["shear"]
        on = ["--on", str(folder / "third.toml"), "--out", str(folder / "again")]
        assert simengine(["predict", str(folder / "run"), *on]) == 0  # the same by the command line, at any later time
        told = json.loads((folder / "again" / "predict.json").read_text(encoding="utf-8"))["observations"]["shear"][
            "chi_square_per_row"
        ]
    assert third.std is not None
    stretch, value, bar = third.measured.at["stretch"], third.values[:, 0] / 1e6, 1.96 * third.std[:, 0] / 1e6
    plt.fill_between(stretch, value - bar, value + bar, alpha=0.3, lw=0)
    plt.plot(stretch, value, label="predicted from tension and biaxial tension")
    plt.plot(stretch, third.measured.values / 1e6, "o", mfc="white", label="measured")
    plt.gca().set(xlabel="stretch", ylabel="nominal stress [MPa]", title="Pure shear of rubber, not fitted")
    plt.legend()
    mine = float(third.residual.square().mean())
    assert abs(mine / told - 1) < 1e-6 and mine < 2.0  # of what two digitisations of the figure differ by
    return {"chi-square per row": mine}


if __name__ == "__main__":
    print(main())
    plt.savefig("predict_another_test.png")
