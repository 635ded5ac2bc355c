"""Bridges of fields: normal equations, products with tables, gas kinetics."""
