"""The gradient bridges: each op beside its plain torch reference."""
