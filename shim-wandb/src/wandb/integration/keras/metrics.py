"""WandbMetricsLogger: records what Keras reports, by epoch or by batch."""

import wandb

from ._keras import Callback, learning_rate, need_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional, Union


class WandbMetricsLogger(Callback):  # type: ignore[misc]  # Keras need not be there
    """Records "epoch/<metric>" with "epoch/epoch", and in between "batch/<metric>" with "batch/batch_step".

    log_freq: "epoch", "batch", or every so many batches. initial_global_step: where a resumed training goes
    on.
    """

    def __init__(
        self,
        log_freq: "Union[str, int]" = "epoch",
        initial_global_step: int = 0,
        *args: "Any",
        **kwargs: "Any",
    ) -> None:
        super().__init__(*args, **kwargs)
        need_run("WandbMetricsLogger")
        if log_freq == "batch":
            log_freq = 1
        self.log_freq = log_freq if isinstance(log_freq, int) else None
        self.logging_batch_wise = self.log_freq is not None
        self.global_step = initial_global_step
        self.global_batch = 0
        if self.logging_batch_wise:
            wandb.define_metric("batch/batch_step")
            wandb.define_metric("batch/*", step_metric="batch/batch_step")
        wandb.define_metric("epoch/epoch")
        wandb.define_metric("epoch/*", step_metric="epoch/epoch")

    def on_train_batch_end(self, batch: int, logs: "Optional[Dict[str, Any]]" = None) -> None:
        """Record a batch where it is its turn."""
        self.global_step += 1
        if self.log_freq is not None and batch % self.log_freq == 0:
            self._log("batch/", "batch_step", self.global_batch, logs)
            self.global_batch += self.log_freq

    def on_epoch_end(self, epoch: int, logs: "Optional[Dict[str, Any]]" = None) -> None:
        """Record an epoch."""
        self._log("epoch/", "epoch", epoch, logs)

    def _log(self, prefix: str, axis: str, at: int, logs: "Optional[Dict[str, Any]]") -> None:
        values = {prefix + name: value for name, value in (logs or {}).items()}
        values[prefix + axis] = at
        rate = learning_rate(self.model, self.global_step)
        if rate is None:
            wandb.termwarn("the optimizer's learning rate is not a number; it is left out", repeat=False)
        else:
            values[prefix + "learning_rate"] = rate
        wandb.log(values)
