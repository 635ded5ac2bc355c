"""Combinations of table entries by the weights of blocks, in plain torch."""

import torch


def table_product(
    table: torch.Tensor, entries: torch.Tensor, omega: torch.Tensor, sample: torch.Tensor
) -> torch.Tensor:
    """Fields f[p, k, e] = table[sample_p, entries_ke] . omega_pk.

    Args:
        table: Shape (samples, q, n).
        entries: Of each block, int64, shape (K, e).
        omega: Weights, shape (p, K, n).
        sample: To which of the tables each problem belongs, int64, shape (p,).

    Returns:
        Shape (p, K, e).
    """
    return (table[sample][:, entries] @ omega.unsqueeze(-1)).squeeze(-1)


def table_sums(table: torch.Tensor, entries: torch.Tensor, fields: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
    """The transpose, sum_e fields_pke table[sample_p, entries_ke].

    Args:
        table: Shape (samples, q, n).
        entries: Shape (K, e).
        fields: Shape (p, K, e).
        sample: Shape (p,).

    Returns:
        Shape (p, K, n).
    """
    return (table[sample][:, entries].mT @ fields.unsqueeze(-1)).squeeze(-1)
