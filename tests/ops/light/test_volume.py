import pytest
import torch

from simengine.ops.light import volume, volume_reference


def setting(
    m: int, *, shape: tuple[int, int, int] = (5, 6, 7), channels: int = 2, dtype: torch.dtype = torch.float64
) -> list[torch.Tensor]:
    """A random grid and rays through it that enter and leave at random; some steps lie beyond the outermost nodes."""
    field = torch.rand(*shape, 1 + channels, dtype=torch.float64)
    field[..., 0] *= 3
    sizes = torch.tensor(shape, dtype=torch.float64)
    origins = torch.rand(m, 3, dtype=torch.float64) * (sizes - 1)
    directions = torch.randn(m, 3, dtype=torch.float64) * 2
    near, far = torch.rand(m, dtype=torch.float64) - 1, torch.rand(m, dtype=torch.float64) + 0.2
    return [value.to(dtype) for value in (field, origins, directions, near, far)]


def hollow(field: torch.Tensor) -> None:
    """Leave something in two corners only, at the nodes of one brick and at a single node."""
    inner = field[:8, :8, :8].clone()
    field.zero_()
    field[:8, :8, :8] = inner
    field[-1, -1, -1] = 1.0


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-300))


# float64: the series of (1 - exp(-x))/x and rounding (measured 2e-15); float32 over some 30 steps (measured 5e-7)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
@pytest.mark.parametrize("emission", [False, True])
# 1 + 3 channels go through the processor's vectors of four, 1 + 2 do not
@pytest.mark.parametrize(
    ("shape", "channels", "sparse"), [((5, 6, 7), 2, False), ((1, 4, 2), 3, False), ((20, 9, 30), 3, True)]
)
@pytest.mark.parametrize("language", ["warp", "taichi"])
def test_parity(
    dtype: torch.dtype,
    tolerance: float,
    emission: bool,
    shape: tuple[int, int, int],
    channels: int,
    sparse: bool,
    language: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SIMENGINE_KERNELS", language)
    inputs = setting(60, shape=shape, channels=channels, dtype=dtype)
    if sparse:  # two of the bricks of 8^3 cells hold something
        hollow(inputs[0])
        inputs[2] *= 5
    inputs = [value.requires_grad_() for value in inputs]
    ours = volume.march_rays(*inputs, step=0.05, emission=emission, sparse=sparse)
    reference = volume_reference.march_rays(*inputs, step=0.05, emission=emission, sparse=sparse)
    for a, b in zip(ours, reference, strict=True):
        assert relative(a.detach(), b.detach()) < tolerance
    cotangents = [torch.randn_like(value) for value in ours]
    gradients = torch.autograd.grad(ours, inputs, cotangents)
    expected = torch.autograd.grad(reference, inputs, cotangents)
    for a, b in zip(gradients, expected, strict=True):
        assert relative(a, b) < 10 * tolerance
        assert float(torch.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0)) > 1 - 1e-9


@pytest.mark.parametrize("emission", [False, True])
def test_gradcheck(emission: bool) -> None:
    inputs = [value.requires_grad_() for value in setting(4, shape=(3, 2, 3), channels=1)]

    def picture(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return volume.march_rays(*values, step=0.3, emission=emission)

    assert torch.autograd.gradcheck(picture, inputs, eps=1e-6, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("language", ["warp", "taichi"])
def test_threads_and_runs_give_the_same_bits(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMENGINE_KERNELS", language)
    inputs = [value.requires_grad_() for value in setting(500, dtype=torch.float32)]

    def run(num_threads: int) -> list[torch.Tensor]:
        outputs = volume.march_rays(*inputs, step=0.05, num_threads=num_threads)
        gradients = torch.autograd.grad(sum(value.sin().sum() for value in outputs), inputs)
        return [value.detach() for value in (*outputs, *gradients)]

    once = run(1)
    for again in (run(1), run(2 if language == "warp" else 1)):  # Taichi's sums have a part for each thread
        assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


@pytest.mark.parametrize("emission", [False, True])
def test_empty_bricks_change_nothing(emission: bool) -> None:
    # the picture and the gradients to the rays are those of every step, that to the grid unless it is sparse
    inputs = setting(200, shape=(30, 20, 40))
    hollow(inputs[0])
    inputs[1] = inputs[1] * 0.3
    inputs[2] *= 20
    inputs = [value.requires_grad_() for value in inputs]
    every = volume_reference.march_rays(*inputs, step=0.02, emission=emission)
    cotangents = [torch.randn_like(value) for value in every]
    expected = torch.autograd.grad(every, inputs, cotangents)
    for sparse in (False, True):
        ours = volume.march_rays(*inputs, step=0.02, emission=emission, sparse=sparse)
        gradients = torch.autograd.grad(ours, inputs, cotangents)
        for a, b in zip((*ours, *gradients[1:]), (*every, *expected[1:]), strict=True):
            assert relative(a.detach(), b.detach()) < 1e-11
        assert (relative(gradients[0], expected[0]) < 1e-11) != sparse
        assert relative(gradients[0][:8, :8, :8], expected[0][:8, :8, :8]) < 1e-11


def test_homogeneous_medium() -> None:
    # L = c (1 - exp(-s l)) of a source function, L = q/s (1 - exp(-s l)) of an emission: exact for any step
    field = torch.tensor([2.0, 0.7], dtype=torch.float64).expand(3, 3, 3, 2)
    origin, direction = torch.ones(1, 3, dtype=torch.float64), torch.ones(1, 3, dtype=torch.float64)
    near, far = torch.tensor([0.5], dtype=torch.float64), torch.tensor([1.75], dtype=torch.float64)
    absorbed = 1 - torch.exp(torch.tensor(-2.0 * 1.25, dtype=torch.float64))
    for step in (10.0, 0.3, 0.01):
        source, alpha, _ = volume.march_rays(field, origin, direction, near, far, step=step)
        emitted, _, _ = volume.march_rays(field, origin, direction, near, far, step=step, emission=True)
        torch.testing.assert_close(source[0, 0], 0.7 * absorbed, rtol=1e-12, atol=0)
        torch.testing.assert_close(emitted[0, 0], 0.7 / 2 * absorbed, rtol=1e-12, atol=0)
        torch.testing.assert_close(alpha[0], absorbed, rtol=1e-12, atol=0)


def test_emission_without_absorption() -> None:
    # a transparent flame: L = q l, and the derivative in the density is -q l^2/2 (phi'(0) = -1/2)
    field = torch.zeros(2, 2, 2, 2, dtype=torch.float64)
    field[..., 1] = 3.0
    field.requires_grad_()
    point, length = torch.full((1, 3), 0.5, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    source, alpha, _ = volume.march_rays(field, point, 0 * point, 0 * length, 2 * length, step=5.0, emission=True)
    assert float(source.detach()) == pytest.approx(6.0, rel=1e-14) and float(alpha.detach()) == 0
    assert float(torch.autograd.grad(source.sum(), field)[0][..., 0].sum()) == pytest.approx(-6.0, rel=1e-12)


@pytest.mark.parametrize("m", [0, 1])
def test_few(m: int) -> None:
    inputs = [value.requires_grad_() for value in setting(m)]
    source, alpha, distance = volume.march_rays(*inputs, step=0.1)
    assert source.shape == (m, 2) and alpha.shape == distance.shape == (m,)
    gradients = torch.autograd.grad(source.sum() + distance.sum(), inputs)
    assert all(torch.isfinite(value).all() for value in gradients)
    assert bool(gradients[0].any()) == (m == 1)


def test_double_backward_raises() -> None:
    inputs = [value.requires_grad_() for value in setting(3)]
    source = volume.march_rays(*inputs, step=0.2)[0]
    gradient = torch.autograd.grad(source.square().sum(), inputs[0], create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_bad_input() -> None:
    field, origins, directions, near, far = setting(3)
    with pytest.raises(ValueError, match="field: expected shape"):
        volume.march_rays(field[..., :1], origins, directions, near, far, step=0.1)
    with pytest.raises(ValueError, match="origins: expected shape"):
        volume.march_rays(field, origins[:2], directions, near, far, step=0.1)
    with pytest.raises(ValueError, match="step: expected a positive length"):
        volume.march_rays(field, origins, directions, near, far, step=0.0)
    with pytest.raises(ValueError, match="more than a million steps"):
        volume.march_rays(field, origins, directions, near, far, step=1e-9)
    with pytest.raises(TypeError, match="near: expected the dtype of field"):
        volume.march_rays(field, origins, directions, near.float(), far, step=0.1)
    field[1, 2, 3, 0] = float("inf")
    with pytest.raises(ValueError, match=r"not finite at node \(1, 2, 3\)"):
        volume.march_rays(field, origins, directions, near, far, step=0.1)
