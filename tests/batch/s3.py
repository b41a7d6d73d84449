"""As much of S3 as listing and reading takes: ListObjectsV2, HEAD and ranged GET; each folder is a bucket."""

import re
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class BucketHandler(BaseHTTPRequestHandler):
    """Serves `directory/<bucket>/<key>`."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, directory: str) -> None:
        self.directory = Path(directory)
        super().__init__(*arguments)

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            self._list(query.get("prefix", [""])[0])
        else:
            self._answer(with_body=True)

    def _list(self, prefix: str) -> None:
        bucket = self.directory / urlsplit(self.path).path.strip("/")
        keys = sorted(path.relative_to(bucket).as_posix() for path in bucket.rglob("*") if path.is_file())
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{(bucket / key).stat().st_size}</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for key in keys
            if key.startswith(prefix)
        )
        count = entries.count("<Key>")
        head = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        )
        about = f"<Name>{bucket.name}</Name><KeyCount>{count}</KeyCount><IsTruncated>false</IsTruncated>"
        self._send(200, f"{head}{about}{entries}</ListBucketResult>".encode(), kind="application/xml")

    def _answer(self, *, with_body: bool) -> None:
        path = self.directory / unquote(urlsplit(self.path).path).strip("/")
        if path.is_dir():
            self._send(200, b"", with_body=with_body)  # the bucket is there
        elif not path.is_file():
            self._send(404, b"", with_body=with_body)
        else:
            data = path.read_bytes()
            span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if span is None:
                self._send(200, data, with_body=with_body)
                return
            start, end = int(span[1]), min(int(span[2] or len(data) - 1), len(data) - 1)
            self._send(206, data[start : end + 1], {"Content-Range": f"bytes {start}-{end}/{len(data)}"})

    def _send(
        self,
        code: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        kind: str = "binary/octet-stream",
        with_body: bool = True,
    ) -> None:
        self.send_response(code)
        about = {"Content-Type": kind, "Content-Length": str(len(body)), "ETag": '"e"'}
        for name, value in {**about, "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)
