"""New views of anybody's photographs with cameras, and of a moving body."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from simengine.io.model_folder import Model
from simengine.observe.instruments.pictures import Pictures
from simengine.render.camera import PinholeCamera, rigid
from simengine.scene import load_scene
from simengine.scene.base import SceneError
from simengine.scene.grammar import Scene
from simengine.view.report import Block, ReportTable, write_report
from simengine.view.report import Picture as Shown
from simengine.view.sheets import comparison, summary_rows
from simengine.worlds.learned.solids import DISTANCE
from simengine.worlds.learned.views_from_few.examples import moving_examples
from simengine.worlds.learned.views_from_few.network import ViewSynthesis
from simengine.worlds.learned.views_from_few.spec import ViewSynthesisSpec
from simengine.worlds.learned.views_from_few.training import measure, shown
from simengine.worlds.motion.world import MPMWorld

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

UNIT = 4  # that the sides of pictures divide by


@dataclasses.dataclass(frozen=True)
class Photographs:
    """Photographs with their cameras, scaled to where the network learned to look.

    Attributes:
        camera: A batch of v.
        pictures: Linear RGB, (v, h, w, 3).
        held: Which are to be predicted, (v,), bool.
        names: Of the files.
    """

    camera: PinholeCamera
    pictures: torch.Tensor
    held: torch.Tensor
    names: tuple[str, ...]


def views_of_photographs(model: Model, on: Path, out: "RunDirectory") -> dict[str, Any]:
    """Predict the photographs that a scene holds out from the nearest of the others; or frames of a scene of kind mpm.

    Args:
        model: The network.
        on: The scene.
        out: Where pictures and report go.

    Returns:
        PSNR [dB] of each photograph over what some given camera may see, of the prediction and, as a control, of the
        nearest given photograph as it is.

    Raises:
        SceneError: The scene has neither photographs with cameras, some held out, nor a motion.
    """
    scene = load_scene(on)
    trained = load_scene(model.scene).learner
    assert isinstance(trained, ViewSynthesisSpec)
    names = ("planes", "width", "coarse", "fine")
    options = {name: int(model.options[name]) for name in names}
    network = ViewSynthesis(num_planes=options.pop("planes"), **options)
    network.load_state_dict(model.tensors())
    formulation = model.options["visibility"]
    photographs = [own for own in scene.observations.values() if isinstance(own, Pictures)]
    if not photographs and isinstance(scene.world, MPMWorld):
        spec = dataclasses.replace(trained, motion=scene.world)
        frames = moving_examples(spec, scene.world, seed=scene.world.seed + 5)
        sheet = shown(network, frames, formulation)
        summary: dict[str, Any] = {"moving": measure(network, frames)}
    elif photographs:
        summary, sheet = _predicted(
            network, read_photographs(scene, photographs[0], trained.size), trained, formulation
        )
    else:
        raise SceneError(f"--on {on}: expected [observations] of pictures with cameras, or a scene of kind mpm")
    out.write("pictures.png", sheet)
    blocks: list[Block] = [ReportTable(("figure", "value"), summary_rows(summary)), Shown(sheet)]
    write_report(out.claim("report.html"), "New views", {"Predicted": blocks})
    return summary


def read_photographs(scene: Scene, instrument: Pictures, size: int) -> Photographs:
    """Photographs of an observation, their longer side brought to `size`; cameras stand about the point all look at.

    Raises:
        SceneError: None is held out, or fewer than two are given.
    """
    measured = instrument.read()
    opened = instrument.prepared(measured)
    frames, height, width = measured.shape
    held = measured.held_out.reshape(frames, -1).all(1)
    if not bool(held.any()) or int((~held).sum()) < 2:
        raise SceneError(
            f"observations.{instrument.name}.hold_out: name photographs to predict, and leave two; "
            f"{int(held.sum())} of {frames} are held out"
        )
    light = measured.values.nan_to_num(0.0).reshape(frames, height, width, -1)
    cameras = opened.pinholes(measured.shape)
    longer = max(height, width)
    rows, columns = (max(UNIT, UNIT * round(n * size / longer / UNIT)) for n in (height, width))
    small = torch.nn.functional.interpolate(light.permute(0, 3, 1, 2), (rows, columns), mode="area").permute(0, 2, 3, 1)
    return Photographs(_about_the_middle(cameras).resized(columns, rows), small.float(), held, tuple(measured.files))


def _about_the_middle(cameras: PinholeCamera) -> PinholeCamera:
    """The cameras in coordinates whose origin is what they look at, on the mean at the distance of the training."""
    rotation, shift = cameras.world_to_camera[:, :3, :3], cameras.world_to_camera[:, :3, 3]
    eyes = -(rotation.mT @ shift[..., None])[..., 0]
    along = rotation[:, 2]
    across = torch.eye(3, dtype=along.dtype) - along[:, :, None] * along[:, None, :]
    middle = torch.linalg.lstsq(across.sum(0), (across @ eyes[..., None]).sum(0), driver="gelsd").solution[:, 0]
    scale = DISTANCE / (eyes - middle).norm(dim=1).mean()
    moved = scale * ((rotation @ middle) + shift)
    return dataclasses.replace(
        cameras, world_to_camera=rigid(rotation, moved).float(), intrinsics=cameras.intrinsics.float()
    )


@torch.no_grad()
def _predicted(
    network: ViewSynthesis, own: Photographs, spec: ViewSynthesisSpec, formulation: Any
) -> tuple[dict[str, Any], Any]:
    """Figures, and a sheet of the photographs, what was predicted, and the nearest given one."""
    given = (~own.held).nonzero()[:, 0]
    summary: dict[str, Any] = {}
    rows: dict[str, list[torch.Tensor]] = {"photograph": [], "predicted": [], "nearest given": []}
    toward = torch.nn.functional.normalize(own.camera.position, dim=-1)
    for k in own.held.nonzero()[:, 0].tolist():
        near = given[(toward[given] @ toward[k]).argsort(descending=True)][: spec.views]
        views = network.look(own.pictures[near], own.camera[near])
        made, _ = network(views, own.camera[k], formulation=formulation)
        without, _ = network(views, own.camera[k], formulation="none")
        true, nearest = own.pictures[k], own.pictures[near[0]]
        angle = float(torch.rad2deg((toward[near[0]] @ toward[k]).clamp(-1, 1).acos()))
        summary[own.names[k]] = {
            "psnr": _decibels(made, true),
            "psnr_without_visibility": _decibels(without, true),
            "psnr_of_the_nearest_given": _decibels(nearest, true),
            "degrees_to_the_nearest": angle,
        }
        for name, picture in zip(rows, (true, made, nearest), strict=True):
            rows[name].append(picture.clamp(0, 1))
    return {"photographs": summary}, comparison({name: torch.stack(pictures) for name, pictures in rows.items()})


def _decibels(made: torch.Tensor, true: torch.Tensor) -> float:
    return float(-10 * (made - true).square().mean().clamp_min(1e-12).log10())
