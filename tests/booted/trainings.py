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
