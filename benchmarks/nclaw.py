"""NCLaw's protocol: errors of learned laws on motions not learned from, beside the published ones.

    python benchmarks/nclaw.py [jelly] [sand] [plasticine] [water] [--save FOLDER]

Position MSE [m^2], smaller is better; ratio = published / ours. Laws learned from the states of one motion, jelly also
from its positions alone. The test "geometry" throws a torus in place of the published bodies. Some two minutes of CPU a
material.
"""

import sys
import time
from pathlib import Path
from typing import Any

from simengine.fit.nclaw import training
from simengine.fit.nclaw_report import PUBLISHED, protocol
from simengine.materials.weights import save_material
from simengine.scene.mpm_materials import Jelly, MaterialSpec, Plasticine, Sand, Water
from simengine.scene.nclaw import LawSpec, LearningSpec, NCLawScene

TRUE: dict[str, MaterialSpec] = {
    "jelly": Jelly(E=1e5, nu=0.2),
    "sand": Sand(E=1e6, nu=0.2, friction_angle=25.0),
    "plasticine": Plasticine(E=3e5, nu=0.25, yield_stress=5e3),
    "water": Water(E=1e5, nu=0.3),
}
LAWS = {
    "jelly": LawSpec(modulus=1e5, strain_scale=0.3, width=64),
    "sand": LawSpec(modulus=1e6, strain_scale=0.01, width=64, convexity="full", plastic=True),
    "plasticine": LawSpec(modulus=3e5, strain_scale=0.03, width=64, convexity="full", plastic=True),
    "water": LawSpec(modulus=1e5, strain_scale=0.3, width=64, convexity="shear", plastic=True),
}


def scene(name: str, observe: str) -> NCLawScene:
    learning = LearningSpec(observe=observe, frames=80 if observe == "states" else 40, iterations=5)  # type: ignore[arg-type]
    return NCLawScene(material=TRUE[name], law=LAWS[name], learning=learning)


def learn(made: NCLawScene) -> tuple[Any, float]:
    """The learned material and the CPU time it took [s]."""
    start = time.process_time()
    run = training(made, device="cpu")
    for _ in range(run.num_iterations):
        run.step()
    return run.stages[0].model.materials[0], time.process_time() - start  # type: ignore[attr-defined]


def main(names: list[str] | None = None, folder: Path | None = None) -> list[dict[str, Any]]:
    rows = []
    for name in names or list(TRUE):
        for observe in ("states", "positions") if not LAWS[name].plastic else ("states",):
            made = scene(name, observe)
            material, seconds = learn(made)
            if folder is not None:
                save_material(folder / f"{name}_{observe}.safetensors", material)
            for test, error in protocol(made, material).items():
                published = PUBLISHED[name][test]
                row = {"name": f"{name}, {test}, from {observe}", "ours": error, "reference": published}
                rows.append({**row, "ratio": published / error, "learning_cpu_s": round(seconds, 1)})
                print(rows[-1], file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    arguments = sys.argv[1:]
    target = Path(arguments[arguments.index("--save") + 1]) if "--save" in arguments else None
    main([a for a in arguments if a in TRUE] or None, target)
