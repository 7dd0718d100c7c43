"""Which value of a metric is the best one: callbacks have it in the summary, in place of the last."""

import wandb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Container, Mapping


def define_best(metrics: "Mapping[str, str]", smaller: "Container[str]", greater: "Container[str]") -> None:
    """Have the minimum or the maximum of each metric in the summary; of those not known, the last value.

    metrics: what the library calls a metric, by the name that it is logged under. A metric may end in
    "@<threshold>".
    """
    for name, metric in metrics.items():
        plain = metric.partition("@")[0].lower()
        if "loss" in plain or plain in smaller:
            wandb.define_metric(name, summary="min")
        elif plain in greater:
            wandb.define_metric(name, summary="max")
