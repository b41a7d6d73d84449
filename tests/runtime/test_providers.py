"""Providers: the same answers from each, the right one by name, by itself and from memory, and what does not work."""

import concurrent.futures
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from tests.drawing import draw_split

import mien
from mien import hub
from mien.errors import ConfigError, MissingExtraError, ModelError
from mien.runtime import providers
from mien.runtime.predictor import Predictor

WITH_OPENVINO = pytest.mark.skipif("openvino" not in providers.installed(), reason="openvino is not installed")
MODELS = ("default", "default-fp16")


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(providers.VARIABLE, raising=False)


@pytest.fixture(scope="module")
def faces() -> NDArray[np.uint8]:
    return draw_split(10, seed=3).images


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@WITH_OPENVINO
@pytest.mark.parametrize(
    ("model", "difference", "agreement"),
    [
        pytest.param("default-fp16", 1e-4, 1.0, id="floats: the same arithmetic"),
        pytest.param("default", 0.06, 0.97, id="int8: other rounding between layers"),
    ],
)
def test_openvino_agrees(model: str, difference: float, agreement: float, faces: NDArray[np.uint8]) -> None:
    expected = Predictor(hub.resolve(model), threads=1, provider="cpu").predict(faces)
    found = Predictor(hub.resolve(model), threads=1, provider="openvino").predict(faces)
    assert np.abs(found - expected).max() < difference
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() >= agreement


@WITH_OPENVINO
def test_openvino_gives_features_metadata_and_its_name(tiny_onnx: Path, faces: NDArray[np.uint8]) -> None:
    expected, found = (Predictor(tiny_onnx, threads=1, provider=name) for name in ("cpu", "openvino"))
    assert found.spec == expected.spec
    assert (expected.info.provider, found.info.provider) == ("cpu", "openvino")
    for one, other in zip(found.predict_with_features(faces), expected.predict_with_features(faces), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@WITH_OPENVINO
def test_threads_share_an_openvino_session(tiny_onnx: Path, faces: NDArray[np.uint8]) -> None:
    predictor = Predictor(tiny_onnx, threads=1, provider="openvino")
    batches = [faces[start : start + 7] for start in range(0, len(faces), 7)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(predictor.predict, batches))
    for batch, probabilities in zip(batches, together, strict=True):
        np.testing.assert_allclose(probabilities, predictor.predict(batch), atol=1e-6)


@WITH_OPENVINO
@pytest.mark.parametrize("content", [b"", b"not a model"], ids=["empty", "text"])
def test_openvino_refuses_what_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "corrupt.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"corrupt\.onnx is no ONNX model") as refusal:
        Predictor(path, provider="openvino")
    assert "\n" not in str(refusal.value)


@WITH_OPENVINO
def test_the_variable_names_the_provider_of_a_result(monkeypatch: pytest.MonkeyPatch, tiny_onnx: Path) -> None:
    monkeypatch.setenv(providers.VARIABLE, "openvino")
    assert mien.load(tiny_onnx, detector="none", threads=1).provenance["provider"] == "openvino"


def test_unknown_provider(monkeypatch: pytest.MonkeyPatch, tiny_onnx: Path) -> None:
    monkeypatch.setenv(providers.VARIABLE, "abacus")
    with pytest.raises(ConfigError, match="'abacus' is no provider: set MIEN_PROVIDER to auto, cpu"):
        Predictor(tiny_onnx)


def test_missing_openvino_names_its_extra(monkeypatch: pytest.MonkeyPatch, tiny_onnx: Path) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mien\[openvino\]'"):
        Predictor(tiny_onnx, provider="openvino")


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_named_gpu_that_does_not_work_is_said(tiny_onnx: Path, provider: str) -> None:
    if provider in providers.installed():
        pytest.skip(f"this ONNX Runtime has {provider}")
    with pytest.raises(ModelError, match=f"the provider {provider} does not work here.*MIEN_PROVIDER=cpu"):
        Predictor(tiny_onnx, provider=provider)


def test_auto_falls_back_where_the_gpu_fails(monkeypatch: pytest.MonkeyPatch, tiny_onnx: Path) -> None:
    """An ONNX Runtime built for CUDA, on a machine without a GPU: it runs on the CPU and says so."""
    built_for = [*ort.get_available_providers(), "CUDAExecutionProvider"]
    create = ort.InferenceSession

    def without_gpu(model: Any, options: Any, providers: Sequence[str]) -> Any:
        return create(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(ort, "get_available_providers", lambda: built_for)
    monkeypatch.setattr(ort, "InferenceSession", without_gpu)
    assert Predictor(tiny_onnx).info.provider == "cpu"


@WITH_OPENVINO
def test_auto_takes_what_was_measured_for_this_file(tiny_onnx: Path, mien_home: Path) -> None:
    assert Predictor(tiny_onnx).info.provider == "cpu"
    providers.remember({digest(tiny_onnx): "openvino"})
    providers.remember({"another model": "cpu"})
    assert Predictor(tiny_onnx).info.provider == "openvino"
    assert Predictor(tiny_onnx, provider="cpu").info.provider == "cpu"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda kept: {**kept, "machine": "another"}, id="another machine"),
        pytest.param(lambda kept: {**kept, "fastest": dict.fromkeys(kept["fastest"], "abacus")}, id="gone"),
        pytest.param(lambda _: {}, id="empty"),
        pytest.param(lambda _: [], id="a list"),
        pytest.param(lambda kept: {**kept, "fastest": None}, id="damaged"),
    ],
)
def test_a_memory_that_does_not_hold_is_not_believed(tiny_onnx: Path, mien_home: Path, change: Any) -> None:
    path = providers.remember({digest(tiny_onnx): "openvino"})
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    assert providers.remembered() == {}
    assert Predictor(tiny_onnx).info.provider == "cpu"


@pytest.mark.parametrize(
    ("faster", "asked", "answers"),
    [
        pytest.param(None, "default", "default", id="never measured"),
        pytest.param("default", "default", "default", id="int8 gains"),
        pytest.param("default-fp16", "default", "default-fp16", id="int8 gains nothing"),
        pytest.param("default-fp16", "baseline", "baseline", id="another model"),
        pytest.param("abacus", "default", "default", id="no name of ours"),
    ],
)
def test_the_default_is_unquantised_where_int8_gains_nothing(
    mien_home: Path, faster: str | None, asked: str, answers: str
) -> None:
    if faster is not None:
        providers.remember({}, default={digest(hub.resolve("default")): faster})
    assert providers.file_of(asked) == hub.resolve(answers)
    assert mien.load(asked, detector="none").predictor.info.sha256 == digest(hub.resolve(answers))


@pytest.mark.parametrize(("named", "answers"), [("cpu", "default"), ("auto", "default-fp16"), ("", "default-fp16")])
def test_a_provider_by_name_leaves_default_as_it_is(
    mien_home: Path, monkeypatch: pytest.MonkeyPatch, named: str, answers: str
) -> None:
    providers.remember({}, default={digest(hub.resolve("default")): "default-fp16"})
    monkeypatch.setenv(providers.VARIABLE, named)
    assert providers.file_of("default") == hub.resolve(answers)


def test_what_was_measured_of_another_default_is_not_believed(mien_home: Path) -> None:
    path = providers.remember({}, default={"0" * 64: "default-fp16"})
    assert providers.file_of("default") == hub.resolve("default")
    kept = json.loads(path.read_text(encoding="utf-8"))
    kept["default"] = {digest(hub.resolve("default")): "default-fp16"}
    path.write_text(json.dumps({**kept, "machine": "another"}), encoding="utf-8")
    assert providers.file_of("default") == hub.resolve("default")
    path.write_text(json.dumps(kept), encoding="utf-8")
    assert providers.file_of("default") == hub.resolve("default-fp16")


@pytest.mark.parametrize("model", MODELS)
def test_packaged_models_name_their_provider(model: str) -> None:
    assert Predictor(hub.resolve(model), threads=1).info.to_dict()["provider"] in providers.NAMES
