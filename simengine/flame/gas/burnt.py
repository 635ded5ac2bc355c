"""What a mixture becomes where no reaction is reversible: complete combustion, and the temperature that follows."""

import torch

from simengine.flame.gas.thermochemistry import Gas


def completely_burnt(gas: Gas, Y: torch.Tensor) -> torch.Tensor:
    """Y after C has become CO2, H H2O and the N of fuels N2, as far as O2 lasts; the rest stays. Shape (b, K).

    Raises:
        MechanismError: The mechanism lacks O2, or a product of what burns.
    """
    mechanism = gas.mechanism
    atoms = {e: mechanism.composition[:, k] for k, e in enumerate(mechanism.elements)}
    zero = torch.zeros(len(mechanism.species), dtype=Y.dtype)
    carbon, hydrogen, oxygen, nitrogen = (atoms.get(e, zero).clone() for e in "CHON")
    for name in ("O2", "CO2", "H2O"):
        if name in mechanism.species:
            k = mechanism.index(name)
            carbon[k] = hydrogen[k] = oxygen[k] = nitrogen[k] = 0.0
    moles, o2 = Y / gas.W, mechanism.index("O2")
    burns = ((carbon + hydrogen) > 0).to(Y.dtype)
    demand = moles @ (carbon + hydrogen / 4 - oxygen * burns / 2)
    share = (moles[:, o2] / demand.clamp_min(1e-30)).clamp_max(1.0)[:, None]
    change = -share * moles * burns
    for name, content in (("CO2", carbon), ("H2O", hydrogen / 2), ("N2", nitrogen * burns / 2)):
        made = share[:, 0] * (moles @ content)
        if bool((made > 0).any()):
            change[:, mechanism.index(name)] += made
    change[:, o2] -= share[:, 0] * demand
    return (moles + change) * gas.W


def temperature_of(gas: Gas, h: torch.Tensor, Y: torch.Tensor, *, first: float = 2000.0) -> torch.Tensor:
    """T [K] at which mixtures Y (b, K) have the enthalpies h (b,) [J/kg], by Newton."""
    T = torch.full_like(h, first)
    for _ in range(30):
        T = (T - (gas.h(T, Y) - h) / gas.cp(T, Y)).clamp(200.0, 6000.0)
    return T
