"""Where far lamps stand, by their highlights on a mirror ball."""

import numpy as np
from numpy.typing import NDArray

BRIGHT = 0.5  # of the brightest pixel: what belongs to a highlight, and counts by what it has more
ROUND = 0.95  # of a mask and the circle of its area: less in common is no ball seen whole


def lamp_directions(pictures: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Unit vectors to the lamps (right, up, to the camera), (k, 3), of far lamps and a far camera.

    The normal n under a highlight is that of the ball, and a mirror sends light from 2 (n . v) n - v to the camera
    at v. A highlight that is off by a pixel turns a lamp by 2/radius.

    Args:
        pictures: Grey, a lamp each, (k, h, w).
        mask: Pixels of the ball, (h, w).

    Raises:
        ValueError: The mask is no disc, or a picture has nothing bright in it.
    """
    from scipy.ndimage import label

    rows, columns = mask.nonzero()
    radius = np.sqrt(len(rows) / np.pi)
    middle = np.array([rows.mean(), columns.mean()]) if len(rows) else np.zeros(2)
    y, x = np.indices(mask.shape)
    disc = np.hypot(y - middle[0], x - middle[1]) < radius
    if (disc & mask).sum() < ROUND * max((disc | mask).sum(), 1):
        raise ValueError("the mask of a mirror ball has to be a whole disc, bright inside")
    found = []
    for number, picture in enumerate(pictures):
        light = np.where(mask, picture, 0.0)
        parts, count = label(light >= BRIGHT * light.max())
        if not light.max() > 0:
            raise ValueError(f"picture {number} of the mirror ball has no highlight")
        sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        row, column = (parts == 1 + sizes.argmax()).nonzero()
        weight = light[row, column] - BRIGHT * light.max() + 1e-12
        right = (np.average(column, weights=weight) - middle[1]) / radius
        up = (middle[0] - np.average(row, weights=weight)) / radius
        normal = np.array([right, up, np.sqrt(max(1 - right**2 - up**2, 0.0))])
        found.append(2 * normal[2] * normal - np.array([0.0, 0.0, 1.0]))
    return np.array(found)
