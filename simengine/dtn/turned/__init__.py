"""Turned boxes: overlap, suppression."""
