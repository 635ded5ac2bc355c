"""A box of cells of density and colour, seen by cameras: from a file, or from photographs by known cameras."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from simengine.scene.asks import Ask, View
from simengine.scene.base import AbstractRun, AbstractWorld, SceneError
from simengine.worlds.objects.radiance_spec import RadianceSpec

if TYPE_CHECKING:
    import torch

    from simengine.fit.problem import Problem
    from simengine.fit.training import AbstractTraining
    from simengine.io.run_directory import RunDirectory
    from simengine.render import Volume


@dataclasses.dataclass(frozen=True, kw_only=True)
class RadianceWorld(AbstractWorld):
    """What stands still, lets light through in part, and is seen.

    Attributes:
        radiance: The cells.
    """

    kind: ClassVar[str] = "radiance"
    answers: ClassVar[frozenset[type[Ask]]] = frozenset((View,))
    radiance: RadianceSpec

    def solve(
        self,
        asks: Sequence[Ask],
        *,
        gradient: bool = False,
        near: AbstractRun | None = None,
        device: str | None = None,
    ) -> "RadianceRun":
        """The cells themselves."""
        return RadianceRun(self.build())

    def build(self, *, device: str | None = None) -> "Volume":
        """The cells of the file in float64; empty ones without it.

        Raises:
            SceneError: The file holds no such grid.
        """
        import torch

        from simengine.io.arrays import read_npz
        from simengine.render import Volume

        spec = self.radiance
        lower, upper = torch.tensor(spec.box, dtype=torch.float64).T
        if spec.file is None:
            empty = torch.zeros(*spec.cells, 4, dtype=torch.float64)
            return Volume(density=empty[..., 0], source=empty[..., 1:], lower=lower, upper=upper)
        try:
            arrays = read_npz(spec.file)
        except (OSError, ValueError) as error:
            raise SceneError(f"radiance.file: {error}") from None
        for name, shape in (("density", tuple(spec.cells)), ("colour", (*spec.cells, 3))):
            if name not in arrays or arrays[name].shape != shape:
                held = {key: value.shape for key, value in arrays.items()}
                raise SceneError(f"radiance.file: {spec.file.name} holds {held}, and {name} {shape} is wanted")
            if not (arrays[name] >= 0).all():
                raise SceneError(f"radiance.file: {spec.file.name}: {name} has values that are negative or no numbers")
        density, colour = (torch.from_numpy(arrays[name]).double() for name in ("density", "colour"))
        return Volume(density=density, source=colour, lower=lower, upper=upper)

    def methods(self, problem: "Problem") -> "Mapping[str, Callable[[], AbstractTraining]]":
        """Cells from photographs."""

        def training() -> "AbstractTraining":
            from simengine.worlds.objects.radiance_search import RadianceTraining

            return RadianceTraining(problem, self.radiance, None if self.radiance.file is None else self.build())

        return {"adam": training}

    def check(self, *, device: str | None = None) -> dict[str, Any]:
        """How many cells there are."""
        return {"cells": list(self.build().density.shape)}

    def sizes(self) -> Mapping[str, float]:
        """The box, and one over it."""
        size = max(high - low for low, high in self.radiance.box)
        return {"m": size, "1/m": 1.0 / size}

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Nothing moves; the largest density."""
        return {"cells": list(self.radiance.cells), "largest density": float(self.build().density.max())}


@dataclasses.dataclass(frozen=True)
class RadianceRun(AbstractRun):
    """Cells."""

    volume: "Volume"

    def sample(self, ask: Ask) -> "torch.Tensor":
        """Pictures (f, h, w, channels): linear light over black, alpha, depth [m]."""
        import torch

        from simengine.render import PinholeCamera, render_volume

        if not isinstance(ask, View) or not set(ask.channels) <= {"rgb", "alpha", "depth"} or ask.names:
            raise SceneError("a grid of density and colour shows rgb, alpha and depth")
        pictures = []
        for pose, pinhole in zip(ask.world_to_camera, ask.intrinsics, strict=True):
            camera = PinholeCamera(world_to_camera=pose, intrinsics=pinhole, width=ask.size[1], height=ask.size[0])
            with torch.no_grad():
                image = render_volume(self.volume, camera)
            pictures.append(torch.cat([getattr(image, name) for name in ask.channels], -1))
        return torch.stack(pictures).double()
