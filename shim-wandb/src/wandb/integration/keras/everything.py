"""WandbCallback: the one callback of older scripts, which did it all."""

import math
import os

import wandb

from ._keras import Callback, need_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

_LOWER, _HIGHER = "min", "max"


class WandbCallback(Callback):  # type: ignore[misc]  # Keras need not be there
    """Records metrics by epoch, the best value of `monitor` in the summary, and the best model as a file.

    log_weights records histograms of the weights, log_batch_frequency metrics in between. Arguments
    that are not in the signature have no effect here: they are named in a warning.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        verbose: int = 0,
        mode: str = "auto",
        save_weights_only: bool = False,
        log_weights: bool = False,
        save_model: bool = True,
        log_batch_frequency: "Optional[int]" = None,
        log_best_prefix: str = "best_",
        **others: "Any",
    ) -> None:
        super().__init__()
        need_run("WandbCallback")
        unknown = sorted(name for name, value in others.items() if value)
        if unknown:
            wandb.termwarn("WandbCallback: %s has no effect with Tracker" % ", ".join(unknown))
        self.monitor = monitor
        self.verbose = verbose
        self.mode = mode if mode in (_LOWER, _HIGHER) else _mode_of(monitor)
        self.best = None  # type: Optional[float]
        self.save_model = save_model or save_weights_only
        self.save_weights_only = save_weights_only
        self.log_weights = log_weights
        self.log_batch_frequency = log_batch_frequency
        self.log_best_prefix = log_best_prefix

    def on_epoch_end(self, epoch: int, logs: "Optional[Dict[str, Any]]" = None) -> None:
        """Record an epoch, and what is best so far."""
        logs = logs or {}
        values = dict(logs, epoch=epoch)
        if self.log_weights:
            values.update(_histograms(self.model))
        wandb.log(values)
        current = logs.get(self.monitor)
        if current is None or not self._is_better(float(current)):
            return
        self.best = float(current)
        if self.log_best_prefix:
            wandb.run.summary[self.log_best_prefix + self.monitor] = self.best
            wandb.run.summary[self.log_best_prefix + "epoch"] = epoch
        if self.save_model:
            self._save()

    def on_train_batch_end(self, batch: int, logs: "Optional[Dict[str, Any]]" = None) -> None:
        """Record a batch where it is its turn."""
        if self.log_batch_frequency and batch % self.log_batch_frequency == 0:
            wandb.log(dict(logs or {}))

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return not math.isnan(value)
        return value < self.best if self.mode == _LOWER else value > self.best

    def _save(self) -> None:
        # Whatever appears in files/ is kept with the run; the run's own directory is a place beside it.
        run = wandb.run.directory
        name = "model-best.weights.h5" if self.save_weights_only else "model-best.keras"
        partial = os.path.join(run, "saving-" + name)
        try:
            if self.save_weights_only:
                self.model.save_weights(partial)
            else:
                self.model.save(partial)
            os.makedirs(os.path.join(run, "files"), exist_ok=True)
            os.replace(partial, os.path.join(run, "files", name))
        except Exception as error:  # noqa: BLE001 - a model that cannot be saved must not end its training
            wandb.termwarn("WandbCallback cannot save the model: %s" % error, repeat=False)


def _mode_of(monitor: str) -> str:
    return _HIGHER if "acc" in monitor or monitor.startswith(("fmeasure", "val_auc", "auc")) else _LOWER


def _histograms(model: "Any") -> "Dict[str, Any]":
    """Return a histogram of each weight by its name."""
    found = {}
    for layer in model.layers:
        for number, weight in enumerate(layer.get_weights()):
            found["parameters/%s.%d" % (layer.name, number)] = wandb.Histogram(weight)
    return found
