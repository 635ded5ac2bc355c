"""Pix2Shape: shape from pictures, without supervision."""
