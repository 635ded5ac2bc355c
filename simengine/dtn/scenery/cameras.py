"""Cameras of a list, in place of drawn ones."""

import dataclasses

import torch

from simengine.render.camera import PinholeCamera


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListedCamera:
    """A camera of a list, for pictures of any size.

    Attributes:
        rotation: World to camera, three rows, OpenCV axes.
        translation: The world's origin in the camera's coordinates [m].
        intrinsics: Focal lengths and principal point, fx and cx as shares of the width, fy and cy of the height.
    """

    rotation: tuple[tuple[float, ...], ...]
    translation: tuple[float, ...]
    intrinsics: tuple[float, float, float, float]

    def camera(self, size: tuple[int, int]) -> PinholeCamera:
        """For pictures of `size` (height, width)."""
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3] = torch.tensor(self.rotation, dtype=torch.float64)
        pose[:3, 3] = torch.tensor(self.translation, dtype=torch.float64)
        height, width = size
        scale = torch.tensor([width, height, width, height], dtype=torch.float64)
        shares = torch.tensor(self.intrinsics, dtype=torch.float64)
        return PinholeCamera(world_to_camera=pose, intrinsics=scale * shares, width=width, height=height)
