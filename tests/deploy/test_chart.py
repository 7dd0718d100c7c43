"""Helm's own code renders the chart; Kubernetes' schemas judge what comes of it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

from tests.deploy.conftest import DEPLOY

CHART = DEPLOY / "helm" / "tracker"
#: The oldest Kubernetes that Chart.yaml takes, and the newest that the schemas know.
VERSIONS = ("1.25", kubernetes_validate.latest_version())

_spec = importlib.util.spec_from_file_location("render", DEPLOY / "kubernetes" / "render.py")
assert _spec is not None and _spec.loader is not None
render = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(render)

EVERYTHING: dict[str, Any] = {
    "images": {"agent": {"repository": "r.example.org/agent", "tag": "9"}, "pullSecrets": ["one", "two"]},
    "server": {
        "publicUrl": "https://tracker.example.org",
        "allowedHosts": ["tracker.internal"],
        "storage": {"size": "1Ti", "className": "fast"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "server", "operator": "Exists"}],
        "affinity": {"podAffinity": {}},
        "settings": {"TRACKER_SERVER_LOG_LEVEL": "debug"},
    },
    "agent": {
        "caConfigMap": "authority",
        "spools": ["/var/spool/tracker", "/data/spool"],
        "uidMap": ["0=1000", "100000-165535=1001"],
        "metrics": {"port": 9999, "allowRemote": True},
        "nvidia": {"runtimeClassName": ""},
        "priorityClassName": "system-node-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "settings": {"TRACKER_AGENT_SAMPLER_INTERVAL_S": 1},
    },
}
CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "everything": EVERYTHING,
    "agents only": {"server": {"enabled": False}, "agent": {"serverUrl": "https://tracker.example.org"}},
    "server only": {"agent": {"enabled": False}},
    "no GPUs": {"agent": {"nvidia": {"enabled": False}}},
}


def objects(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, text in render.render(values).items():
        if name.endswith(".yaml"):
            yield from filter(None, yaml.safe_load_all(text))


def of_kind(values: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in objects(values) if each["kind"] == kind}


@pytest.mark.parametrize("case", CASES)
def test_helm_finds_nothing_wrong(case: str) -> None:
    report = helm_python.lint(CHART, CASES[case], strict=True, namespace="tracker")

    assert report["errors"] == []
    assert [each for each in report["messages"] if each["severity"] > 1] == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_kubernetes_takes_what_is_rendered(case: str, version: str) -> None:
    found = list(objects(CASES[case]))

    assert len(found) >= 3
    for each in found:
        kubernetes_validate.validate(each, version, strict=True)


def test_manifests_for_those_without_helm_are_the_charts() -> None:
    assert render.FILE.read_text() == render.manifest(), "run deploy/kubernetes/render.py"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"agnet": {}}, "agnet"),
        ({"agent": {"spool": "/x"}}, "spool"),
        ({"agent": {"serverUrl": "tracker.example.org"}}, "serverUrl"),
        ({"agent": {"uidMap": ["root=1000"]}}, "uidMap"),
        ({"agent": {"spools": []}}, "spools"),
        ({"agent": {"metrics": {"port": 80, "allowRemote": False}}}, "port"),
        ({"agent": {"settings": {"LIMITS_SPOOL_BYTES": "1 GiB"}}}, "LIMITS_SPOOL_BYTES"),
        ({"server": {"storage": {"size": "much"}}}, "size"),
        ({"server": {"enabled": False}}, "agent.serverUrl"),
    ],
)
def test_values_that_cannot_work_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(helm_python.HelmError, match=said):
        render.render(values)


def test_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(values: dict[str, Any], schema: dict[str, Any], place: str) -> None:
        if "$ref" in schema:
            schema = definitions[schema["$ref"].rpartition("/")[2]]
        if "properties" not in schema:
            return
        assert set(values) == set(schema["properties"]) - {"global"}, place
        for name, value in values.items():
            if isinstance(value, dict):
                compare(value, schema["properties"][name], f"{place}.{name}")

    definitions = schema["definitions"]
    compare(values, schema, "values")


def test_pods_get_no_token_and_no_variables_of_services() -> None:
    for kind in ("DaemonSet", "StatefulSet"):
        for each in of_kind({}, kind).values():
            pod = each["spec"]["template"]["spec"]

            assert pod["automountServiceAccountToken"] is False
            # They would be called TRACKER_SERVER_PORT and so on, and refused as settings.
            assert pod["enableServiceLinks"] is False
    assert not any(each["kind"] in ("Role", "ClusterRole", "RoleBinding") for each in objects(EVERYTHING))


def test_containers_have_no_privileges_but_those_of_setting_up_directories() -> None:
    for kind in ("DaemonSet", "StatefulSet"):
        for each in of_kind({}, kind).values():
            pod = each["spec"]["template"]["spec"]
            for container in (*pod["containers"], *pod.get("initContainers", ())):
                context = container["securityContext"]
                assert context["allowPrivilegeEscalation"] is False
                assert context["readOnlyRootFilesystem"] is True
                assert context["capabilities"]["drop"] == ["ALL"]
                first = container["name"] == "directories"
                assert context["capabilities"].get("add", []) == (["CHOWN", "FOWNER"] if first else [])
                assert "limits" in container["resources"]
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_each_node_has_one_agent() -> None:
    sets = of_kind({}, "DaemonSet")
    terms = {}
    for name, each in sets.items():
        affinity = each["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
        required = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        (terms[name],) = required[0]["matchExpressions"]

    assert set(terms) == {"tracker-agent", "tracker-agent-nvidia"}
    assert {each["key"] for each in terms.values()} == {"nvidia.com/gpu.present"}
    assert terms["tracker-agent"]["operator"] == "NotIn"
    assert terms["tracker-agent-nvidia"]["operator"] == "In"
    pods = {name: each["spec"]["template"]["spec"] for name, each in sets.items()}
    assert pods["tracker-agent-nvidia"]["runtimeClassName"] == "nvidia"
    assert "runtimeClassName" not in pods["tracker-agent"]
    selectors = [each["spec"]["selector"]["matchLabels"] for each in sets.values()]
    assert selectors[0] != selectors[1]


def test_figures_are_for_other_machines_only_where_asked_for() -> None:
    assert "tracker-agent" not in of_kind({}, "Service")
    service = of_kind(EVERYTHING, "Service")["tracker-agent"]
    for each in of_kind(EVERYTHING, "DaemonSet").values():
        labels = each["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()
