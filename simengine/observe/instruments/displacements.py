"""Pictures of speckles or particles: how far windows of the first have moved in the later ones."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from simengine.io.pictures import read_stills
from simengine.observe.registration import matched
from simengine.scene.asks import Ask, Fields
from simengine.scene.base import SceneError
from simengine.scene.instrument import AbstractInstrument, Measured
from simengine.scene.strict import Count, Range, without_effect


@dataclasses.dataclass(frozen=True, kw_only=True)
class Displacements(AbstractInstrument):
    """Image correlation: what is at X in the first picture is at X + (u, v) in a later one, u right and v down [px].

    Light and contrast may differ from picture to picture and from window to window.

    Attributes:
        files: The pictures, the first one is the reference.
        window: Pixels along each side of a window.
        step: Pixels from one window to the next; half a window where it is left out.
        lower: Least x and y of the windows' middles [px]; of the picture where it is left out.
        upper: Greatest x and y [px].
        pyramid: Halvings of the resolution at which the search begins, over the whole picture.
        least_correlation: Windows that agree less are left out [1].
        hold_out_share: Share of the windows, drawn at random, that are predicted and not fitted [1].
    """

    type: Literal["displacements"] = "displacements"
    rows_alone: ClassVar[bool] = True
    files: tuple[str, ...]
    window: Annotated[int, Range(ge=9)] = 32
    step: Count | None = None
    lower: tuple[float, float] | None = None
    upper: tuple[float, float] | None = None
    pyramid: Annotated[int, Range(ge=0, le=8)] = 3
    least_correlation: Annotated[float, Range(ge=-1, lt=1)] = 0.3
    hold_out_share: Annotated[float, Range(ge=0, lt=1)] = 0.0

    def __post_init__(self) -> None:
        without_effect(self, "gain", "offset", where="displacements, which are found in pictures")

    def read(self, *, before: float = 0.0) -> Measured:
        """A row for each later picture and window."""
        if len(self.files) < 2:
            raise SceneError(f"observations.{self.name}.files: expected two pictures or more, got {len(self.files)}")
        try:
            pictures = read_stills([self.directory / file for file in self.files])
        except (OSError, ValueError) as error:
            raise SceneError(f"observations.{self.name}.files: {error}") from None
        grey = pictures.values.mean(-1)
        h, w = grey.shape[1:]
        edge = self.window / 2
        low = self.lower or (edge, edge)
        high = self.upper or (w - 1 - edge, h - 1 - edge)
        step = self.step or max(self.window // 2, 1)
        x, y = (np.arange(low[k], high[k] + 1e-9, step) for k in (0, 1))
        if not len(x) or not len(y):
            raise SceneError(f"observations.{self.name}: no window lies between lower and upper; make `window` smaller")
        centers = np.round(np.stack(np.meshgrid(x, y), -1))
        values: list[NDArray[Any]] = []
        scores: list[NDArray[Any]] = []
        for later in grey[1:]:
            moved, agreement = matched(grey[0], later, centers, window=self.window, halvings=self.pyramid)
            values.append(moved.reshape(-1, 2))
            scores.append(agreement.reshape(-1))
        table, score = torch.from_numpy(np.concatenate(values)), torch.from_numpy(np.concatenate(scores))
        bad = ~(score >= self.least_correlation)
        table = torch.where(bad[:, None], torch.nan, table)
        if bool(bad.all()):
            raise SceneError(f"observations.{self.name}: no window is found again; is it the same scene?")
        places = torch.from_numpy(centers.reshape(-1, 2)).repeat(len(grey) - 1, 1)
        count = centers[..., 0].size
        out = torch.rand(count, generator=torch.Generator().manual_seed(0)) < self.hold_out_share
        return Measured(
            values=table,
            names=("u", "v"),
            units=("px", "px"),
            at={
                "moment": torch.arange(1, len(grey), dtype=torch.float64).repeat_interleave(count),
                "x": places[:, 0],
                "y": places[:, 1],
                "correlation": score,
            },
            mask=~table.isnan(),
            held_out=out.repeat(len(grey) - 1)[:, None].expand(-1, 2).clone(),
            sigma=torch.full_like(table, torch.nan),
            files=pictures.hashes,
            notes=(f"{int(bad.sum())} of {len(bad)} windows agree too little and are left out",) if bad.any() else (),
        )

    def asks(self, measured: Measured) -> tuple[Ask, ...]:
        """The displacement at the windows' middles."""
        at = measured.at
        return (Fields(names=("u", "v"), x=torch.stack((at["x"], at["y"]), 1), times=at["moment"]),)

    def respond(self, answers: Sequence[torch.Tensor], measured: Measured) -> torch.Tensor:
        """The answers themselves."""
        return answers[0]

    def write(self, file: Path, measured: Measured) -> None:
        """Refused: pictures of displaced speckles are not made yet."""
        raise SceneError(f"observations.{self.name}: pictures are read, and not written yet")
