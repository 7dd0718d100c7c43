"""Configs as absl, omegaconf, argparse and dataclasses have them."""

import argparse
import dataclasses

from absl import flags
from omegaconf import OmegaConf
from reporting import report

import wandb


@dataclasses.dataclass
class Optimizer:
    name: str = "sgd"
    betas: tuple = (0.9, 0.99)


flags.DEFINE_float("absl_rate", 0.5, "")
flags.DEFINE_list("absl_list", ["a", "b"], "")
flags.FLAGS(["program", "--absl_rate=0.25"])
composed = OmegaConf.create({"model": {"depth": 3, "width": "${model.depth}"}, "missing": "???"})
run = wandb.init(project="configs", config=flags.FLAGS)
run.config.update(OmegaConf.create({"model": {"depth": 3, "width": "${model.depth}"}}))
run.config.update(argparse.Namespace(seed=7))
run.config["optimizer"] = Optimizer()
report(run=run.id, project=run.project)
