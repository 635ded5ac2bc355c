"""Which pixels are the body's where nobody tells a colour or a threshold: two Gaussians of colour."""

import torch

ROUNDS = 30
BORDER = 0.08  # share of rows and columns along the edges of pictures, in which the wall is looked for first
FAR = 16.0  # squared distance from the wall's colours, in its own spread, from which a pixel may be the body's
FEW = 20  # pixels, fewer of which are no body
LEAST = 1e-6  # of light squared: variance below which no colour varies


def body_pixels(light: torch.Tensor, start: torch.Tensor | None) -> torch.Tensor:
    """Pixels (f, h, w) that are rather the body's than the wall's, bool.

    Args:
        light: Linear, (f, h, w, 3).
        start: Pixels that are the body's at first, (f, h, w); None for those unlike the edges of the pictures.

    The wall's mean is affine in the place in the picture, as a lamp from aside makes it; the body's is one. Both have a
    whole covariance: what light and shade do to a colour they do along a line.

    Raises:
        ValueError: There are no two colours.

    Source: Dempster, Laird and Rubin 1977, expectation and maximisation.
    """
    frames, height, width, _ = light.shape
    y, x = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in (height, width))
    across = torch.stack([torch.ones(height, width).double(), *torch.meshgrid(y, x, indexing="ij")], -1)
    places = across.expand(frames, height, width, 3).reshape(-1, 3)
    pixels = light.reshape(-1, 3)
    if start is None:
        edge = ((y.abs()[:, None] > 1 - 2 * BORDER) | (x.abs()[None] > 1 - 2 * BORDER)).expand(light.shape[:3])
        wall, spread = _fitted(pixels, places, edge.reshape(-1).double())
        share = (_square(pixels - wall, spread) > FAR).double()
    else:
        share = start.reshape(-1).double()
    for _ in range(ROUNDS):
        if min(float(share.sum()), float((1 - share).sum())) < FEW:
            raise ValueError("segment: the pictures show no two colours that are told apart; name the body's color")
        odds = torch.log(share.mean() / (1 - share.mean())).expand(len(pixels))
        for weight, sign, basis in ((share, 1.0, places[:, :1]), (1 - share, -1.0, places)):
            mean, spread = _fitted(pixels, basis, weight)
            odds = odds - sign * 0.5 * (_square(pixels - mean, spread) + torch.logdet(spread))
        share = torch.sigmoid(odds)
    return (share > 0.5).reshape(light.shape[:3])


def _fitted(pixels: torch.Tensor, basis: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Means (n, 3) as the basis (n, b) explains them, and the covariance about them, by weights (n,)."""
    weighted = weight[:, None] * basis
    gram = weighted.T @ basis + 1e-9 * weight.sum() * torch.eye(basis.shape[1], dtype=torch.float64)
    mean = basis @ torch.linalg.solve(gram, weighted.T @ pixels)
    off = pixels - mean
    return mean, (weight[:, None] * off).T @ off / weight.sum() + LEAST * torch.eye(3, dtype=torch.float64)


def _square(off: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    return (off * torch.linalg.solve(spread, off.T).T).sum(-1)
