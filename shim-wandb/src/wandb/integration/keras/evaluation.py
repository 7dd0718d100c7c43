"""WandbEvalCallback: a base class for tables of predictions, one for each epoch."""

import abc

import wandb

from ._keras import Callback, need_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional


class WandbEvalCallback(Callback, abc.ABC):  # type: ignore[misc]  # Keras need not be there
    """Subclasses fill self.data_table with the truth, once, and self.pred_table with predictions, each epoch.

    The tables are kept as artifacts, "val" and "run_<id>_pred". self.data_table_ref is the first one again.
    """

    def __init__(
        self, data_table_columns: "List[str]", pred_table_columns: "List[str]", *args: "Any", **kwargs: "Any"
    ) -> None:
        super().__init__(*args, **kwargs)
        need_run("WandbEvalCallback")
        self.data_table_columns = data_table_columns
        self.pred_table_columns = pred_table_columns

    @abc.abstractmethod
    def add_ground_truth(self, logs: "Optional[Dict[str, Any]]" = None) -> None:
        """Add rows to self.data_table."""

    @abc.abstractmethod
    def add_model_predictions(self, epoch: int, logs: "Optional[Dict[str, Any]]" = None) -> None:
        """Add rows to self.pred_table."""

    def on_train_begin(self, logs: "Optional[Dict[str, Any]]" = None) -> None:
        """Make the table of the truth."""
        self.init_data_table(column_names=self.data_table_columns)
        self.add_ground_truth(logs)
        self.log_data_table()

    def on_epoch_end(self, epoch: int, logs: "Optional[Dict[str, Any]]" = None) -> None:
        """Make the table of an epoch."""
        self.init_pred_table(column_names=self.pred_table_columns)
        self.add_model_predictions(epoch, logs)
        self.log_pred_table()

    def init_data_table(self, column_names: "List[str]") -> None:
        """Begin the table of the truth."""
        self.data_table = wandb.Table(columns=column_names, allow_mixed_types=True)

    def init_pred_table(self, column_names: "List[str]") -> None:
        """Begin the table of an epoch."""
        self.pred_table = wandb.Table(columns=column_names, allow_mixed_types=True)

    def log_data_table(
        self,
        name: str = "val",
        type: str = "dataset",  # noqa: A002 - wandb's signature
        table_name: str = "val_data",
    ) -> None:
        """Keep the table of the truth."""
        artifact = wandb.Artifact(name, type=type)
        artifact.add(self.data_table, table_name)
        wandb.run.log_artifact(artifact)
        self.data_table_ref = self.data_table

    def log_pred_table(
        self,
        type: str = "evaluation",  # noqa: A002 - wandb's signature
        table_name: str = "eval_data",
        aliases: "Optional[List[str]]" = None,
    ) -> None:
        """Keep the table of an epoch, as the next version of its artifact."""
        artifact = wandb.Artifact("run_%s_pred" % wandb.run.id, type=type)
        artifact.add(self.pred_table, table_name)
        wandb.run.log_artifact(artifact, aliases=aliases or ["latest"])
