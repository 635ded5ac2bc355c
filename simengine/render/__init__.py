"""Differentiable rendering: cameras, surfels, volumes, shading; docs/render.md is the page for users."""

from simengine.render.camera import PinholeCamera, orbit
from simengine.render.image import Image, psnr

__all__ = ["Image", "PinholeCamera", "orbit", "psnr"]
