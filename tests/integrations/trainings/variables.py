"""A script that leaves all to variables. Its first argument says what it imports: "tracker as wandb"."""

import importlib
import json
import os
import sys

imported, _, alias = sys.argv[1].partition(" as ")
module = importlib.import_module(imported)
globals()[alias or imported] = module
run = module.init(**json.loads(sys.argv[2]) if len(sys.argv) > 2 else {})
module.log({"loss": 0.5})
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
module.finish()
