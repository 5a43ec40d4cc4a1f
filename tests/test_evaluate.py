"""Evaluation: a whole run on a tiny world, and the parts that decide what counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from neural_pacman.actions import Action
from neural_pacman.episodes import Episode, read_episodes
from training.clips import AHEAD, choose_starts
from training.contact_sheet import contact_sheet
from training.evaluate import Evaluation, evaluate, table
from training.figures import BEST_PSNR, detection, psnr
from training.free_running import has_cast
from training.sprites import read_sprites
from training.teacher_forced import AROUND, DIRECTIONS, around, find_turns

SMALL = {"rollouts": 2, "windows": 5, "turns": 3, "batch_size": 32, "device": "cpu"}
ONE = {**SMALL, "rollouts": 1, "windows": 1}


@pytest.fixture(scope="module")
def episodes(sample: Path) -> list[Episode]:
    return list(read_episodes(sample))


@pytest.fixture(scope="module")
def measured(tiny_world: Path, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("evaluation") / "new" / "report.json"
    return out, evaluate(Evaluation(str(tiny_world), str(sample), out=out, **SMALL))  # type: ignore[arg-type]


def test_a_report_has_every_figure_with_its_baseline_and_number_of_cases(
    measured: tuple[Path, dict[str, Any]],
) -> None:
    out, report = measured
    assert json.loads(out.read_text(encoding="utf-8")) == report
    assert report["autoencoder"]["n"] == report["one_step"]["n"] == 5
    assert report["turns"]["n"] == 3
    assert 0 <= report["turns"]["better_than_each_other"] <= 1
    assert report["rewards"]["n"] == report["lives_lost"]["n"] == 2 * AHEAD
    assert report["rewards"]["pellets"]["real"] > 0
    assert list(report["free_running"]) == ["1", "4", "16", "64"]
    for part in report["free_running"].values():
        assert part["n"] == 2
        assert part["psnr"] < 60
        assert 15 < part["repeat_last"] < 40
    for horizon in ("16", "64"):
        cast = report["free_running"][horizon]["cast"]
        assert set(cast) >= {"dream", "real", "reconstruction", "dream_where_real", "n", "n_where_real"}
    assert not list(out.parent.glob(".*"))  # nothing half-written is left


def test_the_contact_sheet_lies_beside_the_report(measured: tuple[Path, dict[str, Any]]) -> None:
    with Image.open(measured[0].with_suffix(".png")) as sheet:
        assert sheet.mode == "RGB"
        assert sheet.width > sheet.height > 400


def test_the_same_world_and_seed_give_the_same_report(
    measured: tuple[Path, dict[str, Any]], tiny_world: Path, sample: Path, tmp_path: Path
) -> None:
    again = evaluate(Evaluation(str(tiny_world), str(sample), out=tmp_path / "report.json", **SMALL))  # type: ignore[arg-type]
    for report in (again, measured[1]):
        report["conditions"].pop("seconds", None)
    assert again == measured[1]


def test_every_measure_has_a_line_in_the_table(measured: tuple[Path, dict[str, Any]]) -> None:
    lines = [" ".join(row) for row in table(measured[1])]
    assert list(measured[1]["summary"]) == [name for name, _, _ in table(measured[1])]
    for words in ("autoencoder", "one-step", "turns", "step 64", "whole", "pellets", "lives", "ends"):
        assert any(words in line for line in lines), words


def test_without_labels_the_games_own_measures_are_left_out(tiny_world: Path, sample: Path, tmp_path: Path) -> None:
    rows = pq.read_table(next(sample.glob("*.parquet"))).select(["episode", "frame_image", "action"])
    pq.write_table(rows.replace_schema_metadata(None), tmp_path / "bare.parquet")
    bare = str(tmp_path / "bare.parquet")
    report = evaluate(Evaluation(str(tiny_world), bare, out=tmp_path / "report.json", **ONE))  # type: ignore[arg-type]
    assert not report["conditions"]["labels"]
    assert not {"turns", "rewards", "lives_lost"} & set(report)
    assert "cast" not in report["free_running"]["16"]
    assert table(report)


def test_a_dataset_of_short_episodes_is_refused(tiny_world: Path, sample: Path, tmp_path: Path) -> None:
    rows = pq.read_table(next(sample.glob("*.parquet")))
    pq.write_table(rows.slice(rows.num_rows - 60), tmp_path / "short.parquet")
    config = Evaluation(str(tiny_world), str(tmp_path / "short.parquet"), out=tmp_path / "report.json", **ONE)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="No episode is long enough to measure on: the longest has .* expected 96"):
        evaluate(config)


def test_starts_have_a_history_behind_and_64_states_ahead_and_are_spread(episodes: list[Episode]) -> None:
    starts = choose_starts(episodes, 4)
    assert len(starts) == 4
    for episode, k in starts:
        assert 31 <= k < len(episode) - AHEAD
    everything = choose_starts(episodes, 10_000)
    assert len(everything) == len({(episode.number, k) for episode, k in everything})


def test_a_turn_is_a_change_of_motion_into_the_direction_asked_for(episodes: list[Episode]) -> None:
    turns = [(episode, k, k + step) for episode, k in choose_starts(episodes, 2) for step in find_turns(episode, k)]
    assert turns
    for episode, k, state in turns:
        places = episode.labels["player_xy"]
        action = Action(int(episode.actions[state - 1]))
        assert k < state <= k + AHEAD
        assert (places[state] - places[state - 1]) @ DIRECTIONS[action] > 0
        assert (places[state - 1] - places[state - 2]) @ DIRECTIONS[action] <= 0


def test_the_square_around_pacman_shows_him(episodes: list[Episode]) -> None:
    episode = episodes[1]
    for k in (0, 20, 40):
        square = around(episode.frames(k, k + 1)[0], episode.labels["player_xy"][k])
        assert square.shape == (AROUND, AROUND, 3)
        yellow = (square[..., 0] > 200) & (square[..., 1] > 200) & (square[..., 2] < 60)
        y, x = np.nonzero(yellow)
        assert len(y) > 150
        assert abs(y.mean() - AROUND / 2) < 6
        assert abs(x.mean() - AROUND / 2) < 6


def test_a_real_first_frame_has_the_cast_and_without_pacman_has_not(episodes: list[Episode]) -> None:
    frame = episodes[1].frames(0, 1)[0].copy()
    assert has_cast(read_sprites(frame))
    frame[(frame[..., 0] > 100) & (frame[..., 1] > 200) & (frame[..., 2] < 100)] = 0
    assert not has_cast(read_sprites(frame))


def test_psnr_of_known_errors() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    assert psnr(black, black) == BEST_PSNR
    assert psnr(black + np.uint8(255), black) == pytest.approx(0)
    assert psnr(black + np.uint8(16), black) == pytest.approx(24.05, abs=0.01)


def test_detection_counts_what_is_right_of_what_was_and_of_what_was_said() -> None:
    assert detection([(1, 1), (1, 0), (0, 1), (0, 0), (2, 1)]) == {
        "recall": pytest.approx(1 / 3),
        "precision": pytest.approx(1 / 3),
        "real": 3,
        "said": 3,
        "n": 5,
    }
    assert detection([(0, 0)])["recall"] is None


def test_a_contact_sheet_needs_a_real_frame_for_every_dreamed_one() -> None:
    frames = np.zeros((2, 3, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="there are 2 names and 4 steps"):
        contact_sheet(frames, frames, (1, 2, 3, 4), ("a", "b"))
