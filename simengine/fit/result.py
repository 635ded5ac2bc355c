"""What a fit found, and how sure it is."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from simengine.fit.certainty.sampling import PosteriorSamples
    from simengine.fit.fields.bars import FieldBars
    from simengine.fit.posterior import Estimate
    from simengine.fit.problem.prediction import Prediction
    from simengine.fit.spread import Spread
    from simengine.fit.starts import Minimum
    from simengine.scene.grammar import Scene
    from simengine.scene.instrument import AbstractInstrument


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitResult:
    """The end of a fit.

    Attributes:
        parameters: Scalar estimates by name, SI units.
        iterations: Iterations done in all, over every resume.
        loss: Last loss.
        converged: Whether the training says further steps would change nothing that matters.
        interrupted: Whether a signal ended it; the same call resumes.
        summary: What `finish` of the training reported: uncertainty, identifiability, files.
        history: Logged figures per iteration.
        estimates: What was found by name, with intervals, units and whether the data tell it.
        covariance: Of the coordinates of the search (scaled, logarithms), (p, p); None where there is none. That of the
            numbers themselves, SI, is `spread.covariance`, in the order of `spread.names`.
        directions: What is told only together, and what is not told, in words.
        predictions: Of each observation, by name.
        fields: Those that were sought as a whole, by key, in the shape of their cells.
        field_bars: How sure their cells are, by key, where their priors are Gaussian.
        minima: Different ends of several starts, best first: several answers where more than one explains the data.
        samples: What was drawn from the posterior, with diagnostics; None where the bars are Laplace's.
        spread: How the numbers vary together, which predictions elsewhere take their bars from.
        scene: What was fitted; None for a training.
    """

    parameters: dict[str, float]
    iterations: int
    loss: float
    converged: bool
    interrupted: bool
    summary: dict[str, Any]
    history: list[dict[str, float]]
    estimates: "Mapping[str, Estimate]" = dataclasses.field(default_factory=dict)
    covariance: "torch.Tensor | None" = None
    directions: tuple[str, ...] = ()
    predictions: "Mapping[str, Prediction]" = dataclasses.field(default_factory=dict, repr=False)
    fields: "Mapping[str, torch.Tensor]" = dataclasses.field(default_factory=dict, repr=False)
    field_bars: "Mapping[str, FieldBars]" = dataclasses.field(default_factory=dict, repr=False)
    minima: "tuple[Minimum, ...]" = ()
    samples: "PosteriorSamples | None" = dataclasses.field(default=None, repr=False)
    spread: "Spread | None" = dataclasses.field(default=None, repr=False)
    scene: "Scene | None" = dataclasses.field(default=None, repr=False)

    def predict(self, on: "Scene | AbstractInstrument") -> "Mapping[str, Prediction]":
        """What was found, in another scene, or seen by another instrument of the same worlds; `std` holds its bars.

        Args:
            on: A scene with observations, or an instrument, its file beside those of the fit.

        Raises:
            SceneError: Nothing that was found has a place there.
            ValueError: This is the result of a training, or a scene observes nothing.
        """
        from simengine.fit.carry import predicted

        scene = on
        if not hasattr(on, "observations"):
            if self.scene is None:
                raise ValueError("on: a training explains no scene; give a scene with observations")
            name = on.name or "predicted"
            own = dataclasses.replace(on, name=name)
            own = own if own.directory != Path() else dataclasses.replace(own, directory=self.scene.world.directory)
            scene = dataclasses.replace(self.scene, observations={name: own}, instrument_of={name: ""}, camera_of={})
        if not scene.observations:  # type: ignore[union-attr]
            raise ValueError("on: the scene has no [observations] to predict")
        values = {name: e.value for name, e in self.estimates.items()} or self.parameters
        return predicted(dict(values), self.spread, scene)  # type: ignore[arg-type]

    def to_json(self) -> str:
        """The answer as strict JSON: null where there is no number, never Infinity."""
        from simengine.io.arrays import finite, plain

        keep = ("parameters", "iterations", "loss", "converged", "interrupted", "summary")
        data = {name: getattr(self, name) for name in keep}
        data["estimates"] = {name: dataclasses.asdict(e) for name, e in self.estimates.items()}
        data |= {"covariance": self.covariance, "directions": self.directions}
        return json.dumps(finite(plain(data)), allow_nan=False)

    @property
    def _ended(self) -> str:
        return "converged" if self.converged else "interrupted" if self.interrupted else "not converged"

    def __repr__(self) -> str:
        return f"FitResult({'; '.join(str(self).splitlines())}; {self._ended} after {self.iterations} iterations)"

    def _repr_html_(self) -> str:
        from simengine.notebook import dots, heading, table

        rows = [
            [name, f"{e.value:.6g}", "-" if e.std is None else f"{e.std:.2g}", e.unit, "yes" if e.identified else e.why]
            for name, e in self.estimates.items()
        ] or [[name, f"{value:.6g}", "-", "", ""] for name, value in self.parameters.items()]
        page = heading(f"{self._ended} after {self.iterations} iterations, loss {self.loss:.6g}")
        page += table(["unknown", "value", "+-", "unit", "told by the data"], rows)
        for name, found in self.predictions.items():
            seen = found.measured.mask
            pair = (found.measured.values[seen], found.values.detach()[seen])
            page += dots([pair], [f"{name}: predicted over measured"])
        return page

    def __str__(self) -> str:
        rows = [
            f"{name} = {e.value:.6g}{'' if e.std is None else f' +- {e.std:.2g}'} {e.unit}".rstrip()
            + ("" if e.identified else f"  ({e.why})")
            for name, e in self.estimates.items()
        ] or [f"{name} = {value:.6g}" for name, value in self.parameters.items()]
        return "\n".join(rows)
