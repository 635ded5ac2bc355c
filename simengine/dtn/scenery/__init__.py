"""What the user brings to the views of an object: cameras, photographs."""
