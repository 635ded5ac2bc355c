"""Boxes in pictures: what a detector or a person found."""
