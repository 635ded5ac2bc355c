"""A batch of decays, each with its own rate, fitted at once; how the rates depend on the data comes with them."""

import torch
from matplotlib import pyplot as plt

from simengine.solve.least_squares import least_squares


def main() -> dict[str, float]:
    t = torch.linspace(0, 2, 30, dtype=torch.float64)
    rates = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    data = (2 * torch.exp(-rates[:, None] * t)).requires_grad_()

    def residual(y: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
        return y[0] * torch.exp(-y[1] * t) - data

    start = torch.ones(3, 2, dtype=torch.float64)
    solution = least_squares(residual, start, data, throw=True)
    found = solution.value[:, 1]
    plt.plot(t, data.detach().mT, "o", ms=4, color="0.6")
    plt.plot(t, (solution.value[:, :1] * torch.exp(-solution.value[:, 1:] * t)).detach().mT)
    plt.gca().set(xlabel="time", ylabel="left", title="Three decays, fitted at once")
    assert torch.allclose(found, rates, atol=1e-8)
    # scaling the data changes heights, not rates: their derivative along the data vanishes
    found.sum().backward()
    assert data.grad is not None
    along = float((data.grad * data.detach()).sum(dim=1).abs().max())
    assert along < 1e-7, along
    return {"largest error of a rate": float((found.detach() - rates).abs().max()), "derivative along scale": along}


if __name__ == "__main__":
    print(main())
    plt.savefig("fit_decay_rates.png")
