"""Equations of one's own on functions that need no training: polynomials and waves, on boxes and parts of them.

An equation is a function of its fields; its residual is tested with the functions that make up the field (Galerkin's
method), which is the norm that fits its operator, and the answer tells its error by a richer set of functions.
"""

from simengine.constraint.spectral.answer import Expansion
from simengine.constraint.spectral.axes import Circle, Interval
from simengine.constraint.spectral.domain import Domain, Fixed, Flux
from simengine.constraint.spectral.expression import div
from simengine.constraint.spectral.problem import Spectral

__all__ = ["Circle", "Domain", "Expansion", "Fixed", "Flux", "Interval", "Spectral", "div"]
