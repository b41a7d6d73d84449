"""The cluster recipes are what Ray and KubeRay would accept, as far as can be told without either."""

import json
import re
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


# the fields of KubeRay's ray.io/v1, from its own type definitions; its schema is not in any package
JOB = {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"}
CLUSTER = {"rayVersion", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"}
HEAD = {"rayStartParams", "template"}
GROUP = {*HEAD, "groupName", "replicas", "minReplicas", "maxReplicas"}


def test_the_kuberay_manifest_has_kuberays_fields() -> None:
    manifest = read("kuberay.yaml")
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
    job = manifest["spec"]
    cluster = job["rayClusterSpec"]
    groups = cluster["workerGroupSpecs"]
    assert set(job) <= JOB
    assert set(cluster) <= CLUSTER
    assert set(cluster["headGroupSpec"]) == HEAD
    assert all(set(group) == GROUP for group in groups)
    assert cluster["rayVersion"] == oldest_ray()
    for group in (cluster["headGroupSpec"], *groups):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        (container,) = group["template"]["spec"]["containers"]
        assert set(container) == {"name", "image", "envFrom", "resources"}
        assert container["image"].endswith(f":{mien.__version__}")
        assert container["resources"]["limits"] == container["resources"]["requests"]


def test_the_kuberay_manifest_runs_a_command_that_exists() -> None:
    words = read("kuberay.yaml")["spec"]["entrypoint"].split()
    assert words[:2] == ["mien", "batch"]
    app = typer.Typer()
    app.command("batch")(batch.command)
    options = {name for parameter in typer.main.get_command(app).params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
