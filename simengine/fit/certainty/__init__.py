"""What an answer is worth: samples, resolution, evidence, profiles, and the next experiment."""
