"""What trainings of a transformation network share, whoever made the pictures: optimiser, losses, model and report."""

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from simengine.dtn.metrics import ssim
from simengine.dtn.network import TransformationNetwork
from simengine.fit.trainings.gradient import GradientTraining
from simengine.io.model_folder import write_model
from simengine.render.tone import decode_srgb
from simengine.view.report import Block, Picture, ReportTable, write_report
from simengine.view.sheets import comparison, summary_rows

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.worlds.detectors.world import AppearanceNetworkSpec

OPTIONS = ("head", "extractor", "geometry", "width", "depth", "skips", "normalise")  # of a network, in its spec
SHOWN = 8  # pictures in the report


def make_network(spec: "AppearanceNetworkSpec") -> TransformationNetwork:
    """The network of a spec, untrained."""
    return TransformationNetwork(**{name: getattr(spec, name) for name in OPTIONS})


def beside_one_another(strips: Mapping[str, torch.Tensor]) -> Any:
    """A sheet with a row for each strip of encoded pictures (n, 3, h, w)."""
    return comparison({name: decode_srgb(strip).permute(0, 2, 3, 1) for name, strip in strips.items()})


class AppearanceTraining(GradientTraining, abc.ABC):
    """Adam on a transformation network; sub-classes give the examples and say how well it does on unseen views.

    Args:
        spec: Network and lengths.
        network: Trained in place.

    Attributes:
        reads: What the network reads, for whoever finds its folder.
        caption: Of the sheet in the report.
    """

    reads: ClassVar[str]
    caption: ClassVar[str]

    def __init__(self, spec: "AppearanceNetworkSpec", network: TransformationNetwork) -> None:
        self.spec: AppearanceNetworkSpec = spec
        self.network: TransformationNetwork = network
        super().__init__(
            network,
            self._objective,
            num_iterations=spec.iterations,
            learning_rate=spec.learning_rate,
            cosine=True,
            clip_norm=1.0,
        )

    @abc.abstractmethod
    def _objective(self) -> Mapping[str, torch.Tensor]:
        """The loss of a batch, by its terms."""

    @abc.abstractmethod
    def _tested(self) -> tuple[dict[str, Any], Any]:
        """Figures on unseen views, and a sheet of predicted pictures beside true ones."""

    @abc.abstractmethod
    def _trained_on(self) -> dict[str, Any]:
        """What the model folder says of the examples."""

    def _misfit(self, predicted: torch.Tensor, true: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loss of predicted pictures as the spec has it; encoded, (b, 3, h, w), the mask 1 on the object."""
        if self.spec.loss == "bce":
            value = nn.functional.binary_cross_entropy(predicted.clamp(1e-4, 1 - 1e-4), true)
            with torch.no_grad():  # less its smallest value, the entropy of the target
                floor = nn.functional.binary_cross_entropy(true.clamp(1e-4, 1 - 1e-4), true)
            return {"excess_cross_entropy": value - floor}
        return {"squared_error": ((predicted - true).square() * mask).sum() / (3 * mask.sum())}

    @property
    def _structured(self) -> bool:
        """Whether the structure counts by now: earlier it holds up what comes first."""
        return self.spec.structure > 0 and 2 * self.iteration >= self.num_iterations

    def _structure(self, predicted: torch.Tensor, true: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"structure": self.spec.structure * (1 - ssim(predicted, true, mask))}

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Figures on unseen views, `model/`, `predicted.png`, and `report.html` with predicted beside true."""
        summary, sheet = self._tested()
        write_model(
            out,
            self.spec.type,
            self.network.state_dict(),
            reads=self.reads,
            gives="the picture of the view with that texture",
            options={name: getattr(self.spec, name) for name in OPTIONS},
            trained_on=self._trained_on(),
            tested=summary,
        )
        out.write("predicted.png", sheet)
        blocks: list[Block] = [ReportTable(("figure", "value"), summary_rows(summary)), Picture(sheet, self.caption)]
        write_report(out.path / "report.html", f"Network {self.spec.head}", {"Unseen views": blocks})
        return summary
