"""How near a predicted picture is to the true one."""

import torch


def _check_mask(mask: torch.Tensor) -> None:
    if not float(mask.sum()) > 0:
        raise ValueError("mask: expected at least one pixel of the object, got an empty mask")


def object_psnr(predicted: torch.Tensor, true: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio over the pixels of a mask, pooled over all pictures [dB].

    Args:
        predicted: Encoded pictures in [0, 1], shape (n, 3, h, w).
        true: Of the same shape.
        mask: Weights in [0, 1], shape (n, 1, h, w).

    Raises:
        ValueError: The mask is empty.
    """
    _check_mask(mask)
    mse = ((predicted - true).square() * mask).sum() / (mask.sum() * predicted.shape[1])
    return -10 * torch.log10(mse)


def ssim(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Mean structural similarity, 11 x 11 Gaussian window of 1.5 pixels (Wang et al., 2004, eq. 13).

    Args:
        a: Pictures in [0, 1], shape (n, c, h, w).
        b: Of the same shape.
        mask: Weights of the mean, shape (n, 1, h, w); None for all pixels.

    Raises:
        ValueError: The mask is empty.
    """
    if mask is not None:
        _check_mask(mask)
    x = torch.arange(-5, 6, dtype=a.dtype, device=a.device)
    line = torch.exp(-(x**2) / (2 * 1.5**2))
    line = line / line.sum()
    c = a.shape[1]

    def blur(value: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(value, (5, 5, 5, 5), mode="reflect")
        rows = torch.nn.functional.conv2d(padded, line.view(1, 1, 1, 11).expand(c, 1, 1, 11), groups=c)
        return torch.nn.functional.conv2d(rows, line.view(1, 1, 11, 1).expand(c, 1, 11, 1), groups=c)

    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    index = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    if mask is None:
        return index.mean()
    return (index * mask).sum() / (mask.sum() * c)
