"""Bridges of light: surfels, meshes, rays, volumes."""
