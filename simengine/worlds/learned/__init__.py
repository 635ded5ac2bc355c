"""Reproductions of papers: networks trained on populations of objects."""
