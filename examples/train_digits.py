"""Trains a small neural network on handwritten digits and logs how it goes.

    python examples/train_digits.py [--epochs 30] [--seed 1] [--delay 0.02]

The network is plain NumPy, so the lines that matter here stand out: tracker.init, tracker.log,
tracker.summary and tracker.finish. The digits are 1,797 images of 8 x 8 pixels that come with
scikit-learn.
"""

import argparse
import math
import time
from itertools import pairwise

import numpy as np
from sklearn.datasets import load_digits

import tracker

CLASSES = 10
VALIDATION_SHARE = 0.2


class Network:
    """A multilayer perceptron with ReLU, trained by stochastic gradient descent with momentum."""

    def __init__(self, sizes, rng):
        pairs = list(pairwise(sizes))
        self.weights = [rng.normal(0, math.sqrt(2 / inputs), (inputs, outputs)) for inputs, outputs in pairs]
        self.biases = [np.zeros(m) for m in sizes[1:]]
        self.velocity = [np.zeros_like(each) for each in self.parameters]

    @property
    def parameters(self):
        return self.weights + self.biases

    def forward(self, images):
        """Return the inputs of each layer, and each class's probability."""
        inputs = [images]
        for weights, biases in zip(self.weights[:-1], self.biases[:-1], strict=True):
            inputs.append(np.maximum(inputs[-1] @ weights + biases, 0))
        scores = inputs[-1] @ self.weights[-1] + self.biases[-1]
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        return inputs, exponentials / exponentials.sum(axis=1, keepdims=True)

    def gradients(self, inputs, probabilities, labels):
        """Return the gradient of the mean cross-entropy for each parameter."""
        error = (probabilities - np.eye(CLASSES)[labels]) / len(labels)
        weights, biases = [], []
        for layer in reversed(range(len(self.weights))):
            weights.insert(0, inputs[layer].T @ error)
            biases.insert(0, error.sum(axis=0))
            error = (error @ self.weights[layer].T) * (inputs[layer] > 0)
        return weights + biases

    def update(self, gradients, learning_rate, momentum):
        for parameter, velocity, gradient in zip(self.parameters, self.velocity, gradients, strict=True):
            velocity[:] = momentum * velocity - learning_rate * gradient
            parameter += velocity


def loss_and_accuracy(probabilities, labels):
    """Return the mean cross-entropy and the share of right answers."""
    likelihood = probabilities[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(likelihood, 1e-12)).mean()
    return float(loss), float((probabilities.argmax(axis=1) == labels).mean())


def learning_rate_at(progress, peak):
    """Rise over the first tenth of the training, then fall along a cosine."""
    if progress < 0.1:
        return peak * (0.1 + 9 * progress)
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - 0.1) / 0.9))


def load_data(rng):
    """Return shuffled (images, labels) to train with, and others to validate with."""
    images, labels = load_digits(return_X_y=True)
    order = rng.permutation(len(labels))
    images, labels = images[order] / 16, labels[order]
    held_out = int(len(labels) * VALIDATION_SHARE)
    return (images[held_out:], labels[held_out:]), (images[:held_out], labels[:held_out])


def train(options):
    rng = np.random.default_rng(options.seed)
    (images, labels), (validation_images, validation_labels) = load_data(rng)
    network = Network([images.shape[1], options.hidden, options.hidden, CLASSES], rng)
    batches = math.ceil(len(labels) / options.batch_size)
    step = 0
    for epoch in range(1, options.epochs + 1):
        for batch in np.array_split(rng.permutation(len(labels)), batches):
            inputs, probabilities = network.forward(images[batch])
            loss, accuracy = loss_and_accuracy(probabilities, labels[batch])
            gradients = network.gradients(inputs, probabilities, labels[batch])
            learning_rate = learning_rate_at(step / (options.epochs * batches), options.learning_rate)
            network.update(gradients, learning_rate, options.momentum)
            tracker.log(
                {
                    "train/loss": loss,
                    "train/accuracy": accuracy,
                    "learning_rate": learning_rate,
                    "gradient_norm": math.sqrt(sum(float((each**2).sum()) for each in gradients)),
                },
                step=step,
            )
            step += 1
            time.sleep(options.delay)
        _, probabilities = network.forward(validation_images)
        loss, accuracy = loss_and_accuracy(probabilities, validation_labels)
        tracker.log({"validation/loss": loss, "validation/accuracy": accuracy, "epoch": epoch}, step=step - 1)
        print(f"epoch {epoch:3d}  validation loss {loss:.4f}  accuracy {accuracy:.2%}", flush=True)
    tracker.summary["final_accuracy"] = accuracy
    return accuracy


def parse_arguments():
    parser = argparse.ArgumentParser(description="Train a small network on handwritten digits.")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=64, help="units in each of the two hidden layers")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds to wait after each step")
    return parser.parse_args()


def main():
    options = parse_arguments()
    tracker.init(project="digits", config=vars(options))
    train(options)
    tracker.finish()


if __name__ == "__main__":
    main()
