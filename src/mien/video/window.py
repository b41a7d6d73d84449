"""The live view of OpenCV's own window, where its build has one."""

from types import TracebackType
from typing import Self

import cv2

from mien.errors import ConfigError
from mien.video.analyze import FrameResult
from mien.video.draw import draw_faces
from mien.video.loop import Pace

TITLE = "mien"
ESCAPE = 27
KEY_MASK = 0xFF  # the other bits say which modifiers were held


class WindowView:
    """Shows marked frames; Q, Escape or closing the window ends it."""

    def __init__(self) -> None:
        """Find out whether windows can be opened.

        Raises:
            ConfigError: this OpenCV has no windows, or there is no display.
        """
        try:
            cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except (cv2.error, AttributeError) as error:
            raise ConfigError(
                "this OpenCV opens no window: pip uninstall opencv-python-headless, then pip install opencv-python, "
                "on a machine with a display; or use --terminal"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cv2.destroyAllWindows()

    def show(self, result: FrameResult, pace: Pace) -> bool:
        """The newest result; False when the window was closed."""
        marked = draw_faces(result.frame.image, result.faces)
        cv2.setWindowTitle(TITLE, f"{TITLE}  {pace.rate_hz:.0f} frames/s, {pace.delay_ms:.0f} ms")
        cv2.imshow(TITLE, cv2.cvtColor(marked, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1)
        closed = cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1
        return not closed and (key == -1 or key & KEY_MASK not in (ord("q"), ESCAPE))
