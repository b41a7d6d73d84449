"""mien's packaged model, by name in `MIEN_BENCH_MODEL`; from the second import on it is what a user's program does."""

import os

from protocol import Predict, serve


def load() -> tuple[Predict, tuple[str, ...]]:
    """One network pass a crop, no averaging over views."""
    from mien import hub
    from mien.runtime.predictor import Predictor

    predictor = Predictor(hub.resolve(os.environ["MIEN_BENCH_MODEL"]))
    return predictor.predict, predictor.spec.labels


serve(load)
