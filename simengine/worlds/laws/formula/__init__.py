"""Learned laws read out as formulas."""
