"""The cluster recipes are what Ray and KubeRay would accept, as far as can be told without either."""

import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer.main
import yaml

import mien
from mien.cli import batch

REPOSITORY = Path(__file__).parents[2]


def read(name: str) -> Any:
    return yaml.safe_load((REPOSITORY / "examples" / name).read_text(encoding="utf-8"))


def oldest_ray() -> str:
    """The oldest Ray that mien takes, as a whole version."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(r"ray\[data\]>=([\d.]+)", text)[0] + ".0"


@pytest.fixture(scope="module")
def schema() -> Any:
    """What `ray up` checks a file against."""
    spec = find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    return json.loads((Path(spec.origin).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))


def test_the_cluster_file_fits_rays_schema(schema: Any) -> None:
    cluster = read("ray-cluster.yaml")
    jsonschema.validate(cluster, schema)
    assert cluster["head_node_type"] in cluster["available_node_types"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster | {"workers": 3}, schema)  # the schema does look


def test_the_cluster_file_installs_this_mien() -> None:
    text = (REPOSITORY / "examples" / "ray-cluster.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"mien-([\d.]+)-py3", text)) == {mien.__version__}
    assert re.findall(r"ray\[default\]==([\d.]+)", text) == [oldest_ray()]
    for path in read("ray-cluster.yaml")["file_mounts"]:
        assert path in text.partition("setup_commands")[2]


def closed(required: str, optional: str = "", **properties: Any) -> dict[str, Any]:
    """A JSON schema of an object with these fields and no other; texts unless something else is said."""
    names = [*required.split(), *optional.split()]
    fields = {name: properties.get(name, {"type": "string"}) for name in names}
    return {"type": "object", "properties": fields, "required": required.split(), "additionalProperties": False}


# The part of KubeRay's schema (ray.io/v1) that the manifest uses, with its types and what it requires. The whole has
# more than a megabyte, nearly all of it Kubernetes' own pods, and is in no package.
INT32 = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
QUANTITY = {"type": ["integer", "string"], "pattern": r"^[0-9]+(\.[0-9]+)?([KMGTPE]i|[numkMGTPE])?$"}
AMOUNTS = {"type": "object", "additionalProperties": QUANTITY}
CONTAINER = closed(
    "name image",
    "envFrom resources",
    envFrom={"type": "array", "items": closed("secretRef", secretRef=closed("name"))},
    resources=closed("", "limits requests", limits=AMOUNTS, requests=AMOUNTS),
)
TEMPLATE = closed("spec", spec=closed("containers", containers={"type": "array", "minItems": 1, "items": CONTAINER}))
WORKERS = closed(
    "groupName minReplicas maxReplicas rayStartParams template",
    "replicas",
    **dict.fromkeys(("minReplicas", "maxReplicas", "replicas"), INT32),
    rayStartParams=TEXTS,
    template=TEMPLATE,
)
CLUSTER = closed(
    "headGroupSpec",
    "rayVersion enableInTreeAutoscaling workerGroupSpecs",
    enableInTreeAutoscaling={"type": "boolean"},
    headGroupSpec=closed("rayStartParams template", rayStartParams=TEXTS, template=TEMPLATE),
    workerGroupSpecs={"type": "array", "items": WORKERS},
)
JOB = closed(
    "",
    "entrypoint backoffLimit shutdownAfterJobFinishes ttlSecondsAfterFinished rayClusterSpec",
    **dict.fromkeys(("backoffLimit", "ttlSecondsAfterFinished"), INT32),
    shutdownAfterJobFinishes={"type": "boolean"},
    rayClusterSpec=CLUSTER,
)
MANIFEST = closed(
    "apiVersion kind metadata spec",
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=closed("name"),
    spec=JOB,
)


def test_the_kuberay_manifest_fits_kuberays_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(MANIFEST)
    jsonschema.validate(read("kuberay.yaml"), MANIFEST)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda job: job.update(backOffLimit=3), "backOffLimit", id="a misspelt field"),
        pytest.param(
            lambda job: job.update(backoffLimit="3"), "'3' is not of type 'integer'", id="a text for a number"
        ),
        pytest.param(lambda job: job["rayClusterSpec"].pop("headGroupSpec"), "'headGroupSpec' is a req", id="no head"),
        pytest.param(
            lambda job: job["rayClusterSpec"]["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
            "0 is not of type 'string'",
            id="a number among ray start's options",
        ),
    ],
)
def test_the_schema_does_look(change: Callable[[dict[str, Any]], object], message: str) -> None:
    manifest = read("kuberay.yaml")
    change(manifest["spec"])
    with pytest.raises(jsonschema.ValidationError, match=re.escape(message)):
        jsonschema.validate(manifest, MANIFEST)


def test_the_kuberay_manifest_is_of_this_mien() -> None:
    cluster = read("kuberay.yaml")["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == oldest_ray()
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"].endswith(f":{mien.__version__}")
        assert container["resources"]["limits"] == container["resources"]["requests"]


def test_the_kuberay_manifest_runs_a_command_that_exists() -> None:
    words = read("kuberay.yaml")["spec"]["entrypoint"].split()
    assert words[:2] == ["mien", "batch"]
    app = typer.Typer()
    app.command("batch")(batch.command)
    options = {name for parameter in typer.main.get_command(app).params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
