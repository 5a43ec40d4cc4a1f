"""Videos: whole or not there, and playable anywhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from neural_pacman.video import PALETTE_FRAMES, Video


def read_video(path: Path) -> tuple[str, np.ndarray]:
    """What ffmpeg says of a video, and its frames as uint8 `[N, H, W, 3]`."""
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-fps_mode", "passthrough")
    decode = [get_ffmpeg_exe(), "-i", str(path), *raw, "-"]
    run = subprocess.run(decode, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    about = run.stderr.decode().partition("Output #0")[0]
    size = re.search(r"Video: .* (\d+)x(\d+)", about)
    assert size is not None
    return about, np.frombuffer(run.stdout, np.uint8).reshape(-1, int(size[2]), int(size[1]), 3)


def test_a_video_plays_anywhere(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 512, 512, 3), dtype=np.uint8)
    with Video(tmp_path / "v.mp4", fps=12) as video:
        for frame in noise:
            video.write(frame)
    about, frames = read_video(tmp_path / "v.mp4")
    assert re.search(r"Video: h264 .*yuv420p.* 512x512.* 12 fps", about)
    assert frames.shape == (5, 512, 512, 3)
    assert video.frames == 5
    data = (tmp_path / "v.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # a browser can play it while it loads


def moving(count: int, height: int = 48, width: int = 65) -> list[np.ndarray]:
    """A yellow square that runs about a blue one on black, never twice at the same place."""
    frames = []
    for k in range(count):
        frame = np.zeros((height, width, 3), np.uint8)
        frame[20:30, 20:30] = (33, 33, 222)
        y, x = divmod(7 * k, width - 8)
        frame[y : y + 8, x : x + 8] = (255, 255, 0)
        frames.append(frame)
    return frames


@pytest.mark.parametrize("count", [1, 10, PALETTE_FRAMES, PALETTE_FRAMES + 30])
def test_a_gif_loops_at_the_games_pace_with_every_frame_in_it(tmp_path: Path, count: int) -> None:
    frames = moving(count)
    with Video(tmp_path / "v.GIF", fps=15) as video:
        for frame in frames:
            video.write(frame)
    with Image.open(tmp_path / "v.GIF") as gif:
        assert isinstance(gif, GifImageFile) and gif.format == "GIF" and gif.size == (65, 48)
        assert gif.n_frames == video.frames == count
        if count > 1:
            assert gif.info["loop"] == 0, "again and again"
        seconds = 0.0
        for k, frame in enumerate(frames):
            gif.seek(k)
            seconds += gif.info["duration"] / 1000
            shown = np.asarray(gif.convert("RGB")).astype(int)
            assert np.abs(shown - frame).max() < 12
    assert seconds == pytest.approx(count / 15, abs=0.02)
    assert [file.name for file in tmp_path.iterdir()] == ["v.GIF"]


def test_a_gif_shows_what_comes_late_in_its_own_colour(tmp_path: Path) -> None:
    orange = (255, 160, 0)
    frames = moving(PALETTE_FRAMES + 10)
    frames[-1][:16, :16] = orange
    with Video(tmp_path / "v.gif", fps=15) as video:
        for frame in frames:
            video.write(frame)
    with Image.open(tmp_path / "v.gif") as gif:
        gif.seek(len(frames) - 1)
        shown = np.asarray(gif.convert("RGB"))[8, 8].astype(int)
    assert np.abs(shown - orange).max() < 48 and shown[0] > shown[1] > shown[2]


def test_a_gif_faster_than_viewers_show_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fps is 60; expected at most 50 for a GIF"):
        Video(tmp_path / "v.gif", fps=60)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["v.mp4", "v.gif"])
def test_a_video_is_there_whole_or_not_at_all(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"an older one")
    with Video(path, fps=15):
        pass
    assert path.read_bytes() == b"an older one"
    with pytest.raises(KeyError), Video(path, fps=15) as video:
        video.write(np.zeros((64, 64, 3), np.uint8))
        assert path.read_bytes() == b"an older one"
        raise KeyError
    assert len(read_video(path)[1]) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_video_that_the_encoder_cannot_make_is_an_error_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot be written"), Video(tmp_path / "v.mp4", fps=15) as video:
        video.write(np.zeros((64, 63, 3), np.uint8))  # yuv420p halves both sides
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["v.mp4", "v.gif"])
def test_a_video_survives_an_encoder_that_dies(tmp_path: Path, name: str) -> None:
    with Video(tmp_path / name, fps=15) as video:
        video.write(np.zeros((512, 512, 3), np.uint8))
        assert video._encoder is not None
        video._encoder.kill()
        with pytest.raises(OSError, match="cannot be written"):
            for _ in range(100):
                video.write(np.zeros((512, 512, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("v.avi", r"ends in \.mp4 or \.gif"),
        ("folder.mp4", "is a folder"),
        ("missing/v.mp4", "Cannot write"),
        ("a.txt/v.mp4", "Cannot write"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "a.txt").touch()
    with pytest.raises((ValueError, OSError), match=expected):
        Video(tmp_path / name, fps=15)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.txt", "folder.mp4"]


def test_frames_of_another_kind_are_refused(tmp_path: Path) -> None:
    with Video(tmp_path / "v.mp4", fps=15) as video:
        with pytest.raises(ValueError, match="expected uint8"):
            video.write(np.zeros((64, 64, 3), np.float32))
        video.write(np.zeros((64, 64, 3), np.uint8))
        with pytest.raises(ValueError, match="began with 64 x 64"):
            video.write(np.zeros((64, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="closed"):
        video.write(np.zeros((64, 64, 3), np.uint8))
