import pytest
import torch

from simengine.ops.light import surfel, surfel_reference

WIDTH, HEIGHT = 40, 30


def discs(
    n: int,
    *,
    scale: float = 0.3,
    channels: int = 4,
    dtype: torch.dtype = torch.float64,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> list[torch.Tensor]:
    """Random discs in a box 3 to 5 m ahead of the camera."""
    centres = torch.rand(n, 3, dtype=torch.float64) * 2 - 1 + torch.tensor([0.0, 0.0, 4.0])
    axes = torch.linalg.qr(torch.randn(n, 3, 3, dtype=torch.float64))[0]
    local = torch.stack([axes[:, 0] * scale, axes[:, 1] * scale * 0.6, centres], dim=-1)
    focal = 1.3 * size[0]
    K = torch.tensor([[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1]], dtype=torch.float64)
    opacity, features = 0.1 + 0.8 * torch.rand(n, dtype=torch.float64), torch.rand(n, channels, dtype=torch.float64)
    return [value.to(dtype) for value in (K @ local, opacity, features)]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-300))


# float64 agrees to rounding (measured 8e-16); float32 to its own over some 50 composited discs (measured 3e-7)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("n", "scale"), [(50, 0.3), (300, 0.03), (40, 0.002)])
def test_parity(dtype: torch.dtype, tolerance: float, n: int, scale: float) -> None:
    inputs = [value.requires_grad_() for value in discs(n, scale=scale, dtype=dtype)]
    ours = surfel.composite_surfels(*inputs, width=WIDTH, height=HEIGHT)
    reference = surfel_reference.composite_surfels(*inputs, width=WIDTH, height=HEIGHT)
    for a, b in zip(ours, reference, strict=True):
        assert relative(a.detach(), b.detach()) < tolerance
    cotangents = [torch.randn_like(value) for value in ours[:3]]
    gradients = torch.autograd.grad(ours[:3], inputs, cotangents)
    expected = torch.autograd.grad(reference[:3], inputs, cotangents)
    for a, b in zip(gradients, expected, strict=True):
        assert relative(a, b) < 10 * tolerance
        assert float(torch.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0)) > 1 - 1e-9


def test_gradcheck() -> None:
    inputs = [value.requires_grad_() for value in discs(5, channels=2, size=(12, 10))]

    def picture(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return surfel.composite_surfels(*values, width=12, height=10)[:3]

    assert torch.autograd.gradcheck(picture, inputs, eps=1e-6, atol=1e-6, rtol=1e-5)


def test_threads_and_runs_give_the_same_bits() -> None:
    inputs = [value.requires_grad_() for value in discs(400, scale=0.05, dtype=torch.float32, size=(70, 50))]

    def run(num_threads: int) -> list[torch.Tensor]:
        outputs = surfel.composite_surfels(*inputs, width=70, height=50, num_threads=num_threads)
        gradients = torch.autograd.grad(sum(value.sin().sum() for value in outputs[:3]), inputs)
        return [value.detach() for value in (*outputs, *gradients)]

    once = run(1)
    for again in (run(1), run(2), run(3)):
        assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_two_forwards_before_either_backward() -> None:
    inputs = [value.requires_grad_() for value in discs(20, size=(20, 20))]
    alone = torch.autograd.grad(surfel.composite_surfels(*inputs, width=20, height=20)[0].sum(), inputs)
    first = surfel.composite_surfels(*inputs, width=20, height=20)[0].sum()
    second = surfel.composite_surfels(*[2 * value for value in inputs[:1]], *inputs[1:], width=20, height=20)[0].sum()
    torch.autograd.grad(second, inputs)
    assert all(torch.equal(a, b) for a, b in zip(alone, torch.autograd.grad(first, inputs), strict=True))


@pytest.mark.parametrize("n", [0, 1])
def test_few(n: int) -> None:
    inputs = [value.requires_grad_() for value in discs(n, size=(17, 9))]
    blended, alpha, depth, median = surfel.composite_surfels(*inputs, width=17, height=9)
    assert blended.shape == (9, 17, 4) and alpha.shape == depth.shape == median.shape == (9, 17)
    gradients = torch.autograd.grad(blended.sum() + depth.sum(), inputs)
    assert all(torch.isfinite(value).all() for value in gradients)
    assert (float(alpha.detach().sum()) > 0) == (n == 1)


def crossing_discs(n: int) -> list[torch.Tensor]:
    """Random discs that the plane of the eye cuts, half of them with their centre behind it."""
    transforms, opacity, features = discs(n, scale=1.5)
    camera = transforms.new_tensor([[52.0, 0, 20], [0, 52, 15], [0, 0, 1]])
    centres = torch.rand(n, 3, dtype=torch.float64) * 4 - 2
    transforms[:, :, 2] = centres @ camera.T
    tilt = 3 * transforms[:, 2, :2].norm(dim=-1)
    transforms[:, :, 2] -= (centres[:, 2] - tilt * (torch.rand(n, dtype=torch.float64) * 1.8 - 0.9))[:, None] * camera[
        :, 2
    ]
    return [transforms, opacity, features]


def test_parity_of_discs_that_the_plane_of_the_eye_cuts() -> None:
    inputs = [value.requires_grad_() for value in crossing_discs(60)]
    depth, reach = inputs[0][:, 2, 2].detach(), 3 * inputs[0][:, 2, :2].detach().norm(dim=-1)
    assert (depth.abs() < reach).all() and (depth < 0).any() and (depth > 0).any()
    ours = surfel.composite_surfels(*inputs, width=WIDTH, height=HEIGHT)
    reference = surfel_reference.composite_surfels(*inputs, width=WIDTH, height=HEIGHT)
    assert float(ours[1].detach().mean()) > 0.3
    cotangents = [torch.randn_like(value) for value in ours[:3]]
    gradients = torch.autograd.grad(ours[:3], inputs, cotangents)
    expected = torch.autograd.grad(reference[:3], inputs, cotangents)
    for a, b in zip((*ours, *gradients), (*reference, *expected), strict=True):
        assert relative(a.detach(), b.detach()) < 1e-10


def test_boxes_of_cut_discs_are_no_larger_than_the_disc() -> None:
    # each disc alone, in dense points of it ahead of the eye: all fall into its box, and reach its sides
    transforms, *_ = crossing_discs(200)
    radius, turn = torch.meshgrid(torch.linspace(0, 3, 60), torch.linspace(0, 2 * torch.pi, 721), indexing="ij")
    local = torch.stack([radius * turn.cos(), radius * turn.sin(), torch.ones_like(turn)], dim=-1).reshape(-1, 3)
    size = 4000  # as wide as to see where most of them begin
    shift = transforms.new_tensor([[1, 0, size / 2], [0, 1, size / 2], [0, 0, 1]])
    boxes = surfel.pixel_boxes(shift @ transforms, size, size, 0.01)
    tight = 0
    for matrix, box in zip(shift @ transforms, boxes, strict=True):
        x, y, z = (local.double() @ matrix.T).unbind(-1)
        ahead = z > 0
        for pixel, low, high in ((x / z, box[0], box[1]), (y / z, box[2], box[3])):
            seen = pixel[ahead].clamp(0, size)
            assert float(seen.min()) >= float(low) - 1 and float(seen.max()) <= float(high) + 1
            tight += int(float(seen.min()) - float(low) < 10) + int(float(high) - float(seen.max()) < 10)
    assert tight > 0.95 * 4 * len(boxes)  # measured 0.98: the dense points miss some that run to infinity


def test_behind_and_edge_on_discs_leave_no_trace_or_a_finite_one() -> None:
    transforms, opacity, features = discs(4)
    transforms[0, :, 2] *= -1  # behind the eye
    transforms[1, 2, :] = transforms.new_tensor([0.1, 0.1, -0.5])  # the same, tilted
    transforms[2, :, 1] = transforms[2, :, 0]  # no area: edge-on in every pixel
    outputs = surfel.composite_surfels(transforms.requires_grad_(), opacity, features, width=WIDTH, height=HEIGHT)
    rest = surfel.composite_surfels(transforms[2:], opacity[2:], features[2:], width=WIDTH, height=HEIGHT)
    for a, b in zip(outputs, rest, strict=True):
        assert torch.equal(a, b)
    gradient = torch.autograd.grad(outputs[0].sum() + outputs[2].sum(), transforms)[0]
    assert torch.isfinite(gradient).all() and not gradient[:2].any()


def test_double_backward_raises() -> None:
    inputs = [value.requires_grad_() for value in discs(3, size=(8, 8))]
    blended = surfel.composite_surfels(*inputs, width=8, height=8)[0]
    gradient = torch.autograd.grad(blended.square().sum(), inputs[0], create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_bad_input() -> None:
    transforms, opacity, features = discs(3)
    size = {"width": 8, "height": 8}
    with pytest.raises(ValueError, match=r"transforms: expected shape \(n, 3, 3\)"):
        surfel.composite_surfels(transforms[:, :2], opacity, features, **size)
    with pytest.raises(ValueError, match="opacity: expected shape"):
        surfel.composite_surfels(transforms, opacity[:2], features, **size)
    with pytest.raises(ValueError, match="features: expected shape"):
        surfel.composite_surfels(transforms, opacity, features.expand(3, 4).repeat(1, 5), **size)
    with pytest.raises(ValueError, match="width, height"):
        surfel.composite_surfels(transforms, opacity, features, width=0, height=8)
    with pytest.raises(TypeError, match="one dtype"):
        surfel.composite_surfels(transforms, opacity.float(), features, **size)
    with pytest.raises(TypeError, match="float32 or float64"):
        surfel.composite_surfels(transforms.half(), opacity.half(), features.half(), **size)
    transforms[1, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="transforms: not finite at surfel 1"):
        surfel.composite_surfels(transforms, opacity, features, **size)
