"""A script that was written for wandb: only its import line was changed.

    python examples/train_with_wandb_names.py

It teaches a perceptron whether a point lies above a line, and logs numbers, a histogram, a table and a file.
"""

import json
import random
from pathlib import Path

import tracker as wandb


def main():
    wandb.init(project="examples", name="perceptron", config={"rate": 0.1, "epochs": 15, "points": 300})
    config = wandb.config
    wandb.define_metric("epoch", hidden=True)
    wandb.define_metric("accuracy", step_metric="epoch", summary="max")
    rng = random.Random(1)
    points = [(rng.uniform(-1, 1), rng.uniform(-1, 1)) for _ in range(config.points)]
    labelled = [(x, y, y > 0.5 * x + 0.1) for x, y in points]

    weights = [0.0, 0.0, 0.0]
    for epoch in range(config.epochs):
        right = 0
        for x, y, above in labelled:
            guess = weights[0] + weights[1] * x + weights[2] * y > 0
            right += guess == above
            step = config.rate * (above - guess)
            weights = [weights[0] + step, weights[1] + step * x, weights[2] + step * y]
        wandb.log({"epoch": epoch, "accuracy": right / len(labelled), "weights": wandb.Histogram(weights)})

    table = wandb.Table(columns=["x", "y", "above"])
    for x, y, above in labelled[:20]:
        table.add_data(x, y, above)
    wandb.log({"some points": table})
    Path("perceptron.json").write_text(json.dumps(weights))
    wandb.save("perceptron.json", policy="now")
    if right < len(labelled):
        wandb.alert(title="Not separated", text=f"{len(labelled) - right} points are on the wrong side")
    wandb.finish()


if __name__ == "__main__":
    main()
