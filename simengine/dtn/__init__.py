"""What a scene does to a texture: views, differentiable networks, detectors, robustness. Built on `render`."""
