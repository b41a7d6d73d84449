"""The sizing page: its arithmetic by hand, and its tables from the recorded figures alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.scripts import benchmark

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sizing() -> Iterator[ModuleType]:
    with benchmark("batch_sizing") as script:
        yield script


@pytest.fixture
def figures() -> dict[str, Any]:
    """Round ones: 36 ms a photo, 1 ms a crop."""
    return {
        "machine": {"cpu": "a CPU", "cpus": 2, "load_average": None, "packages": {"mien": "0.1.0", "onnxruntime": "1"}},
        "stages_cpu_s": {
            "photos, centerface": {"decode": 0.003, "detect": 0.03, "classify": 0.002, "table": 0.001},
            "crops, no detector": {"decode": 0.0001, "detect": 0.0, "classify": 0.0008, "table": 0.0001},
        },
        "local_cpu_s": {"photos, centerface": 0.036, "crops, no detector": 0.001},
        "local_images_s": {
            "photos, centerface": {"1": 1 / 0.036, "2": 1.8 / 0.036},
            "crops, no detector": {"1": 1000.0, "2": 1900.0},
        },
        "bytes": {"photo": 50_000, "crop": 2_000, "row": 100.0},
        "peak_mb": {"5000": 200.0, "20000": 201.0},
        "ray": {
            "workload": "photos, centerface",
            "1": {"images_s": 25.0, "first_shard_s": 5.0},
            "2": {"images_s": 48.0, "first_shard_s": 6.0},
        },
    }


def test_a_million_photos(sizing: ModuleType, figures: dict[str, Any]) -> None:
    """10⁶ x 36 ms = 10 hours of a CPU; at 0.8 efficiency 12.5; on 10 CPUs 1.25 h; at 4 cents 50 cents."""
    assumed = sizing.Assumptions(cpus=10, cpu_hour_usd=0.04, efficiency=0.8, get_usd=0.0004, tar_images=1000)
    job = sizing.size(figures, "photos, centerface", 10**6, assumed)
    assert (job.cpu_hours, job.hours, job.cpu_usd) == pytest.approx((12.5, 1.25, 0.5))
    assert (job.read_usd_loose, job.read_usd_tar) == pytest.approx((0.4, 0.0004))
    assert job.output_gb == pytest.approx(0.1)
    assert sizing.limit(figures, "photos, centerface", assumed) == "detect (83 % of the CPU time)"


def test_a_slow_network_is_the_limit(sizing: ModuleType, figures: dict[str, Any]) -> None:
    """16 CPUs x 1,000 crops/s x 2 kB are 256 Mbit/s: of 128 Mbit/s twice as much, so twice the hours."""
    fast = sizing.Assumptions(efficiency=1.0, node_gbit_s=1.0)
    slow = sizing.Assumptions(efficiency=1.0, node_gbit_s=0.128)
    crops = "crops, no detector"
    assert sizing.network_share(figures, crops, slow) == pytest.approx(2)
    assert sizing.size(figures, crops, 10**6, slow).hours == pytest.approx(
        2 * sizing.size(figures, crops, 10**6, fast).hours
    )
    assert sizing.limit(figures, crops, slow) == "I/O: the network of a node"
    assert sizing.limit(figures, crops, fast).startswith("classify (80 %")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (40880.7, "40,880"),
        (319.38, "319"),
        (31.94, "31.9"),
        (1.837, "1.8"),
        (0.3241, "0.32"),
        (0.00004, "4e-05"),
        (0, "0"),
    ],
)
def test_short_numbers(sizing: ModuleType, number: float, expected: str) -> None:
    assert sizing.short(number) == expected


def test_tables_name_what_was_assumed(sizing: ModuleType, figures: dict[str, Any]) -> None:
    text = sizing.render(figures, sizing.Assumptions())
    assert "assumption, not measured" in text
    assert "48.0 with two (1.92 times as many)" in text
    assert text.count("| photos, centerface | 10") == 3
    # 16 CPUs x 0.9 x 1,000 crops/s x 2 kB x 8 bits are 230 Mbit/s of 5 Gbit/s; 36 ms a photo of 150 kB are 480
    assert text.count("| 4.6 % | classify (80 %") == 3
    assert text.count("| 9.6 % | detect (83 %") == 3


def test_the_page_is_what_the_figures_give(sizing: ModuleType, tmp_path: Path) -> None:
    figures = json.loads((REPOSITORY / "results" / "batch.json").read_text(encoding="utf-8"))
    page = REPOSITORY / "docs" / "sizing.md"
    copy = tmp_path / "sizing.md"
    copy.write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    sizing.write_page(copy, figures)
    assert copy.read_text(encoding="utf-8") == page.read_text(encoding="utf-8")
