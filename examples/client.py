"""A typed client of the API, with nothing but the standard library: python examples/client.py photo.jpg [address]."""

import json
import os
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen


@dataclass(frozen=True)
class Face:
    """One face of a picture."""

    box_xyxy: tuple[float, ...]  # pixels of the upright picture
    emotion: str
    probabilities: dict[str, float]
    uncertain: bool


class ServiceError(Exception):
    """An answer other than success; `kind` is stable, such as `unreadable-image` or `busy`."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


@dataclass(frozen=True)
class Client:
    """The service at `address`."""

    address: str = "http://127.0.0.1:8000"
    token: str | None = None
    timeout_s: float = 30.0

    def analyze(self, picture: Path, **options: str) -> list[Face]:
        """Faces of one picture, the surest first; options are `model` and `detection`."""
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{picture.name}"\r\n\r\n'
        body = head.encode() + picture.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = Request(f"{self.address}/api/v1/analyze?{urlencode(options)}", body, headers)
        try:
            with urlopen(request, timeout=self.timeout_s) as answer:
                (result,) = json.load(answer)
        except HTTPError as error:
            problem = json.load(error)
            raise ServiceError(problem["type"].rpartition(":")[2], problem["detail"]) from error
        keys = ("box_xyxy", "emotion", "probabilities", "uncertain")
        return [Face(*(face[key] for key in keys)) for face in result["faces"]]


if __name__ == "__main__":
    for found in Client(*sys.argv[2:3], token=os.environ.get("MIEN_SERVE_TOKEN")).analyze(Path(sys.argv[1])):
        print(found.emotion, f"{found.probabilities[found.emotion]:.0%}", "uncertain" if found.uncertain else "")
