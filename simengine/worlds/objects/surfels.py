"""A body as a cloud of surfels with colours: from a file, or from photographs by known cameras."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from simengine.scene.asks import Ask, View
from simengine.scene.base import AbstractRun, AbstractWorld, SceneError
from simengine.worlds.objects.surfels_spec import SurfelsSpec

if TYPE_CHECKING:
    import torch

    from simengine.fit.problem import Problem
    from simengine.fit.training import AbstractTraining
    from simengine.io.run_directory import RunDirectory
    from simengine.render.splats import Splats


@dataclasses.dataclass(frozen=True, kw_only=True)
class SurfelsWorld(AbstractWorld):
    """A body that stands still and is seen.

    Attributes:
        surfels: The discs.
    """

    kind: ClassVar[str] = "surfels"
    answers: ClassVar[frozenset[type[Ask]]] = frozenset((View,))
    surfels: SurfelsSpec
    found: Any = dataclasses.field(default=None, metadata={"internal": True}, compare=False, repr=False)

    def solve(
        self,
        asks: Sequence[Ask],
        *,
        gradient: bool = False,
        near: AbstractRun | None = None,
        device: str | None = None,
    ) -> "SurfelsRun":
        """The discs themselves."""
        return SurfelsRun(self.build())

    def build(self, *, device: str | None = None) -> "Splats":
        """The discs, of a fit or of the file; none where neither is there yet.

        Raises:
            SceneError: The file holds no flat splats.
        """
        import torch

        from simengine.io.geometry.splats import read_splats
        from simengine.render.splats import Splats

        if self.found is not None:
            found: Splats = self.found
            return found
        if self.surfels.file is None:
            none = {
                "positions": (0, 3),
                "harmonics": (0, 1, 3),
                "opacities": (0,),
                "scales": (0, 2),
                "rotations": (0, 4),
            }
            return Splats(**{name: torch.zeros(shape) for name, shape in none.items()})
        try:
            splats = Splats.of(read_splats(self.surfels.file))
        except (OSError, ValueError) as error:
            raise SceneError(f"surfels.file: {error}") from None
        if splats.scales.shape[1] != 2:
            raise SceneError(f"surfels.file: {self.surfels.file.name} holds splats with three scales, no discs")
        return splats

    def methods(self, problem: "Problem") -> "Mapping[str, Callable[[], AbstractTraining]]":
        """Discs from photographs."""

        def training() -> "AbstractTraining":
            from simengine.worlds.objects.surfel_search import SurfelTraining

            start = None if self.surfels.file is None else self.build()
            return SurfelTraining(problem, self.surfels, start)

        return {"adam": training}

    def check(self, *, device: str | None = None) -> dict[str, Any]:
        """How many discs there are before a fit."""
        return {"discs": len(self.build().positions)}

    def sizes(self) -> Mapping[str, float]:
        """The box."""
        return {"m": max(high - low for low, high in self.surfels.box)}

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Nothing moves; how many discs there are."""
        return {"discs": len(self.build().positions)}


@dataclasses.dataclass(frozen=True)
class SurfelsRun(AbstractRun):
    """Discs."""

    splats: "Splats"

    def sample(self, ask: Ask) -> "torch.Tensor":
        """Pictures (f, h, w, channels): linear light over black, alpha."""
        import torch

        from simengine.render.camera import PinholeCamera
        from simengine.render.splats import render_flat_splats
        from simengine.render.tone import decode_srgb

        if not isinstance(ask, View) or not set(ask.channels) <= {"rgb", "alpha"} or ask.names:
            raise SceneError("a cloud of surfels shows rgb and alpha; compare = photometric or silhouette")
        if not len(self.splats.positions):
            channels = sum({"rgb": 3, "alpha": 1}[name] for name in ask.channels)
            return torch.zeros(len(ask.world_to_camera), *ask.size, channels, dtype=torch.float64)
        pictures = []
        for pose, pinhole in zip(ask.world_to_camera, ask.intrinsics, strict=True):
            camera = PinholeCamera(world_to_camera=pose, intrinsics=pinhole, width=ask.size[1], height=ask.size[0])
            with torch.no_grad():
                rgb, alpha = render_flat_splats(self.splats, camera)
            parts = {"rgb": decode_srgb(rgb.clamp(0, 1)), "alpha": alpha}
            pictures.append(torch.cat([parts[name] for name in ask.channels], -1))
        return torch.stack(pictures).double()
