"""Equations of one-dimensional flames: free, burner-stabilised, counterflow, simplified."""
