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

#: Each rank trains on numbers of its own, watches, and writes what its gradients and parameters were.
TRAINING = """
import json, os, sys
import torch
import torch.distributed as dist
from torch import nn
import tracker

how, rank = sys.argv[1], int(os.environ["RANK"])
dist.init_process_group("gloo")
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 4))
if how == "ddp":
    model = nn.parallel.DistributedDataParallel(model)
elif how == "ddp accumulating":
    model = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
else:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    mesh = init_device_mesh("cpu", (2,))
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
run = tracker.init(project="watched", id="rank-%d" % rank)
watched = run.watch(model, log="all", log_freq=2)[0]
torch.manual_seed(1 + rank)
for number in range(2):
    if how == "ddp accumulating" and number == 0:
        with model.no_sync():
            model(torch.randn(8, 30)).square().sum().backward()
        continue
    if how != "ddp accumulating":
        model.zero_grad()
    model(torch.randn(8, 30)).square().sum().backward()
assert watched.reports == 1, watched.reports

def numbers(tensor):
    tensor = tensor.detach()
    return getattr(tensor, "to_local", lambda: tensor)().flatten().tolist()

expected = {}
for name, parameter in model.named_parameters():
    expected["parameters/" + name] = numbers(parameter)
    expected["gradients/" + name] = numbers(parameter.grad)
tracker.finish()
with open(os.path.join(os.environ["TRACKER_DIR"], "expected-%d" % rank), "w") as file:
    json.dump(expected, file)
dist.destroy_process_group()
"""


@pytest.mark.parametrize("how", ["ddp", "ddp accumulating", "fully_shard"])
def test_each_rank_records_the_gradients_it_ends_up_with(how: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    environment = {
        **os.environ,
        "TRACKER_DIR": str(tmp_path),
        "TRACKER_CONSOLE": "off",
        "TRACKER_DISABLE_CODE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "shim" / "src"), os.environ.get("PYTHONPATH", "")]),
    }

    ranks = [
        subprocess.Popen([sys.executable, "-c", TRAINING, how], env={**environment, "RANK": str(rank)})
        for rank in range(2)
    ]
    assert [process.wait(300) for process in ranks] == [0, 0]

    expected = [json.loads((tmp_path / f"expected-{rank}").read_text()) for rank in range(2)]
    gradients = [{n: v for n, v in each.items() if n.startswith("gradients/")} for each in expected]
    assert (gradients[0] == gradients[1]) == (how != "fully_shard")  # the mean of both, or each its own part
    for rank in range(2):
        found = histograms(tmp_path, f"rank-{rank}")
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
