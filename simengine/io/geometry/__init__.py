"""Files of geometry: triangles, particles, splats."""
