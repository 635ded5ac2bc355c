"""Arithmetic of truncated Taylor series in one variable, for functions made of torch operations.

A jet is c_0 + c_1 s + ... + c_K s^K with tensors of one shape. A function of it that is written in torch gives the jet
of its value: exact, at a cost that grows with K^2, where derivatives of derivatives double it with each order. The
coefficients keep their gradients. Recurrences: Griewank & Walther, Evaluating Derivatives (2008), chapter 13.
"""

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

Coefficients = list[torch.Tensor]


def _words(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


_LINEAR = _words(  # coefficient by coefficient
    "clone contiguous detach diagonal diff double cumsum expand fft_fft fft_fft2 fft_fftn fft_ifft fft_ifft2 fft_ifftn",
    "fft_irfft fft_irfft2 fft_rfft fft_rfft2 flatten flip gather getitem imag index_select mean movedim narrow permute",
    "positive real repeat repeat_interleave reshape roll select squeeze sum t take to trace transpose tril triu",
    "unflatten unsqueeze view view_as",
)  # fmt: skip
_JOINING = frozenset(("cat", "concatenate", "stack", "hstack", "vstack"))  # lists of jets and constants
_LOOKING = _words(  # at the first coefficient only: decisions and shapes
    "argmax argmin bucketize ceil dim empty_like eq floor full_like ge gt is_floating_point isfinite isnan le lt ne",
    "new_full new_ones new_tensor new_zeros numel ones_like round searchsorted sign size zeros_like",
)  # fmt: skip


class NoRule(TypeError):
    """A function has no rule for series; the text names it."""


class Jet:
    """A truncated Taylor series; takes arithmetic, torch functions and the methods of a tensor.

    Args:
        coefficients: Those of s^0, s^1, ..., tensors that broadcast against one another; gradients flow to them.
    """

    def __init__(self, coefficients: Iterable[torch.Tensor]) -> None:
        self.coefficients: tuple[torch.Tensor, ...] = tuple(coefficients)

    def __repr__(self) -> str:
        return f"Jet({list(self.coefficients)})"

    def __len__(self) -> int:
        return len(self.coefficients[0])

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "ndim", "dtype", "device", "requires_grad"):
            return getattr(self.coefficients[0], name)
        if name in ("T", "mT", "real", "imag"):
            return Jet(getattr(c, name) for c in self.coefficients)
        method = getattr(torch.Tensor, name, None)
        if name.startswith("__") or not callable(method):
            raise AttributeError(f"Jet.{name}: a tensor has no method of that name that a series has")
        return lambda *args, **kwargs: Jet.__torch_function__(method, (Jet,), (self, *args), kwargs)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if not all(issubclass(kind, Jet | torch.Tensor) for kind in types):
            return NotImplemented  # a symbol that stands for a jet unwraps itself
        name, more = function.__name__.strip("_"), dict(kwargs or {})
        if name in _SWAPPED:
            name, args = _SWAPPED[name], args[::-1]
        if name in _RULES:
            return _RULES[name](*args, **more)
        if name == "expand_as":
            return args[0].expand(args[1].shape)
        if name in _LOOKING:
            return function(*(_first(a) for a in args), **{key: _first(a) for key, a in more.items()})
        if name in _JOINING:
            some = next(part for part in args[0] if isinstance(part, Jet))
            lists = [_parts(part, len(some.coefficients), _first(some)) for part in args[0]]
            return Jet(function(parts, *args[1:], **more) for parts in zip(*lists, strict=True))
        if name in _LINEAR:
            return Jet(function(c, *args[1:], **more) for c in args[0].coefficients)
        raise NoRule(
            f"{name}: no rule for its Taylor series; write it in sums, products, quotients, powers, where, exp, log, "
            "sqrt, sin, cos, tan, tanh, sigmoid, sinh, cosh, atan, asin, erf and softplus"
        )

    def __getitem__(self, index: Any) -> "Jet":
        return Jet(c[index] for c in self.coefficients)

    def __add__(self, other: Any) -> "Jet":
        return _sum(self, other) if isinstance(other, _PLAIN) else NotImplemented

    def __radd__(self, other: Any) -> "Jet":
        return _sum(self, other) if isinstance(other, _PLAIN) else NotImplemented

    def __sub__(self, other: Any) -> "Jet":
        return _difference(self, other) if isinstance(other, _PLAIN) else NotImplemented

    def __rsub__(self, other: Any) -> "Jet":
        return _difference(other, self) if isinstance(other, _PLAIN) else NotImplemented

    def __mul__(self, other: Any) -> "Jet":
        return _product(self, other) if isinstance(other, _PLAIN) else NotImplemented

    def __rmul__(self, other: Any) -> "Jet":
        return _product(self, other) if isinstance(other, _PLAIN) else NotImplemented

    def __matmul__(self, other: Any) -> "Jet":
        return _product(self, other, operator.matmul) if isinstance(other, _PLAIN) else NotImplemented

    def __rmatmul__(self, other: Any) -> "Jet":
        return _product(other, self, operator.matmul) if isinstance(other, _PLAIN) else NotImplemented

    def __truediv__(self, other: Any) -> "Jet":
        return _quotient(self, other) if isinstance(other, _PLAIN) else NotImplemented

    def __rtruediv__(self, other: Any) -> "Jet":
        return _quotient(other, self) if isinstance(other, _PLAIN) else NotImplemented

    def __pow__(self, other: Any) -> "Jet":
        return _power(self, other) if isinstance(other, _PLAIN) else NotImplemented

    def __rpow__(self, other: Any) -> "Jet":
        return _power(other, self) if isinstance(other, _PLAIN) else NotImplemented

    def __neg__(self) -> "Jet":
        return Jet(-c for c in self.coefficients)

    def __abs__(self) -> "Jet":
        return _chosen(_first(self) >= 0, self, -self)

    def __lt__(self, other: Any) -> torch.Tensor:
        return _first(self) < _first(other)

    def __le__(self, other: Any) -> torch.Tensor:
        return _first(self) <= _first(other)

    def __gt__(self, other: Any) -> torch.Tensor:
        return _first(self) > _first(other)

    def __ge__(self, other: Any) -> torch.Tensor:
        return _first(self) >= _first(other)


_PLAIN = (Jet, torch.Tensor, int, float, complex)


def _first(value: Any) -> Any:
    return value.coefficients[0] if isinstance(value, Jet) else value


def _length(*values: Any) -> int:
    return max(len(v.coefficients) for v in values if isinstance(v, Jet))


def _parts(value: Any, length: int, like: torch.Tensor) -> Coefficients:
    """Coefficients of a jet or of a constant, as many as asked for; numbers become of the dtype of `like`."""
    if isinstance(value, Jet):
        return list(value.coefficients)
    constant = value if isinstance(value, torch.Tensor) else torch.as_tensor(value, dtype=like.dtype)
    return [constant, *[torch.zeros_like(constant)] * (length - 1)]


def _sum(a: Any, b: Any, *, alpha: float = 1.0) -> Jet:
    b = b if alpha == 1.0 else b * alpha
    if not isinstance(b, Jet):
        total = a.coefficients[0] + b
        return Jet([total, *(c.expand(total.shape) for c in a.coefficients[1:])])
    if not isinstance(a, Jet):
        return _sum(b, a)
    return Jet(map(operator.add, a.coefficients, b.coefficients))


def _difference(a: Any, b: Any, *, alpha: float = 1.0) -> Jet:
    return _sum(a, b * -alpha)


def _product(a: Any, b: Any, by: Callable[[Any, Any], torch.Tensor] = operator.mul) -> Jet:
    """Of anything bilinear."""
    if not isinstance(a, Jet):
        return Jet(by(a, c) for c in b.coefficients)
    if not isinstance(b, Jet):
        return Jet(by(c, b) for c in a.coefficients)
    x, y = a.coefficients, b.coefficients
    return Jet(_total(by(x[j], y[k - j]) for j in range(k + 1)) for k in range(len(x)))


def _total(terms: Iterable[torch.Tensor]) -> torch.Tensor:
    total: Any = None
    for term in terms:
        total = term if total is None else total + term
    assert total is not None
    return total


def _quotient(a: Any, b: Any) -> Jet:
    if not isinstance(b, Jet):
        return Jet(c / b for c in a.coefficients)
    y = b.coefficients
    x = _parts(a, len(y), y[0])
    found: Coefficients = []
    for k in range(len(y)):
        rest = x[k]
        for j in range(k):
            rest = rest - found[j] * y[k - j]
        found.append(rest / y[0])
    return Jet(found)


def _power(a: Any, b: Any) -> Jet:
    if isinstance(b, Jet):
        base = _logarithm(a) if isinstance(a, Jet) else torch.as_tensor(a, dtype=b.dtype).log()
        return _exponential(_product(b, base))
    if not isinstance(b, torch.Tensor) and float(b).is_integer() and 0 <= b <= 8:  # also where the base vanishes
        found: Any = torch.ones_like(a.coefficients[0])
        for _ in range(int(b)):
            found = a if isinstance(found, torch.Tensor) else _product(found, a)
        return found if isinstance(found, Jet) else Jet(_parts(found, len(a.coefficients), found))
    x = a.coefficients
    y = [x[0] ** b]
    for k in range(1, len(x)):
        y.append(_total((j * b - (k - j)) * x[j] * y[k - j] for j in range(1, k + 1)) / (k * x[0]))
    return Jet(y)


def _integral(x: Jet, first: torch.Tensor, slope: Callable[[Coefficients], torch.Tensor]) -> Jet:
    """The y with y' = g x' and y = first at s = 0; `slope` gives the next coefficient of g from those of y so far."""
    y, g = [first], []
    for k in range(1, len(x.coefficients)):
        g.append(slope(y))
        y.append(_total(j * x.coefficients[j] * g[k - j] for j in range(1, k + 1)) / k)
    return Jet(y)


def _of_slope(function: Callable[[torch.Tensor], torch.Tensor], slope: Callable[[Jet], Jet]) -> Callable[[Jet], Jet]:
    """A function whose derivative is known as a function of jets."""

    def rule(x: Jet) -> Jet:
        g = slope(Jet(x.coefficients[:-1])).coefficients if len(x.coefficients) > 1 else ()
        return _integral(x, function(x.coefficients[0]), lambda y: g[len(y) - 1])

    return rule


def _of_value(
    function: Callable[[torch.Tensor], torch.Tensor], linear: float, constant: float = 0.0
) -> Callable[[Jet], Jet]:
    """A function y with y' = constant + linear y - y^2."""

    def slope(y: Coefficients) -> torch.Tensor:
        k = len(y) - 1
        square = _total(y[j] * y[k - j] for j in range(k + 1))
        return linear * y[k] - square + (constant if k == 0 else 0.0)

    return lambda x: _integral(x, function(x.coefficients[0]), slope)


def _exponential(x: Jet) -> Jet:
    return _integral(x, x.coefficients[0].exp(), lambda y: y[-1])


_logarithm = _of_slope(torch.log, lambda x: _quotient(1.0, x))


def _pair(x: Jet, first: Callable[..., Any], second: Callable[..., Any], sign: float) -> tuple[Jet, Jet]:
    """Sine and cosine, or their hyperbolic cousins: s' = c x', c' = sign s x'."""
    s, c = [first(x.coefficients[0])], [second(x.coefficients[0])]
    for k in range(1, len(x.coefficients)):
        weights = [j * x.coefficients[j] / k for j in range(1, k + 1)]
        s.append(_total(w * c[k - j] for j, w in enumerate(weights, 1)))
        c.append(_total(sign * w * s[k - j] for j, w in enumerate(weights, 1)))
    return Jet(s), Jet(c)


def _sines(x: Jet) -> tuple[Jet, Jet]:
    return _pair(x, torch.sin, torch.cos, -1.0)


def _hyperbolic(x: Jet) -> tuple[Jet, Jet]:
    return _pair(x, torch.sinh, torch.cosh, 1.0)


def _chosen(condition: torch.Tensor, a: Any, b: Any) -> Jet:
    length, like = _length(a, b), _first(a if isinstance(a, Jet) else b)
    return Jet(map(lambda x, y: torch.where(condition, x, y), _parts(a, length, like), _parts(b, length, like)))


def _held(x: Jet, min: Any = None, max: Any = None) -> Jet:
    """Clamped; at a limit the side within counts, as in torch's gradients."""
    found = x
    if min is not None:
        found = _chosen(_first(found) >= _first(min), found, min)
    if max is not None:
        found = _chosen(_first(found) <= _first(max), found, max)
    return found


_TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)
_erf = _of_slope(torch.erf, lambda x: _exponential(-_product(x, x)) * _TWO_OVER_ROOT_PI)
_sigmoid = _of_value(torch.sigmoid, 1.0)
_SWAPPED = {
    "radd": "add",
    "rsub": "sub",
    "rmul": "mul",
    "rtruediv": "div",
    "rdiv": "div",
    "rpow": "pow",
    "rmatmul": "matmul",
}
_RULES: dict[str, Callable[..., Any]] = {
    "add": _sum,
    "sub": _difference,
    "subtract": _difference,
    "neg": operator.neg,
    "negative": operator.neg,
    "mul": _product,
    "multiply": _product,
    "matmul": lambda a, b: _product(a, b, operator.matmul),
    "div": _quotient,
    "divide": _quotient,
    "truediv": _quotient,
    "true_divide": _quotient,
    "reciprocal": lambda x: _quotient(1.0, x),
    "pow": _power,
    "square": lambda x: _product(x, x),
    "sqrt": lambda x: _power(x, 0.5),
    "rsqrt": lambda x: _power(x, -0.5),
    "exp": _exponential,
    "expm1": lambda x: _exponential(x) - 1.0,
    "log": _logarithm,
    "log1p": lambda x: _logarithm(x + 1.0),
    "sin": lambda x: _sines(x)[0],
    "cos": lambda x: _sines(x)[1],
    "tan": lambda x: _quotient(*_sines(x)),
    "sinh": lambda x: _hyperbolic(x)[0],
    "cosh": lambda x: _hyperbolic(x)[1],
    "tanh": _of_value(torch.tanh, 0.0, 1.0),
    "sigmoid": _sigmoid,
    "softplus": _of_slope(torch.nn.functional.softplus, _sigmoid),
    "atan": _of_slope(torch.atan, lambda x: _quotient(1.0, 1.0 + _product(x, x))),
    "arctan": _of_slope(torch.atan, lambda x: _quotient(1.0, 1.0 + _product(x, x))),
    "asin": _of_slope(torch.asin, lambda x: _power(1.0 - _product(x, x), -0.5)),
    "erf": _erf,
    "erfc": lambda x: 1.0 - _erf(x),
    "where": _chosen,
    "maximum": lambda a, b: _chosen(_first(a) >= _first(b), a, b),
    "minimum": lambda a, b: _chosen(_first(a) <= _first(b), a, b),
    "clamp": _held,
    "clip": _held,
    "clamp_min": _held,
    "clamp_max": lambda x, max: _held(x, max=max),
    "abs": operator.abs,
    "absolute": operator.abs,
    "relu": lambda x: _chosen(_first(x) > 0, x, 0 * x),
}
