"""The files of infra: valid, consistent with each other and with the presets, and without secrets."""

from __future__ import annotations

import copy
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from hfd.config import ClusterConfig
from hfd.config.presets import load_config, preset_folder
from hfd.errors import ConfigError
from pipelines.cli import app
from pipelines.engine.ray_session import check_fits
from pipelines.jobs.plan import looks_secret, plan_job, read_command
from tests.support.command_line import Hfd
from tests.support.crd import (
    FIELDS,
    MANIFESTS,
    ROOT,
    SCHEMAS,
    checked,
    derive_fields,
    documents,
    leaves,
    schemas,
    strict,
    unknown_fields,
)  # fmt: skip
from tests.support.scripts import load_script

LAUNCHER = ROOT / "infra" / "aws-cluster.yaml"
DOCUMENTS = documents()
PARTS = [part for document in DOCUMENTS if (part := checked(document)) is not None]
VERSIONS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if "==" in line and not line.startswith("#")
)


@pytest.fixture(scope="module")
def known() -> dict[str, dict[str, Any]]:
    if not SCHEMAS.is_dir():
        pytest.skip(f"needs KubeRay's schemas in {SCHEMAS}")
    return schemas()


def launcher() -> dict[str, Any]:
    return dict(yaml.safe_load(LAUNCHER.read_text("utf-8")))


def sizing() -> ModuleType:
    return load_script("infra/sizing.py")


# --- valid ---------------------------------------------------------------------------------------


def test_the_kinds_are_those_that_are_meant() -> None:
    assert sorted(kind for kind, _ in PARTS) == ["Pod", "Pod", "Pod", "RayCluster", "RayCronJob", "RayJob"]
    assert {document["metadata"]["namespace"] for document in DOCUMENTS if document["kind"] != "Namespace"} == {"hfd"}


@pytest.mark.shared_data
def test_the_manifests_are_valid_against_the_schemas(known: dict[str, dict[str, Any]]) -> None:
    for kind, part in PARTS:
        jsonschema.Draft202012Validator.check_schema(known[kind])
        jsonschema.validate(part, known[kind], cls=jsonschema.Draft202012Validator)


@pytest.mark.shared_data
def test_the_list_of_fields_agrees_with_the_schemas(known: dict[str, dict[str, Any]]) -> None:
    del known
    assert FIELDS.read_text("utf-8") == derive_fields(), "run python -m tests.support.crd"


@pytest.mark.parametrize(("kind", "part"), PARTS)
def test_every_field_is_in_kuberays_schema(kind: str, part: dict[str, Any]) -> None:
    assert unknown_fields(kind, part, set(FIELDS.read_text("utf-8").splitlines())) == []


def _mistakes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each manifest with one thing wrong: a misspelt field, one at the wrong place, a wrong type."""
    cluster = next(part for kind, part in PARTS if kind == "RayCluster")
    for change in (
        lambda spec: spec.update(rayversion="2.60.0"),
        lambda spec: spec.update(rayVersion=2.6),
        lambda spec: spec["headGroupSpec"].update(replicas=1),
        lambda spec: spec["workerGroupSpecs"][0].update(maxReplicas="8"),
        lambda spec: spec["workerGroupSpecs"][1]["template"]["spec"]["containers"][0].update(imagePullPolice="Always"),
        lambda spec: spec["workerGroupSpecs"][1]["template"]["spec"]["tolerations"][0].update(efect="NoSchedule"),
        lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
        lambda spec: spec["authOptions"].update(secret="x"),
    ):
        wrong = copy.deepcopy(cluster)
        change(wrong["spec"])
        yield "RayCluster", wrong


@pytest.mark.parametrize(("kind", "part"), list(_mistakes()))
def test_a_mistake_in_a_manifest_would_be_seen(kind: str, part: dict[str, Any]) -> None:
    assert unknown_fields(kind, part, set(FIELDS.read_text("utf-8").splitlines())) != []
    if SCHEMAS.is_dir():
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(part, schemas()[kind], cls=jsonschema.Draft202012Validator)


def test_a_strict_schema_refuses_fields_that_kubernetes_drops() -> None:
    schema = strict({
        "type": "object",
        "properties": {
            "properties": {"type": "object", "properties": {"a": {"type": "string"}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
            "empty": {"type": "object"},
            "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        },
    })  # fmt: skip
    for right in ({"properties": {"a": "x"}}, {"free": {"b": 1}}, {"map": {"b": "x"}}, {"empty": {}}, {"port": "http"}):
        jsonschema.validate(right, schema)
    for wrong in ({"properties": {"b": "x"}}, {"map": {"b": 1}}, {"empty": {"b": 1}}, {"port": 1.5}, {"other": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_the_launcher_file_is_valid_for_ray() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(launcher())
    validate_config(prepared)
    with pytest.raises(jsonschema.ValidationError):
        validate_config({**prepared, "maximum_workers": 1})


# --- in step -------------------------------------------------------------------------------------


def _ray_specs() -> list[dict[str, Any]]:
    specs = {document["kind"]: document["spec"] for document in DOCUMENTS if "spec" in document}
    cron = specs["RayCronJob"]["jobTemplate"]
    return [specs["RayCluster"], specs["RayJob"]["rayClusterSpec"], cron["rayClusterSpec"]]


def test_one_image_and_one_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    images = {value for document in DOCUMENTS for path, value in _texts(document) if path.endswith("/image")}
    images.add(launcher()["docker"]["image"])
    assert images == {f"registry.example.com/hfd:{project['version']}", "postgres:16.9-bookworm"}
    assert [spec["rayVersion"] for spec in _ray_specs()] == [VERSIONS["ray"]] * 3
    dockerfile = (ROOT / "infra" / "Dockerfile").read_text("utf-8")
    assert f"hfd:{project['version']}" in dockerfile
    assert re.findall(r"^ARG PYTHON_VERSION=(\d+\.\d+)", dockerfile, re.M) == ["3.11"]
    assert project["requires-python"] == ">=3.11"
    assert "--constraint constraints.txt" in dockerfile
    assert {"ray", "mlflow", "torch", "psycopg2-binary"} <= VERSIONS.keys()


def test_the_cluster_of_a_job_is_the_cluster_that_stays() -> None:
    stays, job, cron = _ray_specs()
    assert stays == job == cron
    assert all(group["minReplicas"] == group["replicas"] <= group["maxReplicas"] for group in job["workerGroupSpecs"])


def _kubernetes_nodes(spec: dict[str, Any]) -> list[dict[str, float]]:
    nodes = []
    for group in spec["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        resources = {"CPU": float(limits["cpu"]), "GPU": float(limits.get("nvidia.com/gpu", 0))}
        nodes += [resources] * group["minReplicas"]
    return nodes


def _launched_nodes() -> list[dict[str, float]]:
    types = launcher()["available_node_types"].values()
    return [one["resources"] for one in types for _ in range(one.get("min_workers", 0))]


SIZES = [f"cluster/{path.stem}" for path in sorted((preset_folder() / "cluster").glob("*.yaml"))]


def _cluster_config(name: str) -> ClusterConfig:
    if not name.startswith("cluster/"):
        return load_config(name).cluster
    settings = yaml.safe_load((preset_folder() / f"{name}.yaml").read_text("utf-8"))["cluster"]
    return ClusterConfig(kind="attach", address="auto", **settings)


@pytest.mark.parametrize("name", ["coco256", "clic", *SIZES])
def test_presets_and_sizes_fit_the_clusters(name: str) -> None:
    config = _cluster_config(name)
    # a run does not wait for nodes: those that a cluster begins with have to do
    check_fits(config, _kubernetes_nodes(_ray_specs()[0]))
    check_fits(config, _launched_nodes())


def test_a_cluster_that_is_too_small_would_be_seen() -> None:
    spec = copy.deepcopy(_ray_specs()[0])
    spec["workerGroupSpecs"][1]["minReplicas"] = 0
    with pytest.raises(ConfigError, match=r"cluster\.train_workers"):
        check_fits(load_config("clic").cluster, _kubernetes_nodes(spec))


def test_the_launcher_may_start_as_many_nodes_as_its_types_allow() -> None:
    types = launcher()["available_node_types"]
    assert launcher()["max_workers"] == sum(one.get("max_workers", 0) for one in types.values())


def test_the_priced_machines_are_those_of_the_files() -> None:
    priced = set(sizing().USD_PER_HOUR)
    assert {one["node_config"]["InstanceType"] for one in launcher()["available_node_types"].values()} == priced
    selected = {value for document in DOCUMENTS for path, value in _texts(document) if "instance-type" in path}
    assert selected < priced


@pytest.mark.parametrize("kind", ["RayJob", "RayCronJob"])
def test_the_entrypoints_are_commands_that_run(kind: str, hfd: Hfd) -> None:
    (spec,) = [document["spec"] for document in DOCUMENTS if document["kind"] == kind]
    retrain, *after = (spec if kind == "RayJob" else spec["jobTemplate"])["entrypoint"].split("&&")
    program, *arguments = shlex.split(retrain)
    assert program == "hfd"
    parsed = read_command(typer.main.get_command(app), arguments)
    config = load_config(parsed.preset, parsed.overrides)
    assert (config.cluster.kind, config.cluster.address) == ("attach", "auto")
    plan_job(parsed)  # reachable from a cluster, and without secrets
    ended = hfd(*(one for one in arguments if not one.startswith("data.uri=")), "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert len(after) == (kind == "RayCronJob")
    for command in after:
        program, *arguments = shlex.split(command)
        cleaning = read_command(typer.main.get_command(app), arguments)
        assert (program, cleaning.command, "--yes" in cleaning.options) == ("hfd", "clean", True)
        assert set(cleaning.overrides) <= set(parsed.overrides)


def test_the_submitter_of_the_plain_cronjob_runs(hfd: Hfd) -> None:
    (spec,) = [document["spec"] for document in DOCUMENTS if document["kind"] == "CronJob"]
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    containers = [*pod["initContainers"], *pod["containers"]]
    assert [container["name"] for container in containers] == ["retrain", "clean"]
    cluster = next(document for document in DOCUMENTS if document["kind"] == "RayCluster")
    for container in containers:
        program, command, *arguments = container["args"]
        assert (program, command, spec["concurrencyPolicy"]) == ("hfd", "submit", "Forbid")
        assert container["name"] in arguments
        ended = hfd(command, "--dry-run", *arguments)
        assert (ended.code, ended.err) == (0, "")
        assert f"--address=http://{cluster['metadata']['name']}-head-svc:8265" in arguments
        token = next(one for one in container["env"] if one["name"] == "RAY_AUTH_TOKEN")["valueFrom"]["secretKeyRef"]
        assert token["name"] == cluster["spec"]["authOptions"]["secretName"]


def test_all_work_of_a_name_writes_to_one_place() -> None:
    commands = [
        json.dumps(document) for document in DOCUMENTS if document["kind"] in ("RayJob", "RayCronJob", "CronJob")
    ]
    found = {match for command in commands for match in re.findall(r"workspace=(\S+?)[\s\"]", command)}
    assert found == {"s3://hfd-example/work/coco256"}


# --- closed --------------------------------------------------------------------------------------


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _texts(one, f"{path}/{key}")
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one, path)
    elif isinstance(value, str):
        yield path, value


def _containers(document: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every pod and each of its containers."""
    if isinstance(document, dict):
        for container in document.get("containers", []):
            yield document, container
        for one in document.values():
            yield from _containers(one)
    elif isinstance(document, list):
        for one in document:
            yield from _containers(one)


def test_no_file_holds_a_secret() -> None:
    assert "Secret" not in {document["kind"] for document in DOCUMENTS}
    for document in [*DOCUMENTS, launcher()]:
        for path, value in _texts(document):
            assert not looks_secret(value.replace(":$(POSTGRES_PASSWORD)@", "@").replace("mlflow@", "")), path
    for document in DOCUMENTS:
        for _, container in _containers(document):
            for variable in container.get("env", []):
                named = re.search(r"PASSWORD|TOKEN|SECRET|KEY", variable["name"]) is not None
                assert named == ("valueFrom" in variable), variable["name"]


def test_pods_run_without_rights_and_nothing_is_open_to_the_outside() -> None:
    pods = [pair for document in DOCUMENTS for pair in _containers(document)]
    assert len(pods) == 3 * 3 + 3
    for pod, container in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert {"requests", "limits"} == container["resources"].keys()
    paths = {path.rpartition("/")[2] for document in DOCUMENTS for path, _ in leaves(document)}
    assert not paths & {"hostNetwork", "hostPath", "hostPort", "hostPID", "nodePort", "loadBalancerIP", "privileged"}
    kinds = [document["kind"] for document in DOCUMENTS]
    assert "Ingress" not in kinds
    assert all("type" not in document["spec"] for document in DOCUMENTS if document["kind"] == "Service")
    # what has no password of its own is reached from the namespace alone
    assert kinds.count("NetworkPolicy") == kinds.count("Service") == 2


def test_ray_asks_for_a_token_and_its_job_server_stays_inside() -> None:
    assert all(spec["authOptions"]["mode"] == "token" for spec in _ray_specs())
    config = launcher()
    assert any("--dashboard-host=127.0.0.1" in command for command in config["head_start_ray_commands"])
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    for one in config["available_node_types"].values():
        assert one["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
        assert one["node_config"]["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True


def test_every_file_of_kubernetes_is_looked_at() -> None:
    names = {path.name for path in MANIFESTS.iterdir()}
    assert names == {
        "namespace.yaml", "mlflow.yaml", "raycluster.yaml", "rayjob.yaml", "raycronjob.yaml", "cronjob.yaml",
    }  # fmt: skip
    assert all(Path(MANIFESTS, name).read_text("utf-8").startswith("# ") for name in names)
