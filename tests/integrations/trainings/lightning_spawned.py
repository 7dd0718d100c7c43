"""Lightning's WandbLogger pickled into a spawned process as strategies do: there it goes on in the run."""

import multiprocessing

from lightning.pytorch.loggers import WandbLogger
from reporting import report


def log_there(logger, queue):
    logger.log_metrics({"loss": 2.0}, step=1)
    queue.put((logger.experiment.id, logger.experiment.name))
    logger.experiment.finish()


if __name__ == "__main__":
    logger = WandbLogger(project="lightning", name="spawned")
    logger.log_metrics({"loss": 1.0}, step=0)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=log_there, args=(logger, queue))
    child.start()
    there = queue.get(timeout=60)
    child.join()
    report(run=logger.experiment.id, project="lightning", there=there, code=child.exitcode)
