"""A trained network on a new texture, a trained detector on pictures of anybody's."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simengine.dtn.evaluation import checked_detections
from simengine.dtn.metrics import object_psnr, ssim
from simengine.dtn.network import reference_of
from simengine.dtn.texture import texture_map
from simengine.io.model_folder import Model
from simengine.io.pictures import read_rgb
from simengine.observe.detectors import DetectorSpec, make_detector
from simengine.observe.labels import find_pictures
from simengine.render.tone import encode_srgb
from simengine.scene import load_scene
from simengine.scene.base import SceneError
from simengine.view.boxes import draw_boxes
from simengine.view.report import Block, Picture, ReportTable, write_report
from simengine.view.sheets import summary_rows
from simengine.worlds.detectors.appearance import beside_one_another
from simengine.worlds.detectors.network import network_predictor, scene_views
from simengine.worlds.detectors.renders import RendersWorld
from simengine.worlds.detectors.renders_network import loaded, wear_in_given
from simengine.worlds.detectors.world import DTNWorld

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

VIEWS = 8  # that the texture is shown in
SIDE = 64  # of the texture at most [texels]
SCORE = 0.5  # from which a box is drawn
SHOWN = 12  # pictures in the report


def wear_texture(model: Model, on: Path, out: "RunDirectory") -> dict[str, Any]:
    """How the object would look in a texture (a picture): predicted by the network beside rendered, in unseen views.

    Args:
        model: The network.
        on: The picture.
        out: Where picture and report go.

    Returns:
        PSNR over the object's pixels [dB] and SSIM of whole pictures; of given pictures, which nobody here can render,
        the number of views alone.

    Raises:
        SceneError: The picture cannot be read.
    """
    world = load_scene(model.scene).world
    texture = _read(on)
    side = max(texture.shape[:2])
    if side > SIDE:
        size = [max(2, round(n * SIDE / side)) for n in texture.shape[:2]]
        small = torch.nn.functional.interpolate(texture.permute(2, 0, 1)[None], size, mode="area")
        texture = small[0].permute(1, 2, 0)
    network = loaded(model)
    if isinstance(world, RendersWorld):
        return wear_in_given(world, network, texture, on.name, out)
    assert isinstance(world, DTNWorld)
    views = scene_views(world, world.test_sampler, min(VIEWS, world.test_views))
    rows, columns = texture.shape[:2]
    paint = texture_map(views, (rows, columns), mapping="triplanar")(texture.flip(0))
    with torch.no_grad():
        predicted, rendered = network_predictor(network, views)(slice(None), paint), views.picture(paint)
    mask = (views.object >= 0.5).to(rendered.dtype)
    summary = {
        "views": len(views),
        "object_psnr": float(object_psnr(predicted, rendered, mask)),
        "ssim_picture": float(ssim(predicted, rendered)),
    }
    error = (5 * (predicted - rendered).abs()).clamp(0, 1)
    strips = {
        "reference": reference_of(views).picture,
        "predicted": predicted,
        "rendered": rendered,
        "5 x error": error,
    }
    sheet = beside_one_another(strips)
    out.write("predicted.png", sheet)
    blocks: list[Block] = [
        ReportTable(("figure", "value"), summary_rows(summary)),
        Picture(sheet, f"{on.name}, unseen views"),
    ]
    write_report(out.claim("report.html"), "A new texture", {"Predicted beside rendered": blocks})
    return summary


def detect_in(model: Model, on: Path, out: "RunDirectory") -> dict[str, Any]:
    """Box a picture, a folder of them, or a name with a star.

    Writes `boxes.json` (a list of picture, corners [px] and score) and `report.html`.

    Args:
        model: The detector.
        on: The picture, the folder, or the name with a star.
        out: Where boxes and report go.

    Raises:
        SceneError: There are no pictures.
    """
    try:
        files = find_pictures(str(on), Path())
    except ValueError as error:
        raise SceneError(f"--on {on}: {error}") from None
    detector = make_detector(DetectorSpec(model=str(model.folder)), Path())
    found: list[dict[str, Any]] = []
    pictures: list[Block] = []
    counts = []
    for file in files:
        encoded = encode_srgb(_read(file).clamp(0, 1))
        with torch.no_grad():
            ((boxes, _, scores),) = checked_detections(detector, encoded.permute(2, 0, 1)[None].float())
        found += [
            {"picture": file.name, "box": box, "score": score}
            for box, score in zip(boxes.tolist(), scores.tolist(), strict=True)
        ]
        sure = [(b, "hit", f"{s:.2f}") for b, s in zip(boxes.tolist(), scores.tolist(), strict=True) if s >= SCORE]
        counts.append((file.name, str(len(scores)), str(len(sure))))
        if len(pictures) < SHOWN:
            drawn = draw_boxes((255 * encoded).round().byte().numpy().astype(np.uint8), sure)
            pictures.append(Picture(drawn, file.name))
    out.write("boxes.json", {"boxes": found})
    table = ReportTable(("picture", "boxes", f"with a score from {SCORE:g}"), counts)
    sections: dict[str, list[Block]] = {"Boxes": [table], "Pictures": pictures}
    write_report(out.claim("report.html"), "What a detector found", sections)
    return {"pictures": len(files), "boxes": len(found), "sure_boxes": sum(e["score"] >= SCORE for e in found)}


def _read(file: Path) -> torch.Tensor:
    try:
        return torch.from_numpy(read_rgb(file))
    except ValueError as error:
        raise SceneError(f"--on {file}: {error}") from None
