"""What a Jacobian looks like, and how its normal equations are solved."""
