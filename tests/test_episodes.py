"""Rows become episodes: orientation, alignment and boundaries, proved on real rows from what their pixels show."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from neural_pacman.actions import ACTION_ORDER, Action
from neural_pacman.episodes import (
    FORMAT_KEY,
    HISTORY,
    OWN_FORMAT,
    PUBLIC_FORMAT,
    DatasetFormat,
    Episode,
    Recording,
    encode_image,
    pad_history,
    read_episodes,
    write_episodes,
)
from neural_pacman.frames import decode_image
from tests.test_training import stages
from training import autoencoder, denoiser, outcome
from training.cache import build_cache
from training.checkpoint import EXPORT, STAGE

HUD_TOP = 528
"""The score and the spare lives stand below this line, upright px."""

AS_STORED: dict[str, Any] = {"transposed": False, "frame_height": 456, "frame_width": 552}
IN_PLACE: dict[str, Any] = {"action_lag": 0, "stale_first_row": False}


def find_pacman(screen: np.ndarray) -> np.ndarray | None:
    """The centre (x, y) of Pac-Man's yellow in uint8 `[H, W, 3]`, spare lives left out; None where too little shows."""
    red, green, blue = np.moveaxis(screen[:HUD_TOP], -1, 0)
    y, x = np.nonzero((red == 255) & (green == 255) & (blue == 0))
    return np.array([x.mean(), y.mean()]) if len(x) > 150 else None


def moves(episode: Episode) -> list[Action | None]:
    """Which way Pac-Man is seen to move from each state to the next; None when he stands, jumps or hides."""
    places = [find_pacman(episode.raw(k)) for k in range(len(episode))]
    seen: list[Action | None] = []
    for here, there in itertools.pairwise(places):
        seen.append(None)
        if here is None or there is None:
            continue
        x, y = there - here
        if 6 < np.hypot(x, y) < 24:
            horizontal, vertical = (Action.LEFT, Action.RIGHT)[int(x > 0)], (Action.UP, Action.DOWN)[int(y > 0)]
            seen[-1] = horizontal if abs(x) > abs(y) else vertical
    return seen


def obedience(dataset: Path, format: DatasetFormat) -> tuple[float, float]:
    """How well actions explain the motion seen, as two shares of steps where Pac-Man moves.

    Where the player chose a new direction, he moves that way (unless a wall is there). Where he turns, he was asked to.
    """
    chosen, turned = [], []
    for episode in read_episodes(dataset, format):
        seen = moves(episode)
        for k in range(1, len(seen)):
            if seen[k] is None:
                continue
            agrees = seen[k] == episode.actions[k]
            if episode.actions[k] != episode.actions[k - 1]:
                chosen.append(agrees)
            if seen[k - 1] not in (None, seen[k]):
                turned.append(agrees)
    assert len(chosen) >= 30 and len(turned) >= 15
    return float(np.mean(chosen)), float(np.mean(turned))


def stored_images(dataset: Path) -> list[np.ndarray]:
    """Every row's picture just as it is stored, read without our own reader."""
    rows = pq.read_table(dataset / "rows.parquet")["frame_image"].to_pylist()
    return [np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in rows]


def rewrite(source: Path, target: Path, rows: slice = slice(None), **columns: list[int] | None) -> Path:
    """The sample again as one file: some rows of it, some columns replaced (None drops one)."""
    table = pq.read_table(source / "rows.parquet")
    start, stop, _ = rows.indices(len(table))
    table = table.slice(start, stop - start)
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.remove_column(place)
        if values is not None:
            table = table.add_column(place, name, pa.array(values))
    pq.write_table(table, target)
    return target


@pytest.fixture(scope="module")
def episodes(sample: Path) -> list[Episode]:
    return list(read_episodes(sample))


# What the pixels say


def test_actions_explain_the_motion_seen_at_the_stated_alignment_only(sample: Path) -> None:
    chosen, turned = obedience(sample, PUBLIC_FORMAT)
    assert chosen > 0.55 and turned == 1.0, "every turn was asked for, and most wishes not in front of a wall come true"
    for other in (IN_PLACE, AS_STORED, {**IN_PLACE, **AS_STORED}):
        otherwise = obedience(sample, DatasetFormat(**other))
        assert otherwise[0] < 0.4 and otherwise[1] < 0.9, (other, otherwise)


def test_frames_are_upright(episodes: list[Episode]) -> None:
    screen = episodes[1].raw(0)
    assert screen.shape == (552, 456, 3)
    walls = (screen[:HUD_TOP] == (0, 0, 255)).all(axis=-1)
    assert (walls & walls[:, ::-1]).sum() > 0.9 * walls.sum(), "the maze is symmetric left to right"
    assert (walls & walls[::-1]).sum() < 0.6 * walls.sum(), "and not top to bottom"
    white = screen[HUD_TOP:].min(axis=-1) > 200
    assert white[:, :228].any() and not white[:, 228:].any(), "the score is written at the bottom left"


def test_the_stale_first_row_is_the_last_state_of_the_episode_before(sample: Path, episodes: list[Episode]) -> None:
    stored = stored_images(sample)
    boundary = len(episodes[0])
    last, first = episodes[0].raw(boundary - 1), episodes[1].raw(0)
    assert np.array_equal(last, stored[boundary].swapaxes(0, 1))
    assert np.array_equal(first, stored[boundary + 1].swapaxes(0, 1))

    def pellets(screen: np.ndarray) -> int:
        return int((screen[:HUD_TOP] > 240).all(axis=-1).sum())

    before = episodes[0].raw(boundary - 2)
    here, there, start = find_pacman(before), find_pacman(last), find_pacman(first)
    assert here is not None and there is not None and start is not None
    assert np.abs(here - there).max() < 24, "the stale row goes on where the old game was"
    assert np.abs(there - start).max() > 48, "the new game starts elsewhere"
    assert abs(pellets(before) - pellets(last)) < 0.15 * pellets(before)
    assert pellets(first) > 1.2 * pellets(last), "the new game has all of its pellets"


def test_labels_describe_the_state_in_the_picture(episodes: list[Episode]) -> None:
    for episode in episodes:
        off = [
            np.abs(found - (episode.labels["player_xy"][k] + 11.5)).max()
            for k in range(len(episode))
            if (found := find_pacman(episode.raw(k))) is not None
        ]
        assert len(off) > 100 and max(off) < 8


def test_rewards_are_what_the_next_state_scores(episodes: list[Episode]) -> None:
    for episode in episodes:
        assert episode.rewards is not None and episode.rewards.any()
        assert np.array_equal(episode.rewards[:-1], np.diff(episode.labels["score"]))


# What an episode holds


def test_the_rows_fall_into_two_episodes(episodes: list[Episode]) -> None:
    assert [episode.number for episode in episodes] == [2007, 2008]
    assert [len(episode) for episode in episodes] == [115, 114], "the dataset's last state is nowhere to be seen"
    for episode in episodes:
        assert episode.actions.shape == (len(episode),) and episode.actions.dtype == np.int64
        assert episode.labels["ghost_xy"].shape == (len(episode), 4, 2)
    assert episodes[0].dones is not None and episodes[0].dones.tolist() == [False] * 114 + [True]
    assert episodes[1].dones is not None and not episodes[1].dones.any()


def test_next_frame_image_gives_the_last_state_of_all(sample: Path, tmp_path: Path) -> None:
    table = pq.read_table(sample / "rows.parquet")
    images = table["frame_image"].combine_chunks()
    following = pa.concat_arrays([images[1:], images[:1]])  # a picture that no other last state shows
    pq.write_table(table.append_column("next_frame_image", following), tmp_path / "rows.parquet")
    first, last = read_episodes(tmp_path)
    assert (len(first), len(last)) == (115, 115)
    assert last.images[-1] == images[0]["bytes"].as_py()


def test_a_window_is_32_states_their_actions_and_the_next_state(episodes: list[Episode]) -> None:
    episode, k = episodes[0], 60
    window = episode.window(k)
    assert window.history.shape == (HISTORY, 512, 512, 3) and window.history.dtype == np.uint8
    assert np.array_equal(window.history[-1], episode.frames(k, k + 1)[0])
    assert np.array_equal(window.history[0], episode.frames(k - 31, k - 30)[0])
    assert np.array_equal(window.actions, episode.actions[k - 31 : k + 1])
    assert np.array_equal(window.next, episode.frames(k + 1, k + 2)[0])


def test_an_early_window_repeats_the_first_state_with_no_action(episodes: list[Episode]) -> None:
    episode, k = episodes[1], 3
    window = episode.window(k)
    first = episode.frames(0, 1)[0]
    assert all(np.array_equal(frame, first) for frame in window.history[: HISTORY - k])
    assert window.actions.tolist() == [Action.NO_ACTION] * (HISTORY - 1 - k) + episode.actions[: k + 1].tolist()
    assert np.array_equal(window.history[-1], episode.frames(k, k + 1)[0])


def test_windows_never_cross_episodes(episodes: list[Episode]) -> None:
    assert [episode.windows for episode in episodes] == [114, 113]
    last = episodes[0].window(episodes[0].windows - 1)
    assert np.array_equal(last.next, episodes[0].frames(114, 115)[0])
    for k in (-1, episodes[0].windows):
        with pytest.raises(IndexError, match="windows 0 to 113"):
            episodes[0].window(k)


def test_an_episode_shorter_than_a_window_gives_padded_windows(sample: Path, tmp_path: Path) -> None:
    (short,) = read_episodes(rewrite(sample, tmp_path / "short.parquet", slice(115, 120)))
    assert len(short) == 4 and short.windows == 3
    window = short.window(2)
    assert window.actions[:-3].tolist() == [Action.NO_ACTION] * 29 and len(window.history) == HISTORY


def test_a_single_row_has_no_state_and_no_window(sample: Path, tmp_path: Path) -> None:
    (alone,) = read_episodes(rewrite(sample, tmp_path / "alone.parquet", slice(0, 1)))
    assert len(alone) == 0 and alone.windows == 0
    with pytest.raises(IndexError):
        alone.window(0)


def test_one_file_or_many_give_the_same_episodes(sample: Path, tmp_path: Path, episodes: list[Episode]) -> None:
    for k, rows in enumerate((slice(0, 40), slice(40, 116), slice(116, None))):
        rewrite(sample, tmp_path / f"train-{k:05d}-of-00003.parquet", rows)
    for dataset in (sample / "rows.parquet", tmp_path):
        again = list(read_episodes(dataset))
        assert [(e.number, e.images) for e in again] == [(e.number, e.images) for e in episodes]
        assert all(np.array_equal(a.actions, b.actions) for a, b in zip(again, episodes, strict=True))


def test_only_three_columns_are_needed(sample: Path, tmp_path: Path, episodes: list[Episode]) -> None:
    table = pq.read_table(sample / "rows.parquet", columns=["episode", "frame_image", "action"])
    pq.write_table(table, tmp_path / "bare.parquet")
    bare = list(read_episodes(tmp_path))
    assert [e.images for e in bare] == [e.images for e in episodes]
    assert all(e.labels == {} and e.rewards is None and e.dones is None for e in bare)


# The format


def test_a_dataset_says_its_own_format(sample: Path, tmp_path: Path) -> None:
    table = pq.read_table(sample / "rows.parquet")
    order = ACTION_ORDER[::-1]
    format = DatasetFormat(**AS_STORED, **IN_PLACE, action_order=order)
    pq.write_table(
        table.replace_schema_metadata({**(table.schema.metadata or {}), FORMAT_KEY: format.to_json()}),
        tmp_path / "own.parquet",
    )
    first = next(iter(read_episodes(tmp_path)))
    assert first.format == format and len(first) == 115
    given_actions = table["action"].to_numpy()[:115]
    assert [order[a] for a in given_actions] == [Action(a).name for a in first.actions]
    assert np.array_equal(first.raw(0), stored_images(sample)[0])


@given(
    order=st.permutations(ACTION_ORDER), in_place=st.booleans(), transposed=st.booleans(), height=st.integers(1, 2000)
)
def test_a_format_survives_its_metadata(order: list[str], in_place: bool, transposed: bool, height: int) -> None:
    format = DatasetFormat(
        transposed=transposed,
        action_order=tuple(order),
        frame_height=height,
        action_lag=int(not in_place),
        stale_first_row=not in_place,
    )
    assert DatasetFormat.from_json(format.to_json()) == format


def test_a_format_that_nothing_has_is_refused() -> None:
    with pytest.raises(ValueError, match="action_lag=0 with stale_first_row=True"):
        DatasetFormat(action_lag=0)
    with pytest.raises(ValueError, match="action_order"):
        DatasetFormat(action_order=("UP", "DOWN", "LEFT", "RIGHT", "FIRE"))
    assert OWN_FORMAT.action_lag == 0 and PUBLIC_FORMAT.action_lag == 1


@given(count=st.integers(1, HISTORY))
def test_padding_keeps_what_it_was_given_at_the_end(count: int) -> None:
    frames, actions = np.arange(count)[:, None] + 7, np.arange(count - 1) % 5
    history, led = pad_history(frames, actions)
    assert history.shape == (HISTORY, 1) and led.shape == (HISTORY - 1,)
    assert np.array_equal(history[HISTORY - count :], frames) and (history[: HISTORY - count] == 7).all()
    assert led.tolist() == [Action.NO_ACTION] * (HISTORY - count) + actions.tolist()


@pytest.mark.parametrize(("frames", "actions"), [(0, 0), (33, 32), (4, 4)])
def test_a_history_of_another_length_is_refused(frames: int, actions: int) -> None:
    with pytest.raises(ValueError, match=f"{frames} frames and {actions} actions; expected 1 to 32"):
        pad_history(np.zeros((frames, 2)), np.zeros(actions, int))


# Bad input


@pytest.mark.parametrize("column", ["episode", "frame_image", "action"])
def test_a_missing_column_is_named(sample: Path, tmp_path: Path, column: str) -> None:
    with pytest.raises(ValueError, match=rf"missing \['{column}'\]"):
        list(read_episodes(rewrite(sample, tmp_path / "rows.parquet", slice(None), **{column: None})))


@pytest.mark.parametrize("action", [-1, 5])
def test_an_action_outside_the_five_is_named_with_its_episode(sample: Path, tmp_path: Path, action: int) -> None:
    actions = [0] * 7 + [action] + [0] * 222
    with pytest.raises(ValueError, match=f"Episode 2007: Action {action} is outside 0 to 4"):
        list(read_episodes(rewrite(sample, tmp_path / "rows.parquet", action=actions)))


def test_frames_of_another_size_are_refused(sample: Path) -> None:
    episode = next(iter(read_episodes(sample, DatasetFormat(frame_height=210, frame_width=160))))
    with pytest.raises(ValueError, match=r"state 0: the upright frame is 456 x 552; .* says 160 x 210"):
        episode.frames(0, 1)
    sideways = next(iter(read_episodes(sample, DatasetFormat(transposed=False))))
    with pytest.raises(ValueError, match=r"552 x 456; .* says 456 x 552.*transposed"):
        sideways.window(0)


def test_an_empty_dataset_is_refused(sample: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no parquet file"):
        list(read_episodes(tmp_path))
    with pytest.raises(ValueError, match="no rows"):
        list(read_episodes(rewrite(sample, tmp_path / "empty.parquet", slice(0, 0))))


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a folder of parquet files"):
        list(read_episodes(tmp_path / "nowhere"))


def test_a_hub_out_of_reach_names_the_local_alternative() -> None:
    with pytest.raises(FileNotFoundError, match="give a local folder of parquet files"):
        list(read_episodes("somebody/some-pacman-dataset"))


# Writing


def recording(states: int, seed: int, end: bool = True, size: int = 64) -> Recording:
    """A game of noise, whose frames are made as they are asked for."""
    random = np.random.default_rng(seed)
    pictures = random.integers(0, 256, (states, size, size, 3), dtype=np.uint8)
    dones = np.zeros(states, bool)
    dones[-1:] = end
    rewards = random.choice([0.0, 10.0, 200.0], states)
    return Recording(pictures, random.integers(0, 5, states), rewards, dones)


def lazily(game: Recording) -> Recording:
    return replace(game, frames=(frame.copy() for frame in game.frames))


def test_written_games_are_read_back_as_they_were(tmp_path: Path) -> None:
    games = [recording(100, 0), recording(1, 1), recording(7, 2, end=False, size=64)]
    file = tmp_path / "played.parquet"
    file.write_bytes(b"an older one")
    write_episodes(file, (lazily(game) for game in games))
    assert list(tmp_path.iterdir()) == [file]
    again = list(read_episodes(tmp_path))
    assert [episode.number for episode in again] == [0, 1, 2]
    for game, episode in zip(games, again, strict=True):
        assert episode.format == replace(OWN_FORMAT, frame_height=64, frame_width=64)
        assert episode.rewards is not None and episode.dones is not None
        np.testing.assert_array_equal(np.stack([episode.raw(k) for k in range(len(episode))]), game.frames)
        for name in ("actions", "rewards", "dones"):
            np.testing.assert_array_equal(getattr(episode, name), getattr(game, name))
    assert again[0].images[0][8:16] == b"WEBPVP8L", "lossless"


def test_a_written_dataset_has_the_public_columns_in_groups_of_rows(tmp_path: Path) -> None:
    write_episodes(tmp_path / "played.parquet", [recording(100, 0), recording(60, 1)])
    file = pq.ParquetFile(tmp_path / "played.parquet")
    types = {field.name: str(field.type) for field in file.schema_arrow}
    image = "struct<bytes: binary, path: string>"
    expected = {"episode": "int64", "frame_image": image, "action": "int64", "reward": "double", "done": "bool"}
    assert types == expected
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [64, 64, 32]


def test_whole_frames_are_windows_without_being_prepared_again(tmp_path: Path, episodes: list[Episode]) -> None:
    frames = episodes[0].frames(0, 4)
    write_episodes(tmp_path / "played.parquet", [Recording(frames, np.arange(4), np.zeros(4), np.zeros(4, bool))])
    (episode,) = read_episodes(tmp_path)
    np.testing.assert_array_equal(episode.frames(0, 4), frames)


def test_a_recording_without_states_leaves_no_row(tmp_path: Path) -> None:
    nothing = Recording([], np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool))
    write_episodes(tmp_path / "played.parquet", [nothing, recording(3, 0)])
    assert [(e.number, len(e)) for e in read_episodes(tmp_path)] == [(1, 3)]
    for games in ([], [nothing]):
        with pytest.raises(ValueError, match="Given 0 rows for the dataset .*other.parquet"):
            write_episodes(tmp_path / "other.parquet", games)
    assert [file.name for file in tmp_path.iterdir()] == ["played.parquet"]


def broken(**changes: Any) -> list[Recording]:
    """Enough that rows were written already, and then a game with something wrong."""
    return [recording(70, 0), replace(recording(3, 1), **changes)]


@pytest.mark.parametrize(
    ("games", "said"),
    [
        (broken(actions=np.array([0, 5, 1])), "Action 5 is outside 0 to 4"),
        (broken(actions=np.array([0.0, 1.0, 1.0])), "expected integers"),
        (broken(rewards=np.zeros(2)), "Recording 1 has 3 actions, 2 rewards and 3 dones"),
        (broken(frames=np.zeros((2, 64, 64, 3), np.uint8)), "Recording 1 has 2 frames for 3 actions"),
        (broken(frames=np.zeros((4, 64, 64, 3), np.uint8)), "Recording 1 has more than 3 frames for 3 actions"),
        (broken(frames=np.zeros((3, 32, 64, 3), np.uint8)), r"Episode 1 has a frame of uint8 \[32, 64, 3\]"),
        (broken(frames=np.zeros((3, 64, 64, 3), np.float32)), "Episode 1 has a frame of float32"),
    ],
)
def test_what_cannot_be_a_dataset_leaves_the_older_file(tmp_path: Path, games: list[Recording], said: str) -> None:
    file = tmp_path / "played.parquet"
    file.write_bytes(b"an older one")
    with pytest.raises(ValueError, match=said):
        write_episodes(file, games)
    assert file.read_bytes() == b"an older one" and list(tmp_path.iterdir()) == [file]


def test_a_dataset_that_is_interrupted_is_not_there(tmp_path: Path) -> None:
    def games() -> Iterator[Recording]:
        yield recording(70, 0)
        assert [file.name[0] for file in tmp_path.iterdir()] == ["."], "it grows hidden"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_episodes(tmp_path / "played.parquet", games())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("played.csv", "expected a name that ends in .parquet"),
        ("missing/played.parquet", "Cannot write a dataset into"),
    ],
)
def test_a_dataset_that_cannot_be_written_is_refused_before_a_frame_is_made(
    tmp_path: Path, name: str, said: str
) -> None:
    def games() -> Iterator[Recording]:
        raise AssertionError("asked for a frame")
        yield

    with pytest.raises((ValueError, OSError), match=said):
        write_episodes(tmp_path / name, games())


def test_a_written_dataset_is_trained_on(tmp_path: Path, episodes: list[Episode]) -> None:
    games = []
    for episode, states in zip(episodes, (20, 36), strict=True):
        assert episode.rewards is not None
        dones = np.arange(1, states + 1) == 20
        games.append(
            Recording(episode.frames(0, states), episode.actions[:states], episode.rewards[:states] + 10, dones)
        )
    write_episodes(tmp_path / "played.parquet", games)
    settings = stages(tmp_path / "played.parquet", tmp_path)
    for stage in (settings.autoencoder, settings.denoiser, settings.outcome):
        stage.loop.steps = 2
    autoencoder.main(settings.autoencoder)
    cache = build_cache(settings.cache)
    np.testing.assert_array_equal(cache.episodes, [0] * 20 + [1] * 36)
    np.testing.assert_array_equal(cache.actions, np.concatenate([game.actions for game in games]))
    np.testing.assert_array_equal(cache.rewards, np.concatenate([game.rewards for game in games]))
    np.testing.assert_array_equal(cache.dones, np.concatenate([game.dones for game in games]))
    denoiser.main(settings.denoiser)
    outcome.main(settings.outcome)
    for part in ("autoencoder", "denoiser", "outcome"):
        assert json.loads((tmp_path / part / EXPORT / STAGE).read_text())["step"] == 2


@pytest.mark.parametrize("fast", [False, True])
def test_encoded_images_lose_nothing(episodes: list[Episode], fast: bool) -> None:
    screen = episodes[0].raw(50)
    data = encode_image(screen, fast=fast)
    np.testing.assert_array_equal(decode_image(data), screen)
    assert len(data) < 20_000
