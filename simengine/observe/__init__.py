"""What was measured, and with what: files in, arrays in SI units out, and what a run should have shown."""
