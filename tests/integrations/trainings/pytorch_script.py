"""A plain PyTorch script as people write them for wandb; only the import was changed."""

import argparse
import os

import torch
from reporting import report

import tracker as wandb

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--epochs", type=int, default=3)
arguments = parser.parse_args(["--epochs", "4"])

wandb.login()
torch.manual_seed(0)
run = wandb.init(
    project="plain-pytorch", config=arguments, tags=["script", "cpu"], notes="a note", dir="ignored"
)
wandb.define_metric("epoch")
wandb.define_metric("validation/*", step_metric="epoch", summary="min")
config = wandb.config
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=config.lr)
wandb.watch(model, log="all", log_freq=2)
inputs = torch.randn(16, 3)
targets = inputs.sum(dim=1, keepdim=True)
losses, validations, norms = [], [], []
for epoch in range(config["epochs"]):
    for batch in range(0, 16, 4):
        loss = torch.nn.functional.mse_loss(model(inputs[batch : batch + 4]), targets[batch : batch + 4])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        norm = torch.sqrt(sum(p.grad.square().sum() for p in model.parameters())).double()
        wandb.log({"loss": loss, "grad": {"norm": norm}})
        losses.append(loss.item())
        norms.append(norm.item())
    with torch.no_grad():
        validation = torch.nn.functional.mse_loss(model(inputs), targets).item()
    validations.append(validation)
    wandb.log(
        {"validation/loss": validation, "epoch": epoch, "weights": wandb.Histogram(model[0].weight.detach())}
    )
torch.save(model.state_dict(), os.path.join(wandb.run.dir, "written-there.pt"))
torch.save(model.state_dict(), "saved.pt")
wandb.save("saved.pt", policy="now")
wandb.log({"picture": wandb.Image(inputs[0].reshape(1, 1, 3), caption="an input")})
wandb.run.summary["final"] = losses[-1]
wandb.alert(title="done", text="it has ended", level=wandb.AlertLevel.INFO)
with open("saved.pt", "rb") as file:
    saved = file.read().hex()
report(
    run=run.id,
    project=run.project,
    name=run.name,
    losses=losses,
    norms=norms,
    validations=validations,
    saved=saved,
    config=vars(arguments),
)
wandb.finish()
