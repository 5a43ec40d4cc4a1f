"""Control: what the real Pac-Man did in a step, and whether a dream did the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neural_pacman.actions import Action
from neural_pacman.episodes import Episode, read_episodes
from training.control import Course, Kind, classify, report_control, report_places
from training.reader import POWER, Reading, read
from training.sprites import GHOST_COLOURS, SCALE, Actor, Sprite, to_frame_xy

L, R, U, D, N = (int(action) for action in Action)
NONE = np.zeros(len(POWER), dtype=bool)


def reading(player: np.ndarray | None, ghosts: np.ndarray) -> Reading:
    """A reading with Pac-Man and four normal ghosts at screen px."""
    places = dict(zip(GHOST_COLOURS, to_frame_xy(ghosts), strict=True))
    if player is not None:
        places[Actor.PACMAN] = to_frame_xy(player)
    sprites = [Sprite(actor, float(x), float(y), 1.0, 1.0) for actor, (x, y) in places.items()]
    return Reading(tuple(sprites), NONE, NONE, 0, 3)


# Right, right, up (a turn), up, down (back), down to the corridor, and down again into its wall: he stands.
WALK = np.array([(48, 96), (60, 96), (72, 96), (72, 84), (72, 72), (72, 84), (72, 96), (72, 96)])
KEYS = np.array([R, R, U, N, D, D, D])
GHOSTS = np.array([(24, 24), (408, 24), (24, 480), (408, 480)])


def course(places: np.ndarray | list[np.ndarray | None], real: np.ndarray = WALK, keys: np.ndarray = KEYS) -> Course:
    """A dream with Pac-Man at `places`, beside a recording."""
    states = len(places)
    ghosts = np.repeat(GHOSTS[None], states, axis=0)
    return Course(
        [reading(xy, GHOSTS) for xy in places], keys[-(states - 1) :], real, ghosts, np.ones((states, 4), int)
    )


def test_steps_are_told_apart_by_what_pacman_did() -> None:
    kinds, kept = classify(WALK, KEYS)
    assert kinds == [
        None,  # nobody knows yet where he was going
        Kind.CONTINUING,
        Kind.TURNING,
        Kind.CONTINUING,
        Kind.REVERSING,
        Kind.CONTINUING,
        Kind.BLOCKED,
    ]
    assert kept[[1, 2, 4, 6]].tolist() == [[12, 0], [12, 0], [0, -12], [0, 12]]


def test_an_action_that_a_wall_refuses_is_a_blocked_step_and_a_cut_corner_a_turn() -> None:
    along = np.array([(48, 96), (60, 96), (72, 96), (78, 90), (78, 78)])
    kinds, _ = classify(along, np.array([U, U, U]))
    assert kinds == [Kind.BLOCKED, Kind.TURNING, Kind.CONTINUING]


def test_a_lost_life_and_the_tunnel_are_no_steps() -> None:
    jump = np.array([(36, 240), (24, 240), (399, 240), (387, 240), (216, 384), (216, 384), (204, 384)])
    kinds, _ = classify(jump, np.array([N] * 6))
    assert kinds == [None, None, Kind.CONTINUING, None, None, None]


def test_a_dream_that_is_the_real_game_has_full_control(sample: Path) -> None:
    courses = [real_course(episode, k) for episode in read_episodes(sample) for k in range(4, len(episode) - 16, 16)]
    report = report_control(courses)
    assert report["all"]["dream"] == 1
    assert report["all"]["keeps_direction"] < 0.95
    assert report["turning"]["n"] > 5 and report["turning"]["keeps_direction"] < 0.3
    assert report["reversing"]["keeps_direction"] in (0, None)
    assert report["comparable"] == 1
    assert report["all"]["n"] == sum(report[kind.value]["n"] for kind in Kind)
    places = report_places(courses)
    assert places["16"]["pacman"]["mean"] < 0.01
    assert places["16"]["pacman"]["stays"]["mean"] > 30
    assert places["16"]["runs"] == len(courses)


def real_course(episode: Episode, k: int) -> Course:
    labels = {name: episode.labels[name][k : k + 17] for name in ("player_xy", "ghost_xy", "ghost_state")}
    readings = [reading(*xy) for xy in zip(labels["player_xy"], labels["ghost_xy"], strict=True)]
    labels["player_xy"] = episode.labels["player_xy"][k - 4 : k + 17]
    return Course(readings, episode.actions[k : k + 16], **labels)


def test_real_frames_are_read_as_full_control(sample: Path) -> None:
    episode = list(read_episodes(sample))[1]
    labels = {name: episode.labels[name][5:21] for name in ("ghost_xy", "ghost_state")}
    readings = [read(frame) for frame in episode.frames(5, 21)]
    report = report_control([Course(readings, episode.actions[5:20], episode.labels["player_xy"][:21], **labels)])
    assert report["all"]["dream"] == report["comparable"] == 1
    assert report["all"]["n"] >= 10


def test_a_dream_that_does_not_turn_fails_there_and_is_not_compared_until_it_is_back() -> None:
    straight = WALK.copy()
    straight[3:6] = (84, 96), (96, 96), (84, 96)
    report = report_control([course(straight)])
    assert report["turning"] == {"dream": 0, "keeps_direction": 0, "n": 1}
    assert report["reversing"]["n"] == 0 and report["reversing"]["dream"] is None
    assert report["blocked"]["dream"] == 1
    assert report["comparable"] == pytest.approx(3 / 6)


def test_a_pacman_who_is_not_found_counts_as_failed() -> None:
    places: list[np.ndarray | None] = list(WALK)
    places[4] = None
    report = report_control([course(places)])
    assert report["all"] == {"dream": pytest.approx(4 / 6), "keeps_direction": pytest.approx(3 / 6), "n": 6}


def test_a_life_lost_in_the_dream_alone_is_counted_apart() -> None:
    places = WALK.copy()
    places[4:] = (216, 384)
    report = report_control([course(places)])
    assert report["dream_deaths"] == 1
    assert report["all"]["dream"] == 1 and report["all"]["n"] == 2


def shifted(reading: Reading, actor: Actor, move: Callable[[Sprite], Sprite | None]) -> Reading:
    sprites = [move(s) if s.actor is actor else s for s in reading.sprites]
    return replace(reading, sprites=tuple(s for s in sprites if s is not None))


def test_position_errors_are_in_frame_pixels_and_of_the_same_colour() -> None:
    right = course(WALK)
    off = [shifted(r, Actor.PACMAN, lambda s: replace(s, x=s.x + 3, y=s.y + 4)) for r in right.readings]
    off = [shifted(r, Actor.RED, lambda s: replace(s, x=s.x + 8)) for r in off]
    off = [shifted(r, Actor.CYAN, lambda s: None) for r in off]
    report = report_places([replace(right, readings=off), right], horizons=(4,))["4"]
    assert report["pacman"]["mean"] == pytest.approx(2.5)
    assert report["pacman"]["stays"]["mean"] == pytest.approx(np.hypot(24, 24) * SCALE)
    assert report["ghosts"]["mean"] == pytest.approx(8 / 7)
    assert report["ghosts"]["found"] == pytest.approx(7 / 8)
    assert report["runs"] == 2


def test_a_real_ghost_that_another_covers_is_left_out() -> None:
    right = course(WALK)
    merged = right.ghost_xy.copy()
    merged[:, 0] = merged[:, 2] + 2  # red behind cyan
    report = report_places([replace(right, ghost_xy=merged)], horizons=(1,))["1"]
    assert report["ghosts"]["n"] == 3


def test_horizons_longer_than_a_dream_have_no_figure() -> None:
    report = report_places([course(WALK)], horizons=(64,))["64"]
    assert report["runs"] == 0 and report["pacman"]["mean"] is None
    assert report_control([])["all"] == {"dream": None, "keeps_direction": None, "n": 0}


def test_labels_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="actions fits 7 states, but there are 8 readings"):
        replace(course(WALK), actions=KEYS[1:])
    with pytest.raises(ValueError, match="player_xy has 7 states"):
        replace(course(WALK), player_xy=WALK[1:])
