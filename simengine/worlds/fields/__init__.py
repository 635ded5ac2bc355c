"""Fields that satisfy a partial differential equation."""
