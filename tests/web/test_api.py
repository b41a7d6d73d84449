import base64
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from flask.testing import FlaskClient
from tests.web.conftest import MakeClient, Picture, form

import mien
from mien.explain import cam_maps, occlusion_maps
from mien.labels import FER7
from mien.web.settings import Settings
from mien.web.uploads import clean_name


def test_result_is_that_of_the_library(client: FlaskClient, tiny_onnx: Path, picture: Picture) -> None:
    answer = client.post("/api/v1/analyze", data=form(picture(), names=["noise.png"]))
    analyzer = client.application.extensions["mien"].models[0].full
    expected = analyzer.describe("noise.png", analyzer.analyze(picture()), width=120, height=80).to_dict()
    assert answer.status_code == 200
    assert answer.json == [json.loads(json.dumps(expected))]
    assert list(answer.json[0]["faces"][0]["probabilities"]) == list(FER7)


@pytest.mark.parametrize("height", [600, pytest.param(3600, id="large: decoded no larger than it is looked at")])
def test_result_is_that_of_mien_predict(
    tiny_onnx: Path, grace_hopper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, height: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from mien.cli import app as cli  # noqa: PLC0415 - Typer is not needed elsewhere
    from mien.web import create_app  # noqa: PLC0415

    photo = tmp_path / "photo.jpg"
    with PIL.Image.open(grace_hopper) as portrait:
        portrait.resize((height * 512 // 600, height)).save(photo)
    monkeypatch.chdir(tmp_path)
    command = ["predict", photo.name, "--format", "json", "--model", str(tiny_onnx)]
    with pytest.raises(SystemExit) as end:
        cli(command)
    assert end.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    service = create_app(Settings(models=(str(tiny_onnx),))).test_client()
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n\r\n'
    body, kind = head + photo.read_bytes() + b"\r\n--b--\r\n", "multipart/form-data; boundary=b"
    assert service.post("/api/v1/analyze", data=body, content_type=kind).json == printed
    (fast,) = service.post("/api/v1/analyze?detection=fast", data=body, content_type=kind).json or [{}]
    difference = np.subtract(fast["faces"][0]["box_xyxy"], printed[0]["faces"][0]["box_xyxy"])
    assert np.abs(difference).max() < height / 24


def test_many_pictures_keep_their_order(client: FlaskClient, picture: Picture) -> None:
    data = form(picture("JPEG"), picture(black=True), picture("WEBP"), names=["a.jpg", "b.png", "c.webp"])
    answer = client.post("/api/v1/analyze", data=data)
    assert [(one["source"], len(one["faces"])) for one in answer.json or []] == [
        ("a.jpg", 2),
        ("b.png", 0),
        ("c.webp", 2),
    ]


@pytest.mark.parametrize("method", ["occlusion", "cam"])
def test_maps_are_those_of_the_library(client: FlaskClient, picture: Picture, method: str) -> None:
    answer = client.post(f"/api/v1/explain?method={method}&face=1&face=0&label=sad", data=form(picture())).json
    analyzer = client.application.extensions["mien"].models[0].full
    faces = analyzer.analyze(picture())
    assert answer is not None
    assert [one["face"] for one in answer["explanations"]] == [1, 0]
    for one in answer["explanations"]:
        crop = faces[one["face"]].crop
        assert np.array_equal(decode_uri(one["crop"]), crop)
        sad = FER7.index("sad")
        maps = (
            cam_maps(analyzer.predictor, crop) if method == "cam" else occlusion_maps(analyzer.predictor.predict, crop)
        )
        assert [found["label"] for found in one["maps"]] == ["sad"]
        assert np.allclose(one["maps"][0]["values"], maps[sad].values, atol=1e-4)


def decode_uri(uri: str) -> Any:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(data))))


def test_corners_are_where_the_crop_came_from(client: FlaskClient, picture: Picture) -> None:
    """The landmarks' places in the crop, through the corners, fall on the landmarks in the picture."""
    answer = client.post("/api/v1/explain?method=cam", data=form(picture())).json
    assert answer is not None
    top_left, top_right, _, bottom_left = np.array(answer["explanations"][0]["corners"])
    spec = client.application.extensions["mien"].models[0].full.spec
    mapped = [top_left + x * (top_right - top_left) + y * (bottom_left - top_left) for x, y in spec.landmarks]
    assert np.allclose(mapped, answer["faces"][0]["landmarks"], atol=2.5)  # five points, four degrees of freedom


def test_models_say_what_they_are(make_client: MakeClient) -> None:
    models = make_client(second=True).get("/api/v1/models").json
    assert models is not None
    assert [model["name"] for model in models] == ["tiny", "other"]
    assert models[0]["methods"] == ["occlusion", "cam"]
    assert models[0]["labels"] == list(FER7)
    assert models[0]["model"]["version"] == mien.__version__


def test_a_model_is_chosen_by_name(make_client: MakeClient, picture: Picture) -> None:
    client = make_client(second=True)
    assert client.post("/api/v1/analyze?model=other", data=form(picture())).status_code == 200


def test_at_most_the_surest_faces(make_client: MakeClient, picture: Picture) -> None:
    faces = (make_client(max_faces=1).post("/api/v1/analyze", data=form(picture())).json or [])[0]["faces"]
    assert [face["score"] for face in faces] == [pytest.approx(0.9)]


PROBLEMS = [
    pytest.param("/api/v1/analyze", {}, 422, "invalid-parameter", id="no picture"),
    pytest.param("/api/v1/analyze", {"image": "text"}, 422, "invalid-parameter", id="text in place of a file"),
    pytest.param("/api/v1/analyze", {"image": b"hello"}, 422, "unreadable-image", id="no picture inside"),
    pytest.param("/api/v1/analyze", {"image": b""}, 422, "unreadable-image", id="empty file"),
    pytest.param("/api/v1/analyze?model=x", {"image": "PNG"}, 422, "unknown-model", id="unknown model"),
    pytest.param("/api/v1/analyze?detection=x", {"image": "PNG"}, 422, "invalid-parameter", id="unknown detection"),
    pytest.param("/api/v1/explain?face=2", {"image": "PNG"}, 422, "no-such-face", id="face beyond"),
    pytest.param("/api/v1/explain?face=-1", {"image": "PNG"}, 422, "invalid-parameter", id="negative face"),
    pytest.param("/api/v1/explain?label=bored", {"image": "PNG"}, 422, "invalid-parameter", id="unknown label"),
    pytest.param("/api/v1/explain?method=gradcam", {"image": "PNG"}, 422, "invalid-parameter", id="method of a run"),
    pytest.param(
        "/api/v1/analyze?detection=full&detection=bogus", {"image": "PNG"}, 422, "invalid-parameter", id="said twice"
    ),
    pytest.param("/api/v1/explain?model=a&model=a", {"image": "PNG"}, 422, "invalid-parameter", id="the same twice"),
    pytest.param("/api/v1/analyze?detecton=fast", {"image": "PNG"}, 422, "invalid-parameter", id="misspelt option"),
    pytest.param(
        "/api/v1/analyze", {"image": "PNG", "detection": "fast"}, 422, "invalid-parameter", id="option as field"
    ),
    pytest.param("/nowhere", {}, 404, "not-found", id="no such address"),
    pytest.param("/api/v1/models", {}, 405, "method-not-allowed", id="wrong method"),
]


@pytest.mark.parametrize(("url", "fields", "status", "kind"), PROBLEMS)
def test_problems_have_one_shape(
    client: FlaskClient, picture: Picture, url: str, fields: dict[str, Any], status: int, kind: str
) -> None:
    data = {
        name: (io.BytesIO(picture(value) if value == "PNG" else value), "x.png")
        if value in ("PNG",) or isinstance(value, bytes)
        else value
        for name, value in fields.items()
    }
    answer = client.post(url, data=data, content_type="multipart/form-data")
    assert answer.content_type == "application/problem+json"
    problem = json.loads(answer.data)
    assert (answer.status_code, problem["status"], problem["type"]) == (status, status, f"urn:mien:problem:{kind}")
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert problem["title"]
    assert problem["detail"]


@pytest.mark.parametrize("call", ["analyze", "explain"])
def test_a_text_in_place_of_a_file_is_told_of(client: FlaskClient, picture: Picture, call: str) -> None:
    """curl -F image=photo.jpg, without its @."""
    for data in ({"image": "photo.jpg"}, {"image": [*form(picture())["image"], "photo.jpg"]}):
        answer = client.post(f"/api/v1/{call}", data=data, content_type="multipart/form-data")
        problem = json.loads(answer.data)
        assert (answer.status_code, problem["type"]) == (422, "urn:mien:problem:invalid-parameter")
        assert problem["detail"].startswith("image: ")
        assert "-F image=@photo.jpg" in problem["detail"]


def test_a_repeated_option_is_named(client: FlaskClient, picture: Picture) -> None:
    answer = client.post("/api/v1/analyze?detection=full&detection=fast", data=form(picture()))
    assert json.loads(answer.data)["detail"] == "detection: given 2 times: give it once"
    several = client.post("/api/v1/explain?face=0&face=1&label=sad&label=fear", data=form(picture()))
    assert several.status_code == 200


def test_the_bad_picture_is_named_and_hurts_nobody(client: FlaskClient, picture: Picture) -> None:
    data = form(picture(), b"\x89PNG\r\n\x1a\n broken", names=["good.png", "folder/bad.png"])
    problem = client.post("/api/v1/analyze", data=data)
    assert json.loads(problem.data)["image"] == 1
    assert json.loads(problem.data)["detail"].startswith("bad.png: ")
    assert client.post("/api/v1/analyze", data=form(picture())).status_code == 200


PART = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
FIELD = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n'
END = b"\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("body", "boundary", "status", "words"),
    [
        pytest.param(PART + b"x", "b", 400, "damaged or cut off", id="no end"),
        pytest.param(PART[:30], "b", 400, "damaged or cut off", id="ends in the head of a part"),
        pytest.param(PART + b"x" + END, "other", 400, "damaged or cut off", id="another boundary"),
        pytest.param(PART + b"x" + END, "", 400, "damaged or cut off", id="no boundary"),
        pytest.param(PART.replace(b"a.png", b"caf\xe9.png") + b"x" + END, "b", 400, "UTF-8", id="name in Latin-1"),
        pytest.param(b"\r\n".join([PART + b"x"] * 10_000) + END, "b", 413, "too many parts", id="10,000 files"),
        pytest.param(b"\r\n".join([FIELD + b"x"] * 10_000) + END, "b", 413, "too many parts", id="10,000 fields"),
        pytest.param(FIELD + b"x" * 1_000_000 + END, "b", 413, "long text", id="a megabyte of text"),
    ],
)
def test_forms_that_cannot_be_unpacked(
    client: FlaskClient, body: bytes, boundary: str, status: int, words: str
) -> None:
    kind = f"multipart/form-data; boundary={boundary}"
    answer = client.post("/api/v1/analyze", data=body, content_type=kind)
    assert answer.status_code == status
    assert words in json.loads(answer.data)["detail"]


def test_one_picture_is_explained_at_a_time(client: FlaskClient, picture: Picture) -> None:
    answer = client.post("/api/v1/explain", data=form(picture(), picture()))
    assert (answer.status_code, json.loads(answer.data)["type"]) == (413, "urn:mien:problem:too-many-images")


def test_no_answer_repeats_the_host_that_was_sent(client: FlaskClient) -> None:
    answer = client.get("/static//css/mien.css", headers={"Host": "evil.example"})
    assert answer.status_code == 404
    assert "evil" not in answer.text + str(answer.headers)


def test_json_is_no_form(client: FlaskClient) -> None:
    answer = client.post("/api/v1/analyze", json={"image": "http://example.org/face.jpg"})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    "name", ["http://example.org/a.png", "/etc/passwd", "../../a.png"], ids=["address", "path", "way up"]
)
def test_names_are_never_opened(client: FlaskClient, picture: Picture, name: str) -> None:
    answer = client.post("/api/v1/analyze", data=form(picture(), names=[name])).json
    assert answer is not None
    assert answer[0]["source"] in ("a.png", "passwd")
    assert answer[0]["width"] == 120


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param("a.png", "a.png", id="plain"),
        pytest.param("../../a.png", "a.png", id="folders"),
        pytest.param("C:\\pictures\\a.png", "a.png", id="Windows path"),
        pytest.param("a\x00\x1b[31m.png", "a[31m.png", id="control characters"),
        pytest.param("x" * 500, "x" * 120, id="long"),
        pytest.param("/", "upload", id="nothing left"),
        pytest.param(None, "upload", id="none"),
        pytest.param("笑顔.png", "笑顔.png", id="Japanese"),
    ],
)
def test_clean_name(sent: str | None, kept: str) -> None:
    assert clean_name(sent) == kept


def test_nothing_is_written_to_disk(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("an upload reached the disk")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", refuse)
    large = io.BytesIO()
    PIL.Image.fromarray(np.random.default_rng(1).integers(0, 256, (1000, 1000, 3), np.uint8)).save(large, "PNG")
    assert len(large.getvalue()) > 2_000_000  # Werkzeug spools from 500 kB
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="large.png"\r\n\r\n'
    body = head + large.getvalue() + b"\r\n--b--\r\n"  # by hand: Flask's test client spools large forms itself
    answer = client.post("/api/v1/analyze", data=body, content_type="multipart/form-data; boundary=b")
    assert answer.status_code == 200


def test_health_and_metrics(client: FlaskClient, picture: Picture) -> None:
    assert client.get("/healthz").json == {"status": "ok"}
    assert client.get("/readyz").json == {"status": "ok"}
    client.post("/api/v1/analyze", data=form(picture(), picture()))
    text = client.get("/metrics").text
    assert "mien_images_total 2.0" in text
    assert "mien_faces_total 4.0" in text
    assert 'mien_requests_total{endpoint="/api/v1/analyze",status="200"} 1.0' in text
    assert "mien_queue_depth 0.0" in text
    assert 'mien_request_seconds_count{endpoint="/api/v1/analyze"} 1.0' in text


def test_openapi_document(client: FlaskClient) -> None:
    document = client.get("/openapi").json
    assert document is not None
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {
        *("/api/v1/analyze", "/api/v1/explain", "/api/v1/models"),
        *("/healthz", "/readyz", "/metrics", "/openapi"),
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                kinds = set(answer.get("content", {}))
                assert kinds == {"application/problem+json"} if status[0] == "4" else kinds, (path, status)
    schemas = document["components"]["schemas"]
    assert schemas["Face"]["example"]["emotion"] == "happy"
    assert schemas["Picture"]["required"] == ["source", "width", "height", "faces", "model"]


@pytest.mark.parametrize("path", ["/", "/live"])
def test_without_scripts_a_page_says_so(client: FlaskClient, path: str) -> None:
    text = client.get(path).get_data(as_text=True)
    assert "These pages need JavaScript" in text.partition("<noscript>")[2].partition("</noscript>")[0]


def test_scripts_are_asked_for_again(client: FlaskClient) -> None:
    """They import each other by name: of two versions, one would lack what the other wants."""
    for name in ("js/api.js", "css/mien.css"):
        with client.get(f"/static/{name}") as answer:
            assert "no-cache" in answer.headers["Cache-Control"]
        with client.get(f"/static/{name}", headers={"If-None-Match": answer.headers["ETag"]}) as again:
            assert (again.status_code, again.data) == (304, b"")


def test_models_take_no_options(client: FlaskClient) -> None:
    assert client.get("/api/v1/models?x=1").status_code == 422
