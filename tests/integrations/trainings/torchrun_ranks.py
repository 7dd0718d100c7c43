"""Processes under torchrun, on CPUs, that write one run together; how many, is the second argument.

With `fail` one of them raises at first, and the job is started again, as a scheduler does.
"""

import os
import subprocess
import sys

STEPS = 6


def train(how):
    """Train as one of the ranks."""
    import torch
    import torch.distributed as dist

    import tracker

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(rank)
    run = tracker.init(project="ranks", name="eight", config={"ranks": dist.get_world_size()})
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(STEPS):
        if how == "fail" and step == 3 and rank == 1 and not os.path.exists("failed-once"):
            open("failed-once", "w").close()
            raise RuntimeError("rank 1 diverged")
        loss = model(torch.randn(8, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        run.log({"loss/%d" % rank: losses[-1]}, step=step)
    gathered = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, losses)
    if rank == 0:
        from reporting import report

        report(project="ranks", run=run.id, losses=gathered)
    dist.barrier()
    dist.destroy_process_group()


def main(how, ranks):
    """Start the ranks and wait for them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", ranks]
    command += ["--monitor-interval", "0.1", __file__, how, ranks]
    code = subprocess.call(command)
    if how == "fail":
        assert code
        code = subprocess.call(command)
    sys.exit(code)


if __name__ == "__main__":
    if "LOCAL_RANK" in os.environ:
        train(sys.argv[1])
    else:
        main(*sys.argv[1:])
