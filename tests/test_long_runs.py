"""Long dreams: they run on over ends, repeat from the same seed, and what they announce is held to account."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neural_pacman.episodes import Episode, read_episodes
from neural_pacman.world import WorldModel
from training.branches import two_generators
from training.long_report import Dream, report_dreams, table
from training.long_runs import SHOWN_STEPS, LongRuns, dream_long, main, maze_right, read_recording
from training.sprites import Actor


@pytest.fixture(scope="module")
def world(tiny_world: Path) -> WorldModel:
    return WorldModel.from_pretrained(tiny_world, device="cpu")


@pytest.fixture(scope="module")
def episode(sample: Path) -> Episode:
    """Forty states of real play."""
    whole = next(iter(read_episodes(sample)))
    part = slice(0, 40)
    labels = {name: values[part] for name, values in whole.labels.items()}
    rewards = None if whole.rewards is None else whole.rewards[part]
    return Episode(whole.number, whole.format, whole.images[part], whole.actions[part], labels, rewards)


@pytest.fixture(scope="module")
def recording(episode: Episode) -> Dream:
    return read_recording([episode])[0]


def test_every_run_has_a_reading_a_reward_and_a_life_for_every_step(world: WorldModel) -> None:
    long = dream_long(world, seeds=3, steps=2, batch_size=2, shown=2)
    assert sorted(dream.run for dream in long.dreams if not dream.ended) == [0, 1, 2]
    for dream in long.dreams:
        assert len(dream.readings) == len(dream.points) + 1 == len(dream.lives_lost) + 1
        assert dream.maze_right is not None and 0 <= dream.maze_right <= 1
    assert list(long.frames) == [step for step in SHOWN_STEPS if step <= 2]
    assert long.frames[0].shape == (2, 512, 512, 3)


def test_the_same_seed_dreams_the_same_and_other_processes_read_the_same(world: WorldModel) -> None:
    one, again = (dream_long(world, seeds=1, steps=2, batch_size=1, workers=workers) for workers in (0, 1))
    assert np.array_equal(one.frames[0], again.frames[0])
    for a, b in zip(one.dreams, again.dreams, strict=True):
        assert (a.seed, a.points, a.maze_right) == (b.seed, b.points, b.maze_right)
        assert [r.sprites for r in a.readings] == [r.sprites for r in b.readings]
        assert all(np.array_equal(r.pellets, s.pellets) for r, s in zip(a.readings, b.readings, strict=True))


def test_a_run_goes_on_from_a_new_seed_after_an_announced_end(tiny_world: Path) -> None:
    world = WorldModel.from_pretrained(tiny_world, device="cpu")
    judge = world.judge

    def over(*given: Any) -> Any:
        return judge(*given)._replace(end=torch.ones(len(given[0])))

    world.judge = over  # type: ignore[method-assign, assignment]
    long = dream_long(world, seeds=1, steps=3, batch_size=1)
    assert [dream.ended for dream in long.dreams] == [True, True, True, False]
    assert all(len(dream.readings) == 1 for dream in long.dreams)  # the frame after an end means nothing
    report = report_dreams(long.dreams)
    assert report["ends"] == 3 and report["rules"]["steps"] == 0
    assert len(report["runs"]) == 1 and len(report["runs"][0]["seeds"]) == 4


def test_a_recording_is_read_as_it_was(recording: Dream, episode: Episode) -> None:
    report = report_dreams([recording])
    assert report["rules"]["steps"] == len(episode) - 1
    assert report["rules"]["counts"]["all"] == 0
    assert report["rewards"]["unlike_the_score"] == 0
    assert report["rewards"]["pellets"]["seen"] > 0
    assert report["rewards"]["pellets"]["recall"] == 1
    assert report["lives_lost"]["seen"] == report["lives_lost"]["said"] == 0
    assert report["collapsed"]["runs"] == 0
    assert json.loads(json.dumps(report)) == report
    assert any("pellets" in name for name, _ in table(report))


def test_rewards_and_lives_that_are_not_there_or_come_late_are_counted(recording: Dream) -> None:
    silent = replace(recording, points=[0.0] * len(recording.points), lives_lost=[False] * len(recording.lives_lost))
    rewards = report_dreams([silent])["rewards"]["pellets"]
    assert rewards["recall"] == 0 and rewards["precision"] is None
    noisy = replace(recording, points=[10.0] * len(recording.points), lives_lost=[True] * len(recording.lives_lost))
    report = report_dreams([noisy])
    assert report["rewards"]["pellets"]["recall"] == 1
    assert report["rewards"]["pellets"]["precision"] < 0.9
    assert report["lives_lost"]["said"] == len(recording.lives_lost)
    late = replace(recording, points=[0.0] * 4 + recording.points[:-4])
    assert report_dreams([late])["rewards"]["pellets"]["precision"] < 1


@pytest.mark.parametrize(("announced", "found"), [(17, 1), (21, 1), (22, 0)])
def test_a_lost_life_is_found_when_it_is_announced_within_two_steps(
    recording: Dream, announced: int, found: int
) -> None:
    fewer = [replace(r, lives=r.lives + 2 - (k >= 20)) for k, r in enumerate(recording.readings) if r.lives is not None]
    said = [step == announced for step in range(len(recording.lives_lost))]
    lives = report_dreams([replace(recording, readings=fewer, lives_lost=said)])["lives_lost"]
    assert lives == {"recall": found, "precision": found, "seen": 1, "said": 1}


def test_a_dream_without_pacman_or_without_its_maze_has_collapsed(recording: Dream) -> None:
    assert not recording.collapsed()
    gone = [replace(r, sprites=tuple(s for s in r.sprites if s.actor is not Actor.PACMAN)) for r in recording.readings]
    assert replace(recording, readings=gone).collapsed()
    assert replace(recording, maze_right=0.9).collapsed()


def test_the_maze_is_right_whoever_walks_in_it_and_wrong_when_it_fades(episode: Episode) -> None:
    first, last = (episode.frames(k, k + 1)[0] for k in (0, len(episode) - 1))
    assert (first != last).any()
    assert maze_right(first, first) == 1
    assert maze_right(last, first) > 0.999  # an actor in a corner touches it
    assert maze_right(first // 3, first) < 0.99
    assert maze_right(np.zeros_like(first), first) < 0.9


def test_two_generators_part_or_have_no_case(world: WorldModel) -> None:
    report = two_generators(world, runs=2)
    assert 0 <= report["n"] <= 2
    assert (report["ghosts_differ"] is None) == (report["n"] == 0)


def test_no_runs_and_no_steps_are_refused(world: WorldModel) -> None:
    for seeds, steps in ((0, 5), (5, 0)):
        with pytest.raises(ValueError, match=f"{seeds} runs of {steps} steps; expected at least one of each"):
            dream_long(world, seeds=seeds, steps=steps)


def test_the_command_writes_its_report(tiny_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "report.json"
    main(LongRuns(str(tiny_world), out, seeds=1, steps=1, branches=1, device="cpu"))
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["dream"]["rules"]["steps"] <= 1
    assert report["two_generators"]["steps"] == 16
    assert "broken rules in 1,000 steps: all" in capsys.readouterr().out
    assert not list(out.parent.glob(".*"))
