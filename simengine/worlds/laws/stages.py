"""The way to a law from motions: what learns, and the searches that follow one another."""

from collections.abc import Sequence
from typing import Any

from simengine.fit.training import AbstractTraining
from simengine.materials import Identity, Material
from simengine.materials.neural_energy import EnergyNetwork
from simengine.materials.neural_yield import YieldNetwork
from simengine.materials.spline_energy import SplineEnergy
from simengine.mpm import MPMModel
from simengine.worlds.laws.balance import BalanceTraining
from simengine.worlds.laws.flow_search import FlowSearch
from simengine.worlds.laws.pressure import PressureTraining
from simengine.worlds.laws.world import LawLearner, LawSpec
from simengine.worlds.motion.momentum_balance import Motion

IMPROVEMENTS = 7  # rounds of the balance, at most, once the moduli and the flow are found


def learner(spec: LawSpec, *, seed: int) -> Material:
    """The laws of a spec before any learning."""
    common: dict[str, Any] = {
        "width": spec.width,
        "modulus": spec.modulus,
        "strain_scale": spec.strain_scale,
        "convexity": spec.convexity,
    }
    energy = SplineEnergy(**common) if spec.form == "spline" else EnergyNetwork(**common, seed=seed)
    return Material(energy, YieldNetwork(strain_scale=spec.strain_scale) if spec.plastic else Identity())


def stages_of(model: MPMModel, motions: Sequence[Motion], spec: LawLearner) -> list[AbstractTraining]:
    """A search of the flow where a law may flow and only positions are known, then rounds of momentum balance.

    Args:
        model: Its material learns.
        motions: What was observed.
        spec: How.
    """
    positions_only = spec.observe == "positions"
    flows = positions_only and spec.plastic
    rounds = IMPROVEMENTS if flows else spec.iterations if positions_only else 1
    stages: list[AbstractTraining] = []
    if flows:
        stages = [FlowSearch(model, motions[0]), PressureTraining(model, motions)]
    balance = BalanceTraining(
        model,
        motions,
        positions_only=positions_only,
        num_iterations=rounds,
        frames=spec.frames,
        laws_known=flows,
    )
    return [*stages, balance]
