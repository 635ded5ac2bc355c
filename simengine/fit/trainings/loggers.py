"""Callbacks of `fit` and `identify` that pass figures and estimates on to a tracker of experiments.

Each takes what its own package made, so that none of them is needed here:

    writer = torch.utils.tensorboard.SummaryWriter("logs")
    se.identify(scene, callback=to_tensorboard(writer))
"""

import re
from collections.abc import Mapping
from typing import Any

from simengine.fit.loop import Callback


def to_tensorboard(writer: Any) -> Callback:
    """What logs to TensorBoard.

    Args:
        writer: A `SummaryWriter`, of torch or of tensorboardX.
    """

    def log(iteration: int, figures: Mapping[str, float], estimates: Mapping[str, float]) -> None:
        for name, value in {**figures, **estimates}.items():
            writer.add_scalar(name, value, iteration)

    return log


def to_wandb(run: Any) -> Callback:
    """What logs to Weights & Biases.

    Args:
        run: What `wandb.init()` returned.
    """

    def log(iteration: int, figures: Mapping[str, float], estimates: Mapping[str, float]) -> None:
        run.log({**figures, **estimates}, step=iteration)

    return log


def to_mlflow(mlflow: Any) -> Callback:
    """What logs to the active run of MLflow.

    Args:
        mlflow: The module; names lose the characters that it refuses.
    """

    def log(iteration: int, figures: Mapping[str, float], estimates: Mapping[str, float]) -> None:
        named = {re.sub(r"[^\w\-. /]", "_", name): value for name, value in {**figures, **estimates}.items()}
        mlflow.log_metrics(named, step=iteration)

    return log
