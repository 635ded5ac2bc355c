"""Do the forms of the target scenes pass `simengine check` beside their data?

    simengine bench target_forms shared [NAME ...]

`shared` is the folder with `reference/real` and `target`, which are not shipped. Forms are those of docs/results and
docs/results/targets, and shipped scenes; targets that pass as written are checked as they stand.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REAL = {  # form -> folder of its data under reference/real; a star for the part that differs
    "ammonia_near_limits": "flame_speed_nh3_ronney",
    "brain_cortex": "brain_cortex",
    "clay_core": "clay_core_tce_breakthrough",
    "ct_disc": "ct_disc_fan_beam",
    "cup_burner": "*cup*",
    "dic_tension": "dic_tension_images",
    "drone_detector": "*drone*",
    "emulsion_flow_curves": "emulsion_flow_curves",
    "falling_balls": "falling_balls_video",
    "flame_speeds": "flame_speed_h2_ch4_c3h8",
    "flash_card": "flash_photographs_svbrdf",
    "ion_image": "*axisym*",
    "kitti_camouflage": "kitti_cars_000008",
    "kitti_cars": "kitti_cars_000008",
    "methane_joint": "flame_speed_h2_ch4_c3h8",
    "photometric_stereo": "photometric_stereo",
    "piv_pair": "piv_pair",
    "polystyrene_160C": "polystyrene_viscoelastic_160C",
    "rod": "aluminium_rod_heating",
    "rubber_treloar": "rubber_treloar",
    "shoe_foam": "shoe_foam_new_heel",
    "silicone_hammer": "silicone_hammer_photos_moldstar",
    "steel_304L": "steel_304L_tension",
    "temple": "temple_photos_known_cameras",
    "two_balls": "two_balls_collision_video",
}
FORMS = sorted(Path("docs/results/targets").glob("*.toml"))  # of the checkout that stands around
AS_WRITTEN = (
    *("brain_cortex", "emulsion_flow_curves", "falling_balls", "polystyrene_160C", "rubber_treloar", "shoe_foam"),
    *("steel_304L", "two_balls", "clay_core", "rod"),
)
SHIPPED = (
    *("flame_from_image", "jelly_from_video", "sand_from_video", "tomography_blob", "camera_from_silhouette"),
    *("soft_beam", "dam_break"),
)
TRAININGS = ("material_from_one_picture", "new_views", "navier_stokes", "learn_sand")
ALSO = {"methane_joint": "cup_burner_extinction"}  # a second folder of data
TWINS = ("stiffness_map", "pressed_block")  # which need files that their headers tell how to make
FACTORS = {  # tables that a target asks of its user; what `check` needs is that they are there
    "ammonia_near_limits": ("uncertainty.csv", "reaction,f\nH + O2 <=> O + OH,1.5\n"),
}
LIMIT = 300  # s of a check


def check(source: str, folder: Path) -> tuple[bool, str]:
    """Whether a scene passes, and the last line that it said if not."""
    command = [sys.executable, "-m", "simengine", "check", source]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return False, f"no end in {LIMIT} s"
    said = [line for line in done.stderr.splitlines() if line and not line.startswith("device")]
    return done.returncode == 0, said[-1][:160] if said else ""


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A row for each form; none where the folder is not given.

    Args:
        arguments: The folder `shared`, and the names that are wanted; all where none is.
    """
    if not arguments:
        return []
    shared, wanted = Path(arguments[0]).resolve(), set(arguments[1:])
    places = [shared / "target" / part / f"{name}.toml" for part in ("matter", "light") for name in AS_WRITTEN]
    scenes: dict[str, Path | None] = {path.stem: path for path in (*places, *FORMS) if path.exists()}
    scenes |= dict.fromkeys((*SHIPPED, *TRAININGS))
    rows = []
    for name in sorted(wanted or scenes.keys() - set(TWINS)):
        path = scenes[name]
        data = sorted((shared / "reference" / "real").glob(REAL[name])) if name in REAL else []
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "scene"
            if data:
                shutil.copytree(data[0], folder)
                if name in ALSO:
                    shutil.copytree(shared / "reference" / "real" / ALSO[name], folder, dirs_exist_ok=True)
            folder.mkdir(exist_ok=True)
            if name in FACTORS:
                (folder / FACTORS[name][0]).write_text(FACTORS[name][1], encoding="utf-8")
            if path is not None:
                shutil.copy(path, folder / path.name)
            good, said = check(name if path is None else path.name, folder)
        rows.append(
            {"name": name, "passes": good, "seconds": time.perf_counter() - began, "said": "" if good else said}
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows
