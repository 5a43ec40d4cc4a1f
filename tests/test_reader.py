"""The reader on real labelled frames, and on frames spoilt in known ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from neural_pacman.episodes import FORMAT_KEY, DatasetFormat, Episode, read_episodes
from training.maze import PELLET_XY, POWER, WALL, in_wall, off_path
from training.reader import Reading, read
from training.reader_check import WITHIN, Accuracy, Check, check
from training.reader_truth import Truth, labelled_frames, pellet_history, truth
from training.sprites import Actor, Sprite, to_frame_xy

HUD = 489
"""Frame row below which score and lives stand."""


@pytest.fixture(scope="module")
def frames(sample: Path) -> list[tuple[np.ndarray, Truth, Reading]]:
    """Every eighth of the sample's frames, what it really shows, and what the reader says."""
    cases = []
    for episode in read_episodes(sample):
        pellets = pellet_history(episode)
        for k in range(0, len(episode), 8):
            frame = episode.frames(k, k + 1)[0]
            cases.append((frame, truth(episode, k, pellets[k]), read(frame)))
    return cases


@pytest.fixture(scope="module")
def begins(sample: Path) -> Episode:
    """An episode from its start."""
    return list(read_episodes(sample))[1]


def blurred(frame: np.ndarray) -> np.ndarray:
    """A frame as a mediocre autoencoder gives it back: a little blurred, with small errors of colour."""
    padded = np.pad(frame.astype(np.float64), ((1, 1), (1, 1), (0, 0)), mode="edge")
    near = sum(padded[1 + dy : 513 + dy, 1 + dx : 513 + dx] for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)))
    noise = np.random.default_rng(0).normal(0, 6, frame.shape)
    return np.clip(0.7 * frame + 0.3 * np.asarray(near) / 4 + noise, 0, 255).astype(np.uint8)


def test_the_maze_has_181_places_for_pellets_four_of_them_power_pellets() -> None:
    assert PELLET_XY.shape == (181, 2)
    assert POWER.sum() == 4
    assert WALL.shape == (22, 19)
    assert (WALL[:, ::-1] == WALL).all()


def test_pellets_are_read_exactly_where_no_actor_stands(sample: Path) -> None:
    # Only the second episode is here from its start, so that its history says which pellets stand.
    episode = list(read_episodes(sample))[1]
    history = pellet_history(episode)
    eaten = 0
    for k in range(0, len(episode), 8):
        known = truth(episode, k, history[k])
        reading = read(episode.frames(k, k + 1)[0])
        assert not (reading.pellets & reading.hidden).any()
        assert not (reading.hidden & ~known.near).any()
        assert (reading.pellets == known.pellets)[~reading.hidden].all()
        assert reading.hidden.sum() <= 15
        eaten = max(eaten, int((~known.pellets).sum()))
    assert eaten > 20


def test_score_and_lives_are_read_exactly(frames: list[tuple[np.ndarray, Truth, Reading]]) -> None:
    assert [(r.score, r.lives) for _, _, r in frames] == [(t.score, t.lives) for _, t, _ in frames]
    assert len({t.score for _, t, _ in frames}) > 10
    assert len({t.lives for _, t, _ in frames}) > 1


def test_every_actor_in_sight_is_found_with_its_state(frames: list[tuple[np.ndarray, Truth, Reading]]) -> None:
    accuracy = Accuracy()
    for frame, known, _ in frames:
        accuracy.add(frame, known)
    name = f"sprites within {WITHIN:g} px, with their state"
    assert accuracy.cases[name] > 100
    assert accuracy.right[name] >= 0.99 * accuracy.cases[name]
    assert accuracy.right["sprites found where nobody is"] == 0


def test_nobody_is_in_a_wall_until_moved_there(frames: list[tuple[np.ndarray, Truth, Reading]]) -> None:
    sprites = [sprite for _, _, reading in frames for sprite in reading.sprites]
    assert len(sprites) > 100
    assert not any(in_wall(sprite) for sprite in sprites)
    x, y = to_frame_xy(np.array([24, 24 + 12]))  # half a tile below the top left corner, on the path down
    assert off_path(Sprite(Actor.RED, x, y, 1.0, 1.0)) < 0.01
    assert in_wall(Sprite(Actor.RED, x - 8, y, 1.0, 1.0))
    assert in_wall(Sprite(Actor.RED, x + 11, y, 1.0, 1.0))


def test_a_blurred_frame_reads_the_same(frames: list[tuple[np.ndarray, Truth, Reading]]) -> None:
    for frame, _, reading in frames[::4]:
        again = read(blurred(frame))
        assert (again.score, again.lives) == (reading.score, reading.lives)
        both = ~again.hidden & ~reading.hidden
        assert both.sum() > 150
        assert (again.pellets == reading.pellets)[both].all()


def test_a_half_faded_pellet_does_not_stand_and_a_lost_or_new_one_is_seen(begins: Episode) -> None:
    frame = begins.frames(60, 61)[0]
    before = read(frame)
    for place in (int(np.flatnonzero(before.pellets & ~POWER)[20]), int(np.flatnonzero(before.pellets & POWER)[0])):
        x, y = PELLET_XY[place].astype(int)
        box = np.s_[y - 9 : y + 10, x - 9 : x + 10]
        for strength in (0.0, 0.5):
            faded = frame.copy()
            faded[box] = (strength * faded[box]).astype(np.uint8)
            after = read(faded)
            assert np.flatnonzero(after.pellets != before.pellets).tolist() == [place]
            assert not after.hidden[place]
    gone = int(np.flatnonzero(~before.pellets & ~before.hidden)[0])
    (x, y), (from_x, from_y) = PELLET_XY[[gone, int(np.flatnonzero(before.pellets & ~POWER)[20])]].astype(int)
    frame = frame.copy()
    frame[y - 4 : y + 5, x - 4 : x + 5] = frame[from_y - 4 : from_y + 5, from_x - 4 : from_x + 5]
    assert np.flatnonzero(read(frame).pellets != before.pellets).tolist() == [gone]


def test_a_place_under_something_that_is_no_pellet_cannot_be_judged(begins: Episode) -> None:
    frame = begins.frames(60, 61)[0].copy()
    place = int(np.flatnonzero(read(frame).pellets & ~POWER)[20])
    x, y = PELLET_XY[place].astype(int)
    frame[y - 6 : y + 7, x - 6 : x + 7] = (0, 160, 60)
    reading = read(frame)
    assert reading.hidden[place] and not reading.pellets[place]


def test_an_unreadable_score_and_missing_lives_are_none(begins: Episode) -> None:
    frame = begins.frames(60, 61)[0].copy()
    assert read(frame).score is not None
    dark = frame.copy()
    dark[HUD:] = 0
    assert (read(dark).score, read(dark).lives) == (None, None)
    smeared = frame.copy()
    smeared[HUD : HUD + 16, 45:58] = 120
    assert read(smeared).score is None
    gap = frame.copy()
    gap[HUD:, 224:233] = 0  # the first of three lives
    assert read(gap).lives is None


def test_the_command_writes_a_table(sample: Path, tiny_world: Path, tmp_path: Path) -> None:
    text = check(Check(str(sample), frames=6, world=str(tiny_world), device="cpu", out=tmp_path / "deep" / "table.md"))
    assert (tmp_path / "deep" / "table.md").read_text(encoding="utf-8") == text
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in text.splitlines()}
    assert (rows["score"][0], rows["score"][2]) == ("100.00%", "6")
    assert rows["score"][1] != "100.00%"  # an untrained autoencoder draws no digits
    assert rows["PSNR, mean"][0] == "-" and rows["PSNR, mean"][1].endswith(" dB")


def test_a_dataset_that_cannot_be_checked_is_refused(sample: Path, tmp_path: Path) -> None:
    rows = pq.read_table(sample / "rows.parquet")
    pq.write_table(rows.drop_columns(["player_xy"]), tmp_path / "bare.parquet")
    with pytest.raises(ValueError, match="has no column player_xy"):
        list(labelled_frames(str(tmp_path / "bare.parquet"), 4))
    with pytest.raises(ValueError, match="no local path"):
        list(labelled_frames("owner/name", 4))
    with pytest.raises(ValueError, match="frames is 0"):
        check(Check(str(sample), frames=0))
    other = DatasetFormat(frame_height=210, frame_width=160).to_json()
    pq.write_table(rows.replace_schema_metadata({FORMAT_KEY: other}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="160 x 210; expected the classic maze's 456 x 552"):
        list(labelled_frames(str(tmp_path / "other.parquet"), 4))
