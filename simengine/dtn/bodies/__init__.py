"""What stands in a scene: the car that ships, and what is around an object."""
