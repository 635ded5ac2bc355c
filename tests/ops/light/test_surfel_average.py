import pytest
import torch

from simengine.ops.light import surfel_reference
from simengine.ops.light.surfel_average import average_surfels

WIDTH, HEIGHT = 24, 18


def wall(n: int, *, dtype: torch.dtype = torch.float64, channels: int = 3) -> list[torch.Tensor]:
    """Random discs near a slanted wall 3 m ahead, and its depth in each pixel of all but the first column."""
    centres = torch.rand(n, 3, dtype=torch.float64) * 2 - 1
    centres[:, 2] = 3 + 0.3 * centres[:, 0] + 0.05 * torch.randn(n, dtype=torch.float64)
    axes = torch.linalg.qr(torch.randn(n, 3, 3, dtype=torch.float64))[0]
    local = torch.stack([axes[:, 0] * 0.2, axes[:, 1] * 0.15, centres], dim=-1)
    focal = 1.3 * WIDTH
    K = torch.tensor([[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]], dtype=torch.float64)
    front = torch.full((HEIGHT, WIDTH), 3.0, dtype=torch.float64)
    front[:, 0] = 0
    opacity, features = torch.rand(n, dtype=torch.float64), torch.rand(n, channels, dtype=torch.float64)
    return [value.to(dtype) for value in (K @ local, opacity, features, front)]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-300))


# sums of some ten products: rounding (measured 3e-16 and 1e-7)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_parity(dtype: torch.dtype, tolerance: float) -> None:
    *inputs, front = wall(60, dtype=dtype)
    inputs = [value.requires_grad_() for value in inputs]
    ours = average_surfels(*inputs, front, thickness=0.3, width=WIDTH, height=HEIGHT)
    reference = surfel_reference.average_surfels(*inputs, front, thickness=0.3)
    for a, b in zip(ours, reference, strict=True):
        assert relative(a.detach(), b.detach()) < tolerance
        assert not a[:, 0].any()  # no surface there
    cotangents = [torch.randn_like(value) for value in ours]
    gradients = torch.autograd.grad(ours, inputs, cotangents)
    expected = torch.autograd.grad(reference, inputs, cotangents)
    for a, b in zip(gradients, expected, strict=True):
        assert relative(a, b) < 10 * tolerance
        assert float(torch.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0)) > 1 - 1e-9


def test_gradcheck() -> None:
    *inputs, front = wall(3, channels=1)

    def sums(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return average_surfels(*values, front, thickness=10.0, width=WIDTH, height=HEIGHT)

    assert torch.autograd.gradcheck(
        sums, [value.requires_grad_() for value in inputs], eps=1e-6, atol=1e-6, rtol=1e-5, fast_mode=True
    )


def test_threads_give_the_same_bits() -> None:
    *inputs, front = wall(200, dtype=torch.float32)
    inputs = [value.requires_grad_() for value in inputs]

    def run(num_threads: int) -> list[torch.Tensor]:
        outputs = average_surfels(*inputs, front, thickness=0.3, width=WIDTH, height=HEIGHT, num_threads=num_threads)
        gradients = torch.autograd.grad(sum(value.sin().sum() for value in outputs), inputs)
        return [value.detach() for value in (*outputs, *gradients)]

    assert all(torch.equal(a, b) for a, b in zip(run(1), run(2), strict=True))


@pytest.mark.parametrize("n", [0, 1])
def test_few(n: int) -> None:
    *inputs, front = wall(n)
    inputs = [value.requires_grad_() for value in inputs]
    sums, weight, depth = average_surfels(*inputs, front, thickness=10.0, width=WIDTH, height=HEIGHT)
    assert sums.shape == (HEIGHT, WIDTH, 3) and weight.shape == depth.shape == (HEIGHT, WIDTH)
    gradients = torch.autograd.grad(sums.sum() + depth.sum(), inputs)
    assert all(torch.isfinite(value).all() for value in gradients)


def test_double_backward_raises() -> None:
    *inputs, front = wall(3)
    inputs = [value.requires_grad_() for value in inputs]
    sums = average_surfels(*inputs, front, thickness=1.0, width=WIDTH, height=HEIGHT)[0]
    gradient = torch.autograd.grad(sums.square().sum(), inputs[0], create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_bad_input() -> None:
    *inputs, front = wall(3)
    with pytest.raises(ValueError, match="front: expected shape"):
        average_surfels(*inputs, front[:2], thickness=0.1, width=WIDTH, height=HEIGHT)
    with pytest.raises(ValueError, match="thickness: expected a positive length"):
        average_surfels(*inputs, front, thickness=0.0, width=WIDTH, height=HEIGHT)
    with pytest.raises(ValueError, match="opacity: expected shape"):
        average_surfels(inputs[0], inputs[1][:1], inputs[2], front, thickness=0.1, width=WIDTH, height=HEIGHT)
