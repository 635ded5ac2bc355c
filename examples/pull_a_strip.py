"""The stiffness of a strip from the file of a testing machine as it comes: semicolons, decimal commas, mm and kN."""

import tempfile
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

import simengine as se

SCENE = """
kind = "specimen"
size = { length = 0.05, area = 2e-5 }
material = { type = "jelly", E = 1e8, nu = 0.4 }
test.type = "uniaxial"
[observations.machine]
type = "curve"
against = "extension"
file = "machine.csv"
columns = { extension = "Weg [mm]", force = "Kraft [kN]" }
sigma = "estimate"
[unknowns]
"material.E" = {}
"""


def main() -> dict[str, float]:
    travel = np.linspace(0.02, 0.5, 25)  # mm: strains below 1 %, where any law is Hooke's
    load = 530e6 * 2e-5 * (travel / 50.0) * 1e-3 + 2e-4 * np.random.default_rng(1).standard_normal(25)  # kN
    rows = [f"{a:.3f};{b:.6f}".replace(".", ",") for a, b in zip(travel, load, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "machine.csv").write_text("\n".join(["Weg [mm];Kraft [kN]", *rows]), encoding="utf-8")
        scene = Path(folder) / "strip.toml"
        scene.write_text(SCENE, encoding="utf-8")
        found = se.identify(se.load_scene(scene), progress=False)
    E = found.estimates["material.E"]
    plt.plot(travel, 1e3 * load, "o", mfc="white", label="testing machine")
    plt.plot(travel, found.predictions["machine"].values, label="fitted")
    plt.gca().set(xlabel="travel [mm]", ylabel="force [N]", title="A strip that is pulled")
    plt.legend()
    assert E.std is not None and abs(E.value - 530e6) < 3 * E.std + 0.01 * 530e6  # 1 %: finite strains
    return {"E": E.value, "standard deviation": E.std}


if __name__ == "__main__":
    print(main())
    plt.savefig("pull_a_strip.png")
