"""What a fit found, and how sure it is."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitResult:
    """The end of a fit.

    Attributes:
        parameters: Scalar estimates by name, SI units.
        iterations: Iterations done in all, over every resume.
        loss: Last loss.
        converged: Whether the training says further steps would change nothing that matters.
        interrupted: Whether Ctrl-C ended it; the same call resumes.
        summary: What `finish` of the training reported: uncertainty, identifiability, files.
        history: Logged figures per iteration.
    """

    parameters: dict[str, float]
    iterations: int
    loss: float
    converged: bool
    interrupted: bool
    summary: dict[str, Any]
    history: list[dict[str, float]]
