"""Density and colour of cells from photographs by known cameras, from coarse to fine.

As voxel grids of radiance fields are found (Sun et al. 2022, Fridovich-Keil et al. 2022), without a network: light is
composited by Beer's law along rays, a photograph a step, Adam. Densities are never negative, colours lie in [0, 1], and
their total variation (Rudin et al. 1992) stands against noise. Where there is a hull, nothing is put outside of it.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from simengine.fit.problem import Problem
from simengine.render import Volume, render_volume
from simengine.render.tone import decode_srgb, encode_srgb
from simengine.worlds.objects.hull import Photograph, colours_seen, mean_colours
from simengine.worlds.objects.photographs import AbstractPhotographTraining, adam_step
from simengine.worlds.objects.radiance_spec import RadianceSpec

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

RATES = {"density": 0.15, "colour": 0.15}
SLOWER = 0.1  # of the rates at the end
COARSE = 0.5  # of the iterations, until the last grid
FIRST = 5.0  # optical depth of the box along its longest side, at the start
ROUND = 1e-3  # of a difference between cells: below it total variation is a square
EMPTY = -20.0  # of the density's logarithm outside of the hull


class RadianceTraining(AbstractPhotographTraining):
    """The search for cells.

    Args:
        problem: Of a world of cells, seen by photographs whose light is compared.
        spec: What its scene says of them.
        start: Cells to begin with; None for even ones.

    Attributes:
        cells: Logarithm of the box's side times the density (nx, ny, nz), logits of linear colours (nx, ny, nz, 3).

    Raises:
        SceneError: An observation is no series of photographs, or no outline is left.
    """

    what = "cells"

    def __init__(self, problem: Problem, spec: RadianceSpec, start: Volume | None = None) -> None:
        super().__init__(problem, spec.box, visible=spec.visible, similarity=spec.similarity)
        self.spec: RadianceSpec = spec
        if start is None:
            shape = self._shape(0)
            self.cells = {"density": torch.full(shape, math.log(FIRST)), "colour": self._colours(shape)}
        else:
            density = (start.density * self.size).clamp_min(math.exp(EMPTY)).log()
            self.cells = {"density": density.float(), "colour": start.source.clamp(0.01, 0.99).logit().float()}
        self._forget()

    def _shape(self, level: int) -> tuple[int, int, int]:
        nx, ny, nz = (max(math.ceil(n / 2 ** (self.spec.levels - 1 - level)), 1) for n in self.spec.cells)
        return nx, ny, nz

    def _colours(self, shape: tuple[int, int, int]) -> torch.Tensor:
        """Logits of the mean colours of the photographs that see each cell."""
        sides = zip(self.box, shape, strict=True)
        axes = [low + (high - low) * (torch.arange(n).double() + 0.5) / n for (low, high), n in sides]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        seen = mean_colours(*colours_seen(places, self.hull, self.box, self.fitted))
        return decode_srgb(seen).clamp(0.02, 0.98).logit().float().reshape(*shape, 3)

    def _forget(self) -> None:
        """Moments of Adam, and which cells may hold something."""
        self._first = {name: torch.zeros_like(v) for name, v in self.cells.items()}
        self._second = {name: torch.zeros_like(v) for name, v in self.cells.items()}
        shape = self.cells["density"].shape
        near = torch.nn.functional.max_pool3d(self.hull.double()[None, None], 3, 1, 1)
        self._within = torch.nn.functional.adaptive_max_pool3d(near, tuple(shape))[0, 0] > 0
        if not self.spec.hull:
            self._within = torch.ones_like(self._within)
        self.cells["density"] = self.cells["density"].where(self._within, torch.tensor(EMPTY))

    def volume(self, cells: Mapping[str, torch.Tensor] | None = None) -> Volume:
        """The cells as a medium."""
        own = self.cells if cells is None else cells
        density = own["density"].where(self._within, torch.tensor(EMPTY)).exp() / self.size
        lower, upper = self.box.float().T
        return Volume(density=density, source=own["colour"].sigmoid(), lower=lower, upper=upper)

    def _seen(self, volume: Volume, shot: Photograph) -> torch.Tensor:
        behind = torch.as_tensor(shot.background).float()
        return encode_srgb(render_volume(volume, shot.camera.to(torch.float32), background=decode_srgb(behind)).rgb)

    def pictured(self, shot: Photograph) -> torch.Tensor:
        """The cells as the camera of a photograph sees them."""
        return self._seen(self.volume(), shot)

    def step(self) -> dict[str, float]:
        """One photograph."""
        self._refine()
        shot = self.next_photograph()
        cells = {name: v.clone().requires_grad_() for name, v in self.cells.items()}
        volume = self.volume(cells)
        loss = self.unlikeness(self._seen(volume, shot), shot.picture) + self.spec.smoothness * self._variation(volume)
        loss.backward()
        self._count += 1
        slower = SLOWER ** (self._count / self.num_iterations)
        for name, value in self.cells.items():
            slope = cells[name].grad
            assert slope is not None
            self.cells[name], self._first[name], self._second[name] = adam_step(
                value, slope, self._first[name], self._second[name], RATES[name] * slower
            )
        return {"loss": float(loss.detach()), "cells": float(self._within.numel())}

    def _refine(self) -> None:
        """The next grid, where its turn has come."""
        level = min(int(self._count / self.num_iterations / COARSE * (self.spec.levels - 1)), self.spec.levels - 1)
        shape = self._shape(level)
        if max(shape) <= max(self.cells["density"].shape):
            return
        for name, value in self.cells.items():
            channels = value[None] if value.ndim == 3 else value.permute(3, 0, 1, 2)
            fine = torch.nn.functional.interpolate(channels[None], size=shape, mode="trilinear")[0]
            self.cells[name] = fine[0] if value.ndim == 3 else fine.permute(1, 2, 3, 0).contiguous()
        self._forget()

    def _variation(self, volume: Volume) -> torch.Tensor:
        """Mean total variation of opacities, and of colours where there is something, over the cells."""
        side = self.size / max(volume.density.shape)
        opacity = 1 - torch.exp(-side * volume.density)
        values = torch.cat([opacity[..., None], opacity[..., None].detach() * volume.source], -1)
        squares = torch.zeros_like(values[:-1, :-1, :-1])
        for axis in range(3):
            squares = squares + values.diff(dim=axis)[: squares.shape[0], : squares.shape[1], : squares.shape[2]] ** 2
        return ((squares + ROUND**2).sqrt() - ROUND).mean()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Cells, moments, and the number of steps."""
        tables = {"cells": self.cells, "first": self._first, "second": self._second}
        state = {f"{table}.{name}": v for table, own in tables.items() for name, v in own.items()}
        return {**state, "count": torch.tensor(self._count)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        tables = {
            table: {key.partition(".")[2]: v for key, v in state.items() if key.startswith(f"{table}.")}
            for table in ("cells", "first", "second")
        }
        self.cells = tables["cells"]
        self._forget()
        self._first, self._second, self._count = tables["first"], tables["second"], int(state["count"])

    def write(self, out: "RunDirectory") -> tuple[dict[str, Any], str]:
        """Write radiance.npz."""
        volume = self.volume()
        lower, upper = self.box.T.numpy()
        out.write(
            "radiance.npz",
            {"density": volume.density, "colour": volume.source, "lower": lower, "upper": upper},
        )
        shape = list(volume.density.shape)
        filled = float((volume.density * self.size / max(shape) > 1.0).double().mean())
        sentence = f"{' x '.join(map(str, shape))} cells, in radiance.npz; {filled:.0%} of them are opaque."
        return {"cells": shape, "opaque": filled}, sentence
