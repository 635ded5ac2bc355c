"""One scalar that is sought, as a coordinate that an optimiser may move freely.

A positive number moves in its logarithm, one with two bounds on a logistic, any other in units of its scale.
"""

import dataclasses
import math

import torch

from simengine.fit.joint_prior import JointPrior

Target = tuple[str, str, str]  # "run" or "observation", its name, key of the number in its tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coordinate:
    """One scalar sought.

    Attributes:
        name: As reports call it.
        targets: Where its value goes.
        start: Value at z = 0.
        lower: Least value, exclusive.
        upper: Greatest value, exclusive.
        scale: Change of the value per z, where it has at most one finite bound and is not positive.
        mean: Of the prior, in the value or its logarithm; NaN without a prior.
        sd: Of the prior.
        logarithmic: Whether mean and sd are of the logarithm.
        unit: SI.
        sentence: What it is.
        chosen: Whether the scene asks for it; a nuisance that the instrument brings along is not reported singly.
        joint: The prior of the vector that it is an entry of, in the order of the coordinates; mean and sd are then its
            own share of it.
    """

    name: str
    targets: tuple[Target, ...]
    start: float
    lower: float = -math.inf
    upper: float = math.inf
    scale: float = 1.0
    mean: float = math.nan
    sd: float = math.nan
    logarithmic: bool = False
    unit: str = ""
    sentence: str = ""
    chosen: bool = True
    joint: JointPrior | None = None

    @property
    def of_world(self) -> bool:
        """Whether a change costs a solve."""
        return any(place == "run" for place, _, _ in self.targets)

    def value(self, z: torch.Tensor) -> torch.Tensor:
        """The value of a coordinate."""
        if math.isfinite(self.lower) and math.isfinite(self.upper):
            share = (self.start - self.lower) / (self.upper - self.lower)
            return self.lower + (self.upper - self.lower) * torch.sigmoid(z + math.log(share / (1 - share)))
        if math.isfinite(self.lower):
            return self.lower + (self.start - self.lower) * torch.exp(z)
        if math.isfinite(self.upper):
            return self.upper - (self.upper - self.start) * torch.exp(z)
        return self.start + self.scale * z

    def rate(self, z: torch.Tensor) -> float:
        """Change of the value per change of its coordinate."""
        with torch.enable_grad():
            own = z.detach().requires_grad_()
            return float(torch.autograd.grad(self.value(own), own)[0])

    def coordinate(self, value: float) -> float:
        """The coordinate of a value."""
        if math.isfinite(self.lower) and math.isfinite(self.upper):
            share, own = ((v - self.lower) / (self.upper - self.lower) for v in (value, self.start))
            return math.log(share / (1 - share)) - math.log(own / (1 - own))
        if math.isfinite(self.lower):
            return math.log((value - self.lower) / (self.start - self.lower))
        if math.isfinite(self.upper):
            return math.log((self.upper - value) / (self.upper - self.start))
        return (value - self.start) / self.scale

    def prior_residual(self, value: torch.Tensor) -> torch.Tensor | None:
        """(value - mean)/sd, or None without a prior."""
        if math.isnan(self.sd) or self.joint is not None:
            return None
        return ((value.log() if self.logarithmic else value) - self.mean) / self.sd

    def drawn(self, generator: torch.Generator) -> float:
        """A start from the prior, inside the bounds; from a factor of three about the start where there is none."""
        return self.believed(float(torch.randn((), generator=generator, dtype=torch.float64)))

    def believed(self, noise: float) -> float:
        """The value so many standard deviations from the middle of what is believed, inside the bounds."""
        if math.isnan(self.sd):
            return float(self.value(torch.tensor(noise, dtype=torch.float64)))
        value = self.mean + self.sd * noise
        value = math.exp(value) if self.logarithmic else value
        width = self.upper - self.lower
        edge = 1e-3 * width if math.isfinite(width) else 0.0
        low = self.lower + edge if math.isfinite(self.lower) else value
        high = self.upper - edge if math.isfinite(self.upper) else value
        inside = min(max(value, low), high)
        return inside if self.lower < inside < self.upper else self.start
