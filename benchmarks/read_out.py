"""Learned laws read out as formulas: hidden laws, one motion of each, terms, numbers with bars and rollouts.

    simengine bench read_out [LAW ...] [--throws N [--steps M]]

Laws: plasticine, sand, gent, ogden, jelly; all unless named. Each throws the cube of NCLaw (1000 particles, 1000
steps), a law is learned from the positions alone (`observe = "positions"`), and the formula is read out of it. A row
for each number: truth, found, standard deviation, and how many of these it is off; a row for each law: whether the
terms are the hidden ones, the position MSE [m^2] of the formula and of the learned law in a throw that was not
learned from, CPU time. The motion is one of our own simulator at the resolution of the reading: a twin without error
of the model.

With `--throws N` only the bars are judged: N throws of M steps (300) with other velocities, the hidden terms given,
numbers that start 2 % off. A row for each law: how many of the 95 % intervals hold, and the root mean square of what
the numbers are off in standard deviations, which is 1 where bars are right.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from simengine.materials import Identity, Material
from simengine.materials.formula import FormulaEnergy
from simengine.mpm import MPMSolver
from simengine.solve import rollout
from simengine.worlds.laws.balance import with_material
from simengine.worlds.laws.formula.numbers import Follower, Law, numbers_of
from simengine.worlds.laws.formula.read_out import read_out
from simengine.worlds.laws.stages import learner, stages_of
from simengine.worlds.laws.world import VELOCITY_SEEDS, LawLearner, NCLawWorld
from simengine.worlds.motion.materials import Jelly, MaterialSpec, Plasticine, Sand
from simengine.worlds.motion.momentum_balance import record
from simengine.worlds.motion.world import MPMWorld

SOFT: dict[str, Any] = {"modulus": 1e5, "strain_scale": 0.3, "width": 64}
FLOWS: dict[str, Any] = {"width": 64, "convexity": "full", "plastic": True}
SLOPE = math.sqrt(2 / 3) * 2 * math.sin(math.radians(25)) / (3 - math.sin(math.radians(25)))
RUBBERS = {
    "gent": FormulaEnergy(["gent", "ln J squared"], [4e4, 6e4], [1.0, 1.0]),
    "ogden": FormulaEnergy(["ogden", "J squared"], [4e4, 6e4], [3.3, 1.0]),
}
SPECS: dict[str, MaterialSpec] = {
    "plasticine": Plasticine(E=3e5, nu=0.25, yield_stress=5e3),
    "sand": Sand(E=1e6, nu=0.2, friction_angle=25.0, volume_correction=False),
    "jelly": Jelly(E=1e5, nu=0.2),
}
LAWS: dict[str, tuple[dict[str, Any], tuple[str, ...], dict[str, float]]] = {  # what learns, hidden terms and numbers
    "plasticine": (
        {"modulus": 3e5, "strain_scale": 0.03, **FLOWS}, ("hencky", "ln J squared"),
        {"hencky c": 1.2e5, "ln J squared c": 2e5, "level": 5e3 / 2.4e5, "yield stress, 2 mu level": 5e3},
    ),
    "sand": (
        {"modulus": 1e6, "strain_scale": 0.01, **FLOWS}, ("hencky", "ln J squared"),
        {"hencky c": 1e6 / 2.4, "ln J squared c": 1e6 / 1.8, "slope": SLOPE * 2.0, "friction angle": 25.0},
    ),
    "gent": (SOFT, ("gent", "ln J squared"), {"gent c": 4e4, "ln J squared c": 6e4, "gent J_m": 1.0}),
    "ogden": (SOFT, ("ogden", "J squared"), {"ogden c": 4e4, "J squared c": 6e4, "ogden alpha": 3.3}),
    "jelly": (SOFT, ("corotated", "J - 1 squared"), {"corotated c": 1e5 / 2.4, "J - 1 squared c": 1e5 / 3.6}),
}  # fmt: skip


def motion_of(world: MPMWorld, material: Material | None) -> torch.Tensor:
    """Positions at every fifth step; of the world's own material where none is given."""
    model, state = world.build(device="cpu")
    model = with_material(model, material) if material is not None else model
    with torch.no_grad():
        return rollout(MPMSolver(model), state, world.grid.num_steps, save_every=5).states.x.double()


def read(name: str) -> list[dict[str, Any]]:
    options, terms, truth = LAWS[name]
    hidden = Material(RUBBERS[name], Identity()) if name in RUBBERS else None
    made = NCLawWorld(material=SPECS.get(name, SPECS["jelly"]))
    model, state = made.experiment().build(device="cpu")
    if hidden is not None:
        model = with_material(model, hidden)
    seen, start = record(model, state, made.num_steps), time.process_time()
    spec = LawLearner(**options, observe="positions", iterations=5)
    learned = with_material(model, learner(spec, seed=0))
    for stage in stages_of(learned, [seen], spec):
        while not stage.converged and getattr(stage, "iteration", 0) < stage.num_iterations:
            stage.step()
    middle = time.process_time()
    formula = read_out(learned, [seen])
    seconds = time.process_time() - middle
    thrown = made.thrown(VELOCITY_SEEDS[0])
    true = motion_of(thrown, hidden)
    law = learned.materials[0]
    assert isinstance(law, Material)
    errors = {
        "formula MSE": float((motion_of(thrown, formula.material()) - true).square().mean()),
        "learned MSE": float((motion_of(thrown, law) - true).square().mean()),
    }
    right = formula.energy.terms == terms
    rows: list[dict[str, Any]] = [
        {
            "name": name, "found": formula.words(), "right terms": right, **errors,
            "learning_cpu_s": round(middle - start, 1), "reading_cpu_s": round(seconds, 1),
        }
    ]  # fmt: skip
    for row in formula.table():
        told: dict[str, Any] = {"name": f"{name}: {row['name']} [{row['unit']}]", "found": row["value"]}
        told["s.d."] = row["std"]
        if row["name"] in truth:
            told["truth"] = truth[row["name"]]
            told["off in s.d."] = (row["value"] - told["truth"]) / row["std"]
        rows.append(told)
    return rows


def hidden_law(name: str) -> Law:
    """The law that moves the cube, as a formula."""
    _, terms, truth = LAWS[name]
    if name in RUBBERS:
        return Law(RUBBERS[name], None)
    energy = FormulaEnergy(list(terms), [truth[f"{term} c"] for term in terms], [1.0] * len(terms))
    lines = {
        "plasticine": ({"level": truth.get("level", 0.0), "slope": 0.0, "cap": math.inf}, ("level",)),
        "sand": ({"level": 0.0, "slope": truth.get("slope", 0.0), "cap": 0.0}, ("slope",)),
    }
    return Law(energy, *lines[name]) if name in lines else Law(energy, None)


def held(name: str, throws: int, steps: int) -> Iterator[dict[str, Any]]:
    """How often bars hold, over throws that differ in velocity and spin."""
    law = hidden_law(name)
    truth, off, held = law.values(), list[torch.Tensor](), 0
    start = time.process_time()
    for seed in range(throws):
        made = NCLawWorld(material=SPECS.get(name, SPECS["jelly"]), num_steps=steps)
        model, state = made.thrown(100 + seed).build(device="cpu")
        if name in RUBBERS:
            model = with_material(model, law.material())
        follower = Follower(model, [record(model, state, steps)])
        found = numbers_of(follower, law.set(truth * 1.02))
        off.append((found.law.values() - truth) / found.covariance.diagonal().sqrt())
        held += int((off[-1].abs() < 1.96).sum())
        so_far = torch.stack(off)
        numbers = dict(zip(law.names(), so_far.square().mean(0).sqrt().tolist(), strict=True))
        yield {
            "name": f"{name}: bars over throws", "throws": len(off), "steps": steps,
            "intervals held [%]": round(100 * held / so_far.numel(), 1),
            **{f"off in s.d., rms: {number}": round(value, 2) for number, value in numbers.items()},
            "last": [round(value, 2) for value in off[-1].tolist()],
            "relative bars": [float(f"{v:.1e}") for v in (found.covariance.diagonal().sqrt() / truth).tolist()],
            "cpu_s": round(time.process_time() - start, 1),
        }  # fmt: skip


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(prog="simengine bench read_out")
    parser.add_argument("laws", nargs="*", choices=[*LAWS, []], metavar="LAW")
    parser.add_argument("--throws", type=int, default=0)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args(list(arguments))
    torch.set_num_threads(1)
    rows = list[dict[str, Any]]()
    for name in options.laws or LAWS:
        own = held(name, options.throws, options.steps) if options.throws else read(name)
        found = list[dict[str, Any]]()
        for row in own:
            found.append(row)
            print(row, file=sys.stderr, flush=True)
        rows += found[-1:] if options.throws else found
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
