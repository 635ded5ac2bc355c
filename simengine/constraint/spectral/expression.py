"""What an equation is written in: fields with their derivatives, and the divergence of a flux."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

AXES = ("x", "y", "z")
Value = torch.Tensor | float


class SpectralSymbol:
    """A field in an equation: `u`, and `u.t`, `u.x`, `u.xy`, `u.xxxx` for its derivatives; takes arithmetic.

    Args:
        name: Of the field.
        look: Derivative by its letters (empty for the field itself) -> values at the points of the moment.
    """

    def __init__(self, name: str, look: Callable[[str], torch.Tensor]) -> None:
        self._name, self._look = name, look

    @property
    def value(self) -> torch.Tensor:
        """The field itself."""
        return self._look("")

    def __getattr__(self, name: str) -> torch.Tensor:
        if name == "t" or (name and set(name) <= set(AXES)):
            return self._look("t" if name == "t" else "".join(sorted(name)))
        raise AttributeError(f"{self._name}.{name}: a field has t, and x, xx, xy, ... along the axes of its domain")

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return function(*(a.value if isinstance(a, SpectralSymbol) else a for a in args), **(kwargs or {}))


class Divergence:
    """rest + scale div(flux): what `div` makes and sums keep; tested by parts, so that fluxes may jump."""

    def __init__(self, flux: Sequence[Value], rest: Value = 0.0, scale: Value = 1.0) -> None:
        self.flux: tuple[Value, ...] = tuple(flux)
        self.rest: Value = rest
        self.scale: Value = scale

    def __add__(self, other: Any) -> "Divergence":
        if isinstance(other, Divergence):
            # the scale of the first; what flows through a side is said for a flux of that scale
            ratio = other.scale / self.scale
            flux = [a + ratio * b for a, b in zip(self.flux, other.flux, strict=True)]
            return Divergence(flux, self.rest + other.rest, self.scale)
        return Divergence(
            self.flux, self.rest + (other.value if isinstance(other, SpectralSymbol) else other), self.scale
        )

    def __neg__(self) -> "Divergence":
        return Divergence(self.flux, -self.rest, -self.scale)

    def __sub__(self, other: Any) -> "Divergence":
        return self + (-1 * other)

    def __rsub__(self, other: Any) -> "Divergence":
        return -self + other

    def __mul__(self, other: Any) -> "Divergence":
        if isinstance(other, SpectralSymbol) or (isinstance(other, torch.Tensor) and other.ndim > 0):
            raise ValueError(
                "div: only a number may multiply it; divide the equation by what varies, or write it within"
            )
        return Divergence(self.flux, self.rest * other, self.scale * other)

    __radd__, __rmul__ = __add__, __mul__

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        if name in ("add", "sub", "mul", "rsub") and len(args) == 2 and not kwargs:
            a, b = args
            if name == "rsub":
                return b - a if isinstance(b, Divergence) else b + (-a)
            if isinstance(b, Divergence):
                return {"add": b.__radd__, "sub": b.__rsub__, "mul": b.__rmul__}[name](a)
        return NotImplemented


def div(*flux: Any) -> Divergence:
    """The divergence of a flux with a component along each axis, such as `div(p.k * u.x, p.k * u.y)`.

    The equation is then tested by parts: coefficients may jump, and what flows through a side is 0 unless a `Flux` says
    it.

    Args:
        flux: One component for each axis of the domain.
    """
    return Divergence([f.value if isinstance(f, SpectralSymbol) else f for f in flux])


def _delegated(name: str) -> Callable[..., Any]:
    def method(self: SpectralSymbol, *others: Any) -> Any:
        if others and isinstance(others[0], Divergence):
            return NotImplemented
        return getattr(self.value, name)(*(o.value if isinstance(o, SpectralSymbol) else o for o in others))

    return method


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "pow", "rpow", "neg", "abs"):
    setattr(SpectralSymbol, f"__{_name}__", _delegated(f"__{_name}__"))
for _name in ("lt", "le", "gt", "ge"):
    setattr(SpectralSymbol, f"__{_name}__", _delegated(f"__{_name}__"))


class At:
    """Numbers of an equation by name, with the places `x`, `y`, `z` and the moment `t`."""

    def __init__(self, places: Mapping[str, torch.Tensor], t: Value, numbers: Mapping[str, Value]) -> None:
        self.__dict__.update({**places, "t": t, **numbers})

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"p.{name}: no number and no axis of that name; known: {', '.join(self.__dict__)}")
