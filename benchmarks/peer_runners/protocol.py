"""What every Python runner does once its peer is loaded: answer `benchmarks/peers.py` over stdin and stdout.

A runner is started as `python RUNNER.py CROPS N`, where CROPS holds N crops of 48 x 48 uint8 grey. It loads its peer,
predicts the first crop and says so; then it reads one JSON request a line and answers each with one line:

    {"op": "score", "batch": 64, "output": PATH}          writes (N, 7) float32 probabilities to PATH
    {"op": "time", "batch": 1, "repetitions": 20}         seconds of each call, on crops in turn

Answers start with a mark, since some peers print on stdout too. This file runs in the peer's environment: it may
use the standard library and NumPy, and nothing of mien.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")  # of the probabilities, in this order
OARRIAGA = (
    "angry",
    "disgust",
    "fear",
    "happy",
    "sad",
    "surprise",
    "neutral",
)  # fer2013.csv's order
MARK = "@peers "

Predict = Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]
"""`(N, 48, 48)` grey crops to `(N, K)` probabilities in the peer's own order."""


def serve(load: Callable[[], tuple[Predict, tuple[str, ...]]]) -> None:
    """Load the peer, report its first prediction, answer requests until stdin ends; a fault is answered too."""
    crops = np.fromfile(sys.argv[1], np.uint8).reshape(int(sys.argv[2]), 48, 48)
    try:
        predict, labels = load()
        _say({"first": in_order(predict(crops[:1]), labels)[0].tolist()})
        for line in sys.stdin:
            _say(_answer(json.loads(line), crops, predict, labels))
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is its result
        traceback.print_exc()
        _say({"fault": f"{type(error).__name__}: {error}"})


def in_order(probabilities: NDArray[np.floating[Any]], labels: tuple[str, ...]) -> NDArray[np.float32]:
    """`(N, K)` columns `labels` as `(N, 7)` in the order of `LABELS`; what else the peer knows is left out."""
    kept = np.asarray(probabilities, np.float64)[:, [labels.index(label) for label in LABELS]]
    return (kept / kept.sum(axis=1, keepdims=True)).astype(np.float32)


def _answer(
    request: dict[str, Any], crops: NDArray[np.uint8], predict: Predict, labels: tuple[str, ...]
) -> dict[str, Any]:
    batch = int(request["batch"])
    if request["op"] == "score":
        parts = [predict(crops[start : start + batch]) for start in range(0, len(crops), batch)]
        Path(request["output"]).write_bytes(in_order(np.concatenate(parts), labels).tobytes())
        return {"done": len(crops)}
    seconds = []
    for i in range(int(request["repetitions"])):
        start = i * batch % (len(crops) - batch + 1)
        before = time.perf_counter()
        predict(crops[start : start + batch])
        seconds.append(time.perf_counter() - before)
    return {"seconds": seconds}


def _say(answer: dict[str, Any]) -> None:
    print(MARK + json.dumps(answer), flush=True)
