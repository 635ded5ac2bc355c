"""Laws of materials learned from motions."""
