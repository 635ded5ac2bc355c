"""The one loop of every fit and training: progress, log, checkpoints, interruption and resume."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from simengine.fit.result import FitResult
from simengine.fit.training import AbstractTraining
from simengine.interrupt import deferred_interrupt
from simengine.io import checkpoint
from simengine.io.run_directory import RunDirectory
from simengine.shown import cut

_RNG = "rng_state"


Callback = Callable[[int, Mapping[str, float], Mapping[str, float]], bool | None]


class NonFiniteLossError(RuntimeError):
    """A step gave a loss that is not finite; the last checkpoint is from before it."""


def fit(
    training: AbstractTraining,
    out: RunDirectory,
    *,
    checkpoint_seconds: float = 20.0,
    progress: bool = True,
    callback: Callback | None = None,
) -> FitResult:
    """Drive a training to its end, from its checkpoint in `out` if there is one.

    The random state is saved with the training's own, so on a CPU a resumed run ends bitwise where an uninterrupted one
    does. Ctrl-C, SIGTERM (schedulers, containers) and SIGHUP (a closed terminal) end the current iteration, save and
    return; a second one stops at once and loses that iteration.

    Args:
        training: What to drive.
        out: Where checkpoints, the log and the results go.
        checkpoint_seconds: Save after an iteration when this long [s] has passed since the last save.
        progress: Whether to show a progress line on standard error.
        callback: Called after each iteration with its number, its figures and the estimates; where it returns true the
            loop saves and ends as an interrupted one, which the same call resumes.

    Raises:
        NonFiniteLossError: A loss is NaN or infinite.
        ValueError: The checkpoint is damaged or from another training.
    """
    folder = out.path / "checkpoint"
    iteration, history = 0, []
    if checkpoint.exists(folder):
        tensors, meta = checkpoint.load(folder)
        iteration = _restore(training, tensors, meta, folder)
        # An iteration logged after the last checkpoint of a killed run is logged again when it is done again.
        entries = out.events("iteration")
        logged = {
            e["iteration"]: e["figures"] for e in entries if isinstance(e.get("iteration"), int) and "figures" in e
        }
        history = [figures for number, figures in sorted(logged.items()) if number <= iteration]
        out.log("resume", iteration=iteration)

    def save() -> None:
        checkpoint.save(
            folder, {**training.state_dict(), _RNG: torch.get_rng_state()}, {"iteration": iteration}, tag=iteration
        )

    last_save = time.monotonic()
    with deferred_interrupt() as interrupt, _progress(training, iteration, show=progress) as advance:
        while iteration < training.num_iterations and not training.converged and not interrupt.pending:
            figures = training.step()
            if not math.isfinite(figures["loss"]):
                raise NonFiniteLossError(
                    f"iteration {iteration + 1}: loss is {figures['loss']}; lower the learning rate or the bounds "
                    f"(the checkpoint in {folder} is from iteration {iteration} or before)"
                )
            iteration += 1
            history.append(figures)
            out.log("iteration", iteration=iteration, figures=figures, estimates=training.estimates())
            advance(figures)
            if callback is not None and callback(iteration, figures, training.estimates()):
                interrupt.pending = True
            if time.monotonic() - last_save > checkpoint_seconds:
                save()
                last_save = time.monotonic()
        save()
    done = training.converged or iteration >= training.num_iterations
    try:
        summary = training.finish(out) if done else {}
    except Exception:  # whatever a report dies of, what was found is kept
        found = {"parameters": training.estimates(), "iterations": iteration, "loss": history[-1]["loss"]}
        out.write("summary.json", {**found, "converged": training.converged, "complete": False})
        raise
    out.log("end" if done else "interrupted", iteration=iteration, summary=summary)
    return FitResult(
        parameters=training.estimates(),
        iterations=iteration,
        loss=history[-1]["loss"] if history else math.nan,
        converged=training.converged,
        interrupted=not done,
        summary=summary,
        history=history,
    )


def _restore(training: AbstractTraining, tensors: dict[str, torch.Tensor], meta: dict[str, Any], folder: Path) -> int:
    """Put a checkpoint into a training and the generator; returns its iteration."""
    iteration = meta.get("iteration")
    if not isinstance(iteration, int) or iteration < 0 or _RNG not in tensors:
        raise ValueError(f"{folder}: not the checkpoint of a fit; start anew with --overwrite")
    state = tensors.pop(_RNG)
    try:
        training.load_state_dict(tensors)
        torch.set_rng_state(state)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = cut(f"{type(error).__name__}: {error}")
        raise ValueError(
            f"{folder}: the checkpoint does not fit this training ({reason}); start anew with --overwrite"
        ) from error
    return iteration


@contextlib.contextmanager
def _progress(training: AbstractTraining, start: int, *, show: bool) -> Iterator[Any]:
    """A progress bar with the loss and the estimates; yields what takes the figures of an iteration."""
    if not show:
        yield lambda figures: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("fit"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=training.num_iterations, completed=start)

        def advance(figures: dict[str, float]) -> None:
            values = {"loss": figures["loss"], **training.estimates()}
            bar.update(task, advance=1, description="  ".join(f"{k} {v:.4g}" for k, v in list(values.items())[:5]))

        yield advance
