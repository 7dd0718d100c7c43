"""A script that leaves everything to variables. Its first argument is the module that it logs with."""

import importlib
import json
import os
import sys

wandb = importlib.import_module(sys.argv[1])
run = wandb.init(**json.loads(sys.argv[2]) if len(sys.argv) > 2 else {})
wandb.log({"loss": 0.5})
told = {
    "run": run.id,
    "project": run.project,
    "name": run.name,
    "notes": run.notes,
    "tags": list(run.tags),
    "group": run.group,
    "job_type": run.job_type,
    "offline": run.offline,
    "disabled": run.disabled,
}
with open(os.environ["REPORT"], "w") as file:
    json.dump(told, file)
wandb.finish()
