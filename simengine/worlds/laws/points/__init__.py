"""Laws of a specimen that need more than principal stretches: three axes, or a soil's state."""
