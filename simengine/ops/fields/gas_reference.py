"""Thermodynamics and mass-action kinetics of an ideal gas in plain torch; what `ops.gas` computes by kernels.

Temperatures T have shape (...), concentrations C and species (..., K), reactions (..., R); SI units with the mole.
"""

import dataclasses

import torch

from simengine.ops.fields.barriers import Barriers
from simengine.ops.fields.linear_burke import LinearBurke
from simengine.ops.fields.pressure_rates import Chebyshev, Falloff, PressureTable, R


@dataclasses.dataclass(frozen=True)
class Rates:
    """What rates depend on, each a possible leaf.

    Attributes:
        A: Pre-exponential factors [SI], shape (R,).
        b: Temperature exponents, shape (R,).
        Ea: Activation energies [J/mol], shape (R,).
        orders: Exponents of the concentrations in the forward rate, shape (R, K).
        A_low: Pre-exponential factors of the low-pressure limits (1 where there is none), shape (R,).
        b_low: Their temperature exponents, shape (R,).
        Ea_low: Their activation energies [J/mol], shape (R,).
    """

    A: torch.Tensor
    b: torch.Tensor
    Ea: torch.Tensor
    orders: torch.Tensor
    A_low: torch.Tensor
    b_low: torch.Tensor
    Ea_low: torch.Tensor

    @property
    def low(self) -> torch.Tensor:
        """A, b, Ea of the low-pressure limits, shape (R, 3)."""
        return torch.stack((self.A_low, self.b_low, self.Ea_low), dim=1)

    def detached(self) -> "Rates":
        """The same without gradients."""
        return Rates(*(getattr(self, field.name).detach() for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True, eq=False)
class Kinetics:
    """A mechanism as tensors.

    Attributes:
        nasa: NASA-9 coefficients, shape (K, G, 9).
        breaks: Temperatures between ranges [K], shape (K, G - 1).
        p_ref: Reference pressure of the entropies [Pa].
        rates: Rate parameters.
        reactants: Stoichiometric coefficients, shape (R, K).
        products: Likewise.
        reversible: bool (R,).
        third_body: Which are multiplied with the concentration of colliders; bool (R,).
        falloff: Which fall off to a low-pressure limit; bool (R,).
        efficiencies: Of the colliders, shape (R, K).
        troe: Which fall-offs are Troe's; bool (R,).
        troe_parameters: a, T3, T1, T2 [K], shape (R, 4); T2 = inf where there is none.
        activated: Which fall-offs are chemically activated; bool (R,); None for none, as the next.
        sri: Which fall-offs are SRI's; bool (R,).
        sri_parameters: Shape (R, 5).
        tsang: Which fall-offs are Tsang's; bool (R,).
        tsang_parameters: Shape (R, 2).
        pressures: Tables over pressure that multiply the rate constants of their reactions; None for none.
        chebyshev: Chebyshev polynomials that do likewise; None for none.
        mixtures: Linear mixture rules of colliders that do likewise; None for none.
        barriers: Activation energies by the heat of reaction, of which `rates` has the intrinsic; None for none.
        smoothing: Concentrations [mol/m^3] below which a power of fractional order goes to zero linearly.
    """

    nasa: torch.Tensor
    breaks: torch.Tensor
    p_ref: float
    rates: Rates
    reactants: torch.Tensor
    products: torch.Tensor
    reversible: torch.Tensor
    third_body: torch.Tensor
    falloff: torch.Tensor
    efficiencies: torch.Tensor
    troe: torch.Tensor
    troe_parameters: torch.Tensor
    activated: torch.Tensor
    sri: torch.Tensor
    sri_parameters: torch.Tensor
    tsang: torch.Tensor
    tsang_parameters: torch.Tensor
    pressures: PressureTable | None = None
    chebyshev: Chebyshev | None = None
    mixtures: LinearBurke | None = None
    barriers: Barriers | None = None
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        orders = self.rates.orders
        plain = (orders == self.reactants).all(1) & (orders == orders.round()).all(1)
        plain &= (self.products == self.products.round()).all(1)
        store = object.__setattr__
        store(self, "fractional", torch.nonzero(~plain)[:, 0])
        store(self, "limits", self._limits(self.falloff))
        store(self, "change", self.products - self.reactants)
        store(self, "forward_slots", self._slots(torch.where(plain[:, None], orders, 0.0)))
        reverse = torch.where((plain & self.reversible)[:, None], self.products, 0.0)
        store(self, "reverse_slots", self._slots(reverse))

    fractional: torch.Tensor = dataclasses.field(init=False)
    limits: Falloff = dataclasses.field(init=False)
    change: torch.Tensor = dataclasses.field(init=False)
    forward_slots: torch.Tensor = dataclasses.field(init=False)
    reverse_slots: torch.Tensor = dataclasses.field(init=False)

    def _limits(self, chosen: torch.Tensor) -> Falloff:
        """The fall-off of chosen reactions, bool (R,)."""
        which = torch.nonzero(chosen)[:, 0]
        names = ("activated", "troe", "troe_parameters", "sri", "sri_parameters", "tsang", "tsang_parameters")
        return Falloff(which, *(getattr(self, name)[which] for name in names))

    @staticmethod
    def _slots(orders: torch.Tensor) -> torch.Tensor:
        """Species of each factor of a product of concentrations; K stands for 1. Shape (R, most factors)."""
        rows = [[k for k, n in enumerate(row) for _ in range(round(n))] for row in orders.tolist()]
        most = max((len(row) for row in rows), default=0)
        padded = [row + [orders.shape[1]] * (most - len(row)) for row in rows]
        return torch.tensor(padded, dtype=torch.long).reshape(len(rows), most)


def _select(kinetics: Kinetics, values: torch.Tensor, T: torch.Tensor) -> torch.Tensor:
    """Of values in every range (..., K G) those of the range T (...) is in, (..., K)."""
    groups = kinetics.nasa.shape[1]
    values = values.unflatten(-1, (-1, groups))
    chosen = values[..., 0]
    for g in range(1, groups):
        chosen = torch.where(T.unsqueeze(-1) >= kinetics.breaks[:, g - 1], values[..., g], chosen)
    return chosen


def _coefficients(kinetics: Kinetics) -> torch.Tensor:
    return kinetics.nasa.flatten(0, 1).T  # (9, K G)


def cp_over_R(kinetics: Kinetics, T: torch.Tensor) -> torch.Tensor:
    """Molar heat capacity of each species over R, (..., K)."""
    powers = torch.stack([T**n for n in range(-2, 5)], dim=-1)
    return _select(kinetics, powers @ _coefficients(kinetics)[:7], T)


def cp_slope_over_R(kinetics: Kinetics, T: torch.Tensor) -> torch.Tensor:
    """Its derivative in T [1/K], (..., K)."""
    powers = torch.stack([n * T ** (n - 1) for n in range(-2, 5)], dim=-1)
    return _select(kinetics, powers @ _coefficients(kinetics)[:7], T)


def h_over_RT(kinetics: Kinetics, T: torch.Tensor) -> torch.Tensor:
    """Molar enthalpy over R T, (..., K)."""
    terms = [-(T**-2), T.log() / T, *(T**n / (n + 1) for n in range(5)), 1 / T]
    return _select(kinetics, torch.stack(terms, dim=-1) @ _coefficients(kinetics)[:8], T)


def s_over_R(kinetics: Kinetics, T: torch.Tensor) -> torch.Tensor:
    """Molar entropy over R at the reference pressure, (..., K)."""
    terms = [-(T**-2) / 2, -1 / T, T.log(), *(T**n / n for n in range(1, 5)), torch.ones_like(T)]
    rows = _coefficients(kinetics)
    return _select(kinetics, torch.stack(terms, dim=-1) @ torch.cat((rows[:7], rows[8:])), T)


def rate_constants(kinetics: Kinetics, T: torch.Tensor, C: torch.Tensor, rates: Rates) -> torch.Tensor:
    """Forward rate constants with fall-off and colliders, (..., R)."""
    log_T, inverse = T.log().unsqueeze(-1), 1 / (R * T).unsqueeze(-1)
    k = rates.A * torch.exp(rates.b * log_T - rates.Ea * inverse)
    if bool((kinetics.third_body | kinetics.falloff).any()):
        colliders = C @ kinetics.efficiencies.T
        k = torch.where(kinetics.third_body, k * colliders, k)
        some = kinetics.limits.which
        if len(some):
            A, b, Ea = rates.low[some].unbind(1)
            low = A * torch.exp(b * log_T - Ea * inverse)
            k = k.index_copy(-1, some, kinetics.limits(T.unsqueeze(-1), colliders[..., some], k[..., some], low))
    for table in (kinetics.pressures, kinetics.chebyshev):
        if table is not None:
            M = C.sum(-1, keepdim=True).expand(*C.shape[:-1], len(table.which))
            k = k.index_copy(-1, table.which, (k[..., table.which] * table(T.unsqueeze(-1), M)).to(k))
    if kinetics.mixtures is not None:
        some = kinetics.mixtures.which
        k = k.index_copy(-1, some, (k[..., some] * kinetics.mixtures(T.unsqueeze(-1), C.unsqueeze(-2))).to(k))
    if kinetics.barriers is not None:
        some, hot = kinetics.barriers.which, T.unsqueeze(-1)
        heat = R * hot * (h_over_RT(kinetics, T) @ kinetics.change[some].T)
        k = k.index_copy(-1, some, (k[..., some] * kinetics.barriers(hot, heat)).to(k))
    return k


def tabled(kinetics: Kinetics) -> torch.Tensor:
    """Which reactions the kernels take from `table_factors`: all but Arrhenius, Lindemann and Troe."""
    which = kinetics.activated | kinetics.sri | kinetics.tsang
    for table in (kinetics.pressures, kinetics.chebyshev, kinetics.mixtures, kinetics.barriers):
        if table is not None:
            which = which.index_fill(0, table.which, True)
    return which


def table_factors(
    kinetics: Kinetics,
    T: torch.Tensor,
    C: torch.Tensor,
    A: torch.Tensor,
    b: torch.Tensor,
    Ea: torch.Tensor,
    low: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """By what A T^b exp(-Ea/(R T)) of the S tabled reactions is multiplied, and derivatives, at n points; (n, S, 4).

    The factor, its d ln/dT, its d/d[M], and d ln of their product in d ln of what is multiplied. Beside it d/dC of the
    factors of the mixture rules, of which d/d[M] is 0; (n, B, K).
    """
    which = torch.nonzero(tabled(kinetics))[:, 0]
    out, mixtures = T.new_zeros(len(T), len(which), 4), kinetics.mixtures
    if not len(which):
        return out, T.new_zeros(len(T), 0, C.shape[1])
    place = {r: k for k, r in enumerate(which.tolist())}

    def at(some: torch.Tensor) -> torch.Tensor:
        return torch.tensor([place[r] for r in some.tolist()], dtype=torch.long)

    rules = at(mixtures.which if mixtures is not None else which[:0])
    with torch.enable_grad():
        hot = T.detach()[:, None].expand(-1, len(which)).clone().requires_grad_()
        M = (C.detach() @ kinetics.efficiencies[which].to(C).T).requires_grad_()
        mixed = C.detach()[:, None].expand(-1, len(rules), -1).clone().requires_grad_()
        factor = torch.ones_like(M)
        form = kinetics._limits(kinetics.activated | kinetics.sri | kinetics.tsang)
        own, some = at(form.which), form.which
        inverse = 1 / (R * hot[:, own])
        high = A[some] * torch.exp(b[some] * hot[:, own].log() - Ea[some] * inverse)
        lowest = low[some, 0] * torch.exp(low[some, 1] * hot[:, own].log() - low[some, 2] * inverse)
        factor = factor.index_copy(1, own, (form(hot[:, own], M[:, own], high, lowest) / high).to(factor))
        for table in (kinetics.pressures, kinetics.chebyshev):
            if table is not None:
                own = at(table.which)
                factor = factor.index_copy(1, own, table(hot[:, own], M[:, own]).to(factor))
        if mixtures is not None:
            factor = factor.index_copy(1, rules, mixtures(hot[:, rules], mixed).to(factor))
        if kinetics.barriers is not None:
            some, own = kinetics.barriers.which, at(kinetics.barriers.which)
            heat = R * hot[:, own] * (h_over_RT(kinetics, hot[:, own]) * kinetics.change[some].to(C)).sum(-1)
            factor = factor.index_copy(1, own, kinetics.barriers(hot[:, own], heat).to(factor))
        of_T, of_M, of_C = torch.autograd.grad(factor.sum(), (hot, M, mixed), materialize_grads=True)
    factor, M = factor.detach(), M.detach()
    none = factor == 0
    safe = torch.where(none, 1.0, factor)
    out[..., 0], out[..., 1], out[..., 2] = factor, torch.where(none, 0.0, of_T / safe), of_M
    # Of the limits that blend, doubling both doubles k, and doubling k_low is doubling [M], but where it does not fall.
    whole = torch.where(kinetics.falloff[which] & kinetics.activated[which], 0.0, 1.0)
    slope = torch.where(kinetics.falloff[which], M * of_M / safe, 0.0)
    out[..., 3] = whole - slope
    return out, of_C


def _powers(kinetics: Kinetics, C: torch.Tensor, orders: torch.Tensor) -> torch.Tensor:
    """Products of powers of concentrations of any order (P, K), smoothed near 0; (..., P)."""
    base = (C.clamp_min(0.0) + kinetics.smoothing).unsqueeze(-2)
    involved = orders != 0
    safe = torch.where(involved, base, 1.0)
    return torch.where(involved, C.unsqueeze(-2) * safe ** (orders - 1), 1.0).prod(-1)


def rates_of_progress(kinetics: Kinetics, T: torch.Tensor, C: torch.Tensor, rates: Rates) -> torch.Tensor:
    """Net rates of progress [mol/(m^3 s)], (..., R)."""
    k = rate_constants(kinetics, T, C, rates)
    padded = torch.cat((C, torch.ones_like(C[..., :1])), dim=-1)
    forward = k * padded[..., kinetics.forward_slots].prod(-1)
    if len(kinetics.fractional):
        some = kinetics.fractional
        powers = _powers(kinetics, C, rates.orders[some])
        forward = forward.index_copy(-1, some, forward[..., some] * powers)
    if not bool(kinetics.reversible.any()):
        return forward
    g = h_over_RT(kinetics, T) - s_over_R(kinetics, T)
    log_p = (kinetics.p_ref / (R * T)).log().unsqueeze(-1)
    log_K = -(g @ kinetics.change.T) + kinetics.change.sum(1) * log_p
    most = 80.0 if T.dtype == torch.float32 else 690.0
    back = k * torch.exp(-log_K.clamp(-most, most)) * padded[..., kinetics.reverse_slots].prod(-1)
    some = kinetics.fractional[kinetics.reversible[kinetics.fractional]]
    if len(some):
        back = back.index_copy(-1, some, back[..., some] * _powers(kinetics, C, kinetics.products[some]))
    return forward - torch.where(kinetics.reversible, back, 0.0)


def production(kinetics: Kinetics, T: torch.Tensor, C: torch.Tensor, rates: Rates) -> torch.Tensor:
    """Net molar production of each species [mol/(m^3 s)], (..., K)."""
    return rates_of_progress(kinetics, T, C, rates) @ kinetics.change


def production_jacobian(
    kinetics: Kinetics, T: torch.Tensor, C: torch.Tensor, rates: Rates
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Production (..., K), its derivatives in T at constant C (..., K) and in C (..., K, K), a reverse sweep each."""
    with torch.enable_grad():
        T, C = T.detach().requires_grad_(), C.detach().requires_grad_()
        w = production(kinetics, T, C, rates)
        rows = [torch.autograd.grad(entry.sum(), (T, C), retain_graph=True) for entry in w.unbind(-1)]
    return w.detach(), torch.stack([row[0] for row in rows], dim=-1), torch.stack([row[1] for row in rows], dim=-2)
