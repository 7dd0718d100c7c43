"""Tells two spirals apart with PyTorch, and goes on where it was stopped.

    python examples/train_pytorch.py [--epochs 60] [--checkpoint checkpoint.pt]

Shows what a training on a cluster needs besides log(): a run that goes on after a preemption (give it the
same TRACKER_RUN_ID), a checkpoint that is kept with the run, histograms of weights and gradients, a picture.
"""

import argparse
from pathlib import Path

import torch

import tracker


def spirals(points, generator):
    """Return points on two noisy spirals, and which spiral each is on."""
    labels = torch.arange(points) % 2
    angle = 1 + 5 * torch.rand(points, generator=generator)
    turned = angle + labels * torch.pi
    places = torch.stack([angle * turned.cos(), angle * turned.sin()], dim=1) / 6
    return places + 0.02 * torch.randn(points, 2, generator=generator), labels


def picture(model, size=64):
    """Return what the model says of each place, as gray values from 0 to 1."""
    axis = torch.linspace(-1, 1, size)
    places = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
    with torch.no_grad():
        return model(places).softmax(dim=1)[:, 1].reshape(size, size).numpy()


def main():
    parser = argparse.ArgumentParser(description="Train a small network on two spirals.")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--checkpoint", default="checkpoint.pt")
    options = parser.parse_args()
    torch.manual_seed(1)
    places, labels = spirals(1000, torch.Generator().manual_seed(1))
    training, validation = slice(0, 800), slice(800, 1000)
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 32),
        torch.nn.Tanh(),
        torch.nn.Linear(32, 32),
        torch.nn.Tanh(),
        torch.nn.Linear(32, 2),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    done = 0
    if Path(options.checkpoint).exists():
        state = torch.load(options.checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["epoch"]
        print(f"goes on after epoch {done}")

    with tracker.init(project="examples", resume="allow", config={"lr": 0.01, "hidden": 32}) as run:
        run.watch(model, log="all", log_freq=50)
        run.define_metric("validation/*", summary="max")
        for epoch in range(done + 1, options.epochs + 1):
            for batch in torch.randperm(800).split(50):
                loss = torch.nn.functional.cross_entropy(
                    model(places[training][batch]), labels[training][batch]
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                run.log({"loss": loss})
            with torch.no_grad():
                right = model(places[validation]).argmax(dim=1) == labels[validation]
            run.log({"validation/accuracy": right.float().mean(), "epoch": epoch})
            torch.save(
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch},
                options.checkpoint,
            )
        run.log({"decision": tracker.Image(picture(model), caption="white: the second spiral")})
        run.save(options.checkpoint, policy="now", block=True)


if __name__ == "__main__":
    main()
