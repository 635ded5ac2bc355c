"""What a reaction mechanism is: species, their thermodynamics and transport data, and reactions, as tensors."""

import dataclasses

import torch

from simengine.ops.fields.barriers import Barriers
from simengine.ops.fields.linear_burke import LinearBurke
from simengine.ops.fields.pressure_rates import Chebyshev, PressureTable


class MechanismError(ValueError):
    """A mechanism that cannot be read or used. The message names the file, the species or reaction, and the remedy."""


@dataclasses.dataclass(frozen=True)
class Reactions:
    """Mass-action kinetics of R reactions among K species; SI units with the mole.

    Attributes:
        equations: As written, for messages.
        reactants: Stoichiometric coefficients, shape (R, K).
        products: Likewise.
        orders: Exponents of the concentrations in the forward rate, shape (R, K).
        reversible: Which run backwards as well, by equilibrium; bool (R,).
        A: Pre-exponential factors [(m^3/mol)^(order - 1)/s], of the high-pressure limit for fall-off; shape (R,).
        b: Temperature exponents, shape (R,).
        Ea: Activation energies [J/mol], shape (R,).
        third_body: Which are multiplied with the concentration of colliders; bool (R,).
        falloff: Which fall off to the low-pressure limit; bool (R,).
        efficiencies: Of each species as a collider, shape (R, K).
        A_low: Low-pressure limit (1 where there is none), as the next two, shape (R,).
        b_low: Its temperature exponents.
        Ea_low: Its activation energies [J/mol].
        troe: Which of the fall-offs are Troe's; bool (R,).
        troe_parameters: A, T3, T1, T2 [K]; T2 = inf where there is none; shape (R, 4).
        activated: Which of the fall-offs are chemically activated, k = k_low/(1 + Pr) F; bool (R,).
        sri: Which of the fall-offs are SRI's; bool (R,).
        sri_parameters: a, b [K], c [K], d, e; shape (R, 5).
        tsang: Which of the fall-offs are Tsang's; bool (R,).
        tsang_parameters: A and B [1/K] of the centre A + B T; shape (R, 2).
        pressures: Rate constants at several pressures, by which `A T^b exp(-Ea/(R T))`, here 1, is multiplied.
        chebyshev: Chebyshev rate constants, likewise.
        mixtures: Rate constants by the linear mixture rule of colliders, likewise.
        barriers: Activation energies by the heat of reaction, likewise; `Ea` is the intrinsic one, and shifts them.
    """

    equations: tuple[str, ...]
    reactants: torch.Tensor
    products: torch.Tensor
    orders: torch.Tensor
    reversible: torch.Tensor
    A: torch.Tensor
    b: torch.Tensor
    Ea: torch.Tensor
    third_body: torch.Tensor
    falloff: torch.Tensor
    efficiencies: torch.Tensor
    A_low: torch.Tensor
    b_low: torch.Tensor
    Ea_low: torch.Tensor
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


@dataclasses.dataclass(frozen=True)
class LennardJones:
    """Transport data of a species, SI units.

    Attributes:
        geometry: Rotational heat capacity over R: 0 for an atom, 1 for a linear, 1.5 for another molecule.
        well_depth: [J].
        diameter: [m].
        dipole: [C m].
        polarizability: [m^3].
        rotational_relaxation: Collision number at 298 K.
    """

    geometry: float
    well_depth: float
    diameter: float
    dipole: float
    polarizability: float
    rotational_relaxation: float


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """A mechanism of K species.

    Attributes:
        name: For messages.
        species: Names.
        elements: Names of the E elements.
        composition: Atoms of each element in each species, shape (K, E).
        W: Molar masses [kg/mol], shape (K,).
        nasa: NASA-9 coefficients per temperature range, shape (K, G, 9): T^-2 ... T^4, then those of h and s. NASA-7
            is the case without negative powers.
        breaks: Temperatures [K] between ranges, shape (K, G - 1); inf where a species has fewer.
        T_range: Where all species have data [K].
        p_ref: Reference pressure of the entropies [Pa].
        transport: Lennard-Jones data; None for species without.
        reactions: The kinetics.
    """

    name: str
    species: tuple[str, ...]
    elements: tuple[str, ...]
    composition: torch.Tensor
    W: torch.Tensor
    nasa: torch.Tensor
    breaks: torch.Tensor
    T_range: tuple[float, float]
    p_ref: float
    transport: tuple[LennardJones | None, ...]
    reactions: Reactions

    def index(self, species: str) -> int:
        """Position of a species.

        Raises:
            MechanismError: The mechanism does not have it.
        """
        if species not in self.species:
            few = ", ".join(self.species[:30]) + (" ..." if len(self.species) > 30 else "")
            raise MechanismError(f"{self.name}: no species {species[:40]!r}; species: {few}")
        return self.species.index(species)
