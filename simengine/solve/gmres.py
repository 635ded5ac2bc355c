"""GMRES with a preconditioner from the right, for one system that need be neither symmetric nor definite."""

import torch

from simengine.solve.conjugate_gradients import Linear


def gmres(
    product: Linear,
    b: torch.Tensor,
    *,
    precondition: Linear,
    tolerance: float = 1e-12,
    max_iterations: int = 400,
    restart: int = 80,
) -> tuple[torch.Tensor, int]:
    """Solve A x = b (Saad & Schultz 1986), orthogonalised twice, restarted.

    Args:
        product: A v for v of shape (n,).
        b: Right-hand side, shape (n,).
        precondition: An approximate A^-1 v.
        tolerance: On |b - A x| / |b|.
        max_iterations: Products of A at most.
        restart: Directions held at a time.

    Returns:
        x, shape (n,), and the products it took; the last iterate where the tolerance was not reached.
    """
    x, count, size = torch.zeros_like(b), 0, float(b.norm())
    while size > 0 and count < max_iterations:
        r = b - product(x) if count else b
        beta = float(r.norm())
        if beta <= tolerance * size:
            break
        most = min(restart, max_iterations - count)
        basis, h = [r / beta], torch.zeros(most + 1, most, dtype=b.dtype)
        moved: list[torch.Tensor] = []
        y = h[:0, 0]
        for k in range(most):
            moved.append(precondition(basis[k]))
            w = product(moved[k])
            V = torch.stack(basis)
            for _ in range(2):
                part = V @ w
                h[: k + 1, k] += part
                w = w - part @ V
            h[k + 1, k] = w.norm()
            count += 1
            rhs = torch.zeros(k + 2, dtype=b.dtype)
            rhs[0] = beta
            y = torch.linalg.lstsq(h[: k + 2, : k + 1], rhs[:, None], driver="gelsd").solution[:, 0]
            left = float((h[: k + 2, : k + 1] @ y - rhs).norm())
            if left <= tolerance * size or float(h[k + 1, k]) <= 1e-14 * beta:
                break
            basis.append(w / h[k + 1, k])
        x = x + y @ torch.stack(moved[: len(y)])
        if left <= tolerance * size:
            break
    return x, count
