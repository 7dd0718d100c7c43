"""Writes tracker.yaml beside this file: what the chart makes of its own values, for those who use no Helm.

    .venv-deploy/bin/python deploy/kubernetes/render.py

`helm template tracker deploy/helm/tracker --namespace tracker` makes the same objects.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helm_python

HERE = Path(__file__).parent
CHART = HERE.parent / "helm" / "tracker"
FILE = HERE / "tracker.yaml"
HEADER = """\
# A server, and an agent on each node: what the chart in deploy/helm makes of its own values (by render.py).
# Change the image names to yours, then:
#
#     kubectl create namespace tracker
#     kubectl label namespace tracker pod-security.kubernetes.io/enforce=privileged
#     kubectl apply --filename tracker.yaml
#
# The agents wait for their key: docs/deploy.md has the command that makes it.
"""


def render(values: dict[str, Any] | None = None) -> dict[str, str]:
    """Return what the chart makes of values, by template. Raise helm_python.HelmError."""
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        return chart.render(values, name="tracker", namespace="tracker")


def manifest() -> str:
    """Return all objects that the chart makes of its own values."""
    parts = {name: text.strip("\n") for name, text in render().items() if name.endswith(".yaml")}
    return HEADER + "".join(f"---\n{parts[name]}\n" for name in sorted(parts, reverse=True) if parts[name])


if __name__ == "__main__":
    FILE.write_text(manifest(), encoding="utf-8")
