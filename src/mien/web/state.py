"""What all requests of a worker share."""

from collections.abc import Sequence

from mien.web.errors import Problem
from mien.web.gate import Gate
from mien.web.metrics import Metrics
from mien.web.service import Served
from mien.web.settings import Settings


class State:
    """Models, limits and counters of one worker; nothing of any client."""

    def __init__(self, settings: Settings, models: Sequence[Served]) -> None:
        """`models` are loaded and warm."""
        self.settings = settings
        self.models = tuple(models)
        self.gate = Gate(running=settings.max_running, waiting=settings.max_waiting, wait_s=settings.max_wait_s)
        self.metrics = Metrics(lambda: self.gate.waiting)

    def model(self, name: str | None) -> Served:
        """The model that a request names; the first where it names none.

        Raises:
            Problem: no such model is loaded.
        """
        if name is None:
            return self.models[0]
        for model in self.models:
            if model.name == name:
                return model
        known = ", ".join(model.name for model in self.models)
        raise Problem(
            422, f"model {name!r} is not loaded: use one of {known}", kind="unknown-model", title="No such model"
        )
