import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.errors import ConfigError
from mien.explain.canvas import ABOVE, BELOW, MARGIN, SIDE, Canvas, figure, fit, text_width, wrap
from mien.explain.colour import colours, over_face, scale_strip
from mien.explain.heatmap import METHODS, Heatmap
from mien.explain.overlay import (
    LEAST_PROBABILITY,
    Panel,
    blend,
    display_limit,
    enlarged,
    heatmap_panel,
    original_panel,
    percent,
)

FACE = np.full((48, 48, 3), 128, np.uint8)


def half(method: str = "occlusion", *, strength: float = 1.0, scale: float = 1.0) -> Heatmap:
    """Left half for, and (where there are signs) right half against."""
    values = np.zeros((48, 48), np.float32)
    values[:, :24] = strength
    if METHODS[method].signed:
        values[:, 24:] = -strength
    return Heatmap(values, "happy", method, scale=scale, probability=0.934)


def lightness(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """CIE L* of sRGB, 0..100."""
    linear = (rgb / 255) ** 2.2
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return 116 * np.cbrt(np.maximum(luminance, 0.008856)) - 16


@pytest.mark.parametrize("signed", [True, False])
def test_lightness_rises_with_the_value(signed: bool) -> None:
    """So the order of the values, and their sign, survives in black and white."""
    values = np.linspace(-1 if signed else 0, 1, 41, dtype=np.float32)
    steps = np.diff(lightness(colours(values, signed=signed)))
    assert steps.min() > -0.5
    assert lightness(colours(values, signed=signed))[[0, -1]] @ [-1, 1] > 60


def test_for_and_against_differ_in_grey() -> None:
    overlay = blend(FACE, half(), side_px=96)
    left, right = lightness(overlay[:, 10:30]).mean(), lightness(overlay[:, 66:86]).mean()
    assert left - right > 40


def test_where_nothing_speaks_the_face_is_seen() -> None:
    face = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    plain = over_face(face, np.zeros((48, 48), np.float32), signed=True)
    assert (plain[..., 0] == plain[..., 1]).all()  # grey
    brightness = face @ [0.299, 0.587, 0.114]
    assert np.corrcoef(plain[..., 0].ravel(), brightness.ravel())[0, 1] > 0.99


def test_a_faint_occlusion_map_stays_faint() -> None:
    faint, strong = half(strength=0.01), half(strength=0.4)
    assert display_limit(faint) == LEAST_PROBABILITY
    assert display_limit(strong) == pytest.approx(0.4)
    assert display_limit(faint, strong) == pytest.approx(0.4)
    assert display_limit(half("saliency", strength=1, scale=1e-4)) == pytest.approx(1e-4)
    assert display_limit(half("cam", strength=0)) == 1
    distance = [np.abs(blend(FACE, h).astype(int) - blend(FACE, half(strength=0))).mean() for h in (faint, strong)]
    assert distance[0] < distance[1] * 0.6


@pytest.mark.parametrize(
    ("crop", "shape"),
    [
        pytest.param(np.zeros((48, 48), np.uint8), (100, 100, 3), id="grey"),
        pytest.param(np.zeros((48, 48, 3), np.uint8), (100, 100, 3), id="rgb"),
        pytest.param(np.zeros((224, 224, 3), np.uint8), (100, 100, 3), id="reduced"),
        pytest.param(np.zeros((40, 80, 3), np.uint8), (100, 200, 3), id="wide"),
    ],
)
def test_enlarged(crop: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    assert enlarged(crop, 100).shape == shape
    values = np.zeros(crop.shape[:2], np.float32)
    assert blend(crop, Heatmap(values, "happy", "cam"), side_px=100).shape == shape


def texts(canvas: Canvas) -> list[str]:
    return [node.text or "" for node in ET.fromstring(canvas.svg()) if node.tag.endswith("text")]


def lines(canvas: Canvas) -> list[dict[str, str]]:
    return [node.attrib for node in ET.fromstring(canvas.svg()) if node.tag.endswith("polyline")]


def test_panel_says_label_probability_and_scale() -> None:
    canvas = figure(
        [[original_panel(FACE, "default: happy 93 %", "hopper.jpg"), heatmap_panel(FACE, half(strength=0.3))]]
    )
    expected = [
        "Original",
        "default: happy 93 %",
        "hopper.jpg",
        "Occlusion",
        "−0.3",
        "0",
        "+0.3",
        "fall of probability",
    ]
    assert sorted(texts(canvas)) == sorted([*expected, "happy 93 %"])


def test_letters_beyond_english_are_not_all_the_same_box() -> None:
    drawn = [figure([[original_panel(FACE, f"hei{letter}", "x.jpg")]]).png().tobytes() for letter in "ßü表"]
    assert len(set(drawn)) == 3


def test_scale_of_an_unsigned_map_starts_at_zero() -> None:
    canvas = figure([[heatmap_panel(FACE, half("saliency", scale=0.0123))]])
    assert {"0", "0.012"} <= set(texts(canvas))
    assert not any(text.startswith(("+", "−")) for text in texts(canvas))


def test_a_few_pixels_do_not_darken_a_fine_map() -> None:
    values = np.full((48, 48), 0.1, np.float32)
    values[0, :5] = 1
    fine, coarse = (Heatmap(values, "happy", method, scale=3.0) for method in ("saliency", "gradcam"))
    assert display_limit(fine) == pytest.approx(0.3)
    assert display_limit(coarse) == pytest.approx(3)
    assert ">0.3" in texts(figure([[heatmap_panel(FACE, fine)]]))
    assert "3" in texts(figure([[heatmap_panel(FACE, coarse)]]))
    sparse = np.zeros((48, 48), np.float32)
    sparse[0, 0] = 1
    assert display_limit(Heatmap(sparse, "happy", "saliency")) == 1


def test_contours_are_dashed_where_the_map_speaks_against() -> None:
    found = lines(figure([[heatmap_panel(FACE, half())]]))
    assert [("stroke-dasharray" in line) for line in found] == [False, False, True, True]
    assert not lines(figure([[heatmap_panel(FACE, half(strength=0.005))]]))


def test_a_note_stands_where_a_map_is_missing() -> None:
    canvas = figure([[Panel("CAM", note="CAM is not available: use occlusion")]])
    assert "CAM is not available" in " ".join(texts(canvas))
    assert all(text_width(text, 12) <= SIDE for text in texts(canvas))


def test_size_of_a_figure() -> None:
    canvas = figure([[original_panel(FACE)] * 3, [original_panel(FACE)]])
    assert canvas.height == 2 * MARGIN + 2 * (ABOVE + SIDE + BELOW)
    assert canvas.png().size == (round(canvas.width * 2), round(canvas.height * 2))
    with pytest.raises(ValueError, match="at least one cell"):
        figure([])


def test_a_long_page_is_painted_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it would be in one piece; painted whole, 200 faces took 2.7 GB."""
    page = figure([[original_panel(FACE, "75 %"), heatmap_panel(FACE, half("cam"))]] * 3, title="three")
    pieces = []
    for band_px in (1 << 20, 130):  # the second cuts pictures, lines and letters
        monkeypatch.setattr("mien.explain.canvas.BAND_PX", band_px)
        pieces.append(np.asarray(page.png()))
    np.testing.assert_array_equal(*pieces)


def test_names_with_control_characters_are_valid_svg(tmp_path: Path) -> None:
    canvas = figure([[original_panel(FACE, "happy", "esc\x1b[31mname.jpg")]])
    canvas.save(tmp_path / "f.svg")
    assert "esc\\x1b[31mname.jpg" in "".join(ET.parse(tmp_path / "f.svg").getroot().itertext())


def test_png_and_svg_by_the_ending(tmp_path: Path) -> None:
    canvas = figure([[heatmap_panel(FACE, half("cam"))]], title="<A & B>")
    for name in ("f.png", "f.svg"):
        canvas.save(tmp_path / name)
    assert (tmp_path / "f.png").read_bytes()[:4] == b"\x89PNG"
    assert "&lt;A &amp; B&gt;" in (tmp_path / "f.svg").read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match=r"written as \.png or \.svg"):
        canvas.save(tmp_path / "f.pdf")
    with pytest.raises(ConfigError, match="cannot write it"):
        canvas.save(tmp_path / "missing" / "f.png")


def test_png_shows_lines_and_pictures() -> None:
    canvas = Canvas(40, 40)
    canvas.picture(0, 0, width=20, height=20, pixels=np.full((2, 2, 3), (255, 0, 0), np.uint8))
    canvas.line([(0, 30), (40, 30)], colour="#0000ff", width=4, dash=10)
    pixels = np.asarray(canvas.png(pixels_per_unit=1))
    assert tuple(pixels[10, 10]) == (255, 0, 0)
    assert [tuple(pixels[30, x]) for x in (5, 15, 25, 35)] == [(0, 0, 255), (255,) * 3, (0, 0, 255), (255,) * 3]


def test_text_is_made_to_fit() -> None:
    name = "a_very_long_file_name_of_a_photograph_0001.jpg"
    short = fit(name, 100, 12)
    assert text_width(short, 12) <= 100
    assert short.startswith("a_very")
    assert short.endswith(".jpg")
    assert fit("short", 100, 12) == "short"
    assert " ".join(wrap("one two three four five six", 60, 12)) == "one two three four five six"


def test_scale_strip_has_the_colours_of_the_overlay() -> None:
    strip = scale_strip(201, 4, signed=True)
    assert strip.shape == (4, 201, 3)
    assert len(set(strip[0, 100].tolist())) == 1  # zero is grey
    assert (strip[0, -1] == blend(FACE, half(), side_px=48)[24, 10]).all()


@pytest.mark.parametrize(
    ("probability", "expected"),
    [(0.934, "93 %"), (0.999, ">99 %"), (1.0, "100 %"), (0.004, "<1 %"), (0.0, "0 %"), (0.5, "50 %")],
)
def test_percent(probability: float, expected: str) -> None:
    assert percent(probability) == expected


@pytest.mark.parametrize(
    ("values", "method", "message"),
    [
        pytest.param(np.zeros((4, 4)), "cam", "values are float32", id="double"),
        pytest.param(np.zeros((1, 4, 4), np.float32), "cam", "values are float32", id="batch"),
        pytest.param(np.full((4, 4), 2, np.float32), "cam", r"finite and in \[-1, 1\]", id="beyond"),
        pytest.param(np.full((4, 4), np.nan, np.float32), "cam", "finite", id="not a number"),
        pytest.param(np.full((4, 4), -0.5, np.float32), "saliency", "must not be negative", id="sign"),
        pytest.param(np.zeros((4, 4), np.float32), "magic", "'magic' is no method", id="method"),
    ],
)
def test_heatmap_checks_itself(values: NDArray[np.float32], method: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Heatmap(values, "happy", method)
