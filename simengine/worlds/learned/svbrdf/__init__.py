"""Materials from one flash picture."""
