"""Videos: whole or not there, and playable anywhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from neural_pacman.video import Video


def read_video(path: Path) -> tuple[str, np.ndarray]:
    """What ffmpeg says of a video, and its frames as uint8 `[N, H, W, 3]`."""
    decode = [get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
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


def test_a_video_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
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


def test_a_video_survives_an_encoder_that_dies(tmp_path: Path) -> None:
    with Video(tmp_path / "v.mp4", fps=15) as video:
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
        ("v.avi", "ends in .mp4"),
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


def test_frames_of_another_kind_are_refused(tmp_path: Path) -> None:
    with Video(tmp_path / "v.mp4", fps=15) as video:
        with pytest.raises(ValueError, match="expected uint8"):
            video.write(np.zeros((64, 64, 3), np.float32))
        video.write(np.zeros((64, 64, 3), np.uint8))
        with pytest.raises(ValueError, match="began with 64 x 64"):
            video.write(np.zeros((64, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="closed"):
        video.write(np.zeros((64, 64, 3), np.uint8))
