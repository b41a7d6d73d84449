from pathlib import Path

import pytest

import mien
from mien.files import in_package, unicode_of, write_whole


@pytest.mark.parametrize(
    ("data", "read"), [(b"\xff\x00", b"\xff\x00"), ("grün", "grün".encode())], ids=["bytes", "text"]
)
def test_writes_into_a_new_folder(data: bytes | str, read: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    write_whole(path, data)
    assert path.read_bytes() == read
    assert [entry.name for entry in path.parent.iterdir()] == ["b.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.json"
    write_whole(path, "old")

    def killed(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:1])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", killed)
    with pytest.raises(OSError, match="no space"):
        write_whole(path, "new")
    assert path.read_text() == "old"


def test_names_that_utf8_cannot_hold_are_escaped() -> None:
    assert unicode_of("größe.png") == "größe.png"
    assert unicode_of("a\udcff.png") == "a\\udcff.png"


def test_files_of_packages() -> None:
    assert in_package("mien", "__init__.py") == Path(mien.__file__)
    assert in_package("mien", "nothing.py") is None
    assert in_package("no_such_package", "nothing.py") is None
