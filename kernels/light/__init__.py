"""Kernels of light: surfels, meshes, rays, volumes."""
