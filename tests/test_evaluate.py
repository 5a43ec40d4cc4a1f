"""Evaluation: a whole run on a tiny world, and the parts that decide what counts."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from neural_pacman.actions import Action
from neural_pacman.episodes import FORMAT_KEY, HISTORY, OWN_FORMAT, Episode, read_episodes
from neural_pacman.frames import BEST_PSNR, psnr
from neural_pacman.world import WorldModel
from neural_pacman.world_folder import replacing
from training.bars import BARS, Bar, bars
from training.clips import REACHES, Clip, choose_starts, spread, walk
from training.contact_sheet import contact_sheet
from training.evaluate import FIGURES, Evaluation, evaluate, main
from training.figures import detection, detection_within
from training.fit import check_fit, read_some
from training.free_running import dream_on, has_cast
from training.reader import PELLET_XY, POWER, read
from training.report import NO_LABELS, NO_SEEDS, markdown
from training.sprites import read_sprites
from training.teacher_forced import AROUND, DIRECTIONS, around, find_turns, same_pellets
from training.wording import percent

SMALL: dict[str, Any] = {
    "rollouts": 1, "windows": 3, "few_step_windows": 1, "turns": 2, "batch_size": 32, "videos": 1, "sheet_rows": 1,
    "long_seeds": 1, "long_steps": 3, "real_states": 0, "branches": 0, "workers": 0, "timed_steps": 5,
}  # fmt: skip
ONE: dict[str, Any] = {
    "rollouts": 1, "windows": 1, "few_step_windows": 1, "turns": 1, "batch_size": 32, "videos": 0, "sheet_rows": 0,
    "timed_steps": 0,
}  # fmt: skip


def evaluation(world: Path, dataset: Path, out: Path, sizes: dict[str, Any] = ONE, **more: Any) -> Evaluation:
    return Evaluation(world=str(world), dataset=str(dataset), out=out, device="cpu", **sizes | more)


@pytest.fixture(scope="module")
def episodes(sample: Path) -> list[Episode]:
    return list(read_episodes(sample))


@pytest.fixture(scope="module")
def measured(tiny_world: Path, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("evaluation") / "new" / "report"
    return out, evaluate(evaluation(tiny_world, sample, out, SMALL))


@pytest.fixture(scope="module")
def bare(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 52 rows of one episode, without labels, rewards or ends."""
    rows = pq.read_table(next(sample.glob("*.parquet"))).select(["episode", "frame_image", "action"])
    file = tmp_path_factory.mktemp("bare") / "bare.parquet"
    pq.write_table(rows.slice(rows.num_rows - 52).replace_schema_metadata(None), file)
    return file


def test_a_report_has_every_figure_with_its_baseline_and_number_of_cases(
    measured: tuple[Path, dict[str, Any]],
) -> None:
    out, report = measured
    assert json.loads((out / FIGURES).read_text(encoding="utf-8")) == report
    step = report["one_step"]
    assert report["autoencoder"]["n"] == report["autoencoder"]["pellets"]["n"] == step["n"] == 3
    scores = {"psnr", "psnr_without_bars", "ssim", "haarpsi", "gmsd"}
    assert set(step["dream"]) == set(step["repeat_last"]) == scores
    assert step["repeat_last"]["psnr_without_bars"] < step["repeat_last"]["psnr"]  # the bars are always right
    assert 20 < step["repeat_last"]["psnr"] < 40
    for parts in report["denoising_steps"].values():
        assert list(parts["by_count"]) == ["1", "2", "4"]
        looks = [part["haarpsi"] for part in parts["by_count"].values()]
        assert parts["spread"] == pytest.approx(max(looks) - min(looks))
    assert report["turns"]["n"] == 2
    steps = report["conditions"]["states"] - 2 * HISTORY
    assert report["rewards"]["n"] == report["lives_lost"]["n"] == steps
    assert sum(part["n"] for part in report["rewards"]["by_points"].values()) == steps
    assert report["rewards"]["pellets"]["real"] > 0
    horizons = report["free_running"]
    assert {horizon: part["n"] for horizon, part in horizons.items()} == {"1": 1, "4": 1, "16": 1, "64": 1, "256": 0}
    assert set(horizons["16"]["dream"]) == set(horizons["16"]["repeat_last"]) == scores
    assert {"dream", "real", "reconstruction", "four_ghosts_where_real"} <= set(horizons["16"]["cast"])
    assert report["control"]["all"]["n"] <= report["control"]["steps"] <= 64
    assert report["long_runs"]["dream"]["rules"]["steps"] <= 3 and report["long_runs"]["real"]["rules"]["steps"] == 0
    assert report["places"]["1"]["pacman"]["n"] == 1 and report["announced"]["n"] <= 64
    assert report["step_time"]["n"] == 5 and report["step_time"]["median_ms"] > 0


def test_the_folder_has_the_report_for_people_with_pictures_and_videos(measured: tuple[Path, dict[str, Any]]) -> None:
    out, report = measured
    text = (out / "report.md").read_text(encoding="utf-8")
    assert " --rollouts 1 --windows 3 " in text and "--workers" not in text  # how to repeat it
    assert (
        NO_SEEDS in markdown(report | {"conditions": report["conditions"] | {"seeds": False}}) and NO_SEEDS not in text
    )
    for bar in report["bars"]:
        assert f"| {bar['measure']} | {bar['bar']} | {bar['measured']} |" in text
    files = {"report.json", "report.md", "curves.png", "sheet-16.png", "sheet-64.png", "sheet-long.png", "dream-1.mp4"}
    assert {file.name for file in out.iterdir()} == files
    assert all(f"({name})" in text for name in files if not name.startswith("report"))
    for name in ("curves.png", "sheet-16.png", "sheet-64.png"):
        with Image.open(out / name) as picture:
            assert picture.width > picture.height > 300
    assert (out / "dream-1.mp4").stat().st_size > 10_000
    assert list(out.parent.iterdir()) == [out]  # nothing half-written is left


def test_the_summary_for_the_model_card_says_under_which_conditions(measured: tuple[Path, dict[str, Any]]) -> None:
    summary = measured[1]["summary"]
    assert summary["measured on"].startswith("data: 2 episodes, 229 states; 2 denoising steps")
    for words in ("autoencoder", "one-step", "turns", "step 64", "four ghosts", "control", "pellets", "lives", "ends"):
        assert any(words in name for name in summary), words
    assert all(isinstance(figure, str) for figure in summary.values())


def test_without_labels_the_games_own_measures_are_left_out_and_the_same_seed_gives_the_same_report(
    tiny_world: Path, bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reports: list[dict[str, Any]] = []
    for _ in range(2):
        main(evaluation(tiny_world, bare, tmp_path / "report"))
        reports.append(json.loads((tmp_path / "report" / FIGURES).read_text(encoding="utf-8")))
    assert NO_LABELS in capsys.readouterr().out
    assert "no labels of the classic maze" in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    for report in reports:
        assert not report["conditions"]["labels"]
        assert not {"turns", "rewards", "lives_lost", "control", "places"} & set(report)
        assert "cast" not in report["free_running"]["16"] and "pellets" not in report["autoencoder"]
        assert next(bar for bar in report["bars"] if bar["measure"].startswith("control"))["holds"] is None
        assert "step_time" not in report
    assert reports[0] == reports[1]


def test_fewer_episodes_than_asked_for_are_refused(tiny_world: Path, sample: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 2 episodes; 3 were asked for. Ask for at most 2"):
        evaluate(evaluation(tiny_world, sample, tmp_path / "report", episodes=3))
    assert not list(tmp_path.iterdir())
    assert [len(read_some(str(sample), count)) for count in (1, 2, None)] == [1, 2, 2]
    with pytest.raises(ValueError, match="0 episodes were asked for; expected at least 1"):
        read_some(str(sample), 0)


def test_a_dataset_of_short_episodes_is_refused(tiny_world: Path, sample: Path, tmp_path: Path) -> None:
    rows = pq.read_table(next(sample.glob("*.parquet")))
    pq.write_table(rows.slice(rows.num_rows - 45), tmp_path / "short.parquet")
    with pytest.raises(ValueError, match="No episode is long enough to measure on: the longest has .* expected 48"):
        evaluate(evaluation(tiny_world, tmp_path / "short.parquet", tmp_path / "report"))


def test_a_folder_that_is_no_report_is_not_replaced(tiny_world: Path, sample: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("dear to me")
    with pytest.raises(ValueError, match="exists and is not a report"):
        evaluate(evaluation(tiny_world, sample, tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_report_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "report"
    for words in ("old", "new"):
        with replacing(out, FIGURES, "report") as folder:
            (folder / FIGURES).write_text(words)
    with pytest.raises(KeyboardInterrupt), replacing(out, FIGURES, "report") as folder:
        (folder / FIGURES).write_text("half")
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == ["report"]
    assert (out / FIGURES).read_text() == "new"


def repainted(episode: Episode, like: np.ndarray, **format: Any) -> Episode:
    """The episode with the same picture everywhere, uint8 upright."""
    buffer = io.BytesIO()
    Image.fromarray(like).save(buffer, "PNG")
    stored = replace(OWN_FORMAT, frame_height=like.shape[0], frame_width=like.shape[1], **format)
    return Episode(episode.number, stored, [buffer.getvalue()] * len(episode), episode.actions)


def test_another_games_frames_are_refused(tiny_world: Path, episodes: list[Episode]) -> None:
    world = WorldModel.from_pretrained(tiny_world, device="cpu")
    check_fit(world, episodes, "ours")
    maze = episodes[1].raw(0)
    check_fit(world, [repainted(episodes[1], maze)], "ours")
    with pytest.raises(ValueError, match="dreams a screen of 456 x 552; the dataset theirs has frames of 160 x 210"):
        check_fit(world, [repainted(episodes[1], np.zeros((210, 160, 3), np.uint8))], "theirs")
    with pytest.raises(ValueError, match="shows another game than the world tiny: .* expected at least 70%"):
        check_fit(world, [repainted(episodes[1], maze[::-1].copy())], "theirs")
    with pytest.raises(ValueError, match="dreams 15 frames a second; the dataset theirs has 30"):
        check_fit(world, [repainted(episodes[1], maze, frames_per_second=30)], "theirs")


def test_frames_of_another_size_than_the_dataset_says_are_refused(tiny_world: Path, bare: Path, tmp_path: Path) -> None:
    format = replace(OWN_FORMAT, action_lag=1, stale_first_row=True)  # upright, it says: the frames lie on their side
    rows = pq.read_table(bare).replace_schema_metadata({FORMAT_KEY: format.to_json()})
    pq.write_table(rows, tmp_path / "wrong.parquet")
    with pytest.raises(ValueError, match="the upright frame is 552 x 456; the dataset's format says 456 x 552"):
        evaluate(evaluation(tiny_world, tmp_path / "wrong.parquet", tmp_path / "report"))


def test_a_world_of_another_action_order_is_refused(tiny_world: Path, bare: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_world, tmp_path / "world")
    file = tmp_path / "world" / "world.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"action_order": config["action_order"][::-1]}))
    with pytest.raises(ValueError, match=r"action order \['NO_ACTION', .* expected \['LEFT', "):
        evaluate(evaluation(tmp_path / "world", bare, tmp_path / "report"))


def test_starts_have_a_history_behind_and_as_many_states_ahead_as_they_go(episodes: list[Episode]) -> None:
    starts = choose_starts(episodes, 9)
    assert len(starts) == 9
    for episode, k, ahead in starts:
        assert 31 <= k < len(episode) - ahead
    assert sorted(ahead for _, _, ahead in starts)[-3:] == [64, 64, 64]  # one in three; no episode goes on to 256
    everything = choose_starts(episodes, 10_000)
    assert len(everything) == len({(episode.number, k) for episode, k, _ in everything})
    assert {ahead for _, _, ahead in everything} <= set(REACHES)


@pytest.mark.parametrize(("total", "count"), [(10, 3), (3, 10), (1, 1), (0, 4), (7, 0)])
def test_spread_is_even_and_repeats_nothing(total: int, count: int) -> None:
    chosen = spread(total, count)
    assert len(chosen) == min(total, count) == len(set(chosen))
    assert all(0 <= i < total for i in chosen)
    gaps = np.diff(chosen)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_a_walk_gives_every_step_its_real_history(tiny_world: Path, episodes: list[Episode]) -> None:
    world, episode = WorldModel.from_pretrained(tiny_world, device="cpu"), episodes[1]
    short = replace(episode, images=episode.images[:41], actions=episode.actions[:41])
    seen = list(walk(world, short, 4))
    assert [list(steps.states) for steps in seen] == [[32, 33, 34, 35], [36, 37, 38, 39], [40]]
    states = torch.cat([seen[0].history[0], *(steps.real for steps in seen)])  # 0 to 40
    for steps in seen:
        for i, state in enumerate(steps.states):
            assert torch.equal(steps.history[i], states[state - 32 : state])
            assert steps.actions[i].tolist() == episode.actions[state - 32 : state].tolist()
    whole = Clip.of(world, short, 31, 9).latents
    assert torch.allclose(whole, states, atol=1e-5)


def test_a_dream_does_not_depend_on_which_others_run_with_it(tiny_world: Path, episodes: list[Episode]) -> None:
    world = WorldModel.from_pretrained(tiny_world, device="cpu")
    clips = [Clip.of(world, episodes[1], start, ahead) for start, ahead in ((31, 2), (40, 4), (45, 3))]

    def dreams(batch_size: int) -> dict[tuple[int, int], Any]:
        seen = dream_on(world, clips, lambda clip, step: step == clip.ahead, batch_size, None, seed=0)
        return {(clips.index(dreamed.clip), dreamed.step): dreamed for dreamed in seen}

    together, alone = dreams(3), dreams(1)
    assert together.keys() == alone.keys() == {(i, step) for i, n in enumerate((2, 4, 3)) for step in range(1, n + 1)}
    for key, dreamed in together.items():
        assert torch.allclose(dreamed.latent, alone[key].latent, atol=1e-4)
        assert (dreamed.frame is not None) == (key in {(0, 2), (1, 4), (2, 3)})


def test_a_turn_is_a_change_of_motion_into_the_direction_asked_for(episodes: list[Episode]) -> None:
    turns = [(episode, state) for episode in episodes for state in find_turns(episode)]
    assert turns
    for episode, state in turns:
        places = episode.labels["player_xy"]
        action = Action(int(episode.actions[state - 1]))
        assert state >= HISTORY
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


def test_a_pellet_more_or_less_makes_another_frame(episodes: list[Episode]) -> None:
    frame = episodes[1].frames(0, 1)[0]
    real = read(frame)
    x, y = PELLET_XY[np.flatnonzero(real.pellets & ~POWER)[0]].round().astype(int)
    eaten = frame.copy()
    eaten[y - 4 : y + 5, x - 4 : x + 5] = 0
    assert same_pellets(real, real)
    assert not same_pellets(read(eaten), real)


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


def test_two_steps_late_is_found_and_three_is_not() -> None:
    def run(real: set[int], said: set[int]) -> list[tuple[bool, bool]]:
        return [(step in real, step in said) for step in range(20)]

    found = detection_within([run({5, 15}, {7, 11}), run(set(), {5})], steps=2)
    third = pytest.approx(1 / 3)
    assert found == {"recall": 0.5, "precision": third, "real": 2, "said": 3, "n": 40, "precision_once": third}
    assert detection_within([run({5}, {8})], steps=2)["recall"] == 0
    twice = detection_within([run({5, 12}, {4, 5, 12})], steps=2)
    assert (twice["recall"], twice["precision"], twice["precision_once"]) == (1, 1, pytest.approx(2 / 3))


def test_a_bar_holds_by_its_figure_alone() -> None:
    bar = Bar("control", ("control", "all", "dream"), ("control", "all", "n"), percent, least=0.98)
    for value, holds in ((0.98, True), (0.9799, False), (None, None)):
        assert bar.judge({"control": {"all": {"dream": value, "n": 7}}})["holds"] is holds
    below = Bar("apart", ("spread",), ("n",), percent, below=0.01)
    assert [below.judge({"spread": value, "n": 1})["holds"] for value in (0.009, 0.01)] == [True, False]
    assert all(line["holds"] is None and line["measured"] == "not measured" for line in bars({}))
    assert len(bars({})) == len(BARS)


def test_a_contact_sheet_needs_a_real_frame_for_every_dreamed_one() -> None:
    frames = np.zeros((2, 3, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="there are 2 names and 4 steps"):
        contact_sheet({"real": frames, "dream": frames}, (1, 2, 3, 4), ("a", "b"))
