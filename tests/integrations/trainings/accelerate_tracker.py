"""accelerate's own tracker for wandb."""

import numpy as np
import torch
from accelerate import Accelerator
from reporting import report

accelerator = Accelerator(log_with="wandb", cpu=True)
config = {"lr": 0.1, "layers": [4, 1], "optimizer": {"name": "sgd", "momentum": 0.0}}
accelerator.init_trackers(
    "accelerated", config=config, init_kwargs={"wandb": {"name": "plain", "tags": ["cpu"]}}
)
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
model, optimizer = accelerator.prepare(model, optimizer)
losses = []
for step in range(5):
    loss = model(torch.randn(8, 3)).square().mean()
    accelerator.backward(loss)
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
    accelerator.log({"loss": loss.item(), "half": {"loss": loss.item() / 2}}, step=step * 10)
tracker = accelerator.get_tracker("wandb")
tracker.log_images({"noise": [np.arange(12, dtype=np.uint8).reshape(2, 2, 3)]}, step=50)
tracker.log_table("guesses", columns=["name", "value"], data=[["a", 1.0]], step=50)
run = accelerator.get_tracker("wandb", unwrap=True)
report(run=run.id, project=run.project, name=run.name, tags=list(run.tags), losses=losses, config=config)
accelerator.end_training()
