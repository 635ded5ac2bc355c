"""Mechanisms, thermochemistry and transport of gas mixtures."""
