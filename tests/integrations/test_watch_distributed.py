"""watch() in models that are trained by two processes: what is recorded is what the optimizer sees."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.shim.portable.recording import read_streams
from tracker.protocol import kinds

ROOT = Path(__file__).resolve().parents[2]
WAYS = ("ddp", "ddp accumulating", "fully_shard")

#: Each rank trains on numbers of its own, watches, and writes what its gradients and parameters were.
TRAINING = """
import contextlib, json, os, sys
import torch
import torch.distributed as dist
from torch import nn
import tracker

rank = int(os.environ["RANK"])
dist.init_process_group("gloo")


def wrapped(how, model):
    if how != "fully_shard":
        return nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=how == "ddp accumulating")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    mesh = init_device_mesh("cpu", (2,))
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def numbers(tensor):
    tensor = tensor.detach()
    return getattr(tensor, "to_local", lambda: tensor)().flatten().tolist()


expected = {}
for how in sys.argv[1:]:
    torch.manual_seed(0)
    model = wrapped(how, nn.Sequential(nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 4)))
    run = tracker.init(project="watched", id="%s-%d" % (how.replace(" ", "-"), rank))
    watched = run.watch(model, log="all", log_freq=2)[0]
    torch.manual_seed(1 + rank)
    accumulating = how == "ddp accumulating"
    for number in range(2):
        with model.no_sync() if accumulating and number == 0 else contextlib.nullcontext():
            if not accumulating:
                model.zero_grad()
            model(torch.randn(8, 30)).square().sum().backward()
    assert watched.reports == 1, watched.reports
    expected[how] = {}
    for name, parameter in model.named_parameters():
        expected[how]["parameters/" + name] = numbers(parameter)
        expected[how]["gradients/" + name] = numbers(parameter.grad)
    tracker.finish()
from torch.distributed.fsdp import FullyShardedDataParallel
run = tracker.init(project="watched", id="fsdp1-%d" % rank)
model = FullyShardedDataParallel(nn.Linear(30, 4), use_orig_params=True, device_id=torch.device("cpu"))
assert run.watch(model, log="all", log_freq=1) == []  # it says that it sees nothing there
model(torch.randn(8, 30)).square().sum().backward()
tracker.finish()
with open(os.path.join(os.environ["TRACKER_DIR"], "expected-%d" % rank), "w") as file:
    json.dump(expected, file)
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the spool of two ranks that trained in all ways, one after the other."""
    spool = tmp_path_factory.mktemp("spool")
    environment = {
        **os.environ,
        "TRACKER_DIR": str(spool),
        "TRACKER_CONSOLE": "off",
        "TRACKER_DISABLE_CODE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "shim" / "src"), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-c", TRAINING, *WAYS]
    ranks = [subprocess.Popen(command, env={**environment, "RANK": str(rank)}) for rank in range(2)]
    assert [process.wait(240) for process in ranks] == [0, 0]
    return spool


@pytest.mark.parametrize("how", WAYS)
def test_each_rank_records_the_gradients_it_ends_up_with(how: str, trained: Path) -> None:
    import torch

    expected = [json.loads((trained / f"expected-{rank}").read_text())[how] for rank in range(2)]
    gradients = [{n: v for n, v in each.items() if n.startswith("gradients/")} for each in expected]
    assert (gradients[0] == gradients[1]) == (how != "fully_shard")  # the mean of both, or each its own part
    for rank in range(2):
        found = histograms(trained, f"{how.replace(' ', '-')}-{rank}")
        assert found.keys() == {name for name, values in expected[rank].items() if values}
        for name, data in found.items():
            values = torch.tensor(expected[rank][name])
            least, greatest = values.min().item(), values.max().item()
            assert (data["edges"][0], data["edges"][-1]) == (least, greatest)
            assert data["counts"] == torch.histc(values, 64, least, greatest).int().tolist()


def histograms(spool: Path, run: str) -> dict[str, Any]:
    streams = [stream for stream in read_streams(spool) if stream.header.run == run]
    return {value.name: value.data for stream in streams for value in stream.of(kinds.VALUE)}


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
