"""The rules of the game: real play keeps them, and each way of breaking one is seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neural_pacman.episodes import read_episodes
from training.reader import PELLET_XY, POWER, Reading, read
from training.rules import HOME, MIDDLE, RULES, judge, report_rules, reward_errors
from training.sprites import Actor, Sprite

STANDING = np.ones(len(POWER), dtype=bool)
NOWHERE = np.zeros(len(POWER), dtype=bool)


def at(actor: Actor, place: int, dx: float = 0, dy: float = 0) -> Sprite:
    """A whole actor in the middle of a pellet's place, moved by so many px."""
    x, y = PELLET_XY[place] - MIDDLE + (dx, dy)
    return Sprite(actor, float(x), float(y), visible=1.0, intact=1.0)


CAST = [(Actor.PACMAN, 0), (Actor.RED, 40), (Actor.PINK, 80), (Actor.CYAN, 120), (Actor.ORANGE, 140)]


def scene(*sprites: Sprite, without: tuple[Actor, ...] = (), **changes: object) -> Reading:
    """Pac-Man and four ghosts far apart, but for those given (or left out), every pellet standing in sight."""
    given = {sprite.actor for sprite in sprites} | set(without)
    others = [at(actor, place) for actor, place in CAST if actor not in given]
    reading = Reading(sprites=(*sprites, *others), pellets=STANDING, hidden=NOWHERE, score=500, lives=3)
    return replace(reading, **changes)  # type: ignore[arg-type]


def broken(*readings: Reading) -> dict[str, list[bool]]:
    """The rules that were broken at any step, by step."""
    return {rule: steps.tolist() for rule, steps in judge(readings).broken.items() if steps.any()}


def test_real_play_breaks_no_rule_and_its_meals_are_the_scores(sample: Path) -> None:
    for episode, first, stop in zip(read_episodes(sample), (75, 0), (100, 25), strict=True):
        readings = [read(frame) for frame in episode.frames(first, stop)]
        judged = judge(readings)
        assert {rule: steps.sum() for rule, steps in judged.broken.items()} == dict.fromkeys(RULES, 0)
        assert judged.gains == np.diff(episode.labels["score"][first:stop]).tolist()
        eaten = sum(meal.points for meal in judged.meals)
        assert 0 < eaten <= episode.labels["score"][stop - 1] - episode.labels["score"][first]
        assert episode.rewards is not None
        assert not reward_errors(judged, episode.rewards[first : stop - 1]).any()
        assert reward_errors(judged, episode.rewards[first : stop - 1] + 10).all()


def test_a_quiet_scene_breaks_nothing() -> None:
    assert broken(*[scene()] * 4) == {}


@pytest.mark.parametrize("gone", [Actor.PACMAN, Actor.RED, Actor.ORANGE])
def test_whoever_vanishes_with_nobody_near_is_missing_until_he_is_back(gone: Actor) -> None:
    missing = scene(without=(gone,))
    assert broken(scene(), missing, missing, scene(), scene()) == {"missing": [True, True, False, False]}


def test_a_ghost_that_vanishes_behind_another_is_hidden_and_goes_with_it() -> None:
    before = scene(at(Actor.CYAN, 166), at(Actor.RED, 166, dx=8))
    hidden = [scene(at(Actor.CYAN, 166, dx=7 * step), without=(Actor.RED,)) for step in range(1, 8)]
    assert broken(before, *hidden) == {}
    # Whoever covered it is gone too: now both are missing.
    assert broken(before, *hidden, scene(without=(Actor.RED, Actor.CYAN)))["missing"] == [False] * 7 + [True]


def test_a_ghost_that_was_never_seen_is_not_missing() -> None:
    assert broken(scene(without=(Actor.RED,)), scene(without=(Actor.RED,))) == {}


def test_frightened_ghosts_stand_for_the_four_whoever_they_are() -> None:
    blue = tuple(at(Actor.FRIGHTENED, place, dx=4) for _, place in CAST[1:])
    colours = tuple(actor for actor, _ in CAST[1:])
    assert broken(scene(), scene(*blue, without=colours), scene()) == {}
    assert broken(scene(), scene(*blue[:3], without=colours)) == {"missing": [True]}


def test_pacman_behind_a_ghost_is_not_missing() -> None:
    near = scene(at(Actor.RED, 0, dx=10))
    assert broken(near, scene(at(Actor.RED, 0, dx=2), without=(Actor.PACMAN,))) == {}


def test_the_same_actor_twice_or_five_ghosts_are_doubled() -> None:
    assert broken(scene(), scene(at(Actor.PINK, 80), at(Actor.PINK, 100))) == {"doubled": [True]}
    assert broken(scene(), scene(at(Actor.PACMAN, 0), at(Actor.PACMAN, 20))) == {"doubled": [True]}
    assert broken(scene(), scene(at(Actor.EYES, 20))) == {"doubled": [True]}
    eroded = replace(at(Actor.PINK, 100), intact=0.7)
    assert broken(scene(), scene(at(Actor.PINK, 80), eroded)) == {}
    assert broken(scene(), scene(at(Actor.PINK, 80), at(Actor.PINK, 80, dy=5))) == {}  # one, seen twice


def test_whoever_stands_in_a_wall_breaks_the_rule_as_long_as_he_does() -> None:
    inside = scene(at(Actor.CYAN, 0, dx=-15, dy=-15))
    assert broken(scene(at(Actor.CYAN, 0)), inside, inside)["in wall"] == [True, True]


def test_a_pellet_may_vanish_under_pacman_alone_and_never_come_back() -> None:
    far = int(np.abs(PELLET_XY - PELLET_XY[0]).max(axis=1).argmax())
    fewer = STANDING.copy()
    fewer[far] = False
    assert broken(scene(), scene(pellets=fewer), scene(pellets=fewer)) == {"pellet": [True, False]}
    assert broken(scene(pellets=fewer), scene(pellets=fewer), scene()) == {"pellet": [False, True]}
    eaten = STANDING.copy()
    eaten[0] = False
    assert broken(scene(), scene(pellets=eaten, score=510), scene(pellets=eaten, score=510)) == {}


def test_a_place_behind_a_sprite_is_judged_when_it_is_seen_again() -> None:
    far = np.zeros_like(STANDING)
    far[70] = True
    covered = scene(pellets=~far, hidden=far)
    assert broken(scene(), covered, covered, scene()) == {}
    assert broken(scene(), covered, covered, scene(pellets=~far)) == {"pellet": [False, False, True]}
    # It was empty from the beginning, for all we know.
    assert broken(covered, covered, scene(pellets=~far)) == {}


def test_the_score_must_grow_by_what_was_eaten() -> None:
    eaten = STANDING.copy()
    eaten[0] = False
    assert broken(scene(), scene(pellets=eaten)) == {"score": [True]}  # nothing paid
    assert broken(scene(), scene(score=510)) == {"score": [True]}  # nothing eaten
    assert broken(scene(), scene(pellets=eaten, score=560)) == {"score": [True]}  # too much paid
    assert broken(scene(), scene(score=400)) == {"score": [True]}
    assert broken(scene(), scene(score=None), scene(score=None), scene()) == {"score": [True, True, False]}


def test_points_for_a_covered_pellet_are_held_against_it_when_it_is_seen() -> None:
    under = np.zeros_like(STANDING)
    under[0] = True
    covered = scene(pellets=~under, hidden=under, score=510)
    away = at(Actor.PACMAN, 3)
    assert broken(scene(), covered, scene(away, pellets=~under, score=510)) == {}
    assert broken(scene(), covered, scene(away, score=510)) == {"score": [False, True]}  # paid, and still there
    unpaid = replace(covered, score=500)
    assert broken(scene(), unpaid, scene(away, pellets=~under)) == {"score": [False, True]}


def test_a_power_pellet_brings_a_hundred_and_ghosts_their_sums_where_there_is_prey() -> None:
    place = int(np.flatnonzero(POWER)[0])
    eaten = STANDING.copy()
    eaten[place] = False
    here = at(Actor.PACMAN, place)
    assert broken(scene(here), scene(here, pellets=eaten, score=600)) == {}
    assert broken(scene(here), scene(here, pellets=eaten, score=510)) == {"score": [True]}
    prey = scene(at(Actor.FRIGHTENED, 0, dx=22), without=(Actor.RED,))
    eyes = at(Actor.EYES, 0, dx=20)
    assert broken(prey, scene(eyes, without=(Actor.RED,), score=1100)) == {}  # 200 and 400
    assert broken(prey, scene(eyes, without=(Actor.RED,), score=750)) == {"score": [True]}
    assert broken(scene(), scene(score=700)) == {"score": [True]}


def test_two_steps_from_a_lost_life_on_are_not_judged_and_no_more() -> None:
    home = Sprite(Actor.PACMAN, float(HOME[0]), float(HOME[1]), 1.0, 1.0)
    faulty = scene(home, score=None, lives=2)
    judged = judge([scene(), faulty, faulty, faulty])
    assert judged.deaths.tolist() == [True, False, False]
    assert judged.broken["score"].tolist() == [False, False, True]
    # The jump home alone shows it, and a HUD that follows late does not make it two.
    late = judge([scene(), scene(home), scene(home, lives=2), scene(home, lives=2)])
    assert late.deaths.tolist() == [True, False, False]
    assert not judge([scene(), scene(lives=4), scene(lives=3)]).deaths.any()


def test_a_cleared_maze_may_fill_again_and_an_uncleared_one_may_not() -> None:
    def with_left(count: int) -> Reading:
        return scene(pellets=np.arange(len(POWER)) >= len(POWER) - count)

    cleared = judge([with_left(2), scene(), scene(), scene()])
    assert cleared.mazes.tolist() == [True, False, False]
    assert not any(steps.any() for steps in cleared.broken.values())
    assert broken(with_left(60), scene()) == {"pellet": [True]}


def test_the_report_counts_each_rule_and_for_a_thousand_steps() -> None:
    missing = scene(without=(Actor.RED,))
    report = report_rules([judge([scene(), missing, missing]), judge([scene(), scene(score=None), scene()])])
    assert report["steps"] == 4
    assert report["counts"] == {"missing": 2, "doubled": 0, "in wall": 0, "pellet": 0, "score": 1, "all": 3}
    assert report["per_1000"]["all"] == 750
    assert report_rules([])["per_1000"]["all"] is None


def test_a_run_without_readings_is_refused() -> None:
    with pytest.raises(ValueError, match="There are no readings to judge"):
        judge([])
