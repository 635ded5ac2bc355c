"""What pulls on bodies: masses and forces on parts of them, and gravity that changes."""
