"""Kernels of matter: MPM transfers and their adjoints, laws, contact."""
