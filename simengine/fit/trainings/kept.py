"""What a checkpoint holds of a problem beside the search: kept runs, which the next solve starts near, and doubts."""

from collections.abc import Mapping

import torch

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
