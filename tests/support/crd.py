"""Kubernetes manifests against KubeRay's schemas, strictly: a field that the schema does not know is an error.

A cluster itself drops such fields silently. Two checks of the same: against the schemas themselves where they are
beside the checkout, and everywhere else against ``kuberay_fields.txt``, the fields among them that the manifests use.
The list is written again by ``python -m tests.support.crd``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import ROOT, SHARED

MANIFESTS = ROOT / "infra" / "kubernetes"
SCHEMAS = SHARED / "schemas"
FIELDS = Path(__file__).with_name("kuberay_fields.txt")

POD = ("spec", "headGroupSpec", "template")
"""Where RayCluster's schema holds that of any pod."""

METADATA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "generateName": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
"""Of an object itself: Kubernetes knows it, and the schemas leave it out."""


def documents() -> list[dict[str, Any]]:
    """Every object of the manifests."""
    return [one for path in sorted(MANIFESTS.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text("utf-8"))]


def checked(document: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The part of an object that the schemas speak of: a KubeRay object, or the pods of another; None: neither."""
    kind, spec = document["kind"], document.get("spec", {})
    if document["apiVersion"] == "ray.io/v1":
        return kind, document
    if kind in ("Deployment", "StatefulSet"):
        return "Pod", spec["template"]
    return ("Pod", spec["jobTemplate"]["spec"]["template"]) if kind == "CronJob" else None


def schemas() -> dict[str, dict[str, Any]]:
    """The strict schema of each kind, and of ``Pod``."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(SCHEMAS.glob("ray.io_*.yaml")):
        with path.open(encoding="utf-8") as file:
            definition = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]
        (version,) = [one for one in definition["versions"] if one["name"] == "v1"]
        schema = version["schema"]["openAPIV3Schema"]
        schema["properties"]["metadata"] = METADATA
        found[definition["names"]["kind"]] = strict(schema)
    pod = found["RayCluster"]
    for key in POD:
        pod = pod["properties"][key]
    return {**found, "Pod": pod}


def strict(schema: Any) -> Any:
    """A structural schema as JSON Schema that refuses what Kubernetes would drop."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    result = {key: strict(value) for key, value in schema.items() if key not in ("properties", "default")}
    if "properties" in schema:  # the keys below are names of fields, and none of JSON Schema's own
        result["properties"] = {name: strict(one) for name, one in schema["properties"].items()}
    open_ended = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if schema.get("type") == "object" and not open_ended:
        result["additionalProperties"] = False
    return result


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each leaf of a document as its path and its type in JSON: ``("spec.rayVersion", "string")``."""
    if isinstance(value, dict) and value:
        for key, one in value.items():
            yield from leaves(one, f"{path}/{key}" if path else key)
    elif isinstance(value, list) and value:
        for one in value:
            yield from leaves(one, f"{path}/[]")
    else:
        names = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object", list: "array"}
        yield path, names[type(value)]


def used_fields(kind: str, document: Any, schema: Any) -> set[str]:
    """The lines of the list that a document takes from a strict schema; a map's own keys are written ``*``."""
    lines: set[str] = set()

    def walk(value: Any, schema: Any, path: str) -> None:
        if isinstance(value, dict) and value:
            for key, one in value.items():
                known = schema.get("properties", {})
                below = known[key] if key in known else schema["additionalProperties"]
                walk(one, below, f"{path}/{key if key in known else '*'}")
        elif isinstance(value, list) and value:
            for one in value:
                walk(one, schema["items"], f"{path}/[]")
        else:
            kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            lines.add(f"{path} {'|'.join(kinds)}")

    walk(document, schema, kind)
    return lines


def unknown_fields(kind: str, document: Any, known: set[str]) -> list[str]:
    """The leaves of a document that the list does not hold with their type."""
    patterns = [(path.split("/")[1:], types.split("|")) for path, _, types in (line.partition(" ") for line in known)
                if path.split("/")[0] == kind]  # fmt: skip

    def fits(path: str, name: str) -> bool:
        # a key of a map may hold slashes itself: whatever follows a * is the key's
        return any(name in types and _matches(path, pattern) for pattern, types in patterns)

    return [f"{path} {name}" for path, name in leaves(document) if not fits(path, name)]


def _matches(path: str, pattern: list[str]) -> bool:
    parts = path.split("/")
    if "*" in pattern:
        at = pattern.index("*")
        return at == len(pattern) - 1 and parts[:at] == pattern[:at] and len(parts) > at
    return parts == pattern


def derive_fields() -> str:
    """The text of the list, from the schemas and the manifests."""
    known = schemas()
    parts = [part for document in documents() if (part := checked(document)) is not None]
    lines = set().union(*(used_fields(kind, part, known[kind]) for kind, part in parts))
    return "".join(f"{line}\n" for line in sorted(lines))


if __name__ == "__main__":
    FIELDS.write_text(derive_fields(), encoding="utf-8")
