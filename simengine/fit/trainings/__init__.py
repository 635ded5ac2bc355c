"""Trainings of named parameters by an objective: gradient methods, least squares, stages."""
