"""Bridges of matter: MPM transfers, constitutive laws, singular values, contact."""
