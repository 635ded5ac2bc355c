"""Differentiable rendering: cameras, surfels, volumes, shading; docs/render.md is the page for users."""

from simengine.render.camera import PinholeCamera, orbit
from simengine.render.image import Image, psnr
from simengine.render.particles import Look, SurfelRenderer
from simengine.render.surfels import Surfels, render_surfels
from simengine.render.volumes import Volume, render_volume

__all__ = [
    "Image",
    "Look",
    "PinholeCamera",
    "SurfelRenderer",
    "Surfels",
    "Volume",
    "orbit",
    "psnr",
    "render_surfels",
    "render_volume",
]
