"""Lightning's WandbLogger pickled into a spawned process as strategies do: there it goes on in the run."""

import multiprocessing

from lightning.pytorch.loggers import WandbLogger
from reporting import report


def log_there(logger, connection):
    logger.log_metrics({"loss": 2.0}, step=1)
    connection.send((logger.experiment.id, logger.experiment.name))
    logger.experiment.finish()


if __name__ == "__main__":
    logger = WandbLogger(project="lightning", name="spawned")
    logger.log_metrics({"loss": 1.0}, step=0)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=log_there, args=(logger, there))
    child.start()
    there.close()
    told = here.recv()
    child.join()
    report(run=logger.experiment.id, project="lightning", there=told, code=child.exitcode)
