"""Chemical equilibrium of an ideal gas at given enthalpy and pressure, by element potentials.

Minimises Gibbs' function with the iteration of S. Gordon & B. J. McBride, NASA RP-1311 (1994), chapter 3: corrections
of ln n_k follow from one potential for each element, the total of moles and ln T.
"""

import torch

from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.gas.units import R


def equilibrium(
    gas: Gas, h: torch.Tensor, p: torch.Tensor, Y: torch.Tensor, *, T: float | torch.Tensor = 2500.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Temperature and composition in which a mixture comes to rest, without gradients.

    Args:
        gas: Species and thermodynamics.
        h: Specific enthalpy [J/kg], shape (b,).
        p: Pressure [Pa], shape (b,).
        Y: Any composition of the right elements, shape (b, K).
        T: Where the iteration starts [K].

    Returns:
        T [K], shape (b,), and mass fractions, shape (b, K).

    Raises:
        ValueError: The iteration did not converge.
    """
    with torch.no_grad():
        rows = [_single(gas, *row) for row in zip(h, p, Y, torch.as_tensor(T, dtype=h.dtype).expand_as(h), strict=True)]
    return torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])


def _single(
    gas: Gas, h: torch.Tensor, p: torch.Tensor, Y: torch.Tensor, T: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    atoms = gas.mechanism.composition
    content = (Y / gas.W) @ atoms  # moles of atoms per kg
    elements = content > 1e-12 * content.max()
    possible = (atoms[:, ~elements] == 0).all(1)
    a, b = atoms[possible][:, elements], content[elements]
    total = b.sum() / 3
    log_n = (total / int(possible.sum())).log().expand(int(possible.sum())).clone()
    log_total, log_T = total.log(), T.log()
    log_p = (p / gas.mechanism.p_ref).log()
    for _ in range(300):
        T, n, total = log_T.exp(), log_n.exp(), log_total.exp()
        enthalpy, heat = gas.h_over_RT(T)[possible], gas.cp_over_R(T)[possible]
        mu = enthalpy - gas.s_over_R(T)[possible] + log_n - log_total + log_p
        an = a * n[:, None]
        count = len(b)
        matrix = torch.zeros(count + 2, count + 2, dtype=h.dtype)
        matrix[:count, :count] = a.T @ an
        matrix[:count, count] = matrix[count, :count] = an.sum(0)
        matrix[:count, -1] = matrix[-1, :count] = an.T @ enthalpy
        matrix[count, count] = n.sum() - total
        matrix[count, -1] = matrix[-1, count] = n @ enthalpy
        matrix[-1, -1] = n @ heat + n @ enthalpy**2
        right = torch.cat(
            (
                b - an.sum(0) + an.T @ mu,
                (total - n.sum() + n @ mu)[None],
                (h / (R * T) - n @ enthalpy + (n * enthalpy) @ mu)[None],
            )
        )
        # Fewer independent elements than elements (a gas of H2O alone) leave a singular matrix: least squares.
        solution = torch.linalg.lstsq(matrix, right[:, None], driver="gelsd").solution[:, 0]
        change = a @ solution[:count] + solution[count] + enthalpy * solution[-1] - mu
        trace = log_n - log_total < -18.42
        largest = torch.cat((5 * solution[-2:].abs(), change[~trace].abs())).max()
        length = (2 / largest).clamp_max(1.0)
        rising = trace & (change > 0)
        if bool(rising.any()):  # a trace species must not overshoot
            room = (-(log_n - log_total) - 9.2103404) / (change - solution[count])
            length = torch.minimum(length, room[rising].abs().min())
        log_n = (log_n + length * change).clamp_min(-300.0)
        log_total, log_T = log_total + length * solution[count], log_T + length * solution[-1]
        log_T = log_T.clamp(5.3, 8.7)
        settled = n * change.abs() < 1e-12 * n.sum()
        if bool(settled.all()) and float(solution[-1].abs()) < 1e-12 and float(length) == 1.0:
            break
    else:
        raise ValueError(f"equilibrium: no convergence from a mixture of {content.tolist()} moles of atoms per kg")
    out = torch.zeros_like(Y)
    out[possible] = log_n.exp() * gas.W[possible]
    return log_T.exp(), out / out.sum()
