"""Uploads that were damaged on purpose: every answer is a result or a 422, and the process does not grow."""

import gc
import io
import random
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from flask.testing import FlaskClient
from tests.web.conftest import form

KINDS = ("JPEG", "PNG", "WEBP")
GROWTH_MB = 60  # of resident memory behind the first tenth: decoders keep some buffers


def seeds() -> list[bytes]:
    """Small pictures of each kind, smooth and noisy."""
    rng = np.random.default_rng(0)
    smooth = np.linspace(0, 255, 96 * 64 * 3).reshape(64, 96, 3).astype(np.uint8)
    noisy = rng.integers(0, 256, (64, 96, 3), np.uint8)
    encoded = []
    for kind in KINDS:
        for pixels in (smooth, noisy):
            buffer = io.BytesIO()
            PIL.Image.fromarray(pixels).save(buffer, kind)
            encoded.append(buffer.getvalue())
    return encoded


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Bytes overwritten, cut out, doubled or cut off; the first two keep the head as it is half of the time."""
    mutant = bytearray(data)
    start = chance.choice((0, min(64, len(mutant) // 2)))
    for _ in range(chance.randint(1, 12)):
        place = chance.randrange(start, max(start + 1, len(mutant)))
        way = chance.randrange(5)
        if way < 3 and place < len(mutant):
            mutant[place] = chance.choice((0, 255, 127, chance.randrange(256)))
        elif way == 3:
            del mutant[place : place + chance.randint(1, 16)]
        else:
            mutant[place:place] = mutant[place : place + chance.randint(1, 64)]
    if chance.random() < 0.2:
        del mutant[chance.randrange(len(mutant) + 1) :]
    return bytes(mutant)


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


def attack(client: FlaskClient, count: int) -> dict[int, int]:
    """Upload `count` mutants; counts of the answers by status."""
    chance, originals = random.Random(0), seeds()
    statuses: dict[int, int] = {}
    before = resident_mb()
    for number in range(count):
        answer = client.post("/api/v1/analyze", data=form(mutate(chance.choice(originals), chance)))
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        if number == count // 10:
            gc.collect()
            before = resident_mb()
    gc.collect()
    assert resident_mb() - before < GROWTH_MB
    return statuses


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # a worker of `mien serve` ignores them too
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.soak)])
def test_mutants(client: FlaskClient, count: int) -> None:
    statuses = attack(client, count)
    assert set(statuses) <= {200, 422}
    assert min(statuses.get(200, 0), statuses.get(422, 0)) > count / 20  # both ways are really taken
    assert client.post("/api/v1/analyze", data=form(seeds()[0])).status_code == 200
