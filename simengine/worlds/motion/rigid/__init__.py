"""Bodies that do not deform."""
