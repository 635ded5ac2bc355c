"""Bodies that move, deform, flow and touch."""
