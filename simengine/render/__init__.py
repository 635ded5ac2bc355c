"""Differentiable rendering: cameras, surfels, volumes, shading; docs/render.md is the page for users."""

from simengine.render.brdf import DisneyMaterial, PhongMaterial, shade, soft_shadow
from simengine.render.camera import PinholeCamera, orbit
from simengine.render.image import Image, psnr
from simengine.render.lens import BrownConradyLens, FisheyeLens
from simengine.render.lights import DirectionalLight, HarmonicLight, PointLight
from simengine.render.meshes import TexturedMesh, render_mesh
from simengine.render.particles import Look, SurfelRenderer
from simengine.render.shading import normals_of_depth, shade_depth
from simengine.render.shadows import shadow_of
from simengine.render.skin import Skin, SkinRenderer, bind_skin
from simengine.render.splats import Splats, render_splats
from simengine.render.surfels import Surfels, render_surfels
from simengine.render.transfer import TransferFunction
from simengine.render.volumes import Volume, render_volume

__all__ = [
    "BrownConradyLens",
    "DirectionalLight",
    "DisneyMaterial",
    "FisheyeLens",
    "HarmonicLight",
    "Image",
    "Look",
    "PhongMaterial",
    "PinholeCamera",
    "PointLight",
    "Skin",
    "SkinRenderer",
    "Splats",
    "SurfelRenderer",
    "Surfels",
    "TexturedMesh",
    "TransferFunction",
    "Volume",
    "bind_skin",
    "normals_of_depth",
    "orbit",
    "psnr",
    "render_mesh",
    "render_splats",
    "render_surfels",
    "render_volume",
    "shade",
    "shade_depth",
    "shadow_of",
    "soft_shadow",
]
