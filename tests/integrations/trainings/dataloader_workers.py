"""A DataLoader whose workers log what they load; with `die`, one of them is killed and the script goes on."""

import multiprocessing
import os
import signal
import sys

import torch
from reporting import report
from torch.utils.data import DataLoader, Dataset, get_worker_info

import tracker

ITEMS = 24
WORKERS = 2


class Items(Dataset):
    """Numbers. Holds the run, so that workers that are spawned get it, too."""

    def __init__(self, run, victim):
        self.run = run
        self.victim = victim

    def __len__(self):
        return ITEMS

    def __getitem__(self, index):
        self.run.log({"loaded/%d" % get_worker_info().id: index}, step=index)
        if index == self.victim:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.tensor(float(index))


def main(method, how):
    """Train for an epoch."""
    run = tracker.init(project="loaders")
    context = multiprocessing.get_context(method)
    victim = 13 if how == "die" else None
    loader = DataLoader(
        Items(run, victim),
        batch_size=4,
        num_workers=WORKERS,
        multiprocessing_context=context,
        prefetch_factor=1,
    )
    sums, problem = [], None
    try:
        for batch in loader:
            sums.append(batch.sum().item())
            run.log({"sum": sums[-1]}, step=len(sums) - 1)
    except RuntimeError as error:
        problem = str(error)
    report(project="loaders", run=run.id, sums=sums, problem=problem)


if __name__ == "__main__":
    main(*sys.argv[1:])
