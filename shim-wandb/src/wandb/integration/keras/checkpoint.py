"""WandbModelCheckpoint: Keras' own checkpoints, each kept as a version of an artifact."""

import os

import wandb

from ._keras import ModelCheckpoint, need_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple


class WandbModelCheckpoint(ModelCheckpoint):  # type: ignore[misc]  # Keras need not be there
    """What Keras saves is kept as the artifact "run_<id>_model", of the type "model".

    Aliases are "latest", "epoch_<n>" (or "epoch_<n>_batch_<m>") and, with save_best_only, "best".
    """

    def __init__(
        self,
        filepath: "Any",
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: "Any" = "epoch",
        initial_value_threshold: "Optional[float]" = None,
        **kwargs: "Any",
    ) -> None:
        super().__init__(
            filepath=filepath,
            monitor=monitor,
            verbose=verbose,
            save_best_only=save_best_only,
            save_weights_only=save_weights_only,
            mode=mode,
            save_freq=save_freq,
            initial_value_threshold=initial_value_threshold,
            **kwargs,
        )
        need_run("WandbModelCheckpoint")

    def _save_model(
        self, epoch: int, batch: "Optional[int]" = None, logs: "Optional[Dict[str, Any]]" = None
    ) -> None:
        # Keras calls this for epochs and for batches, and decides in it whether the model is worth it.
        logs = logs or {}
        path = self._get_file_path(epoch, batch, logs)
        before = _state(path)
        super()._save_model(epoch, batch, logs)
        if _state(path) in (None, before):
            return
        aliases = ["latest", "epoch_%d" % epoch if batch is None else "epoch_%d_batch_%d" % (epoch, batch)]
        self._log_ckpt_as_artifact(path, aliases + ["best"] if self.save_best_only else aliases)

    def _log_ckpt_as_artifact(self, filepath: str, aliases: "Optional[List[str]]" = None) -> None:
        """Keep what was saved. The name is one that subclasses know."""
        artifact = wandb.Artifact("run_%s_model" % wandb.run.id, type="model")
        if os.path.isdir(filepath):
            artifact.add_dir(filepath)
        else:
            artifact.add_file(filepath)
        wandb.log_artifact(artifact, aliases=aliases or [])


def _state(path: str) -> "Optional[Tuple[int, int, int]]":
    """Return what tells one version of a file from the next; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
