"""How robust is a detector of one's own? Any module with `dense` and `predict` will do; here one that sees shadows."""

import tempfile

import torch
from matplotlib import pyplot as plt
from torch import nn

from simengine.dtn.detector import suppress
from simengine.dtn.protocol import Detections
from simengine.fit.loop import fit
from simengine.io.run_directory import RunDirectory
from simengine.scene import resolved
from simengine.worlds.detectors.camouflage import CamouflageTraining
from simengine.worlds.detectors.world import CamouflageSpec, DTNWorld, TrainedDetectorSpec


class DarkSpots(nn.Module):
    """One box of 24 x 16 pixels about each cell of 8 pixels, as sure as the cell is darker than the picture."""

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes and scores of all cells."""
        cells = nn.functional.avg_pool2d(images.mean(1, keepdim=True), 8)
        darker = (images.mean((1, 2, 3)).view(-1, 1, 1, 1) - cells).flatten(1)
        y, x = torch.meshgrid(*(8.0 * torch.arange(n) + 4.0 for n in cells.shape[2:]), indexing="ij")
        boxes = torch.stack([x - 12, y - 8, x + 12, y + 8], -1).reshape(1, -1, 4).expand(len(images), -1, 4)
        return boxes, torch.sigmoid(8 * darker)[..., None]

    def predict(self, images: torch.Tensor) -> list[Detections]:
        """Boxes, labels and scores after suppression."""
        return [suppress(boxes, scores) for boxes, scores in zip(*self.dense(images), strict=True)]


def main() -> dict:
    """AP over the attacked views in the random texture at the start and in the one found, and over unseen views."""
    size = {"rows": 16, "columns": 16, "iterations": 40, "batch": 4, "rendered": 4}
    spec = CamouflageSpec(detector=TrainedDetectorSpec(empty=0.5), overlap=0.2, hardening=0, **size)
    scene = DTNWorld(size=48, train_views=12, test_views=12, sky_rays=1)
    training = CamouflageTraining(scene, spec, detector=DarkSpots())
    before = training.visibility("texture_0")
    with tempfile.TemporaryDirectory() as folder:
        out = RunDirectory.create(f"{folder}/run", resolved(scene), overwrite=False, resume=False)
        summary = fit(training, out, progress=False).summary
    after = training.visibility("texture_0")
    plt.bar(["natural", "random", "found"], [summary["detector/natural"]["AP50"], before, after])
    plt.gca().set(ylabel="AP50", title="How well a detector sees a car, by its texture")
    assert after < before, f"expected the texture to hide the object, got {after:.3f} from {before:.3f}"
    return {"start": before, "found": after, **{k: summary[f"detector/{k}"]["AP50"] for k in ("natural", "optimised")}}


if __name__ == "__main__":
    print(main())
    plt.savefig("evaluate_a_detector.png")
