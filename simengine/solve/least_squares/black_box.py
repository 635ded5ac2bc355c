"""A least-squares problem whose residual is a black box: a simulation, a program, numpy."""

from collections.abc import Callable, Sequence

import torch

from simengine.solve.least_squares.condition import AbstractSystem
from simengine.solve.least_squares.structures.gram import DenseGram, Linearisation
from simengine.solve.least_squares.system import ResidualError

BlackBox = Callable[[torch.Tensor], torch.Tensor]
Linearise = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class BlackBoxSystem(AbstractSystem):
    """One problem min 1/2 |r(z)|^2 (a batch of 1) that is evaluated, never traced or mapped.

    Args:
        residual: z (n,), float64 without gradient -> r (m,).
        linearise: z (n,) -> r (m,) and J (m, n); None for one-sided differences, n further residuals.
        refined: As `linearise`, more exact and dearer, in use once `refine` was called; None for central differences,
            2 n further residuals.
        refused: Exceptions by which the residual says that it has no value at a z: a trial there costs infinity and is
            taken back. At a point where J is wanted, such as the start, they pass.
        linearised_at_the_end: Whether J is wanted at the end too, for a status of RANK_DEFICIENT; without it the last
            step costs one residual only.
        difference: Step of one-sided differences, in the unit of z; central ones take ten times as much.

    Attributes:
        evaluations: Calls of `residual` so far, those of differences too.
        refusal: Why the last trial was refused; None where it had a value.
    """

    gram = DenseGram()
    tensors = ()
    polished = False  # a Hessian would take n^2 residuals
    measured = True

    def __init__(
        self,
        residual: BlackBox,
        linearise: Linearise | None = None,
        *,
        refined: Linearise | None = None,
        refused: type[Exception] | tuple[type[Exception], ...] = (),
        linearised_at_the_end: bool = True,
        difference: float = 1e-5,
    ) -> None:
        self.linearised_at_the_end = linearised_at_the_end
        self._residual, self._refused, self._difference = residual, refused, difference
        self._linearise = linearise or (lambda z: self._differences(z, central=False))
        self._refined = refined or (lambda z: self._differences(z, central=True))
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None
        self.evaluations: int = 0
        self.refusal: Exception | None = None

    def refine(self) -> None:
        """Linearise more exactly from now on; begin anew at the point reached to have it there."""
        self._linearise = self._refined

    def residual(self, z: torch.Tensor) -> torch.Tensor:
        """R (m,), float64, at z (n,); the last one is kept.

        Raises:
            ResidualError: It is no vector, or not of the length it had before.
        """
        if self._last is not None and torch.equal(self._last[0], z):
            return self._last[1]
        self.evaluations += 1
        with torch.no_grad():
            r = self._residual(z.clone())
        return self._kept(z, r)

    def cost(self, y: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """1/2 |r|^2, shape (1,); infinite where the residual is refused."""
        try:
            r = self.residual(y.detach()[0])
        except self._refused as error:
            self.refusal = error
            return torch.full((1,), torch.inf, dtype=torch.float64)
        self.refusal = None
        return 0.5 * r.square().sum().reshape(1)

    def linearise(self, y: torch.Tensor, which: torch.Tensor) -> Linearisation:
        """J^T J and J^T r of a dense J.

        Raises:
            ResidualError: J has not the shape (m, n).
        """
        z = y.detach()[0]
        r, jacobian = self._linearise(z.clone())
        r, j = self._kept(z, r), torch.as_tensor(jacobian).detach().double()
        if j.shape != (len(r), len(z)):
            raise ResidualError(f"linearise: expected J of shape {(len(r), len(z))}, got {tuple(j.shape)}")
        gram = j.T @ j
        return {"gradient": (j.T @ r)[None], "diagonal": gram.diagonal()[None].clone(), "gram": gram[None]}

    def _kept(self, z: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        r = torch.as_tensor(r).detach().double()
        before = None if self._last is None else self._last[1]
        if r.ndim != 1 or len(r) == 0 or (before is not None and r.shape != before.shape):
            expected = "(m,) with m >= 1" if before is None else str(tuple(before.shape))
            raise ResidualError(f"residual: expected shape {expected}, got {tuple(r.shape)}")
        self._last = (z.clone(), r)
        return r

    def _differences(self, z: torch.Tensor, *, central: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """R and J by differences; where a side is refused, by the other one."""
        here, columns = self.residual(z), []
        h = 10 * self._difference if central else self._difference
        for unit in torch.eye(len(z), dtype=z.dtype):
            ends = [(side, self._beside(z + side * h * unit)) for side in (1.0, -1.0)[: 1 + central]]
            known = [(side, r) for side, r in ends if r is not None]
            if not known and not central:
                known = [(-1.0, self.residual(z - h * unit))]
            if len(known) == 2:
                columns.append((known[0][1] - known[1][1]) / (2 * h))
            else:
                side, r = known[0] if known else (1.0, self.residual(z + h * unit))  # which says why
                columns.append((r - here) / (side * h))
        self._last = (z.clone(), here)
        return here, torch.stack(columns, dim=1)

    def _beside(self, z: torch.Tensor) -> torch.Tensor | None:
        try:
            return self.residual(z)
        except self._refused:
            return None

    # A black box has no second derivatives, and nothing that a gradient could flow to.

    def optimality(self, y: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """J^T r."""
        return self.linearise(y, torch.arange(1))["gradient"]

    def solve_hessian(
        self, y: torch.Tensor, b: torch.Tensor, tensors: Sequence[torch.Tensor], *, gauss_newton: bool
    ) -> torch.Tensor:
        """With J^T J alone.

        Raises:
            RuntimeError: Without `gauss_newton`.
        """
        if not gauss_newton:
            raise RuntimeError("BlackBoxSystem: has no second derivatives; ask for gauss_newton=True")
        lin = self.linearise(y, torch.arange(1))
        return self.gram.solve(lin, torch.zeros(1, dtype=torch.float64), b.double())
