"""Finds out how a temperature depends on the time of day, with nothing but Python and the shim.

    python examples/train_plain.py [--passes 40] [--rate 0.2]

Stochastic gradient descent on a noisy cosine: mean, amplitude and the hour of the maximum are to be found.
"""

import argparse
import math
import random

import tracker


def measured(rng):
    """Return an hour and a temperature: 15 degrees on average, warmest, by 5 degrees, at 14 o'clock."""
    hour = rng.uniform(0, 24)
    return hour, 15 + 5 * math.cos((hour - 14) / 12 * math.pi) + rng.gauss(0, 0.5)


def main():
    parser = argparse.ArgumentParser(description="Fit a cosine to temperatures.")
    parser.add_argument("--passes", type=int, default=40, help="times that all measurements are looked at")
    parser.add_argument("--rate", type=float, default=0.2, help="learning rate, which falls with each pass")
    options = parser.parse_args()
    rng = random.Random(1)
    data = [measured(rng) for _ in range(200)]

    # The fit is linear in these three: temperature = mean + a cos(hour) + b sin(hour).
    mean = a = b = 0.0
    with tracker.init(project="examples", name="temperatures", config=options) as run:
        tracker.define_metric("mean square", summary="min")
        for number in range(options.passes):
            rate = options.rate / (1 + number)
            total = 0.0
            for hour, temperature in data:
                x, y = math.cos(hour / 12 * math.pi), math.sin(hour / 12 * math.pi)
                error = mean + a * x + b * y - temperature
                mean, a, b = mean - rate * error, a - rate * error * x, b - rate * error * y
                total += error**2
            run.log({"mean square": total / len(data), "rate": rate, "fit": {"mean": mean, "a": a, "b": b}})
        run.summary["amplitude"] = math.hypot(a, b)
        run.summary["warmest hour"] = math.atan2(b, a) / math.pi * 12 % 24
    print(f"mean {mean:.1f}, amplitude {math.hypot(a, b):.1f}")


if __name__ == "__main__":
    main()
