"""The Keras at hand: Keras 3 by its own name, else the one inside TensorFlow."""

import wandb

try:
    import keras
except ImportError:
    try:
        from tensorflow import keras
    except ImportError:
        raise ImportError("wandb.keras needs Keras, and there is none: pip install keras") from None

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

Callback = keras.callbacks.Callback
ModelCheckpoint = keras.callbacks.ModelCheckpoint


def need_run(who: str) -> None:
    """Raise Error where no run has begun."""
    if wandb.run is None:
        raise wandb.Error("call wandb.init() before %s()" % who)


def learning_rate(model: "Any", step: int) -> "Optional[float]":
    """Return a model's learning rate at a step; None where it has none that is a number."""
    try:
        rate = model.optimizer.learning_rate
        if callable(rate):  # a schedule of Keras 2; Keras 3 has computed it already
            rate = rate(step)
        return float(keras.ops.convert_to_numpy(rate) if hasattr(keras, "ops") else rate.numpy())
    except Exception:  # noqa: BLE001 - optimizers are anybody's; a rate is not worth a training
        return None
