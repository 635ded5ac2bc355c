"""Where a camera stood, from the silhouette of a known body."""

import math
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from simengine.fit.trainings.gradient import GradientTraining
from simengine.fit.trainings.parameters import Parameter, ParameterSet
from simengine.render import PinholeCamera, Surfels, render_surfels
from simengine.render.bodies import block_chain
from simengine.view.report import Picture, Table, write_report
from simengine.view.sheets import comparison, contact_sheet, pyramid, summary_rows
from simengine.worlds.motion.world import CameraSpec
from simengine.worlds.objects.specs import CameraPoseSpec

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

NAMES = ("turn_x", "turn_y", "turn_z", "shift_x", "shift_y", "shift_z")  # [rad], [m], in camera coordinates
LEVELS = 4  # of the pyramid in which silhouettes are compared


def camera_of(spec: CameraSpec, *, dtype: torch.dtype = torch.float32) -> PinholeCamera:
    """The camera that a scene describes."""
    return PinholeCamera.look_at(
        torch.tensor(spec.eye, dtype=dtype),
        spec.target,
        up=spec.up,
        fov_y=math.radians(spec.field_of_view),
        width=spec.width,
        height=spec.height,
    )


class CameraPose:
    """A silhouette, and how it would look from elsewhere.

    Attributes:
        camera: The true camera, batch of one.
        observed: Silhouette, shape (1, h, w, 1).
    """

    def __init__(self, spec: CameraPoseSpec, *, seed: int = 0) -> None:
        self.spec = spec
        self.camera = camera_of(spec.camera)
        turn = torch.tensor(spec.initial_turn) * (math.pi / 180)
        self.start = self.camera.moved(turn, torch.tensor(spec.initial_shift))
        points, normals, area = block_chain(spec.num_points)
        scale = 0.8 * math.sqrt(area)
        self._body = Surfels.oriented(points, normals, scale=scale, colours=torch.ones(1))
        # the observed body has its discs in other places than the one that is fitted to it
        points, normals, _ = block_chain(spec.num_points, seed=1)
        observed = Surfels.oriented(points, normals, scale=scale, colours=torch.ones(1))
        with torch.no_grad():
            self.observed = _silhouette(observed, self.camera)[None]

    def view(self, values: dict[str, torch.Tensor]) -> PinholeCamera:
        """The camera after a turn and a shift from where the search starts."""
        numbers = torch.stack([values[name] for name in NAMES]).to(self.camera.intrinsics)
        return self.start.moved(numbers[:3], numbers[3:])

    def picture(self, camera: PinholeCamera) -> torch.Tensor:
        """Silhouette of the fitted body, shape (1, h, w, 1)."""
        return _silhouette(self._body, camera)[None]

    def contact_sheet(self, images: torch.Tensor) -> NDArray[Any]:
        """The pictures side by side."""
        return contact_sheet(images)

    def training(self) -> "CameraPoseTraining":
        """The search for the pose."""
        return CameraPoseTraining(self)


class CameraPoseTraining(GradientTraining):
    """L-BFGS on the squared differences of silhouettes at several resolutions."""

    def __init__(self, problem: CameraPose) -> None:
        parameters = ParameterSet({name: Parameter(initial=0.0, lower=-1.0, upper=1.0) for name in NAMES})
        target = pyramid(problem.observed, LEVELS)

        def objective() -> dict[str, torch.Tensor]:
            levels = pyramid(problem.picture(problem.view(parameters())), LEVELS)
            terms = [(a - b).square().mean() for a, b in zip(levels, target, strict=True)]
            return {"silhouette": torch.stack(terms).sum()}

        super().__init__(
            parameters, objective, num_iterations=problem.spec.iterations, optimiser="lbfgs", learning_rate=1.0
        )
        self.problem, self.parameters = problem, parameters

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write pictures and a report; the summary tells the errors of the pose before and after."""
        problem = self.problem
        with torch.no_grad():
            found = problem.view(self.parameters())
            images = {
                "observed": problem.observed,
                "initial": problem.picture(problem.start),
                "fitted": problem.picture(found),
            }
        summary = {
            "initial": pose_error(problem.start, problem.camera),
            "fitted": pose_error(found, problem.camera),
            "eye": found.position.tolist(),
        }
        sheet = comparison({"observed, initial, fitted": torch.cat(list(images.values()))})
        out.write("pictures.png", sheet)
        table = Table(("figure", "value"), summary_rows(summary))
        write_report(
            out.path / "report.html",
            "Camera pose from a silhouette",
            {"Figures": [table], "Pictures": [Picture(sheet, "observed, initial, fitted")]},
        )
        return summary


def pose_error(camera: PinholeCamera, truth: PinholeCamera) -> dict[str, float]:
    """Angle between two poses [degrees] and distance of the eyes over the distance of the true one from the origin."""
    relative = (camera.rotation @ truth.rotation.mT).double()
    skew = torch.stack(
        [relative[2, 1] - relative[1, 2], relative[0, 2] - relative[2, 0], relative[1, 0] - relative[0, 1]]
    )
    angle = torch.atan2(skew.norm() / 2, (relative.trace() - 1) / 2)
    distance = (camera.position - truth.position).norm() / truth.position.norm()
    return {"angle_degrees": float(torch.rad2deg(angle)), "distance_ratio": float(distance)}


def _silhouette(body: Surfels, camera: PinholeCamera) -> torch.Tensor:
    return render_surfels(body, camera, normals=False).alpha
