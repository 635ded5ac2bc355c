"""Structures of the Jacobian: how many products J s find it, how it is stored, and what normal equations it makes."""

import abc
import dataclasses

import torch

from simengine.solve.least_squares.structures.gram import (
    AbstractGram,
    BlockBandedGram,
    BlockDiagonalGram,
    DenseGram,
    Linearisation,
)


class AbstractStructure(abc.ABC):
    """A layout of J (m, n), known before the solve. `gram` is the layout that J^T J has then."""

    gram: AbstractGram

    @abc.abstractmethod
    def shape(self, m: int, n: int) -> tuple[int, ...]:
        """Shape of the stored J of one problem.

        Raises:
            ValueError: m or n does not fit the structure.
        """

    @abc.abstractmethod
    def seeds(self, n: int) -> torch.Tensor:
        """Directions s whose products J s hold every entry of J once, float64, shape (c, n)."""

    @abc.abstractmethod
    def unpack(self, products: torch.Tensor) -> torch.Tensor:
        """J in its layout, shape (b, *shape), from the products with the seeds, shape (b, c, m)."""

    @abc.abstractmethod
    def product(self, jacobian: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """J v, shape (b, m), for v of shape (b, n)."""

    @abc.abstractmethod
    def normal_equations(self, jacobian: torch.Tensor, r: torch.Tensor) -> Linearisation:
        """J^T J and J^T r in the layout of `gram`, for r of shape (b, m)."""


@dataclasses.dataclass(frozen=True)
class Dense(AbstractStructure):
    """Every residual may depend on every unknown: J (m, n).

    Attributes:
        qr: Factorise J itself instead of J^T J: dearer, and right at conditions of 1e10 where J^T J ends at 1e7. Once
            differentiable, and not for `UnrolledAdjoint`.
    """

    qr: bool = False
    gram = DenseGram()

    def shape(self, m: int, n: int) -> tuple[int, ...]:
        """(m, n)."""
        return m, n

    def seeds(self, n: int) -> torch.Tensor:
        """Unit vectors."""
        return torch.eye(n, dtype=torch.float64)

    def unpack(self, products: torch.Tensor) -> torch.Tensor:
        """The products are the columns."""
        return products.mT

    def product(self, jacobian: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """A dense product."""
        return (jacobian @ v.unsqueeze(-1)).squeeze(-1)

    def normal_equations(self, jacobian: torch.Tensor, r: torch.Tensor) -> Linearisation:
        """Dense."""
        gram = jacobian.mT @ jacobian
        lin = {
            "gradient": (jacobian.mT @ r.unsqueeze(-1)).squeeze(-1),
            "diagonal": gram.diagonal(dim1=1, dim2=2).clone(),
            "gram": gram,
        }
        if self.qr:
            if torch.is_grad_enabled() and jacobian.requires_grad:
                raise RuntimeError("Dense(qr=True) has no gradient through its iterations; use ImplicitAdjoint")
            lin["root"] = torch.linalg.qr(jacobian, mode="r").R
        return lin


def _split(m: int, n: int, num: int) -> tuple[int, int]:
    if m % num or n % num:
        raise ValueError(f"{num} blocks need numbers of residuals and unknowns that {num} divides, got {m} and {n}")
    return m // num, n // num


@dataclasses.dataclass(frozen=True)
class BlockDiagonal(AbstractStructure):
    """K blocks in a row, the residuals of a block depending on its own unknowns only: J (K, m/K, n/K).

    Forward mode takes n/K products for all of J.

    Attributes:
        num_blocks: K; residuals and unknowns are ordered block by block.
    """

    num_blocks: int
    gram = BlockDiagonalGram()

    def __post_init__(self) -> None:
        if self.num_blocks < 1:
            raise ValueError(f"num_blocks: expected at least 1, got {self.num_blocks}")

    def shape(self, m: int, n: int) -> tuple[int, ...]:
        """(K, M, N)."""
        return self.num_blocks, *_split(m, n, self.num_blocks)

    def seeds(self, n: int) -> torch.Tensor:
        """The same unit vector in every block."""
        return torch.eye(n // self.num_blocks, dtype=torch.float64).repeat(1, self.num_blocks)

    def unpack(self, products: torch.Tensor) -> torch.Tensor:
        """Column c of every block stands in product c."""
        return products.unflatten(2, (self.num_blocks, -1)).permute(0, 2, 3, 1)

    def product(self, jacobian: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Block by block."""
        return (jacobian @ v.unflatten(1, (self.num_blocks, -1)).unsqueeze(-1)).flatten(1)

    def normal_equations(self, jacobian: torch.Tensor, r: torch.Tensor) -> Linearisation:
        """A block-diagonal normal matrix."""
        blocks = jacobian.mT @ jacobian
        gradient = jacobian.mT @ r.unflatten(1, (self.num_blocks, -1)).unsqueeze(-1)
        return {
            "gradient": gradient.flatten(1),
            "diagonal": blocks.diagonal(dim1=2, dim2=3).flatten(1),
            "blocks": blocks,
        }


@dataclasses.dataclass(frozen=True)
class BlockTridiagonal(AbstractStructure):
    """K blocks in a row, the residuals of a block depending on its unknowns and its neighbours': J (K, 3, m/K, n/K).

    J[k, d] is the derivative of the residuals of block k by the unknowns of block k - 1 + d; what lies outside is not
    used. J^T J couples each block to the next two. Forward mode takes 3 n/K products for all of J.

    Attributes:
        num_blocks: K; residuals and unknowns are ordered block by block.
    """

    num_blocks: int
    gram = BlockBandedGram()

    def __post_init__(self) -> None:
        if self.num_blocks < 1:
            raise ValueError(f"num_blocks: expected at least 1, got {self.num_blocks}")

    def shape(self, m: int, n: int) -> tuple[int, ...]:
        """(K, 3, M, N)."""
        rows, columns = _split(m, n, self.num_blocks)
        return self.num_blocks, 3, rows, columns

    def seeds(self, n: int) -> torch.Tensor:
        """The same unit vector in every third block."""
        size = n // self.num_blocks
        every_third = torch.eye(3, dtype=torch.float64).repeat(1, (self.num_blocks + 2) // 3)[:, : self.num_blocks]
        return torch.kron(every_third, torch.eye(size, dtype=torch.float64))

    def unpack(self, products: torch.Tensor) -> torch.Tensor:
        """The unknowns of block j are those of colour j mod 3, of which a residual sees at most one block."""
        by_colour = products.unflatten(1, (3, -1)).unflatten(3, (self.num_blocks, -1))  # (b, 3, N, K, M)
        k = torch.arange(self.num_blocks, device=products.device)
        bands = [by_colour[:, (k + d - 1) % 3, :, k].permute(1, 0, 3, 2) for d in range(3)]  # each (b, K, M, N)
        return self._inside(torch.stack(bands, dim=2))

    def _inside(self, jacobian: torch.Tensor) -> torch.Tensor:
        keep = torch.ones(self.num_blocks, 3, 1, 1, dtype=jacobian.dtype, device=jacobian.device)
        keep[0, 0] = keep[-1, 2] = 0
        return jacobian * keep

    def product(self, jacobian: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Three bands."""
        x = torch.nn.functional.pad(v.unflatten(1, (self.num_blocks, -1)), (0, 0, 1, 1))
        near = torch.stack([x[:, d : d + self.num_blocks, :, None] for d in range(3)], dim=2)
        return (self._inside(jacobian) @ near).sum(dim=2).flatten(1)

    def normal_equations(self, jacobian: torch.Tensor, r: torch.Tensor) -> Linearisation:
        """A normal matrix with two bands on each side of its diagonal."""
        num, j = self.num_blocks, self._inside(jacobian)
        b, size = len(j), j.shape[-1]
        local = torch.einsum("bkdmi,bkemj->bkdeij", j, j)  # of block row k at block columns k - 1 + d, k - 1 + e
        rhs = torch.einsum("bkdmi,bkm->bkdi", j, r.unflatten(1, (num, -1)))
        bands = [j.new_zeros(b, num + 2, size, size) for _ in range(3)]
        gradient = j.new_zeros(b, num + 2, size)
        for e in range(3):
            gradient[:, e : e + num] += rhs[:, :, e]
            for d in range(e, 3):
                bands[d - e][:, e : e + num] += local[:, :, d, e]
        blocks = bands[0][:, 1:-1]
        return {
            "gradient": gradient[:, 1:-1].flatten(1),
            "diagonal": blocks.diagonal(dim1=2, dim2=3).flatten(1),
            "blocks": blocks,
            "lower": bands[1][:, 1:num],
            "second": bands[2][:, 1 : max(num - 1, 1)],
        }
