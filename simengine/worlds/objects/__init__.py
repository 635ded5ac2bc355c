"""What stands still and is seen: clouds, surfaces, pictures of them."""
