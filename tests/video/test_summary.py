"""Summaries, against what one counts by hand."""

import pytest

from mien.video.summary import Summary
from tests.video.conftest import tracked


def summary_of(frames: list[tuple[float, dict[int, str]]]) -> Summary:
    """`(time, {track: emotion})` for each frame."""
    summary = Summary()
    for time_s, faces in frames:
        summary.add(time_s, [tracked(emotion, track=track) for track, emotion in faces.items()])
    summary.close()
    return summary


def test_time_weighs_and_not_the_number_of_frames() -> None:
    frames = [(0.0, {1: "happy"}), (3.0, {1: "sad"}), (3.5, {1: "sad"}), (4.0, {1: "happy"})]
    (one,) = summary_of(frames).tracks
    assert one.shares == pytest.approx({"happy": 3.5 / 4.5, "sad": 1 / 4.5})  # the last frame lasts 0.5 s
    assert list(one.shares) == ["happy", "sad"]
    assert one.seen_s == pytest.approx(4.5)
    assert one.switches == 2
    assert one.switches_per_minute == pytest.approx(60 * 2 / 4.5)


def test_out_of_sight_does_not_count() -> None:
    frames = [(0.0, {1: "happy"}), (1.0, {2: "sad"}), (2.0, {1: "fear", 2: "sad"}), (3.0, {})]
    first, second = summary_of(frames).tracks
    assert (first.track, first.first_s, first.last_s, first.seen_s, first.frames) == (1, 0.0, 2.0, 2.0, 2)
    assert first.shares == {"happy": 0.5, "fear": 0.5}
    assert (second.track, second.first_s, second.seen_s, second.switches) == (2, 1.0, 2.0, 0)


@pytest.mark.parametrize(("live", "seen_s"), [(True, 2.2), (False, 60.2)])
def test_a_camera_that_was_away_saw_nothing(live: bool, seen_s: float) -> None:
    summary = Summary(live=live)
    for time_s in (0.0, 0.1, 60.1, 60.2):
        summary.add(time_s, [tracked()] if time_s < 60.2 else [])
    summary.close()
    assert summary.tracks[0].seen_s == pytest.approx(seen_s)


def test_a_single_frame() -> None:
    summary = summary_of([(7.0, {1: "happy"})])
    (one,) = summary.tracks
    assert (one.seen_s, one.switches_per_minute, one.shares) == (0.0, 0.0, {"happy": 1.0})
    assert (summary.frames, summary.first_s, summary.last_s) == (1, 7.0, 7.0)


def test_nothing() -> None:
    assert summary_of([]).tracks == []
    assert summary_of([(0.0, {}), (1.0, {})]).tracks == []


def test_uncertain_share_and_json() -> None:
    summary = Summary()
    for number in range(4):
        summary.add(0.5 * number, [tracked(uncertain=number == 0)])
    summary.close()
    assert summary.tracks[0].to_dict() == {
        **{"track": 1, "first_s": 0.0, "last_s": 1.5, "seen_s": 2.0, "frames": 4, "shares": {"happy": 1.0}},
        **{"switches": 0, "switches_per_minute": 0.0, "uncertain_share": 0.25},
    }
