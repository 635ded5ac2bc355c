"""Physics-informed networks for flames, and the optimisers that train them."""
