"""Figures, pages and windows. Takes arrays."""
