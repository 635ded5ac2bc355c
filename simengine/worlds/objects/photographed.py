"""Surfels from photographs by known cameras: from the hull of the outlines, split where pictures pull, pruned.

After 3-D and 2-D Gaussian splatting (Kerbl et al. 2023, Huang et al. 2024): a photograph a step, mean absolute
difference and SSIM of the encoded values, Adam. The start is the visual hull (Laurentini 1994), and nothing is kept
outside of it: between few photographs, discs that no other camera forbids would otherwise float before the lenses.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from simengine.dtn.metrics import object_psnr, ssim
from simengine.fit.problem import Problem
from simengine.fit.report import _convergence, _provenance, _write_page, provenance_of
from simengine.fit.training import AbstractTraining
from simengine.observe.instruments.pictures import Pictures
from simengine.render.splats import Splats, render_flat_splats
from simengine.render.surfels import quaternion_of_normal, rotation_matrix
from simengine.render.tone import decode_srgb, encode_srgb
from simengine.render.volumes import intersect_box
from simengine.scene.base import SceneError
from simengine.view.report import Block, Picture, ReportTable
from simengine.view.sheets import comparison
from simengine.worlds.objects.hull import Photograph, cell_of, hull_pictures, visual_hull
from simengine.worlds.objects.surfels_spec import SurfelsSpec

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

RATES = {"positions": 2e-3, "harmonics": 3e-2, "opacities": 3e-2, "scales": 1e-2, "rotations": 5e-3}  # positions: box
SLOWER = 0.1  # of the rates at the end
BETAS, TINY = (0.9, 0.99), 1e-12
SPLIT = 0.15  # of the discs, in a round
THINNED, FAINT = 1.6, 0.05  # what a split makes smaller; an opacity below which a disc goes
LARGE = 0.1  # of the box: larger discs go


class SurfelTraining(AbstractTraining):
    """The search for discs.

    Args:
        problem: Of a world of surfels, seen by photographs whose light is compared.
        spec: What its scene says of them.
        start: Discs to begin with; None for those of the hull.

    Attributes:
        cloud: Positions, harmonics, opacities, scales and rotations, as in files.

    Raises:
        SceneError: An observation is no series of photographs, or no outline is left.
    """

    def __init__(self, problem: Problem, spec: SurfelsSpec, start: Splats | None = None) -> None:
        if problem.coordinates:
            raise SceneError(
                f"unknowns: the discs are found without being named; {problem.coordinates[0].name!r} is not"
            )
        self.problem: Problem = problem
        self.spec: SurfelsSpec = spec
        self.box: torch.Tensor = torch.tensor(self.spec.box, dtype=torch.float64)
        self.size: float = float((self.box[:, 1] - self.box[:, 0]).max())
        self.photographs: list[Photograph] = [
            shot for name in problem.measured for shot in _photographs(problem, name, self.box)
        ]
        self.fitted: list[Photograph] = [shot for shot in self.photographs if not shot.held_out]
        if len(self.fitted) < 2:
            raise SceneError("observations: two photographs or more have to be fitted")
        self.num_iterations: int = problem.scene.inference.iterations
        self.hull: torch.Tensor = visual_hull(self.fitted, self.box, self.spec.visible)
        self.cloud = (
            self._start()
            if start is None
            else {f.name: getattr(start, f.name).float() for f in dataclasses.fields(Splats)}
        )
        self._count = 0
        self._forget()

    def _start(self) -> dict[str, torch.Tensor]:
        inside = self.hull.double()
        soft = torch.nn.functional.avg_pool3d(inside[None, None], 5, 1, 2)[0, 0]
        shell = self.hull & (torch.nn.functional.avg_pool3d(inside[None, None], 3, 1, 1)[0, 0] < 0.99)
        g = torch.Generator().manual_seed(self.problem.scene.world.seed)
        place = shell.nonzero()
        place = place[torch.randperm(len(place), generator=g)[: max(self.spec.count // 2, 1)]]
        slopes = torch.stack(torch.gradient(soft), -1)[tuple(place.T)]
        cell = cell_of(self.box)
        positions = self.box[:, 0] + (place + torch.rand(len(place), 3, generator=g)) * cell
        n = len(place)
        area = float(shell.sum()) / n
        shown = torch.cat([shot.picture[shot.outline(self.spec.visible)] for shot in self.fitted]).mean(0)
        harmonics = torch.zeros(n, (self.spec.harmonics + 1) ** 2, 3)
        harmonics[:, 0] = (shown - 0.5) * math.sqrt(4 * math.pi)  # the even one is 1/sqrt(4 pi)
        return {
            "positions": positions.float(),
            "harmonics": harmonics,
            "opacities": torch.full((n,), 2.0),
            "scales": torch.full((n, 2), math.log(0.6 * cell * area**0.5)),
            "rotations": quaternion_of_normal(-slopes + 1e-9).float(),
        }

    def _forget(self) -> None:
        """Moments of Adam, and how much each disc was pulled."""
        self._first = {name: torch.zeros_like(v) for name, v in self.cloud.items()}
        self._second = {name: torch.zeros_like(v) for name, v in self.cloud.items()}
        self._pulled = torch.zeros(len(self.cloud["positions"]))

    def step(self) -> dict[str, float]:
        """One photograph."""
        turn, which = divmod(self._count, len(self.fitted))
        order = torch.randperm(len(self.fitted), generator=torch.Generator().manual_seed(turn))
        shot = self.fitted[int(order[which])]
        cloud = {name: v.clone().requires_grad_() for name, v in self.cloud.items()}
        seen, _ = render_flat_splats(Splats(**cloud), shot.camera, background=shot.background)
        loss = self._loss(seen, shot.picture)
        loss.backward()
        self._count += 1
        part = self._count / self.num_iterations
        for name, value in self.cloud.items():
            slope = cloud[name].grad
            assert slope is not None
            self._first[name] = BETAS[0] * self._first[name] + (1 - BETAS[0]) * slope
            self._second[name] = BETAS[1] * self._second[name] + (1 - BETAS[1]) * slope.square()
            rate = RATES[name] * SLOWER**part * (self.size if name == "positions" else 1.0)
            self.cloud[name] = value - rate * self._first[name] / (self._second[name].sqrt() + TINY)
            if name == "positions":
                self._pulled = self._pulled + slope.norm(dim=1)
        if self._count % self.spec.every == 0:
            self._renew(split=part < 2 / 3)
        return {"loss": float(loss.detach()), "discs": float(len(self._pulled))}

    def _loss(self, seen: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        picture = picture.to(seen.dtype)
        alike = 1 - ssim(seen.permute(2, 0, 1)[None], picture.permute(2, 0, 1)[None])
        return (1 - self.spec.similarity) * (seen - picture).abs().mean() + self.spec.similarity * alike

    def _renew(self, *, split: bool) -> None:
        """Discs that are faint, large or outside of the hull go; where pictures pull most, one becomes two."""
        scales, opacity = self.cloud["scales"].exp(), self.cloud["opacities"].sigmoid()
        keep = (opacity > FAINT) & (scales.amax(1) < LARGE * self.size) & self._inside(self.cloud["positions"])
        if not bool(keep.any()):
            raise SceneError("surfels: all discs were pruned; is `visible` right, and do the cameras see the box?")
        moments = [self.cloud, self._first, self._second]
        for table in moments:
            table.update({name: v[keep] for name, v in table.items()})
        pulled = self._pulled[keep]
        room = self.spec.count - len(pulled)
        number = min(room, int(SPLIT * len(pulled))) if split else 0
        if number > 0:
            most = pulled.topk(number).indices
            longest = self.cloud["scales"][most].argmax(1)
            axes = rotation_matrix(self.cloud["rotations"][most])[torch.arange(number), :, longest]
            offset = 0.5 * self.cloud["scales"][most].exp().amax(1, keepdim=True) * axes
            self.cloud["scales"][most, longest] -= math.log(THINNED)
            children = {name: v[most].clone() for name, v in self.cloud.items()}
            children["positions"] += offset
            self.cloud["positions"][most] -= offset
            self.cloud = {name: torch.cat([v, children[name]]) for name, v in self.cloud.items()}
            for table in moments[1:]:
                table.update({name: torch.cat([v, torch.zeros_like(v[most])]) for name, v in table.items()})
        self._pulled = torch.zeros(len(self.cloud["positions"]))

    def _inside(self, positions: torch.Tensor) -> torch.Tensor:
        near = torch.nn.functional.max_pool3d(self.hull.double()[None, None], 3, 1, 1)[0, 0] > 0
        place = ((positions.double() - self.box[:, 0]) / (cell_of(self.box))).floor().long()
        within = ((place >= 0) & (place < torch.tensor(near.shape))).all(1)
        return within & near[tuple(place.clamp_min(0).minimum(torch.tensor(near.shape) - 1).T)]

    def splats(self) -> Splats:
        """The discs."""
        return Splats(**self.cloud)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Discs, moments, pulls, and the number of steps."""
        tables = {"cloud": self.cloud, "first": self._first, "second": self._second}
        state = {f"{table}.{name}": v for table, own in tables.items() for name, v in own.items()}
        return {**state, "pulled": self._pulled, "count": torch.tensor(self._count)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        self.cloud, self._first, self._second = (
            {key.partition(".")[2]: v for key, v in state.items() if key.startswith(f"{table}.")}
            for table in ("cloud", "first", "second")
        )
        self._pulled, self._count = state["pulled"], int(state["count"])

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write surfels.ply, fit.json, pictures.png and report.html."""
        from simengine.io.geometry.splats import write_splats

        splats = self.splats()
        write_splats(out.claim("surfels.ply"), {name: v.numpy() for name, v in self.cloud.items()})
        rows, seen = [], []
        for shot in self.photographs:
            with torch.no_grad():
                own, _ = render_flat_splats(splats, shot.camera, background=shot.background)
            rows.append({"photograph": shot.name, "held out": shot.held_out, **self._scores(shot, own)})
            seen.append(own.clamp(0, 1).double())
        others = self._without_a_fit()
        scores = {name: _mean(rows, held) for name, held in (("fitted", False), ("held out", True))}
        summary = {"discs": len(splats.positions), **{k: v for k, v in scores.items() if v}, "photographs": rows}
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
                f"{summary['discs']} discs, in surfels.ply.",
                table,
                *([beside] if others else []),
                Picture(sheet, "photographs and discs"),
            ],
            "Convergence": _convergence(out.events("iteration")),
            "Provenance": _provenance(provenance, self.problem),
        }
        _write_page(out, f"{out.path.name}: surfels", sections)
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
        mask = shot.outline(self.spec.visible)
        shown = dataclasses.replace(shot, picture=seen.double()).outline(self.spec.visible)
        weight = mask.double()[None, None]
        return {
            "PSNR [dB]": float(object_psnr(own, other, weight)),
            "SSIM": float(ssim(own, other, weight)),
            "outline, overlap": float((mask & shown).sum()) / float((mask | shown).sum()),
        }


def _photographs(problem: Problem, name: str, box: torch.Tensor) -> list[Photograph]:
    instrument, measured = problem.instruments[name], problem.measured[name]
    if not isinstance(instrument, Pictures) or instrument.compare != "photometric":
        raise SceneError(f"observations.{name}: surfels are found from photographs, compare = photometric")
    if instrument.camera.glass() is not None:
        raise SceneError(f"observations.{name}.camera.lens: photographs have to be a pinhole's; undistort them first")
    for key in ("aperture", "vignetting", "shutter", "read_out"):
        if getattr(instrument, key):
            raise SceneError(f"observations.{name}.{key}: discs are fitted to a pinhole's even light; leave {key} out")
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
