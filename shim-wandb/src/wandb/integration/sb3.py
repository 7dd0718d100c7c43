"""wandb.integration.sb3: records what Stable-Baselines3 logs, its settings and its model.

W&B's own has the metrics from TensorBoard's files, by sync_tensorboard=True; here they come from SB3's
logger, with or without TensorBoard.
"""

import os

import stable_baselines3.common.callbacks
import stable_baselines3.common.logger as sb3_logger

import wandb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional, Tuple


class WandbCallback(stable_baselines3.common.callbacks.BaseCallback):  # type: ignore[misc]  # SB3 need not be there
    """Give it to learn(callback=…).

    Records whatever SB3 logs, under its names and with "global_step", and the settings of the algorithm as
    config; with model_save_path the model, at the end and every model_save_freq calls; with
    gradient_save_freq histograms of the policy's gradients and parameters.
    """

    def __init__(
        self,
        verbose: int = 0,
        model_save_path: "Optional[str]" = None,
        model_save_freq: int = 0,
        gradient_save_freq: int = 0,
        log: "Optional[str]" = "all",
    ) -> None:
        """log: "gradients", "parameters", "all" or None."""
        super().__init__(verbose)
        if wandb.run is None:
            raise wandb.Error("call wandb.init() before WandbCallback()")
        if model_save_freq and model_save_path is None:
            raise wandb.Error("model_save_freq needs a model_save_path")
        if log not in ("gradients", "parameters", "all", None):
            wandb.termwarn("log=%r is not None, 'gradients', 'parameters' or 'all'; 'all' is used" % (log,))
            log = "all"
        self.model_save_freq = model_save_freq
        self.model_save_path = model_save_path
        self.gradient_save_freq = gradient_save_freq
        self.log = log
        if model_save_path is not None:
            os.makedirs(model_save_path, exist_ok=True)
            self.path = os.path.join(model_save_path, "model.zip")

    def _init_callback(self) -> None:
        # At each learn(), which may make a new logger.
        formats = self.model.logger.output_formats
        if not any(isinstance(each, _Output) for each in formats):
            formats.append(_Output())
        settings: "Dict[str, Any]" = {"algo": type(self.model).__name__}
        for name, value in vars(self.model).items():
            settings[name] = value if type(value) in (float, int, str) else str(value)
        wandb.config.setdefaults(settings)
        if self.gradient_save_freq > 0:
            wandb.watch(self.model.policy, log=self.log, log_freq=self.gradient_save_freq)

    def _on_step(self) -> bool:
        if self.model_save_freq > 0 and self.n_calls % self.model_save_freq == 0:
            self.save_model()
        return True

    def _on_training_end(self) -> None:
        if self.model_save_path is not None:
            self.save_model()

    def save_model(self) -> None:
        """Keep the model with the run, as model.zip."""
        self.model.save(self.path)
        wandb.save(self.path, base_path=self.model_save_path)


class _Output(sb3_logger.KVWriter):  # type: ignore[misc]
    """One of the places that SB3's logger writes to."""

    def write(
        self, key_values: "Dict[str, Any]", key_excluded: "Dict[str, Tuple[str, ...]]", step: int = 0
    ) -> None:
        values = {
            name: _plain(value)
            for name, value in key_values.items()
            if "tensorboard" not in (key_excluded.get(name) or ())
        }
        values["global_step"] = step
        wandb.log({name: value for name, value in values.items() if value is not None})

    def close(self) -> None:
        """Do nothing: the run goes on."""


def _plain(value: "Any") -> "Any":
    """Return what log() takes in place of SB3's own kinds of values; None for what it has no place for."""
    if isinstance(value, sb3_logger.Figure):
        return wandb.Image(value.figure)
    if isinstance(value, sb3_logger.Image):
        return wandb.Image(value.image)
    if isinstance(value, sb3_logger.Video):
        return wandb.Video(value.frames[0].cpu().numpy(), fps=value.fps)
    if isinstance(value, sb3_logger.HParam):
        wandb.config.update(value.hparam_dict, allow_val_change=True)
        return None
    return value
