"""The maps of a material from anybody's flash photograph."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from simengine.io.model_folder import Model
from simengine.io.pictures import read_rgb
from simengine.observe.labels import find_pictures
from simengine.scene.base import SceneError
from simengine.view.report import Block, Picture, ReportTable, write_report
from simengine.view.sheets import comparison, summary_rows
from simengine.worlds.learned.svbrdf.few_materials import DOUBT, refined
from simengine.worlds.learned.svbrdf.network import FLOOR, MapsNetwork, flash_picture, layered_materials

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

TYPICAL = 64  # drawn materials whose mean brightness a photograph is brought to: its exposure is not known
SHOWN = 6


def maps_of_photograph(model: Model, on: Path, out: "RunDirectory") -> dict[str, Any]:
    """Maps of one photograph, or of each in a folder; the middle square of each, at the size that was trained on.

    The photograph is taken for one by the eye and the flash of the training; its exposure is chosen so that it is as
    bright as the materials that were drawn. Writes `maps.npz`, `maps.png` and a report.

    Args:
        model: The network.
        on: The photograph, or a folder of them.
        out: Where maps and report go.

    Returns:
        For each photograph the root mean square of the logarithms of its light over that of the picture which the maps
        make; that of a picture without texture beside it (`plain`); how surprising the refined answer is (`surprise`,
        where there is one; above 4 it is that of the network).
    """
    try:
        files = find_pictures(str(on), Path())
        photographs = [torch.from_numpy(read_rgb(file)) for file in files]
    except ValueError as error:
        raise SceneError(f"--on {on}: {error}") from None
    size = int(model.trained_on["size"])
    pictures = torch.stack([_square(picture, size) for picture in photographs])
    generator = torch.get_rng_state()
    torch.manual_seed(0)
    typical = float((flash_picture(layered_materials(TYPICAL, size)) + FLOOR).log().mean())
    torch.set_rng_state(generator)
    for _ in range(8):  # of a floor under the logarithm: a fixed point
        own = (pictures + FLOOR).log().mean((1, 2, 3), keepdim=True)
        pictures = pictures * (typical - own).exp()
    network = MapsNetwork(width=int(model.options["width"]))
    network.load_state_dict(model.tensors())
    with torch.no_grad():
        maps = network(pictures)
        surprise = None
        if model.options["refine"]:
            maps, surprise, counts = refined(maps, pictures, steps=int(model.options["refine"]))
        again = flash_picture(maps)
    missed = ((again + FLOOR) / (pictures + FLOOR)).log().square().mean((1, 2, 3)).sqrt()
    plain = (pictures + FLOOR).log()
    plain = (plain - plain.mean((1, 2, 3), keepdim=True)).square().mean((1, 2, 3)).sqrt()
    summary: dict[str, Any] = {
        file.name: {"log_rms": float(missed[k]), "plain": float(plain[k])}
        | (
            {}
            if surprise is None
            else {"surprise": float(surprise[k]), "materials": int(counts[k]), "refined": float(surprise[k]) <= DOUBT}
        )
        for k, file in enumerate(files)
    }
    out.write("maps.npz", {**maps.as_dict(), "picture": pictures})
    rows = {"photograph": pictures, "made of the maps": again, "normal": 0.5 + 0.5 * maps.normal}
    rows |= {name.replace("_", " "): getattr(maps, name) for name in ("base_colour", "metallic", "roughness")}
    sheet = comparison({name: value[:SHOWN].clamp(0, 1).expand(-1, -1, -1, 3) for name, value in rows.items()})
    out.write("maps.png", sheet)
    told = "The eye and the flash are taken to stand where they stood in the training; the exposure is not known."
    blocks: list[Block] = [told, ReportTable(("figure", "value"), summary_rows(summary)), Picture(sheet)]
    write_report(out.claim("report.html"), "Maps of a photograph", {"Maps": blocks})
    return {"photographs": summary}


def _square(picture: torch.Tensor, size: int) -> torch.Tensor:
    """The middle square of a picture (h, w, 3) with so many pixels along each side."""
    h, w, _ = picture.shape
    n = min(h, w)
    if n < size:
        raise SceneError(f"--on: a photograph has {w} x {h} pixels; the model needs {size} along each side")
    middle = picture[(h - n) // 2 : (h + n) // 2, (w - n) // 2 : (w + n) // 2]
    return torch.nn.functional.interpolate(middle.permute(2, 0, 1)[None], (size, size), mode="area")[0].permute(1, 2, 0)
