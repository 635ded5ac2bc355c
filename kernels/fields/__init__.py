"""Kernels of fields: normal equations, table products, gas kinetics."""
