"""Callbacks for trackers of experiments, told to what stands for them: none of their packages is needed."""

from typing import Any

from simengine.fit.trainings.loggers import to_mlflow, to_tensorboard, to_wandb


class Tracker:
    """Keeps what it is told, with the arguments of all three."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float, int]] = []

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self.told.append((tag, scalar_value, global_step))

    def log(self, data: dict[str, Any], step: int | None = None) -> None:
        self.told += [(name, value, step or 0) for name, value in data.items()]

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert all(c.isalnum() or c in "_-. /" for name in metrics for c in name), "MLflow refuses such a name"
        self.told += [(name, value, step or 0) for name, value in metrics.items()]


def test_figures_and_estimates_are_passed_on() -> None:
    for adapter in (to_tensorboard, to_wandb, to_mlflow):
        tracker = Tracker()
        callback = adapter(tracker)
        assert not callback(3, {"loss": 0.5}, {"body.E": 2.0})  # true would end the fit
        callback(4, {"loss": 0.25}, {"body.E": 2.5})
        assert tracker.told == [("loss", 0.5, 3), ("body.E", 2.0, 3), ("loss", 0.25, 4), ("body.E", 2.5, 4)]


def test_names_are_such_that_mlflow_takes_them() -> None:
    tracker = Tracker()
    to_mlflow(tracker)(1, {"loss": 1.0}, {'gas.reactions."H + O2 <=> O + OH".factor': 2.0})
    assert tracker.told[1] == ("gas.reactions._H _ O2 ___ O _ OH_.factor", 2.0, 1)
