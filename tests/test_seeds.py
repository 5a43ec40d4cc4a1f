"""Where dreams start: what is written is what is read, encoded once, from the states it says."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from neural_pacman.actions import Action
from neural_pacman.engine import shared_world
from neural_pacman.episodes import HISTORY, Episode, Recording, read_episodes, write_episodes
from neural_pacman.frames import to_tensor
from neural_pacman.seeds import KINDS, STATES_PER_DATASET, Seeds, Start, encode_history, write_seeds
from neural_pacman.world import WorldModel


@pytest.fixture(scope="module")
def world(tiny_world: Path) -> WorldModel:
    return shared_world(tiny_world, device="cpu")


@pytest.fixture(scope="module")
def episodes(sample: Path) -> list[Episode]:
    return list(read_episodes(sample))


def test_written_seeds_are_read_back_exactly(tmp_path: Path, episodes: list[Episode]) -> None:
    long = episodes[0]
    starts = [Start.at(long, 40, "maze"), Start.at(long, 3, "start")]
    write_seeds(tmp_path / "seeds.parquet", starts)
    maze, start = read_episodes(tmp_path / "seeds.parquet")
    assert (len(maze), len(start)) == (HISTORY, 4)
    for k in (0, 17, 31):
        np.testing.assert_array_equal(maze.raw(k), long.raw(9 + k))
    np.testing.assert_array_equal(maze.actions, [*long.actions[9:40], Action.NO_ACTION])
    np.testing.assert_array_equal(start.actions, [*long.actions[:3], Action.NO_ACTION])
    assert {*maze.labels["kind"]} == {"maze"} and {*maze.labels["source_row"]} == {40}
    assert {*maze.labels["source_episode"]} == {long.number}
    assert [file.name for file in tmp_path.iterdir()] == ["seeds.parquet"], "nothing unfinished is left behind"


def test_no_seeds_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Given 0 rows for the dataset .*seeds.parquet"):
        write_seeds(tmp_path / "seeds.parquet", [])
    assert not list(tmp_path.iterdir())


def test_seeds_of_screens_of_two_sizes_are_not_written(tmp_path: Path, episodes: list[Episode]) -> None:
    game = Recording([np.zeros((64, 64, 3), np.uint8)], np.array([0]), np.array([0.0]), np.array([False]))
    write_episodes(tmp_path / "small.parquet", [game])
    (small,) = read_episodes(tmp_path / "small.parquet")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(
        ValueError, match=r"Episode 1 has a frame of uint8 \[64, 64, 3\]; expected uint8 \[552, 456, 3\]"
    ):
        write_seeds(tmp_path / "small.parquet", [Start.at(episodes[0], 3), Start.at(small, 0)])
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_start_must_be_a_state_of_its_episode(episodes: list[Episode]) -> None:
    with pytest.raises(IndexError, match=f"states 0 to {len(episodes[0]) - 1}; given {len(episodes[0])}"):
        Start.at(episodes[0], len(episodes[0]))


def test_a_worlds_own_seeds_are_encoded_once_and_shared(world: WorldModel) -> None:
    seeds = Seeds.of(world)
    assert [seeds[i].kind for i in range(len(seeds))] == list(KINDS)
    encoded = []
    handle = world.autoencoder.dc.encoder.register_forward_hook(lambda *_: encoded.append(1))
    again = Seeds.of(world)
    assert again is seeds and again[2] is seeds[2]
    handle.remove()
    assert not encoded
    seed = seeds[1]
    assert seed.latents.shape == (HISTORY, 32, 16, 16) and seed.latents.dtype == torch.float32
    assert seed.actions.shape == (HISTORY - 1,) and seed.actions.dtype == torch.int64
    with pytest.raises(IndexError, match="seeds 0 to 3; given 4"):
        seeds[4]


def test_seeds_vanish_with_their_world(tiny_world: Path) -> None:
    """No cache may hold worlds for ever: somebody evaluates a hundred checkpoints in one process."""
    used = [weakref.ref(Seeds.of(WorldModel.from_pretrained(tiny_world, device="cpu"))) for _ in range(4)]
    gc.collect()
    assert [seeds() is None for seeds in used] == [True, True, False, False], "the newest two stay warm"


def test_a_dataset_gives_evenly_spaced_real_histories(world: WorldModel, sample: Path, episodes: list[Episode]) -> None:
    seeds = Seeds.of(world, str(sample))
    assert Seeds.of(world, sample / "..") is not seeds and Seeds.of(world, sample) is seeds
    full = [(episode.number, state) for episode in episodes for state in range(HISTORY - 1, len(episode))]
    assert STATES_PER_DATASET <= len(seeds) < 2 * STATES_PER_DATASET
    seed = seeds[len(seeds) - 1]
    spacing = -(-len(full) // len(seeds))
    assert spacing == 2 and (seed.episode, seed.row) == full[spacing * (len(seeds) - 1)]
    episode = next(e for e in episodes if e.number == seed.episode)
    frames = episode.frames(seed.row - HISTORY + 1, seed.row + 1)
    torch.testing.assert_close(seed.latents, world.encode(to_tensor(frames)[None])[0])
    np.testing.assert_array_equal(seed.actions, episode.actions[seed.row - HISTORY + 1 : seed.row])
    assert torch.equal(seed.known, world.follow(to_tensor(frames[:-1]))[0])


def test_a_short_history_repeats_its_first_frame_standing_still(world: WorldModel, episodes: list[Episode]) -> None:
    frames = episodes[1].frames(0, 3)
    latents, actions, _ = encode_history(world, frames, np.array([2, 1]))
    assert (latents[:30] == latents[0]).all()
    torch.testing.assert_close(latents[-3:], world.encode(to_tensor(frames)[None])[0])
    assert actions.tolist() == [Action.NO_ACTION] * 29 + [2, 1]


def test_a_dataset_of_short_episodes_is_refused(world: WorldModel, sample: Path, tmp_path: Path) -> None:
    rows = pq.read_table(sample / "rows.parquet").slice(0, 20)
    pq.write_table(rows, tmp_path / "short.parquet")
    with pytest.raises(ValueError, match=r"too few states .* longest episode has 19; expected at least one of 32"):
        Seeds.of(world, tmp_path / "short.parquet")


def test_a_dataset_that_is_not_there_is_refused(world: WorldModel, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No dataset at"):
        Seeds.of(world, str(tmp_path / "nothing"))


def test_a_world_without_seeds_says_what_to_do(tiny_world: Path) -> None:
    world = WorldModel.from_pretrained(tiny_world, device="cpu")
    world.seeds_file = None
    with pytest.raises(FileNotFoundError, match=r"carries no seeds; give a dataset"):
        Seeds.of(world)


def test_seeds_of_another_schema_are_refused(world: WorldModel, tmp_path: Path) -> None:
    pq.write_table(pa.table({"episode": [0], "action": [0]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="missing .*frame_image"):
        Seeds.of(world, tmp_path / "other.parquet")
