"""The search for what photographs by known cameras show: a photograph a step, its scores, its report."""

import abc
import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from simengine.dtn.metrics import object_psnr, ssim
from simengine.fit.problem import Problem
from simengine.fit.report import _convergence, _provenance, _write_page, provenance_of
from simengine.fit.training import AbstractTraining
from simengine.observe.instruments.pictures import Pictures
from simengine.render.tone import decode_srgb, encode_srgb
from simengine.render.volumes import intersect_box
from simengine.scene.base import SceneError
from simengine.view.report import Block, Picture, ReportTable
from simengine.view.sheets import comparison
from simengine.worlds.objects.hull import Photograph, hull_pictures, visual_hull

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

BETAS, TINY = (0.9, 0.99), 1e-12  # of Adam


class AbstractPhotographTraining(AbstractTraining):
    """A body in a box, sought from photographs of its light.

    Args:
        problem: Of a world that is seen by photographs whose light is compared.
        box: Least and greatest x, y, z of the body [m].
        visible: Brightest channel above which a pixel shows the body [1].
        similarity: Share of 1 - SSIM beside that of the mean absolute difference [1].

    Attributes:
        photographs: All of them.
        fitted: Those that are not held out.
        hull: Cells that no outline excludes, bool (nx, ny, nz).

    Raises:
        SceneError: An observation is no series of photographs, or no outline is left.
    """

    what: ClassVar[str]  # is found

    def __init__(
        self, problem: Problem, box: tuple[tuple[float, float], ...], *, visible: float, similarity: float
    ) -> None:
        if problem.coordinates:
            raise SceneError(
                f"unknowns: the {self.what} are found without being named; {problem.coordinates[0].name!r} is not"
            )
        self.problem: Problem = problem
        self.box: torch.Tensor = torch.tensor(box, dtype=torch.float64)
        self.size: float = float((self.box[:, 1] - self.box[:, 0]).max())
        self.visible: float = visible
        self.similarity: float = similarity
        self.photographs: list[Photograph] = [
            shot for name in problem.measured for shot in photographs_of(problem, name, self.box)
        ]
        self.fitted: list[Photograph] = [shot for shot in self.photographs if not shot.held_out]
        if len(self.fitted) < 2:
            raise SceneError("observations: two photographs or more have to be fitted")
        self.num_iterations: int = problem.scene.inference.iterations
        self.hull: torch.Tensor = visual_hull(self.fitted, self.box, visible)
        self._count = 0

    @abc.abstractmethod
    def pictured(self, shot: Photograph) -> torch.Tensor:
        """What is there now as the camera of a photograph sees it, encoded, (h, w, 3)."""

    @abc.abstractmethod
    def write(self, out: "RunDirectory") -> tuple[dict[str, Any], str]:
        """Write what was found; return figures for the summary, and a sentence."""

    def next_photograph(self) -> Photograph:
        """The photograph of this step: all in turn, in an order of their own each time."""
        turn, which = divmod(self._count, len(self.fitted))
        order = torch.randperm(len(self.fitted), generator=torch.Generator().manual_seed(turn))
        return self.fitted[int(order[which])]

    def unlikeness(self, seen: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        """How far an encoded picture (h, w, 3) is from a photograph."""
        picture = picture.to(seen.dtype)
        alike = 1 - ssim(seen.permute(2, 0, 1)[None], picture.permute(2, 0, 1)[None])
        return (1 - self.similarity) * (seen - picture).abs().mean() + self.similarity * alike

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write what was found, fit.json, pictures.png and report.html."""
        figures, sentence = self.write(out)
        rows, seen = [], []
        for shot in self.photographs:
            with torch.no_grad():
                own = self.pictured(shot)
            rows.append({"photograph": shot.name, "held out": shot.held_out, **self._scores(shot, own)})
            seen.append(own.clamp(0, 1).double())
        others = self._without_a_fit()
        scores = {name: _mean(rows, held) for name, held in (("fitted", False), ("held out", True))}
        summary = {**figures, **{k: v for k, v in scores.items() if v}, "photographs": rows}
        if others:
            summary["held out, without a fit"] = others
        provenance = provenance_of(self.problem)
        out.write("fit.json", {**summary, "provenance": provenance})
        sheet = comparison(
            {
                "photographs": decode_srgb(torch.stack([shot.picture for shot in self.photographs])),
                "pictured": decode_srgb(torch.stack(seen)),
            }
        )
        out.write("pictures.png", sheet)
        header = tuple(rows[0])
        table = ReportTable(header, [[_cell(v) for v in row.values()] for row in rows])
        without = [[name, *map(_cell, own.values())] for name, own in others.items()]
        beside = ReportTable(("held out, without a fit", *header[2:]), without)
        sections: dict[str, list[Block]] = {
            "What was found": [
                sentence,
                table,
                *([beside] if others else []),
                Picture(sheet, f"photographs and {self.what}"),
            ],
            "Convergence": _convergence(out.events("iteration")),
            "Provenance": _provenance(provenance, self.problem),
        }
        _write_page(out, f"{out.path.name}: {self.problem.scene.world.kind}", sections)
        return summary

    def _without_a_fit(self) -> dict[str, dict[str, float]]:
        """Mean scores of the held-out photographs, where those that are fitted are cast upon the hull."""
        held = [shot for shot in self.photographs if shot.held_out]
        pictures = hull_pictures(self.hull, self.box, self.fitted, [shot.camera for shot in held])
        found = {}
        for k, name in enumerate(("the hull in mean colours", "the hull, the nearest view") if held else ()):
            rows = [{"held out": True, **self._scores(s, p[k])} for s, p in zip(held, pictures, strict=True)]
            found[name] = _mean(rows, True)
        return found

    def _scores(self, shot: Photograph, seen: torch.Tensor) -> dict[str, float]:
        """PSNR and SSIM on the body, overlap of the outlines (intersection over union)."""
        own, other = seen.clamp(0, 1).double().permute(2, 0, 1)[None], shot.picture.permute(2, 0, 1)[None]
        mask = shot.outline(self.visible)
        shown = dataclasses.replace(shot, picture=seen.double()).outline(self.visible)
        weight = mask.double()[None, None]
        return {
            "PSNR [dB]": float(object_psnr(own, other, weight)),
            "SSIM": float(ssim(own, other, weight)),
            "outline, overlap": float((mask & shown).sum()) / float((mask | shown).sum()),
        }


def adam_step(
    value: torch.Tensor, slope: torch.Tensor, first: torch.Tensor, second: torch.Tensor, rate: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A value after a step of Adam (Kingma & Ba 2015, without the correction of its start), and both moments.

    Args:
        value: Of any shape.
        slope: Of the loss, of the same shape.
        first: Mean of the slopes, of the same shape.
        second: Mean of their squares, of the same shape.
        rate: Longest step.
    """
    first = BETAS[0] * first + (1 - BETAS[0]) * slope
    second = BETAS[1] * second + (1 - BETAS[1]) * slope.square()
    return value - rate * first / (second.sqrt() + TINY), first, second


def photographs_of(problem: Problem, name: str, box: torch.Tensor) -> list[Photograph]:
    """The photographs of an observation, encoded; what stands beside the box is background.

    Args:
        problem: The fit.
        name: Of the observation.
        box: Least and greatest of each axis (3, 2) [m].

    Raises:
        SceneError: They are no photographs of a pinhole's even light before a known background.
    """
    instrument, measured = problem.instruments[name], problem.measured[name]
    if not isinstance(instrument, Pictures) or instrument.compare != "photometric":
        raise SceneError(
            f"observations.{name}: {problem.scene.world.kind} are found from photographs, compare = photometric"
        )
    if instrument.camera.glass() is not None:
        raise SceneError(f"observations.{name}.camera.lens: photographs have to be a pinhole's; undistort them first")
    for key in ("aperture", "vignetting", "shutter", "read_out"):
        if getattr(instrument, key):
            raise SceneError(f"observations.{name}.{key}: what is fitted is a pinhole's even light; leave {key} out")
    empty = None if instrument.made is None else instrument.made.empty
    if empty is None:
        raise SceneError(f"observations.{name}.background: what is behind the body? [0, 0, 0] for black")
    cameras = instrument.pinholes(measured.shape)
    behind = encode_srgb(empty.clamp(0, 1))
    pictures = encode_srgb(measured.values.nan_to_num().clamp(0, 1)).reshape(*measured.shape, 3)
    lower, upper = box.T
    for k, picture in enumerate(pictures):  # what stands beside the body is not the body
        origins, directions = cameras[k].rays()
        near, far = intersect_box(origins.reshape(-1, 3), directions.reshape(-1, 3), lower, upper)
        pictures[k] = torch.where((far > near).reshape(*measured.shape[1:], 1), picture, behind)
    out = measured.held_out.reshape(len(pictures), -1).any(1)
    names = list(measured.files)
    return [Photograph(names[k], pictures[k], cameras[k], behind, bool(out[k])) for k in range(len(pictures))]


def _mean(rows: list[dict[str, Any]], held_out: bool) -> dict[str, float]:
    own = [row for row in rows if row["held out"] == held_out]
    names = [name for name, v in rows[0].items() if isinstance(v, float)]
    return {name: sum(row[name] for row in own) / len(own) for name in names} if own else {}


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "yes" if value is True else "" if value is False else value
