"""J^T J and J^T r of rows that are combinations of a few entries of a table, in plain torch."""

import torch


def normal_equations(
    table: torch.Tensor, index: torch.Tensor, coefficient: torch.Tensor, residual: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Normal matrix and right-hand side of problems whose Jacobian rows are J_i = sum_a coefficient_ia table[index_ia].

    Args:
        table: Linear functionals of the basis functions, shape (p, q, n), or (1, q, n) for all.
        index: Entries of the table that a row combines, int64, shape (p, m, s).
        coefficient: Their weights, shape (p, m, s).
        residual: Shape (p, m).

    Returns:
        J^T J, shape (p, n, n), and J^T r, shape (p, n).
    """
    grams, gradients = [], []
    for rows, where, weight, r in zip(table.expand(len(index), -1, -1), index, coefficient, residual, strict=True):
        j = (weight.unsqueeze(-1) * rows[where]).sum(dim=1)
        grams.append(j.mT @ j)
        gradients.append(j.mT @ r)
    return torch.stack(grams), torch.stack(gradients)
