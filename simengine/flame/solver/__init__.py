"""Newton's method for flames on spectral bases and adaptive grids."""
