"""Scenes of an object seen through many cameras, lights and weathers, and what is trained on its views."""

import dataclasses
import math
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from simengine.dtn.sampler import ViewSampler
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.learning import AbstractLearner, AbstractObjective, stands
from simengine.scene.strict import Count, NonNegative, Positive, Range, without_effect

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.ops.light.ray_scene import RaySurface

Albedo = Annotated[float, Range(ge=0, le=1)]
SHARD = 32  # views in a file of a run


@dataclasses.dataclass(frozen=True, kw_only=True)
class CarSpec:
    """The car that ships with simengine."""

    type: Literal["car"] = "car"

    @property
    def label(self) -> str:
        """Its class."""
        return "car"

    def surface(self) -> "RaySurface":
        """The car."""
        from simengine.dtn.bodies.car import car

        return car()


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshSpec:
    """A mesh file with materials; it is scaled, turned and put onto the ground z = 0.

    Attributes:
        type: Tells the objects apart.
        file: OBJ or glTF.
        paint: Names of the materials that are painted, commas between them; a star stands for any letters.
        length: Largest horizontal extent after scaling [m].
        up: Axis of the file that points up.
        label: Its class.
    """

    type: Literal["mesh"] = "mesh"
    file: Path
    paint: str
    length: Positive = 4.4
    up: Literal["y", "z"] = "y"
    label: str = "car"

    def surface(self) -> "RaySurface":
        """The mesh, read from its file."""
        from simengine.worlds.detectors.painted_mesh import read_painted_mesh

        return read_painted_mesh(self.file, paint=self.paint, length=self.length, up=self.up)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AppearanceNetworkSpec(AbstractLearner):
    """Train a network that predicts any texture from one grey reference.

    Attributes:
        type: Tells what is trained apart.
        head: How its maps act on a texture; see `simengine.dtn.network`.
        extractor: What makes the maps.
        geometry: Whether it sees the renderer's geometry buffers; `false` for pictures of files, which have none.
        width: Channels at full size.
        depth: How often the picture is halved.
        skips: Whether the extractor hands its finer features across, encoder to decoder.
        normalise: Whether the extractor normalises groups of channels.
        iterations: Steps of Adam.
        batch: Views a step.
        learning_rate: Of Adam; falls to 0 by a half cosine [1].
        loss: `"mse"` over the object, or `"bce"` over the picture as published.
        structure: Weight of 1 - SSIM over the object in flat paints, in the second half of the steps [1].
        paints: To train with: `"flat"` colours as published, `"noise"`, a colour for each pixel, or `"mosaic"`, on half
            of the views the mean of several.
        crop: Side of the part of the pictures about the object that is trained on [pixels]; 0 for whole pictures.
        varied: Whether half of the views show the object in other coats, or other bodies, and three of five steps have
            another tone curve and exposure, which the network is not told.
    """

    kinds: ClassVar[tuple[str, ...]] = ("dtn", "renders")
    type: Literal["transformation"] = "transformation"
    head: Literal["dtn4", "ntr2", "efe", "linear"] = "linear"
    extractor: Literal["conv", "residual", "dense", "unet"] = "unet"
    geometry: bool = True
    width: Annotated[int, Range(ge=4)] = 8
    depth: Annotated[int, Range(ge=1, le=6)] = 4
    skips: bool = True
    normalise: bool = False
    iterations: Count = stands("training", 1800)
    batch: Count = stands("training", 4)
    learning_rate: Positive = stands("training", 4e-3)
    loss: Literal["mse", "bce"] = stands("training", "mse")
    structure: NonNegative = stands("training", 0.0)
    paints: Literal["flat", "noise", "mosaic"] = stands("examples", "noise")
    crop: Annotated[int, Range(ge=0)] = stands("examples", 64)
    varied: bool = stands("examples", False)

    def __post_init__(self) -> None:
        if self.width % 4 or (self.width > 32 and self.width % 8):
            raise ValueError(f"width: expected a multiple of 4, of 8 above 32, got {self.width}")
        if self.extractor == "unet" and not self.skips:
            raise ValueError('skips: extractor = "unet" always hands its features across; leave it out')
        unit = 2**self.depth
        if self.crop % unit:
            raise ValueError(f"crop: expected a multiple of {unit}, for a depth of {self.depth}, got {self.crop}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedDetectorSpec(AbstractLearner):
    """Train a small detector.

    Attributes:
        type: Tells what is trained apart.
        architecture: Anchor-free (`"centre"`) or anchor-based (`"anchor"`).
        width: Channels at stride 4.
        paints: `"natural"`: seven usual car paints; `"all"`: any colour and random patterns as well.
        empty: Views without the object, as a share of those with it, to train and to test with [1].
        iterations: Steps of Adam.
        batch: Pictures a step.
        learning_rate: Of Adam; falls to 0 by a half cosine [1].
    """

    kinds: ClassVar[tuple[str, ...]] = ("dtn",)
    type: Literal["detector"] = "detector"
    architecture: Literal["centre", "anchor"] = "centre"
    width: Annotated[int, Range(ge=16)] = 32
    paints: Literal["natural", "all"] = stands("examples", "natural")
    empty: NonNegative = stands("examples", 0.5)
    iterations: Count = stands("training", 900)
    batch: Count = stands("training", 16)
    learning_rate: Positive = stands("training", 2e-3)

    def __post_init__(self) -> None:
        if self.width % 16:
            raise ValueError(f"width: expected a multiple of 16, got {self.width}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CamouflageSpec(AbstractObjective):
    """Evaluate and harden a detector: train it, find the texture it sees worst, retrain against that, attack it anew.

    Attributes:
        type: Tells what is trained apart.
        detector: The detector attacked.
        rows: Of the texture.
        columns: Of the texture.
        mapping: How the texture is put on. `"planar"`, the published baseline, is a projection along y in the pipeline,
            where a full render puts the same pattern on triplanar.
        repetitions: Of the pattern [1/m]; not for `"uv"`.
        albedo: Lowest and highest albedo of the texture, `lower` and `upper` of the unknown `object.paint` [1].
        pipeline: What predicts the pictures an attack sees: the `"affine"` law, or a `"network"` trained before.
        network: The network of the pipeline; only for `"network"`.
        restarts: Attacks from different starts; the strongest on the attacked views is reported.
        iterations: Steps of Adam on the texture.
        batch: Views a step.
        learning_rate: Of Adam [1].
        evasion: Whose scores are pushed down; see `simengine.dtn.camouflage.evasion_loss`. With `"each"` the restarts
            take turns through `"soft"`, `"all"` and `"best"`.
        smoothness: Weight of the total variation [1].
        palette: Weight of the distance to the natural paints [1].
        overlap: Overlap (IoU) of the boxes whose score counts [1].
        kind: Label of the object among the classes of a detector of one's own; detections of others are left out. None
            takes every detection for the object.
        hardening: Steps of Adam of the retraining; 0 for none.
        rounds: Of the retraining; before each but the first the detector is attacked as it then is.
        sparring: Steps of these attacks.
        adversaries: Textures that are trained against the detector during the retraining.
        adversary: Their step before the logistic function; 0 for none [1].
        controls: Whether the retraining is repeated for as many steps without an attack, on the paints of the detector
            (`more`) and on random colours and patterns (`patterns`), and these are attacked anew as well.
        black_box: Proposals of an attack that sees scores alone, against the detector and each retrained one; 0 for
            none.
        attack_views: Views that the texture is optimised over.
        transfer: Whether the other architecture is trained too and shown the found texture.
        rendered: Unseen views rendered in full with the found texture; may be more than the scene's `test_views`. Of
            given pictures: how many of the expected ones at most are compared with the predicted ones.
    """

    kinds: ClassVar[tuple[str, ...]] = ("dtn", "renders")
    seeks: ClassVar[str] = "object.paint"
    type: Literal["camouflage"] = "camouflage"
    detector: TrainedDetectorSpec = TrainedDetectorSpec()
    rows: Annotated[int, Range(ge=2)] = 64
    columns: Annotated[int, Range(ge=2)] = 64
    mapping: Literal["uv", "triplanar", "planar"] = "uv"
    repetitions: Positive = 0.5
    albedo: tuple[Albedo, Albedo] = dataclasses.field(default=(0.02, 0.85), metadata={"internal": True})
    pipeline: Literal["affine", "network"] = "affine"
    network: AppearanceNetworkSpec = AppearanceNetworkSpec(iterations=600)
    restarts: Count = stands("inference", 1)
    iterations: Count = stands("inference", 300)
    batch: Count = stands("inference", 8)
    learning_rate: Positive = stands("inference", 0.15)
    evasion: Literal["best", "all", "soft", "each"] = "all"
    smoothness: NonNegative = 0.02
    palette: NonNegative = 0.0
    overlap: Annotated[float, Range(ge=0, lt=1)] = 0.5
    kind: Annotated[int, Range(ge=0)] | None = None
    hardening: Annotated[int, Range(ge=0)] = stands("inference", 600)
    rounds: Count = stands("inference", 1)
    sparring: Count = stands("inference", 100)
    adversaries: Count = stands("inference", 4)
    adversary: NonNegative = stands("inference", 0.1)
    controls: bool = False
    black_box: Annotated[int, Range(ge=0)] = stands("inference", 0)
    attack_views: Count = 200
    transfer: bool = False
    rendered: Count = 200

    def __post_init__(self) -> None:
        if self.pipeline != "network":
            without_effect(self, "network", where=f'pipeline = "{self.pipeline}"')
        if self.mapping == "uv":
            without_effect(self, "repetitions", where='mapping = "uv"')
        if not self.hardening:
            without_effect(self, "controls", where="hardening = 0")
        if 0 < self.hardening < self.rounds:
            raise ValueError(f"rounds: expected at most hardening = {self.hardening}, got {self.rounds}")
        if self.albedo[0] >= self.albedo[1]:
            raise ValueError(f"albedo: expected a lower and an upper bound in order, got {self.albedo}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DTNWorld(AbstractWorld):
    """An object, and the views of it.

    Attributes:
        object: The painted object.
        views: Distribution of cameras, lights and weathers; test views are drawn with the next seed.
        size: Height of the pictures, a multiple of 16 [pixels].
        width: Of the pictures, a multiple of 16; None for as wide as high [pixels].
        train_views: Number of views to train on.
        test_views: Number of unseen views.
        sky_rays: Rays to the sky of each of the 2 x 2 samples of a pixel.
        cameras: View i is seen by camera i of this file, counted round: nerfstudio's transforms.json, json of K, R, t,
            or a csv of yaw [deg], pitch [deg], distance [m]; z up, the ground at 0, the object about the origin.
        photographs: A folder of photographs, or one, that stand behind the object in place of road and surroundings.
        skies: A folder of panoramas (hdr, exr), or one, that light the views and are seen above them, each twice as
            wide as high: the sun of each is turned to `views.sun_azimuth` and keeps its height and strength.
    """

    kind: ClassVar[str] = "dtn"
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    fit_devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    object: CarSpec | MeshSpec = CarSpec()
    views: ViewSampler = dataclasses.field(default_factory=ViewSampler)
    size: Annotated[int, Range(ge=32, le=1024)] = 96
    width: Annotated[int, Range(ge=32, le=2048)] | None = None
    train_views: Count = 120
    test_views: Count = 40
    sky_rays: Count = 4
    cameras: Path | None = None
    photographs: Path | None = None
    skies: Path | None = None

    def __post_init__(self) -> None:
        for name, side in zip(("size", "width"), self.shape, strict=True):
            if side % 16:
                raise ValueError(f"{name}: expected a multiple of 16, got {side}")
        try:
            if self.cameras is not None:
                idle = ("yaw", "pitch", "distance", "offset", *(() if self.cameras.suffix == ".csv" else ("fov",)))
                without_effect(self.views, *idle, where="cameras, whose file says where they stand")
            if self.photographs is not None:
                without_effect(self.views, "boxes", where="photographs, which stand there in place of them")
            if self.skies is not None:
                without_effect(self.views, "sun", "sun_elevation", where="skies, whose files have a sun")
        except ValueError as error:
            raise ValueError(f"views.{error}") from None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the pictures [pixels]."""
        return self.size, self.width or self.size

    @cached_property
    def sampler(self) -> ViewSampler:
        """Distribution of the views, for the size of the object."""
        from simengine.worlds.detectors.scenery import listed_cameras, photographs_in, skies_in

        try:
            fitted = self.views.fitted(self.surface())
        except ValueError as error:
            raise SceneError(f"views.{error}") from None
        if self.cameras is not None:
            fitted = dataclasses.replace(fitted, cameras=listed_cameras(self.cameras, fitted, self.shape))
        if self.photographs is not None:
            fitted = dataclasses.replace(fitted, boxes=0, photographs=photographs_in(self.photographs, self.shape))
        if self.skies is not None:
            fitted = dataclasses.replace(fitted, skies=skies_in(self.skies))
        return fitted

    @property
    def label_names(self) -> tuple[str, ...]:
        """Class of the object, and of what `views.classes` adds, by the numbers of the labels of views."""
        return (self.object.label, *(self.views.classes if self.views.objects[1] else ()))

    @property
    def test_sampler(self) -> ViewSampler:
        """Distribution of the unseen views."""
        return dataclasses.replace(self.sampler, seed=self.views.seed + 1)

    def surface(self) -> "RaySurface":
        """The object."""
        return self.object.surface()

    def told(self) -> list[tuple[str, Any]]:
        """What the report says of the views."""
        return [
            ("seeds", f"scene {self.seed}, views {self.views.seed}, unseen views {self.test_sampler.seed}"),
            (
                "pictures",
                f"{self.shape[1]} x {self.shape[0]} px, {self.train_views} to train, {self.test_views} unseen",
            ),
        ]

    def build(self, *, device: str | None = None) -> Any:
        """The object, and the sampler of its views, in main memory whatever the device."""
        return self.surface(), self.sampler

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Render the training views into `views-00000.npz`, ...; files that are there already are kept.

        Also writes `views.png`, the first views with three paints, and for detectors of any kind `pictures/`, each view
        in one of the natural paints, which follow one another, with `labels.csv`, a row for each thing with its class,
        box and conditions, and `labels.json`, the same boxes as COCO writes them.
        """
        import torch

        from simengine.dtn.views import render_views
        from simengine.view.sheets import contact_sheet
        from simengine.worlds.detectors.pictures import write_labelled

        surface, sampler = self.build(device=device)
        made = 0
        for start in range(0, self.train_views, SHARD):
            name = f"views-{start:05d}.npz"
            if (out.path / name).is_file():
                continue
            indices = range(start, min(start + SHARD, self.train_views))
            views = render_views(surface, sampler, indices, self.shape, sky_rays=self.sky_rays, device=device or "cpu")
            out.write(name, views.tensors())
            made += len(indices)
            out.log("views", first=start, number=len(indices))
        shards = [out.path / f"views-{start:05d}.npz" for start in range(0, self.train_views, SHARD)]
        labels = write_labelled(shards, self.label_names, out)
        first = render_views(surface, sampler, range(min(8, self.train_views)), self.shape, device=device or "cpu")
        paints = torch.tensor([[0.45, 0.46, 0.47], [0.40, 0.03, 0.03], [0.03, 0.06, 0.25]])
        rows = torch.cat([first.picture(paint.view(1, 3, 1, 1)) for paint in paints])
        from simengine.render.tone import decode_srgb

        out.write("views.png", contact_sheet(decode_srgb(rows).permute(0, 2, 3, 1), columns=len(first)))
        figures = {"views": self.train_views, "rendered": made, "labelled": labels}
        return {**figures, "size": list(self.shape), "triangles": len(surface.faces)}

    def check(self, *, device: str | None = None) -> dict[str, Any]:
        """Triangles, share of the paint, and whether the first views show the object."""
        from simengine.dtn.views import BUFFERS, render_views

        surface, sampler = self.build(device=device)
        views = render_views(surface, sampler, range(4), self.shape, sky_rays=1, device=device or "cpu")
        numbers = (self.train_views + self.test_views) * math.prod(self.shape) * sum(BUFFERS.values())
        return {
            "triangles": len(surface.faces),
            "painted_triangles": int(surface.painted[surface.material].sum()),
            "object_share_of_picture": float(views.object.mean()),
            "paint_share_of_object": float(views.paint.sum() / views.object.sum().clamp(min=1e-9)),
            "views_MiB": 4 * numbers / 2**20,
        }
