"""A network trained on pictures of anybody's renderer, and the views that follow from it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from simengine.dtn.metrics import object_psnr, ssim
from simengine.dtn.network import Reference, TransformationNetwork
from simengine.dtn.references import ReferencedViews
from simengine.dtn.sampler import CONDITIONS
from simengine.dtn.texture import texture_map
from simengine.dtn.views import BUFFERS, ViewSet
from simengine.io.model_folder import Model, read_model
from simengine.render.tone import ToneCurve
from simengine.scene.base import SceneError
from simengine.scene.grammar import Scene
from simengine.scene.strict import without_effect
from simengine.view.report import Picture, write_report
from simengine.worlds.detectors.appearance import SHOWN, AppearanceTraining, beside_one_another, make_network
from simengine.worlds.detectors.network import NetworkTraining
from simengine.worlds.detectors.network import training as training_on_views
from simengine.worlds.detectors.renders import RendersWorld

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.worlds.detectors.world import AppearanceNetworkSpec

BATCH = 8  # views at once where nothing is trained


def training(scene: Scene, *, device: str | None = None) -> "NetworkTraining | RendersTraining":
    """The training of a scene: on rendered views, or on given pictures."""
    if isinstance(scene.world, RendersWorld):
        assert scene.learner is not None
        spec: Any = scene.learner
        return RendersTraining(scene.world, spec, device=device)
    return training_on_views(scene, device=device)


class RendersTraining(AppearanceTraining):
    """Predicts the pictures of a table from the reference of their view.

    Args:
        scene: The pictures.
        spec: Network and lengths.
        device: Of the network, which pictures come to batch by batch; None for the CPU.

    Raises:
        SceneError: A key asks for what pictures of files do not have.
    """

    reads = "one picture of a view in grey paint, its mask, and any texture"
    caption = "unseen views, paints of the table"

    def __init__(
        self, scene: "RendersWorld", spec: "AppearanceNetworkSpec", *, device: torch.device | str | None = None
    ) -> None:
        torch.manual_seed(scene.seed)
        self.device = torch.device(device or "cpu")
        if spec.geometry:
            raise SceneError("model.geometry: pictures of files come without geometry buffers; set geometry = false")
        try:
            without_effect(spec, "paints", "varied", where='kind = "renders", whose table has the paints')
        except ValueError as error:
            raise SceneError(f"examples.{error}") from None
        if scene.greys:
            raise SceneError("greys: has no effect with [model], which trains a network; leave it out")
        self.scene: RendersWorld = scene
        self.given = scene.pictures
        unit, (h, w) = 2**spec.depth, scene.shape
        if h % unit or w % unit:
            raise SceneError(
                f"table: sides have to divide by {unit}, for a depth of {spec.depth}, got {w} x {h} pixels"
            )
        self.seen: torch.Tensor = self.given.pictures(unseen=False)
        self.tested: torch.Tensor = self.given.pictures(unseen=True)
        for name, rows in (("train", self.seen), ("test", self.tested)):
            if not len(rows):
                raise SceneError(f"table: no view to {name} with has an expected picture; see the column set")
        super().__init__(spec, make_network(spec).to(self.device))

    def _objective(self) -> Mapping[str, torch.Tensor]:
        index = self.seen[torch.randint(len(self.seen), (self.spec.batch,))]
        reference = self.scene.reference(self.given.view[index])
        paint, true = self.given.paint(index), self.given.expected[index]
        if 0 < self.spec.crop < min(self.scene.shape):
            reference, paint, true = _cropped(reference, paint, true, self.spec.crop)
        reference, true = reference.to(self.device), true.to(self.device)
        mask = (reference.object > 0).to(true.dtype)
        predicted = self.network(reference, paint)
        terms = self._misfit(predicted, true, mask)
        return terms | self._structure(predicted, true, mask) if self._structured else terms

    def _tested(self) -> tuple[dict[str, Any], Any]:
        summary = {
            "pictures": len(self.tested),
            **figures(self.network, self.scene, self.tested),
            "untrained": figures(make_network(self.spec), self.scene, self.tested),
            "reference_as_it_is": figures(None, self.scene, self.tested),
        }
        return summary, _beside(self.network, self.scene, self.tested)

    def _trained_on(self) -> dict[str, Any]:
        return {"pictures": len(self.seen), "size": list(self.scene.shape)}


def _cropped(
    reference: Reference, paint: torch.Tensor, true: torch.Tensor, side: int
) -> tuple[Reference, torch.Tensor, torch.Tensor]:
    """The parts of `side` x `side` pixels about the middle of each mask."""
    h, w = true.shape[2:]
    weight = reference.object[:, 0]
    total = weight.sum((1, 2))
    rows = (weight.sum(2) @ torch.arange(h, dtype=weight.dtype) / total).long() - side // 2
    columns = (weight.sum(1) @ torch.arange(w, dtype=weight.dtype) / total).long() - side // 2
    corners = list(zip(rows.clamp(0, h - side).tolist(), columns.clamp(0, w - side).tolist(), strict=True))

    def cut(value: torch.Tensor) -> torch.Tensor:
        return torch.stack([v[:, y : y + side, x : x + side] for v, (y, x) in zip(value, corners, strict=True)])

    cropped = dataclasses.replace(reference, picture=cut(reference.picture), object=cut(reference.object))
    return cropped, cut(paint), cut(true)


@torch.no_grad()
def predicted_pictures(
    network: TransformationNetwork | None, scene: "RendersWorld", rows: torch.Tensor
) -> torch.Tensor:
    """Pictures of a table as a network predicts them, (r, 3, h, w); the references where there is none.

    They are made where the network is, and come back to main memory.
    """
    own = scene.pictures
    if network is None:
        return own.reference[own.view[rows]]
    device = next(network.parameters()).device
    batches = [(scene.reference(own.view[some]).to(device), own.paint(some)) for some in rows.split(BATCH)]
    return torch.cat([network(reference, paint).cpu() for reference, paint in batches])


def figures(network: TransformationNetwork | None, scene: "RendersWorld", rows: torch.Tensor) -> dict[str, float]:
    """Of pictures of the table: PSNR over the painted pixels [dB], SSIM of whole pictures and over painted pixels."""
    own = scene.pictures
    predicted, true = predicted_pictures(network, scene, rows), own.expected[rows]
    mask = (own.mask[own.view[rows]] >= 0.5).to(true.dtype)
    return {
        "object_psnr": float(object_psnr(predicted, true, mask)),
        "ssim_picture": float(ssim(predicted, true)),
        "ssim_object": float(ssim(predicted, true, mask)),
    }


def _beside(network: TransformationNetwork, scene: "RendersWorld", rows: torch.Tensor) -> Any:
    own, few = scene.pictures, rows[:SHOWN]
    predicted, true = predicted_pictures(network, scene, few), own.expected[few]
    strips = {
        "reference": own.reference[own.view[few]],
        "predicted": predicted,
        "expected": true,
        "5 x error": (5 * (predicted - true).abs()).clamp(0, 1),
    }
    return beside_one_another(strips)


def wear_in_given(
    scene: "RendersWorld", network: TransformationNetwork, texture: torch.Tensor, name: str, out: "RunDirectory"
) -> dict[str, Any]:
    """Unseen views of given pictures in a new texture, as a network predicts them; writes `predicted.png` and a report.

    Args:
        scene: The pictures; their table names uv.
        network: Trained on them.
        texture: Linear albedo, first row at v = 1, (rows, columns, 3).
        name: Of the texture.
        out: Where they go.
    """
    own = scene.pictures
    index = own.unseen.nonzero().flatten()[:SHOWN]
    views = views_of(scene, index)
    paint = texture_map(views, (texture.shape[0], texture.shape[1]))(texture.flip(0))
    with torch.no_grad():
        predicted = network(scene.reference(index), paint)
    strips = {"reference": own.reference[index], "predicted": predicted}
    sheet = beside_one_another(strips)
    out.write("predicted.png", sheet)
    write_report(
        out.claim("report.html"), "A new texture", {"Predicted": [Picture(sheet, f"{name}, unseen views of the table")]}
    )
    return {"views": len(index)}


def network_of(folder: Path) -> TransformationNetwork:
    """The network of a run.

    Raises:
        SceneError: There is none, or it is of another kind.
    """
    try:
        model = read_model(folder)
    except ValueError as error:
        raise SceneError(f"network: {error}") from None
    if model.type != "transformation" or model.options.get("geometry"):
        raise SceneError(f"network: {folder.name} holds no network without geometry; train one on such pictures")
    return loaded(model)


def loaded(model: Model) -> TransformationNetwork:
    """The network in a folder."""
    network = TransformationNetwork(**model.options)
    network.load_state_dict(model.tensors())
    return network.requires_grad_(False)


@torch.no_grad()
def law_of_network(scene: "RendersWorld", folder: Path, *, unseen: bool) -> ViewSet:
    """Views with the pair (A, B) that a `linear` network finds in their references: L = A c + B.

    Raises:
        SceneError: The network has another head, which no such pair says, or the table names no uv.
    """
    network, own = network_of(folder), scene.pictures
    if network.head != "linear":
        raise SceneError(
            f'network: expected head = "linear", whose pictures are affine in the paint, got {network.head!r}'
        )
    index = (own.unseen == unseen).nonzero().flatten()
    gain, offset = [], []
    for some in index.split(BATCH):
        reference = scene.reference(some)
        gain.append(network.maps(reference)[:, 0] * reference.radiance / reference.grey)
        offset.append(reference.radiance - gain[-1] * reference.grey)
    return dataclasses.replace(views_of(scene, index), gain=torch.cat(gain), offset=torch.cat(offset))


def views_by_greys(scene: "RendersWorld", *, unseen: bool) -> ViewSet:
    """Views whose pictures follow from those in grey paint.

    Raises:
        SceneError: The table has no second grey of every view, or names no uv.
    """
    own = scene.pictures
    greys = {grey: places for grey, places in own.greys().items() if abs(grey - scene.grey) > 1e-3}
    if not greys:
        raise SceneError(
            f"greys: no grey but the reference's {scene.grey:g} has an expected picture of every view; give red, green "
            "and blue one number in a row of each, or train a network"
        )
    index = (own.unseen == unseen).nonzero().flatten()
    images = [own.reference[index], *(own.expected[torch.tensor(places)[index]] for places in greys.values())]
    views = views_of(scene, index)
    tensors = {field.name: getattr(views, field.name) for field in dataclasses.fields(views)}
    return ReferencedViews(**tensors, levels=(scene.grey, *greys), images=torch.stack(images, 1))


def views_of(scene: "RendersWorld", index: torch.Tensor) -> ViewSet:
    """Masks and texture coordinates of some of the views; A and B are 0.

    Raises:
        SceneError: The table names no uv.
    """
    own, count = scene.pictures, len(index)
    if own.uv is None:
        raise SceneError("table: a texture is put on by the column uv, which it lacks")
    mask, uv = own.mask[index], own.uv[index]
    nothing = torch.zeros(count, 3, *own.size)
    return ViewSet(
        gain=nothing,
        offset=nothing,
        paint=mask,
        object=own.object[index],
        normal=nothing,
        position=nothing,
        uv=uv,
        footprint=torch.cat([torch.zeros_like(mask), uv_footprint(uv, mask)], 1),
        eye=torch.zeros(count, 3),
        conditions=torch.full((count, len(CONDITIONS)), torch.nan),
        index=index,
        tone=scene.tone,
    )


def uv_footprint(uv: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Side of a pixel in texture coordinates, (n, 1, h, w): the root of the area between its neighbours' coordinates.

    Of the two neighbours along an axis the nearer one counts, so that seams and edges of the mask do not.

    Args:
        uv: Shape (n, 2, h, w).
        mask: Share covered by paint, (n, 1, h, w).
    """
    far = torch.where(mask > 0, uv, torch.nan)
    steps = []
    for axis in (3, 2):
        pad = (1, 1, 0, 0) if axis == 3 else (0, 0, 1, 1)
        wide = nn.functional.pad(far, pad, value=torch.nan)
        size = far.shape[axis]
        ways = [far - wide.narrow(axis, 0, size), wide.narrow(axis, 2, size) - far]
        lengths = [way.square().sum(1, keepdim=True).nan_to_num(nan=torch.inf) for way in ways]
        steps.append(torch.where(lengths[0] <= lengths[1], ways[0], ways[1]).nan_to_num(nan=0.0))
    return (steps[0][:, :1] * steps[1][:, 1:] - steps[0][:, 1:] * steps[1][:, :1]).abs().sqrt()


def bare_views(pictures: torch.Tensor, tone: ToneCurve) -> ViewSet:
    """Views without the object, from encoded pictures (k, 3, h, w)."""
    count = len(pictures)
    planes = {name: torch.zeros(count, channels, 0, 0) for name, channels in BUFFERS.items() if name != "offset"}
    return ViewSet(
        **planes,
        offset=tone.decode(pictures),
        eye=torch.zeros(count, 3),
        conditions=torch.full((count, len(CONDITIONS)), torch.nan),
        index=torch.arange(count),
        tone=tone,
    )
