"""Configs from the libraries that people keep them in, and numbers of those that make them."""

from __future__ import annotations

from pathlib import Path

from tests.shim.scripts import reading, run_script
from tracker.protocol import kinds

SOURCES = """
import argparse, dataclasses, json, sys
import absl.flags, numpy, omegaconf, torch, yaml
import tracker

@dataclasses.dataclass
class Optimizer:
    lr: float = 0.1
    betas: tuple = (0.9, 0.999)

@dataclasses.dataclass
class Settings:
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    name: str = "adam"

flags = absl.flags.FlagValues()
absl.flags.DEFINE_float("rate", 0.5, "a rate", flag_values=flags)
absl.flags.DEFINE_list("layers", ["a", "b"], "layers", flag_values=flags)
flags(["program", "--rate=0.25"])

made = omegaconf.OmegaConf.create(
    {"model": {"depth": 3, "width": "${model.depth}", "sizes": [1, 2]}, "missing": "???", "none": None}
)
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=5)
with open("config.yaml", "w") as file:
    yaml.safe_dump({"seed": {"value": 7, "desc": "of all"}, "plain": [1, 2]}, file)

tracker.init(config=Settings())
tracker.init(config=flags)
tracker.init(config=made)
tracker.init(config=omegaconf.OmegaConf.structured(Settings))
tracker.init(config=parser.parse_args(["--epochs", "9"]))
tracker.init(config="config.yaml")
run = tracker.init(config={
    "float32": numpy.float32(0.5), "int64": numpy.int64(3), "bool": numpy.bool_(True),
    "array": numpy.arange(3), "tensor": torch.ones(2), "scalar": torch.tensor(2.5),
    "large": torch.zeros(100, 100), "dtype": torch.float16, "device": torch.device("cpu"),
})
for _ in range(2):
    run.log({
        "np32": numpy.float32(0.5), "np64": numpy.float64(0.25), "npint": numpy.int32(4),
        "npbool": numpy.bool_(True),
        "np0": numpy.array(1.5), "np1": numpy.array([2.5]), "half": torch.tensor(0.5, dtype=torch.float16),
        "bf16": torch.tensor(3.0, dtype=torch.bfloat16), "grad": torch.tensor(1.25, requires_grad=True) * 2,
        "int": torch.tensor(7), "flag": torch.tensor(True),
    })
"""


def test_every_source_of_configs_and_numbers_is_read(tmp_path: Path) -> None:
    script = f"import os\nos.chdir({str(tmp_path)!r})\n" + SOURCES

    _, err = run_script(script, TRACKER_DIR=str(tmp_path / "spool"))

    streams = reading(tmp_path / "spool")
    configs = [stream.of(kinds.CONFIG)[0].set for stream in streams]
    assert "warning" not in err
    assert configs[:6] == [
        {"optimizer": {"lr": 0.1, "betas": [0.9, 0.999]}, "name": "adam"},
        {"rate": 0.25, "layers": ["a", "b"]},
        {
            "model": {"depth": 3, "width": 3, "sizes": [1, 2]},
            "missing": "<MissingMandatoryValue>",
            "none": None,
        },
        {"optimizer": {"lr": 0.1, "betas": [0.9, 0.999]}, "name": "adam"},
        {"epochs": 9},
        {"seed": 7, "plain": [1, 2]},
    ]
    assert configs[6] == {
        "float32": 0.5,
        "int64": 3,
        "bool": True,
        "array": [0, 1, 2],
        "tensor": [1.0, 1.0],
        "scalar": 2.5,
        "large": "<torch.Tensor of shape (100, 100)>",
        "dtype": "torch.float16",
        "device": "cpu",
    }
    row = {"np32": 0.5, "np64": 0.25, "npint": 4, "npbool": True, "np0": 1.5, "np1": 2.5, "half": 0.5}
    row |= {"bf16": 3.0, "grad": 2.5, "int": 7, "flag": True}
    assert [values for _, values in streams[6].metrics] == [row, row]


def test_a_tensor_that_is_not_logged_is_not_waited_for(tmp_path: Path) -> None:
    script = """
        import torch, tracker

        class Watched(torch.Tensor):
            read = []
            @classmethod
            def __torch_function__(cls, function, types, args=(), kwargs=None):
                cls.read.append(getattr(function, "__name__", str(function)))
                return super().__torch_function__(function, types, args, kwargs or {})

        loss = torch.tensor(1.5).as_subclass(Watched)
        run = tracker.init()
        run.log({"other": 1.0})
        run.define_metric("loss", summary="min")
        run.alert("a", "b")
        assert Watched.read == [], Watched.read
        run.log({"loss": loss})
        assert "item" in Watched.read
        assert run.summary["loss"] == {"min": 1.5}
    """

    run_script(script, TRACKER_DIR=str(tmp_path / "spool"))
