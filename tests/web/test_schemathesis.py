"""The API keeps to its own document: requests made up from it get documented answers, and never a 5xx."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.web.conftest import served

from mien.web import Settings, create_app

schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

OPERATIONS = [
    *(("POST", "/api/v1/analyze"), ("POST", "/api/v1/explain"), ("GET", "/api/v1/models")),
    *(("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics")),  # schemathesis leaves out the document itself
]


@pytest.fixture(scope="module")
def schema(tiny_onnx: Path) -> Any:
    chosen = Settings()
    return schemathesis.openapi.from_wsgi(
        "/openapi", create_app(chosen, models=[served(tiny_onnx, "tiny", settings=chosen)])
    )


def test_no_operation_is_left_out(schema: Any) -> None:
    documented = {(found.ok().method.upper(), found.ok().path) for found in schema.get_all_operations()}
    assert documented == set(OPERATIONS)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_answers_are_as_documented(schema: Any, method: str, path: str) -> None:
    keep_to(schema, method, path, examples=20 if method == "POST" else 3)


@pytest.mark.soak
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_answers_are_as_documented_many_times(schema: Any, method: str, path: str) -> None:
    keep_to(schema, method, path, examples=1000)


def keep_to(schema: Any, method: str, path: str, *, examples: int) -> None:
    """Call the operation so many times with what its document allows, and check each answer against it."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method].as_strategy())
    def call(case: Any) -> None:
        case.call_and_validate(excluded_checks=[checks.positive_data_acceptance])  # bytes can be no picture

    call()
