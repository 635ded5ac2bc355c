"""What a problem has come to on its way, in a checkpoint or for another process.

The kept runs are what the next solve starts near, so that a resume gives the same bits.
"""

import dataclasses
from collections.abc import Mapping

import torch

from simengine.fit.certainty.process import ModelError
from simengine.fit.problem import Problem
from simengine.scene.address import replaced

_HEAD = "kept."


def saved_runs(problem: Problem) -> dict[str, torch.Tensor]:
    """Numbers and state of each kept run, oldest first, of those that solving again would not give to the bit."""
    names, state = list(problem.worlds), {}
    for number, ((run, values), found) in enumerate(problem.runs.kept.items()):
        own = found.state_dict()
        if own:
            head = f"{_HEAD}{number}."
            state[f"{head}run"] = torch.tensor(names.index(run))
            state[f"{head}values"] = torch.tensor([float.fromhex(v) for _, v in values], dtype=torch.float64)
            state |= {f"{head}state.{name}": value for name, value in own.items()}
    return state


def saved_doubts(problem: Problem) -> dict[str, torch.Tensor]:
    """What was said so far of what makes the answer doubtful."""
    return {"doubts": torch.tensor(list("\n".join(problem.doubts).encode()), dtype=torch.uint8)}


def restore_doubts(problem: Problem, state: Mapping[str, torch.Tensor]) -> None:
    """Say again what a checkpoint holds beside what was said of the data already."""
    for text in bytes(state["doubts"].tolist()).decode().splitlines():
        problem.doubt(text)


def restore_runs(problem: Problem, state: Mapping[str, torch.Tensor]) -> None:
    """Put the kept runs of a checkpoint in place of the problem's own."""
    parts: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in state.items():
        if key.startswith(_HEAD):
            number, _, name = key.removeprefix(_HEAD).partition(".")
            parts.setdefault(int(number), {})[name] = value
    runs, _ = problem.placed(problem.start())
    problem.runs.kept.clear()
    for _, own in sorted(parts.items()):
        run = list(problem.worlds)[int(own["run"])]
        values = dict(zip(sorted(runs[run]), own["values"].tolist(), strict=True))
        world = problem.runs.prepared(run)
        world = replaced(world, values) if values else world
        inside = {name.removeprefix("state."): v for name, v in own.items() if name.startswith("state.")}
        found = world.resumed(inside)
        if found is not None:
            problem.runs.kept[run, tuple((name, value.hex()) for name, value in values.items())] = found


def saved_estimates(problem: Problem) -> dict[str, torch.Tensor]:
    """Estimated standard deviations and errors of models, rows left out, and where marks sit."""
    state = {f"sigma.{name}": value for name, value in problem.sigmas.items()}
    state |= {f"mask.{name}": value for name, value in problem.left_out.items()}
    state |= {f"error.{name}": value.tensor() for name, value in problem.errors.items()}
    for name, instrument in problem.instruments.items():
        seen = getattr(instrument, "seen", None)
        if seen is not None:
            state[f"places.{name}"] = seen.places
    return state


def restore_estimates(problem: Problem, state: Mapping[str, torch.Tensor]) -> None:
    """Put what `saved_estimates` gave in place of the problem's own."""
    problem.sigmas = {k.removeprefix("sigma."): v for k, v in state.items() if k.startswith("sigma.")}
    errors = {k.removeprefix("error."): v for k, v in state.items() if k.startswith("error.")}
    problem.errors = {name: ModelError.from_tensor(value) for name, value in errors.items()}
    for name, instrument in problem.instruments.items():
        if f"mask.{name}" in state:
            measured = dataclasses.replace(problem.measured[name], mask=state[f"mask.{name}"])
            problem.measured[name], problem.left_out[name] = measured, measured.mask
        if f"places.{name}" in state:
            seen = dataclasses.replace(instrument.seen, places=state[f"places.{name}"])  # type: ignore[attr-defined]
            problem.instruments[name] = dataclasses.replace(instrument, seen=seen)  # type: ignore[call-arg]
