"""Rain, and lamps at night, from physical quantities."""
