"""What is written into pictures: Pillow's own font as far as it goes, then another, then something readable."""

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest

from mien import fonts
from mien.fonts import lettering, text_width
from mien.labels import FERPLUS8


@pytest.fixture
def only_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_dejavu", tuple)


@pytest.mark.parametrize("text", [*FERPLUS8, "2 sad? 41 %", "not happy…", ""])
def test_english_keeps_pillows_own_font(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_dejavu", None)  # it is not even looked for
    shown, font = lettering(text, 15)
    assert (shown, font.getname()[0], font.size) == (text, "Aileron", 15)


def test_a_minus_is_no_reason_for_another_font() -> None:
    shown, font = lettering("−0.5", 15)
    assert (shown, font.getname()[0]) == ("-0.5", "Aileron")


@pytest.mark.parametrize(("text", "expected"), [
    pytest.param("Glücklich ☺", "Glücklich ☺", id="umlaut and symbol"),
    pytest.param("u\u0308ber", "über", id="mark of its own"),
    pytest.param("злой", "злой", id="Cyrillic"),
    pytest.param("злой 表", "злой \\u8868", id="what it lacks too"),
])  # fmt: skip
def test_a_wider_font_where_it_is_installed(text: str, expected: str) -> None:
    pytest.importorskip("matplotlib")
    shown, font = lettering(text, 15)
    assert (shown, font.getname()[0]) == (expected, "DejaVu Sans")


@pytest.mark.usefixtures("only_pillows")
@pytest.mark.parametrize(("text", "expected"), [
    pytest.param("Glücklich ☺", "Glucklich \\u263a", id="umlaut and symbol"),
    pytest.param("表情", "\\u8868\\u60c5", id="Chinese"),
    pytest.param("a\tb\nc", "a\\tb\\nc", id="control characters"),
])  # fmt: skip
def test_readable_without_it(text: str, expected: str) -> None:
    shown, font = lettering(text, 15)
    assert (shown, font.getname()[0]) == (expected, "Aileron")


@pytest.mark.parametrize("text", ["Glücklich ☺", "злой", "表情", "é"])
def test_no_boxes(text: str) -> None:
    """Not one character looks as one that no font has."""
    shown, font = lettering(text, 30)
    pictures = [_drawn(character, font) for character in (*shown, fonts.NO_CHARACTER)]
    assert not any(np.array_equal(picture, pictures[-1]) for picture in pictures[:-1])


def test_width_is_that_of_what_is_drawn() -> None:
    shown, font = lettering("表", 20)
    assert text_width("表", 20) == font.getlength(shown) > font.getlength("000")


def _drawn(text: str, font: fonts.PIL.ImageFont.FreeTypeFont) -> np.ndarray:
    picture = PIL.Image.new("L", (60, 60))
    PIL.ImageDraw.Draw(picture).text((5, 5), text, 255, font)
    return np.array(picture)
