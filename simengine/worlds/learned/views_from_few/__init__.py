"""New views from few, with explicit visibility."""
