"""Numbers that hang on what was found: `"diffusivity [m2/s]" = "pde.conductivity / pde.heat_capacity"`."""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from simengine.io.units import split_header
from simengine.scene.address import numbers, parts_of, resolve
from simengine.scene.base import SceneError

if TYPE_CHECKING:
    from simengine.fit.posterior import Estimate
    from simengine.fit.problem import Problem

_KEY = re.compile(r'[A-Za-z_]\w*(?:\.(?:\w+|"[^"]*"))+')
_OPERATORS: dict[type, Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_FUNCTIONS: Mapping[str, Callable[[float], float]] = {"sqrt": math.sqrt, "log": math.log, "exp": math.exp, "abs": abs}
_STEP = 1e-5  # of a difference in z


class Expression:
    """Arithmetic of keys of a scene: numbers, + - * / **, sqrt, log, exp, abs.

    Args:
        text: As in "pde.conductivity / pde.heat_capacity".
        where: Its key, for messages.

    Raises:
        SceneError: It is anything else.
    """

    def __init__(self, text: str, where: str) -> None:
        self.keys: list[str] = []
        self._where = where

        def placed(match: re.Match[str]) -> str:
            self.keys.append(match[0])
            return f"k{len(self.keys) - 1}"

        try:
            self._tree = ast.parse(_KEY.sub(placed, text), mode="eval").body
        except SyntaxError:
            raise SceneError(f"{where}: {text!r} is no arithmetic of keys, as in pde.conductivity / 2.0") from None
        self(dict.fromkeys(self.keys, 1.0))  # what is not understood is told before anything is solved

    def __call__(self, values: Mapping[str, float]) -> float:
        """Its value for a value of each key; NaN where there is none."""
        try:
            return self._value(self._tree, values)
        except SceneError:
            raise
        except (ArithmeticError, ValueError):
            return math.nan

    def _value(self, node: Any, values: Mapping[str, float]) -> float:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return float(node.value)
        if isinstance(node, ast.Name) and re.fullmatch(r"k\d+", node.id) and int(node.id[1:]) < len(self.keys):
            return values[self.keys[int(node.id[1:])]]
        if isinstance(node, ast.Name) and node.id == "pi":
            return math.pi
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            left, right = self._value(node.left, values), self._value(node.right, values)
            return float(_OPERATORS[type(node.op)](left, right))
        if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
            return float(_OPERATORS[type(node.op)](self._value(node.operand, values)))
        called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        if called in _FUNCTIONS and len(node.args) == 1 and not node.keywords:
            return float(_FUNCTIONS[called](self._value(node.args[0], values)))
        what = ast.unparse(node)
        raise SceneError(f"{self._where}: {what!r} is not understood; use keys, numbers, + - * / **, sqrt, log, exp")


def derived(problem: "Problem", z: torch.Tensor, covariance: torch.Tensor) -> "dict[str, Estimate]":
    """What `[derived]` asks for at z (p,), with bars to first order.

    Raises:
        SceneError: An expression names no number.
    """
    from simengine.fit.posterior import Estimate

    found: dict[str, Estimate] = {}
    for name, text in problem.scene.derived.items():
        where = f"derived.{name}"
        if not isinstance(text, str):
            raise SceneError(f'{where}: expected an expression as text, as in "pde.conductivity / 2.0"')
        expression = Expression(text, where)

        def value(at: torch.Tensor, expression: Expression = expression, where: str = where) -> float:
            return expression({key: _number(problem, at, key, where) for key in expression.keys})

        here = value(z)
        slope = torch.zeros_like(z)
        for k in range(len(z)):
            unit = torch.zeros_like(z)
            unit[k] = _STEP
            slope[k] = (value(z + unit) - value(z - unit)) / (2 * _STEP)
        std = float((slope @ covariance @ slope).clamp_min(0).sqrt())
        sure = math.isfinite(std) and 0 < std < 0.5 * abs(here)
        found[name] = Estimate(
            value=here,
            std=std,
            low=here - 1.96 * std,
            high=here + 1.96 * std,
            unit=split_header(name)[1],
            identified=sure,
            why="" if sure else "the data leave it open" if std else "nothing that is sought moves it",
        )
    return found


def _number(problem: "Problem", z: torch.Tensor, key: str, where: str) -> float:
    first, *rest = parts_of(key)
    tree: Any
    if first == "observations" and rest and rest[0] in problem.instruments:
        tree, inner = problem.instruments_at(z)[rest[0]], ".".join(rest[1:])
    else:
        tree, inner = problem.world_at(z, next(iter(problem.worlds))), key
    try:
        keys = resolve(tree, inner)
    except SceneError as error:
        raise SceneError(f"{where}: {error}") from None
    if len(keys) != 1:
        raise SceneError(f"{where}: {key} names {len(keys)} numbers; name one, as in {keys[0]}")
    return float(numbers(tree)[keys[0]].value)
