"""What is learned from pictures: seconds of CPU for a step of each training, and what visibility and texels gain.

The figures of finished trainings are those that `simengine train <scene>` prints; docs/results/pictures.md holds them.
"""

import time
from typing import Any

import torch

from simengine.fit.trainings.learned import learning_of
from simengine.scene import load_scene
from simengine.worlds.learned.views_from_few.training import SPEED_SIZES, frames_per_second

TRAININGS = {  # fewer examples to test with
    "shape_from_pictures": "test.count=4",
    "mental_rotation": "test.count=4",
    "new_views": "test.count=2",
    "material_from_one_picture": "test.count=4",
}


def main() -> list[dict[str, object]]:
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for name, change in TRAININGS.items():
        training: Any = learning_of(load_scene(name, [change]))
        training.step()
        start = time.process_time()
        for _ in range(4):
            training.step()
        ours = (time.process_time() - start) / 4
        rows.append({"name": f"a step of {name}", "ours": f"{ours:.3f} s", "reference": "", "ratio": ""})
        if name == "new_views":
            rates = frames_per_second(training.network, training.problem.examples[0], "shadow")
            rows += [
                {"name": f"a new view at {size}^2", "ours": f"{rates[str(size)]:.2f} 1/s", "reference": "", "ratio": ""}
                for size in SPEED_SIZES
            ]
    return rows


if __name__ == "__main__":
    for entry in main():
        print(entry)
