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

from simengine.fit.problem import Problem
from simengine.render.splats import Splats, render_flat_splats
from simengine.render.surfels import quaternion_of_normal, rotation_matrix
from simengine.scene.base import SceneError
from simengine.worlds.objects.hull import Photograph, cell_of
from simengine.worlds.objects.photographs import AbstractPhotographTraining, adam_step
from simengine.worlds.objects.surfels_spec import SurfelsSpec

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

RATES = {"positions": 2e-3, "harmonics": 3e-2, "opacities": 3e-2, "scales": 1e-2, "rotations": 5e-3}  # positions: box
SLOWER = 0.1  # of the rates at the end
SPLIT = 0.15  # of the discs, in a round
THINNED, FAINT = 1.6, 0.05  # what a split makes smaller; an opacity below which a disc goes
LARGE = 0.1  # of the box: larger discs go


class SurfelTraining(AbstractPhotographTraining):
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

    what = "surfels"

    def __init__(self, problem: Problem, spec: SurfelsSpec, start: Splats | None = None) -> None:
        super().__init__(problem, spec.box, visible=spec.visible, similarity=spec.similarity)
        self.spec: SurfelsSpec = spec
        self.cloud = (
            self._start()
            if start is None
            else {f.name: getattr(start, f.name).float() for f in dataclasses.fields(Splats)}
        )
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
        shot = self.next_photograph()
        cloud = {name: v.clone().requires_grad_() for name, v in self.cloud.items()}
        seen, _ = render_flat_splats(Splats(**cloud), shot.camera, background=shot.background)
        loss = self.unlikeness(seen, shot.picture)
        loss.backward()
        self._count += 1
        part = self._count / self.num_iterations
        for name, value in self.cloud.items():
            slope = cloud[name].grad
            assert slope is not None
            rate = RATES[name] * SLOWER**part * (self.size if name == "positions" else 1.0)
            self.cloud[name], self._first[name], self._second[name] = adam_step(
                value, slope, self._first[name], self._second[name], rate
            )
            if name == "positions":
                self._pulled = self._pulled + slope.norm(dim=1)
        if self._count % self.spec.every == 0:
            self._renew(split=part < 2 / 3)
        return {"loss": float(loss.detach()), "discs": float(len(self._pulled))}

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

    def pictured(self, shot: Photograph) -> torch.Tensor:
        """The discs as the camera of a photograph sees them."""
        return render_flat_splats(self.splats(), shot.camera, background=shot.background)[0]

    def write(self, out: "RunDirectory") -> tuple[dict[str, Any], str]:
        """Write surfels.ply."""
        from simengine.io.geometry.splats import write_splats

        write_splats(out.claim("surfels.ply"), {name: v.numpy() for name, v in self.cloud.items()})
        count = len(self.cloud["positions"])
        return {"discs": count}, f"{count} discs, in surfels.ply."
