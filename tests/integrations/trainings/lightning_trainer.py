"""Lightning's Trainer with WandbLogger, and beside it Lightning's own CSVLogger to compare with."""

import csv

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from reporting import plain, report, sha256

import wandb


class Line(LightningModule):
    def __init__(self, width=4, rate=0.05):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(width, 1)

    def step(self, batch):
        inputs, targets = batch
        return torch.nn.functional.mse_loss(self.layer(inputs), targets)

    def training_step(self, batch, index):
        loss = self.step(batch)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, index):
        self.log("val/loss", self.step(batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.rate)


seed_everything(7)
inputs = torch.randn(32, 4)
data = torch.utils.data.TensorDataset(inputs, inputs.sum(dim=1, keepdim=True))
logger = WandbLogger(
    project="lightning", name="line", log_model="all", tags=["tiny"], save_dir="where/lightning/writes"
)
rows = CSVLogger("csv")
trainer = Trainer(
    max_epochs=3,
    accelerator="cpu",
    log_every_n_steps=1,
    logger=[logger, rows],
    callbacks=[ModelCheckpoint("checkpoints", monitor="val/loss", save_top_k=-1)],
    enable_progress_bar=False,
    enable_model_summary=False,
)
loader = torch.utils.data.DataLoader(data, batch_size=8)
model = Line()
logger.watch(model, log="all", log_freq=2)
trainer.fit(model, loader, loader)
logger.log_table("guesses", columns=["input", "output"], data=[["a", 1.5], ["b", 2.5]])
logger.experiment.summary["best"] = trainer.checkpoint_callback.best_model_score.item()
with open(rows.log_dir + "/metrics.csv") as file:
    logged = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
report(
    run=logger.version,
    project=logger.name,
    name=logger.experiment.name,
    rows=logged,
    callback_metrics={name: value.item() for name, value in trainer.callback_metrics.items()},
    best=trainer.checkpoint_callback.best_model_score.item(),
    hyperparameters=plain(dict(model.hparams)),
    checkpoints=[sha256(path) for path in trainer.checkpoint_callback.best_k_models],
)
wandb.finish()
