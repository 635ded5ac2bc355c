"""Cameras, photographs and skies of the user's own, for the views of an object."""

import math
from pathlib import Path

import torch

from simengine.dtn.sampler import ViewSampler
from simengine.dtn.scenery.cameras import ListedCamera
from simengine.dtn.scenery.photographs import BackgroundPhotograph
from simengine.dtn.scenery.skies import SkyPanorama
from simengine.io.pictures import read_rgb, series_files
from simengine.io.tables import read_table
from simengine.observe.camera_files import read_shots
from simengine.observe.columns import take
from simengine.render.camera import PinholeCamera
from simengine.scene.base import SceneError

ORBIT = ("yaw [deg]", "pitch [deg]", "distance [m]")


def listed_cameras(file: Path, sampler: ViewSampler, size: tuple[int, int]) -> tuple[ListedCamera, ...]:
    """The cameras of a file: nerfstudio's transforms.json, json of K, R, t, COLMAP, or a csv of yaw, pitch, distance.

    Args:
        file: World coordinates in metres, z up, the ground at z = 0, the object about the origin.
        sampler: What a csv's cameras look at, and their field of view.
        size: Height and width of the views [pixels].

    Raises:
        SceneError: The file cannot be read.
    """
    try:
        if file.suffix.lower() in (".csv", ".tsv", ".txt") and file.name != "images.txt":
            return _orbit(file, sampler, size)
        shots = read_shots(file)
    except ValueError as error:
        raise SceneError(f"cameras: {error}") from None
    found = []
    for shot in shots:
        if not (shot.width and shot.height):
            raise SceneError(f"cameras: {file.name}: the camera {shot.name!r} lacks width and height of its picture")
        if shot.lens != "pinhole" or any(shot.distortion):
            raise SceneError(f"cameras: {file.name}: the camera {shot.name!r} has a lens that distorts; undistort it")
        fx, fy, cx, cy = shot.intrinsics
        shares = (fx / shot.width, fy / shot.height, cx / shot.width, cy / shot.height)
        found.append(ListedCamera(rotation=shot.rotation, translation=shot.translation, intrinsics=shares))
    return tuple(found)


def _orbit(file: Path, sampler: ViewSampler, size: tuple[int, int]) -> tuple[ListedCamera, ...]:
    raw = read_table(file)
    columns = [take(raw, name, key="cameras")[0].double() for name in ORBIT]
    middle = torch.tensor([0.0, 0.0, sampler.aim or 0.0], dtype=torch.float64)
    found = []
    for row, (yaw, pitch, distance) in enumerate(zip(*columns, strict=True)):
        values = [float(yaw), float(pitch), float(distance)]
        if not all(map(math.isfinite, values)) or values[2] <= 0 or abs(values[1]) >= math.pi / 2:
            raise ValueError(f"{file.name}: row {row + 1}: expected angles, pitch within 90 deg, distance above 0")
        across = pitch.cos()
        way = torch.stack([yaw.cos() * across, yaw.sin() * across, pitch.sin()])
        camera = PinholeCamera.look_at(
            middle + distance * way,
            middle,
            up=(0.0, 0.0, 1.0),
            fov_y=math.radians(sampler.fov),
            height=size[0],
            width=size[1],
            dtype=torch.float64,
        )
        pose = camera.world_to_camera.tolist()
        fx, fy, cx, cy = camera.intrinsics.tolist()
        rotation = tuple(tuple(line[:3]) for line in pose[:3])
        translation = tuple(line[3] for line in pose[:3])
        shares = (fx / size[1], fy / size[0], cx / size[1], cy / size[0])
        found.append(ListedCamera(rotation=rotation, translation=translation, intrinsics=shares))
    return tuple(found)


def photographs_in(folder: Path, size: tuple[int, int]) -> tuple[BackgroundPhotograph, ...]:
    """The photographs of a folder, or one.

    Args:
        folder: Where they lie.
        size: Height and width of the views [pixels], which none may be smaller than.

    Raises:
        SceneError: There are none, or one cannot be read or is too small.
    """
    found = []
    try:
        for file in series_files(folder):
            light = torch.from_numpy(read_rgb(file)).clamp(0, 1)
            h, w = light.shape[:2]
            if h < size[0] or w < size[1]:
                raise ValueError(f"{file.name}: {w} x {h} pixels; expected {size[1]} x {size[0]} or more, as the views")
            found.append(BackgroundPhotograph(file.name, light))
    except ValueError as error:
        raise SceneError(f"photographs: {error}") from None
    return tuple(found)


def skies_in(folder: Path) -> tuple[SkyPanorama, ...]:
    """The panoramas of a folder, or one.

    Args:
        folder: Where they lie; each is twice as wide as high, its upper row is up.

    Raises:
        SceneError: There are none, or one cannot be read or is no panorama.
    """
    found = []
    try:
        for file in series_files(folder):
            radiance = torch.from_numpy(read_rgb(file)).clamp(min=0)
            h, w = radiance.shape[:2]
            if w != 2 * h:
                raise ValueError(f"{file.name}: {w} x {h} pixels; expected a panorama, twice as wide as high")
            found.append(SkyPanorama.of(file.name, radiance))
    except ValueError as error:
        raise SceneError(f"skies: {error}") from None
    return tuple(found)
