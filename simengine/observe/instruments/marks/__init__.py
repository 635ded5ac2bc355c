"""Marks on bodies that were tracked."""
