"""One-dimensional flames."""
