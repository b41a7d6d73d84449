"""Several models joined into one `.onnx` file that is evaluated and served like any other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from mien import bundle, hub
from mien.bundle import ModelSpec
from mien.datasets.packed import Dataset
from mien.errors import ModelError
from mien.evaluation import calibration, folder
from mien.export import exporter
from mien.export import onnx as graphs
from mien.export.exporter import Faces
from mien.models.ensemble import joint_spec
from mien.models.ensemble_onnx import merge
from mien.training import run, start


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One model of an ensemble."""

    graph: onnx.ModelProto
    spec: ModelSpec
    sha256: str  # of the file that it was read from


@dataclass(frozen=True, slots=True)
class Joined:
    """What was written."""

    path: Path
    spec: ModelSpec
    sha256: str
    size_bytes: int
    others: tuple[str, ...] = ()  # members that validated on other faces than it was calibrated on


def read_member(source: str) -> Member:
    """A member from an `.onnx` file, a packaged model's name, a run folder or a checkpoint.

    Raises:
        ModelError: it is missing, damaged, or was not made by mien.
    """
    path = hub.resolve(source)
    if hub.is_trained(path):
        model, spec = run.load_model(path)
        graph, spec = graphs.build(model, spec)
        return Member(graph, spec, hub.sha256_of(run.file_of(path)))
    try:
        graph = onnx.load(path)
    except Exception as error:  # protobuf raises its own kinds
        raise ModelError(f"{source} is no ONNX model, or is damaged: copy it again") from error
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    if bundle.KEY not in metadata:
        raise ModelError(f"{source} has no mien metadata: export it with `mien export`")
    return Member(graph, bundle.from_json(metadata[bundle.KEY], source=source), hub.sha256_of(path))


def join(
    sources: Sequence[str],
    path: Path,
    *,
    weights: Sequence[float] | None = None,
    name: str = "ensemble",
    faces: Path | None = None,
    coverage: float = calibration.DEFAULT_COVERAGE,
) -> Joined:
    """Join the models `sources` into `path`; with `faces`, calibrated on the validation faces there.

    They are a prepared data set, or the folder of class sub-folders that the members trained on: of one that they
    split differently, the faces that none of them trained on.

    Raises:
        ModelError: a member is missing or damaged, labels differ, or weights do not fit.
        DataError: the data set cannot be read, or each of its faces trained a member.
    """
    members = [read_member(source) for source in sources]
    specs = [member.spec for member in members]
    spec = joint_spec(specs, weights, name=name, sources=[{"sha256": member.sha256} for member in members])
    graph = merge([(member.graph, member.spec) for member in members], weights)
    others: tuple[str, ...] = ()
    if faces is not None:
        dataset, others = _fair(faces, spec, specs)
        spec = exporter.calibrated(graph, spec, Faces.of(dataset, spec.labels), coverage)
    graphs.save(graphs.with_spec(graph, spec), path)
    return Joined(path, spec, hub.sha256_of(path), path.stat().st_size, others)


def _fair(root: Path, spec: ModelSpec, members: Sequence[ModelSpec]) -> tuple[Dataset, tuple[str, ...]]:
    """The data in `root` with validation faces that trained no member, and the members of which that is not known.

    Of a folder that members were trained on, those validate which all of these members validated on.
    """
    parts = folder.drawn_from(root, spec)
    runs = (one.training for one in members if "data" in one.training)
    seed = parts[0].seed if parts else next(map(folder.split_seed, runs), 0)
    dataset = start.load_data(root, spec.input.size_hw, seed=seed)
    validation = dataset.split("validation")
    if parts:
        unfair = frozenset(validation.names) - folder.shared(root, parts)
        return replace(dataset, splits={**dataset.splits, "validation": validation.drop(unfair)}), ()
    recorded = [(name, (data.get("digests") or {}).get("validation")) for name, _, data in folder.origins(spec)]
    others = [name for name, known in recorded if known not in (None, validation.digest)]
    return dataset, tuple(dict.fromkeys(others))
