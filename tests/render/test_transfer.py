import pytest
import torch

from simengine.render import PinholeCamera, TransferFunction, render_volume

VALUES = torch.tensor([300.0, 1000.0, 2000.0], dtype=torch.float64)
DENSITY = torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64)
SOURCE = torch.tensor([[0.0, 0.0], [1.0, 0.2], [1.0, 1.0]], dtype=torch.float64)


def test_values_between_and_beyond() -> None:
    show = TransferFunction(values=VALUES, density=DENSITY, source=SOURCE)
    field = torch.tensor([[[0.0, 300.0, 650.0, 1000.0, 1500.0, 9000.0]]], dtype=torch.float64)
    volume = show(field)
    torch.testing.assert_close(volume.density[0, 0], torch.tensor([0.0, 0.0, 0.5, 1.0, 0.75, 0.5]).double())
    torch.testing.assert_close(volume.source[0, 0, :, 1], torch.tensor([0.0, 0.0, 0.1, 0.2, 0.6, 1.0]).double())


def test_gradients_through_a_picture() -> None:
    camera = PinholeCamera.look_at((0.0, 0.0, 4.0), width=3, height=3, dtype=torch.float64)
    field = 400 + 1500 * torch.rand(3, 3, 3, dtype=torch.float64)

    def picture(field: torch.Tensor, density: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        show = TransferFunction(values=VALUES, density=density, source=source, emission=True)
        return render_volume(show(field), camera, step=0.3).rgb

    inputs = [value.clone().requires_grad_() for value in (field, DENSITY + 0.1, SOURCE)]
    assert torch.autograd.gradcheck(picture, inputs, eps=1e-4, atol=1e-7, rtol=1e-5)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="at least two rising numbers"):
        TransferFunction(values=VALUES.flip(0), density=DENSITY, source=SOURCE)
    with pytest.raises(ValueError, match="density, source: expected shapes"):
        TransferFunction(values=VALUES, density=DENSITY[:2], source=SOURCE)
