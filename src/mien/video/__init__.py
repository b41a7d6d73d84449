"""Films and live pictures: sources of frames, faces followed over time, marked copies, tables and timelines.

>>> from mien.video import analyze_video
>>> for result in analyze_video("film.mp4"):
...     for face in result.faces:
...         print(result.time_s, face.track, face.emotion)
"""

from mien.video.analyze import FrameResult, analyze_video
from mien.video.frames import Frame, SourceOptions
from mien.video.track import TrackedFace, TrackSettings

__all__ = ["Frame", "FrameResult", "SourceOptions", "TrackSettings", "TrackedFace", "analyze_video"]
