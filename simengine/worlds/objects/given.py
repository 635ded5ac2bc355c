"""A world of given pictures: nothing is simulated; instruments look at what stands in the files."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from simengine.observe.conditions import TestSpec
from simengine.observe.detectors import DetectorSpec
from simengine.observe.labels import find_pictures
from simengine.scene.asks import Ask, View
from simengine.scene.base import AbstractRun, AbstractWorld, SceneError
from simengine.scene.strict import nearest
from simengine.worlds.objects.placed import PlacedSpec

if TYPE_CHECKING:
    import torch

    from simengine.io.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True, kw_only=True)
class PicturesSpec:
    """Pictures at hand.

    Attributes:
        files: A picture, a folder of them, or a name with a star.
    """

    files: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class PicturesWorld(AbstractWorld):
    """Given pictures.

    Attributes:
        pictures: Where they lie.
        detector: What turns light into boxes, for all observations that name none.
        test: Along what the pictures are changed, likewise.
        objects: Rendered cars that stand in the pictures.
    """

    kind: ClassVar[str] = "pictures"
    answers: ClassVar[frozenset[type[Ask]]] = frozenset((View,))
    lends: ClassVar[tuple[str, ...]] = ("pictures", "detector", "test")
    pictures: PicturesSpec
    detector: DetectorSpec | None = None
    test: TestSpec = dataclasses.field(default_factory=TestSpec)
    objects: tuple[PlacedSpec, ...] = ()

    def files(self) -> dict[str, Path]:
        """The pictures by name.

        Raises:
            SceneError: There are none, or two of one name.
        """
        try:
            found = find_pictures(self.pictures.files, self.directory)
        except ValueError as error:
            raise SceneError(f"pictures.files: {error}") from None
        named = {path.name: path for path in found}
        if len(named) < len(found):
            raise SceneError("pictures.files: two pictures have the same name; give one folder")
        return named

    def solve(
        self,
        asks: Sequence[Ask],
        *,
        gradient: bool = False,
        near: AbstractRun | None = None,
        device: str | None = None,
    ) -> "PicturesRun":
        """The pictures; each is read when it is asked for."""
        files = self.files()
        for index, placed in enumerate(self.objects):
            if placed.picture is None and len(files) > 1:
                raise SceneError(f"objects.{index}.picture: there are {len(files)} pictures; name one")
            if placed.picture is not None and placed.picture not in files:
                raise SceneError(f"objects.{index}.picture: {placed.picture!r}; {nearest(placed.picture, files)}")
        return PicturesRun(files, self.objects)

    def build(self, *, device: str | None = None) -> dict[str, Path]:
        """The pictures by name."""
        return self.files()

    def check(self, *, device: str | None = None) -> dict[str, Any]:
        """Number and sizes of the pictures."""
        from simengine.io.pictures import picture_size

        sizes = sorted({picture_size(path) for path in self.files().values()})
        return {"pictures": len(self.files()), "sizes": ", ".join(f"{w} x {h}" for h, w in sizes[:5])}

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Nothing to simulate.

        Raises:
            SceneError: Always, with the verb that does something.
        """
        raise SceneError("a world of given pictures has nothing to run; use `simengine predict`")


@dataclasses.dataclass(frozen=True)
class PicturesRun(AbstractRun):
    """Pictures by name; none is kept in memory."""

    files: Mapping[str, Path]
    objects: tuple[PlacedSpec, ...] = ()
    made: dict[str, "torch.Tensor"] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def sample(self, ask: Ask) -> "torch.Tensor":
        """Linear light of the named pictures, which are of one size, (f, h, w, 3)."""
        import torch

        if not isinstance(ask, View) or not ask.names:
            raise SceneError("a world of given pictures has no camera; name the pictures that are looked at")
        images = []
        for name in ask.names:
            if name not in self.files:
                raise SceneError(f"pictures: there is none called {name!r}; {nearest(name, self.files)}")
            images.append(self.shown(name))
        return torch.stack(images)

    def shown(self, name: str) -> "torch.Tensor":
        """Linear light of one picture with the objects that stand in it, (h, w, 3)."""
        import torch

        from simengine.io.pictures import read_rgb

        try:
            return self._with_objects(name, torch.from_numpy(read_rgb(self.files[name])))
        except ValueError as error:
            raise SceneError(f"pictures: {error}") from None

    def _with_objects(self, name: str, picture: "torch.Tensor") -> "torch.Tensor":
        """A picture with the rendered objects that stand in it; kept, for rendering costs more than reading."""
        own = [placed for placed in self.objects if placed.picture in (None, name)]
        if not own:
            return picture
        if name not in self.made:
            from simengine.worlds.objects.placed import place

            for spec in sorted(own, key=lambda spec: -spec.box.numbers()[0][2]):  # the farthest first
                placed = place(spec, picture)
                picture = placed.picture(placed.buffers.radiance)
            self.made[name] = picture
        return self.made[name]
