"""A notebook, run cell by cell by a real kernel; what its cells print is reported."""

import nbformat
from nbclient import NotebookClient
from reporting import report

CELLS = [
    "import os, tracker\nprint('one')",
    "run = tracker.init(project='notebooks', name='first')\nfirst = run.id",
    "for step in range(3):\n    tracker.log({'loss': step / 2})\n    print('step', step)",
    "tracker.log({'loss': 9.0})\nraise ValueError('a cell fails')",
    "tracker.log({'after': 1.0})\nos.write(1, b'') and None\nprint('goes on')",
    "run = tracker.init(project='notebooks', name='second')\nsecond = run.id",
    "import subprocess\ntracker.log({'loss': 0.25})\nprint(subprocess.check_output(['echo', 'a child']))",
    "tracker.finish()\nprint('end')",
    "print(first, second)",
]

notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
NotebookClient(notebook, timeout=120, allow_errors=True, kernel_name="python3").execute()
printed, failed = [], []
for cell in notebook.cells:
    outputs = cell.outputs
    text = "".join(each.text for each in outputs if each.output_type == "stream" and each.name == "stdout")
    printed.append(text)
    failed.append([each.ename for each in outputs if each.output_type == "error"])
ids = printed[-1].split()
report(project="notebooks", run=ids[1], first=ids[0], printed=printed[:-1], failed=failed)
