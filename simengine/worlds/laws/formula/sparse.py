"""Which few terms of an energy explain a motion: best subsets of a library, by the balance of momentum.

The balance is linear in the coefficients, so every subset of a few terms is one small solve of the same normal
equations; the numbers inside terms begin on a grid and follow by Gauss-Newton. Sparse regression in the weak form:
Flaschel, Kumar & De Lorenzis, Comput. Methods Appl. Mech. Eng. 381 (2021) 113852.
"""

import dataclasses
from collections.abc import Sequence

import torch

from simengine.materials.formula import TERMS, FormulaEnergy, strain_of
from simengine.worlds.motion.momentum_balance import Balance, Frame, Motion, balance_of

MOST_TERMS = 3
SUBSETS = 40  # of each size whose terms are looked at, the best by grid values
STRUCTURES = 4  # of each size whose numbers are refined
NUMBER_STEP = 1e-4  # of differences in the numbers, of their size
LEAST_NUMBER = 0.05


@dataclasses.dataclass(frozen=True)
class SparseEnergy:
    """An energy and what it leaves.

    Attributes:
        energy: The formula.
        unexplained: Mean square of the velocity changes that it leaves [m^2/s^2].
    """

    energy: FormulaEnergy
    unexplained: float


def free_numbers(terms: Sequence[str]) -> list[int]:
    """Places of the terms with a number inside."""
    return [k for k, name in enumerate(terms) if TERMS[name].number]


def best_of_each_size(
    seen: Sequence[Motion], frames: Sequence[list[Frame]], *, volume_only: bool
) -> list[SparseEnergy]:
    """The best energy of one term, of two, and so on.

    Args:
        seen: Motions with their F.
        frames: Of each motion.
        volume_only: Whether the material keeps no shear strain, so that only the volume can tell.
    """
    library = [
        (name, number)
        for name, term in TERMS.items()
        if term.volume or not volume_only
        for number in (term.grid or (1.0,))
    ]
    names = [name for name, _ in library]
    balance = _balance(seen, frames, names, [number for _, number in library])
    scale = balance.matrix.diagonal().clamp_min(1e-300).sqrt()
    matrix, vector = balance.matrix / scale[:, None] / scale, balance.vector / scale
    found = []
    for size in range(1, min(MOST_TERMS, len(library)) + 1):
        subsets = torch.combinations(torch.arange(len(library)), size)
        blocks = matrix[subsets[:, :, None], subsets[:, None, :]] + 1e-13 * torch.eye(size, dtype=matrix.dtype)
        sides = vector[subsets]
        explained = (torch.linalg.solve(blocks, sides) * sides).sum(1)
        structures = dict[tuple[str, ...], list[int]]()
        for place in explained.argsort(descending=True)[:SUBSETS].tolist():
            chosen = subsets[place].tolist()
            structures.setdefault(tuple(names[k] for k in chosen), chosen)
        tried = list(structures.values())[:STRUCTURES]
        refined = [refine(seen, frames, [library[k] for k in chosen], balance, chosen) for chosen in tried]
        found.append(min(refined, key=lambda one: one.unexplained))
    return found


def refine(
    seen: Sequence[Motion],
    frames: Sequence[list[Frame]],
    structure: Sequence[tuple[str, float]],
    balance: Balance,
    chosen: Sequence[int],
    *,
    iterations: int = 6,
) -> SparseEnergy:
    """Coefficients and numbers of a structure from the balance, by Gauss-Newton.

    Args:
        seen: Motions with their F.
        frames: Of each motion.
        structure: Terms and where their numbers begin.
        balance: Of the library.
        chosen: Places of the terms in it.
        iterations: At most.
    """
    terms = [name for name, _ in structure]
    numbers = torch.tensor([number for _, number in structure], dtype=torch.float64)
    own = balance.matrix[chosen][:, chosen]
    c = _solved(own, balance.vector[chosen])
    left = balance.square - float(c @ balance.vector[chosen])
    best = SparseEnergy(FormulaEnergy(terms, c.tolist(), numbers.tolist()), left / balance.count)
    inside = free_numbers(terms)
    for _ in range(iterations if inside else 0):
        wide = _balance(seen, frames, terms, numbers.tolist(), c)
        c = _solved(wide.matrix[: len(terms), : len(terms)], wide.vector[: len(terms)])
        left = (wide.square - float(c @ wide.vector[: len(terms)])) / wide.count
        if left < best.unexplained:
            best = SparseEnergy(FormulaEnergy(terms, c.tolist(), numbers.tolist()), left)
        # columns of numbers are for the coefficients before: close, and at the end the same
        move = _solved(wide.matrix, wide.vector)[len(terms) :]
        size = numbers[inside].abs()
        stepped = numbers[inside] + torch.maximum(torch.minimum(move, 0.3 * size), -0.3 * size)
        small = stepped.abs() < LEAST_NUMBER
        numbers[inside] = torch.where(small, LEAST_NUMBER * numbers[inside].sign(), stepped)
        if bool((move.abs() < 1e-6 * size).all()):
            break
    return best


def _solved(matrix: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    scale = matrix.diagonal().clamp_min(1e-300).sqrt()
    scaled = matrix / scale[:, None] / scale + 1e-13 * torch.eye(len(scale), dtype=matrix.dtype)
    return torch.linalg.solve(scaled, vector / scale) / scale


def _balance(
    seen: Sequence[Motion],
    frames: Sequence[list[Frame]],
    terms: Sequence[str],
    numbers: Sequence[float],
    coefficients: torch.Tensor | None = None,
) -> Balance:
    """Normal equations in the coefficients, and in the numbers where coefficients are given."""
    total: Balance | None = None
    for motion, own in zip(seen, frames, strict=True):

        def columns(frame: Frame, motion: Motion = motion) -> torch.Tensor:
            s = strain_of(motion.F[frame.number])
            values = [torch.tensor(number, dtype=torch.float64) for number in numbers]
            made = [TERMS[name].stress(s, a) for name, a in zip(terms, values, strict=True)]
            for k in free_numbers(terms) if coefficients is not None else ():
                assert coefficients is not None
                step = NUMBER_STEP * values[k].abs()
                stress = TERMS[terms[k]].stress
                made.append(coefficients[k] * (stress(s, values[k] + step) - stress(s, values[k] - step)) / (2 * step))
            return torch.stack(made)

        part = balance_of(own, columns)
        total = part if total is None else total + part
    assert total is not None
    return total
