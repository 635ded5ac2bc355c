"""What is sought, with what is believed of it beforehand, and how: the tables `[unknowns]` and `[inference]`."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from simengine.scene.strict import Count, Positive, Range
from simengine.shown import ShortRepr

Widths = float | tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldPrior(ShortRepr):
    """How the entries of a vector lie about the level that its prior tells.

    Attributes:
        sd: Standard deviation about the level, in the value or, for a lognormal prior, in its logarithm [unit of the
            key].
        length: Over which neighbours are alike, in the unit of what they stand over: knots, or the number of the entry
            [unit of the knots].
    """

    sd: Positive
    length: Positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class FactorFile(ShortRepr):
    """Uncertainty factors that a table tells, each for the key that has the row's name as a part.

    Attributes:
        file: The table.
        names: Column of the names, as in the equations of reactions.
        column: Column of the factors [1].
        otherwise: The factor of what the table does not name; None to refuse it [1].
    """

    file: Path
    names: str = "reaction"
    column: str = "f"
    otherwise: Annotated[float, Range(gt=1)] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prior(ShortRepr):
    """What is believed of an unknown beforehand.

    Exactly one of normal, lognormal, uniform, uncertainty_factor and, for a field, total_variation is told. A single
    number is a width about the start. For one number two numbers are a centre and a width; for a vector a list
    holds a width for each entry, and an entry of width 0 stays where it is.

    Attributes:
        normal: Standard deviation, or [mean, standard deviation] [unit of the key].
        lognormal: Standard deviation of the logarithm, or [median, standard deviation of the logarithm] [unit of the
            key].
        uniform: [least, most]; equally likely in between [unit of the key].
        uncertainty_factor: Factor f: ln f is `level` standard deviations of the logarithm; or a table of them,
            { file, names, column, otherwise } [1].
        level: Of `uncertainty_factor` [1].
        length: Over which neighbouring entries of a vector, or of a field, are alike, each with its own width; in the
            unit of what they stand over: knots, the number of the entry, or metres [unit of the knots].
        field: The entries of a vector lie about one level, which this prior is of, and neighbours are alike.
        monotone: Entries of a vector only rise, or only fall.
        total_variation: Of a field: its even parts and sharp edges are believed in; the typical integral of its
            gradient's length over the box, or "estimate" [unit of the key].
    """

    normal: Widths | None = None
    lognormal: Widths | None = None
    uniform: tuple[float, float] | None = None
    uncertainty_factor: Annotated[float, Range(gt=1)] | FactorFile | None = None
    level: Positive = 2.0
    length: Positive | None = None
    field: FieldPrior | None = None
    monotone: Literal["increasing", "decreasing"] | None = None
    total_variation: Positive | Literal["estimate"] | None = None

    @property
    def joint(self) -> bool:
        """Whether it ties the entries of a vector to one another."""
        return self.length is not None or self.field is not None or self.monotone is not None

    def __post_init__(self) -> None:
        if self.joint and (self.uniform is not None or (self.field is not None and self.length is not None)):
            raise ValueError("field, length, monotone: they go with normal or lognormal, and field has its own length")
        kinds = ("normal", "lognormal", "uniform", "uncertainty_factor", "total_variation")
        told = [name for name in kinds if getattr(self, name) is not None]
        if len(told) != 1:
            raise ValueError(
                f"expected one of {', '.join(kinds[:-1])} and {kinds[-1]}, got {' and '.join(told) or 'none'}"
            )
        if self.uniform is not None and not self.uniform[0] < self.uniform[1]:
            raise ValueError(f"uniform: expected [least, most], got {list(self.uniform)}")
        widths = self.normal if self.normal is not None else self.lognormal
        for width in (widths,) if isinstance(widths, float) else (widths or ())[1:]:
            if width is not None and width < 0:
                raise ValueError(f"a width must not be negative, got {width}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unknown(ShortRepr):
    """One number, vector or field that is sought.

    Attributes:
        initial: Where the search starts; the scene's own number where it is left out [unit of the key].
        prior: What is believed beforehand.
        lower: Least value; only narrows the bounds of the key [unit of the key].
        upper: Greatest value; only narrows the bounds of the key [unit of the key].
        scale: A typical change, where neither a prior nor the value tells one [unit of the key].
        sets: Keys that this one unknown sets, where the name of the unknown is no key.
        per: `column`, or of a gain the header of a column of words: one for each inside a file.
        over: `body`: a field over the body instead of a number.
    """

    initial: float | tuple[float, ...] | None = None
    prior: Prior | None = None
    lower: float | None = None
    upper: float | None = None
    scale: Positive | None = None
    sets: tuple[str, ...] = ()
    per: str | None = None
    over: Literal["body"] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inference(ShortRepr):
    """How the answer is found.

    Attributes:
        method: least_squares (default; of fields too), or a method that the kind of world registers.
        iterations: At most so many trials in a stage.
        stages: Growing parts of the time to fit one after another, as fractions that end with 1; by default a short
            part, then all of it, where the world has time [1].
        together: Whether the instruments' numbers are free from the beginning on: a clock that is held wrong leads the
            world's numbers astray where these begin near.
        starts: Number of starts, the scene's own first, the others drawn from the priors; several minima are told as
            several answers.
        search: Trials of a global search (Optuna) over the priors, whose best basins the other starts are then taken
            from: where gradients mislead.
        hold_out: Observations that are predicted and not fitted, by name or dotted key; or a share of the end of each.
        tolerance: Predicted drop of chi-square below which a stage has converged [1].
        report: Refused, as it never told anything: [derived] tells expressions of keys with bars.
        pyramid: Halvings of the resolution of pictures to begin with.
        posterior: What the bars rest on: the curvature at the best fit (laplace), or samples of an affine-invariant
            ensemble, or of NUTS where the posterior is near its ellipse or every unknown has a gradient; or fits of
            resampled blocks of residuals (bootstrap).
        hessian: What the curvature is: gauss_newton, or exact, with the bend of the rows times what they miss, which
            costs two linearisations for each number.
        samples: Effective samples of each number that chains go on for; replicas of a bootstrap.
        refine: Times the resolution at which the best fit is fitted again: how far it moves is added to the bars, for a
            world whose discretisation is not small beside the noise; not 1 [1].
        coarse: Times by which the resolution is coarser at which the search begins: where it ends there it goes on at
            the scene's own [1].
    """

    method: str = "least_squares"
    iterations: Count = 40
    stages: tuple[Annotated[float, Range(gt=0, le=1)], ...] = ()
    together: bool = False
    starts: Count = 1
    search: Annotated[int, Range(ge=0)] = 0
    hold_out: Any = None
    tolerance: Positive = 1e-2
    report: tuple[str, ...] = ()
    pyramid: Annotated[int, Range(ge=0, le=8)] = 0
    posterior: Literal["laplace", "ensemble", "nuts", "bootstrap"] = "laplace"
    hessian: Literal["gauss_newton", "exact"] = "gauss_newton"
    samples: Count = 400
    refine: Positive | None = None
    coarse: Annotated[float, Range(gt=1)] | None = None

    def __post_init__(self) -> None:
        if self.report:
            raise ValueError("report: it never told anything; write an expression of keys into [derived] instead")
        if self.search and self.starts < 2:
            raise ValueError("search: it finds where further starts begin; give starts too, 4 say")
        if self.stages and (self.stages[-1] != 1.0 or list(self.stages) != sorted(set(self.stages))):
            raise ValueError(f"stages: expected growing fractions that end with 1.0, got {list(self.stages)}")
