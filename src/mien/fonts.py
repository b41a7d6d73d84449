"""Text in pictures: a font that has the glyphs, and a readable stand-in for what no font has."""

import unicodedata
from functools import lru_cache

import PIL.ImageFont

from mien.errors import ImageError
from mien.files import in_package

LOOKALIKES = str.maketrans({"−": "-"})  # Pillow's own font lacks them, and is to be kept for them
PROBE_PX = 32  # size at which glyphs are compared
NO_CHARACTER = "\uffff"  # by Unicode's own rule: what a font draws for it, it draws for all that it lacks


def lettering(text: str, size: float) -> tuple[str, PIL.ImageFont.FreeTypeFont]:
    """`text` as it can be drawn, and the font of `size` pixels an em to draw it in.

    That is Pillow's own where it has every glyph; else DejaVu Sans, which comes with matplotlib. A character that the
    font lacks loses its marks ("ü" is written "u") or is written as its number ("\\u8868").

    Raises:
        ImageError: Pillow was built without FreeType.
    """
    text = unicodedata.normalize("NFC", text).translate(LOOKALIKES)
    file, lacking = "", _lacking("", text)
    for other in _dejavu() if lacking else ():  # nobody looks for matplotlib on account of plain English
        if len(fewer := _lacking(other, text)) < len(lacking):
            file, lacking = other, fewer
    shown = "".join(_spelt(character) if character in lacking else character for character in text)
    return shown, _font(file, size)


def text_width(text: str, size: float) -> float:
    """Width in pixels of one line of `lettering`."""
    shown, font = lettering(text, size)
    return float(font.getlength(shown))


@lru_cache(maxsize=64)
def _font(file: str, size: float) -> PIL.ImageFont.FreeTypeFont:
    """The font in `file`; Pillow's own, which is Aileron, where that is empty."""
    font = PIL.ImageFont.truetype(file, size) if file else PIL.ImageFont.load_default(size)
    if not isinstance(font, PIL.ImageFont.FreeTypeFont):
        raise ImageError("this Pillow has no FreeType, so it cannot write labels: pip install --force-reinstall pillow")
    return font


def _lacking(file: str, text: str) -> set[str]:
    return {character for character in text if not _has(file, character)}


@lru_cache(maxsize=4096)
def _has(file: str, character: str) -> bool:
    """Whether the font has a glyph of its own; line breaks and the like count as lacking."""
    if not character.isprintable():
        return False
    glyph, box = (_font(file, PROBE_PX).getmask(one) for one in (character, NO_CHARACTER))
    return glyph.size != box.size or bytes(glyph) != bytes(box)


@lru_cache(maxsize=1)
def _dejavu() -> tuple[str, ...]:
    """DejaVu Sans where matplotlib is installed; it is not imported, which would take half a second."""
    file = in_package("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf")
    return () if file is None else (str(file),)


def _spelt(character: str) -> str:
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain if plain.isprintable() and plain else character.encode("unicode_escape").decode()
