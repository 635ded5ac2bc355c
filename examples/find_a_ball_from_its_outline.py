"""Find where a ball is from its outline in one picture: the antialiased border of a mesh has a gradient."""

import torch
from matplotlib import pyplot as plt

from simengine.render import PinholeCamera, TexturedMesh, render_mesh
from simengine.render.bodies import sphere_mesh


def main() -> dict[str, float]:
    camera = PinholeCamera.look_at((0.0, 0.5, 4.0), width=64, height=64, dtype=torch.float64)
    vertices, faces = sphere_mesh(3, dtype=torch.float64)

    ball = TexturedMesh(vertices=vertices, faces=faces, texture=torch.ones(len(vertices), 1).double())

    def outline(centre: torch.Tensor) -> torch.Tensor:
        return render_mesh(ball.with_vertices(vertices + centre), camera).alpha.reshape(64, 64)

    truth = torch.tensor([0.1, -0.05, 0.08], dtype=torch.float64)
    seen = outline(truth)
    centre = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([centre], max_iter=10, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        value = (outline(centre) - seen).square().sum()
        value.backward()
        return value

    search.step(loss)
    plt.imshow(seen.numpy(), cmap="gray_r")
    plt.contour(outline(torch.zeros(3).double()).numpy(), [0.5], colors="tab:orange")
    plt.contour(outline(centre.detach()).numpy(), [0.5], colors="tab:blue")
    plt.gca().set(title="Outline at the start (orange) and found (blue)", xticks=[], yticks=[])
    error = float((centre.detach() - truth).norm())
    assert error < 0.01  # of the radius
    return {"error": error, "started": float(truth.norm())}


if __name__ == "__main__":
    print(main())
    plt.savefig("find_a_ball_from_its_outline.png")
