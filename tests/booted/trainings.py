"""Trainings that the tests on booted machines run, as texts: they run with the machine's own Python."""

#: RUN STEPS
SHORT = """
import sys, tracker
run, steps = sys.argv[1], int(sys.argv[2])
tracker.init(project="booted", id=run)
for step in range(steps):
    tracker.log({"loss": 1 / (step + 1)}, step=step)
tracker.finish()
"""

#: As above, with files that nobody but their user may read, whatever the spool says.
CLOSED = """
import os, pathlib, sys, tracker
run, steps = sys.argv[1], int(sys.argv[2])
tracker.init(project="booted", id=run)
for step in range(steps):
    tracker.log({"loss": 1 / (step + 1)}, step=step)
tracker.finish()
spool = pathlib.Path("/var/spool/tracker", str(os.getuid()))
for directory, _, files in os.walk(spool, topdown=False):
    for name in files:
        os.chmod(os.path.join(directory, name), 0o600)
    os.chmod(directory, 0o700)
"""
