"""Painted objects before detectors."""
