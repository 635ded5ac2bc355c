"""Write an equation and a domain, and have the field with its error: a ring between two circles, by polynomials."""

import math

import torch
from matplotlib import pyplot as plt

from simengine.constraint.spectral import Domain, Fixed, Spectral


def main() -> dict[str, float]:
    ring = Domain(x=(-1.0, 1.0), y=(-1.0, 1.0), inside=lambda p: (p.x**2 + p.y**2 - 0.25) * (1 - p.x**2 - p.y**2))
    problem = Spectral(lambda u, p: -u.xx - u.yy - p.q, ring, boundary=[Fixed(0.0)], numbers={"q": 4.0})
    found = problem.solve(7).check()
    lines = torch.linspace(0.5, 1.0, 21, dtype=torch.float64), torch.linspace(0.0, 2 * math.pi, 25, dtype=torch.float64)
    r, angle = torch.meshgrid(*lines, indexing="ij")
    truth = 1 - r**2 + 0.75 * torch.log(r) / math.log(2)
    missed = found("u", x=r * angle.cos(), y=r * angle.sin()) - truth
    plt.contourf(r * angle.cos(), r * angle.sin(), truth + missed, 20)
    plt.gca().set(aspect="equal", xlabel="x", ylabel="y", title="-u_xx - u_yy = 4 in a ring")
    plt.colorbar(label="u")
    error = float((r.sqrt() * missed).norm() / (r.sqrt() * truth).norm())
    assert error / 3 < found.error() < 3 * error
    return {"u_in_the_middle": float(found("u", x=0.75, y=0.0)), "error": error, "told": found.error()}


if __name__ == "__main__":
    print(main())
    plt.savefig("solve_an_equation.png")
