"""Small data that ships with simengine; each file's origin is told in ORIGINS.md."""
