"""Frames into an MP4 or a GIF that plays anywhere, whole or not there at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from neural_pacman.files import UnfinishedFile

try:
    from imageio_ffmpeg import get_ffmpeg_exe
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        'A video needs imageio-ffmpeg: pip install "neural-pacman[play]"', name=missing.name
    ) from missing

MP4 = ("-c:v", "libx264", "-crf", "16", "-pix_fmt", "yuv420p", "-movflags", "+faststart")
"""Crisp enough for sprites on black, in the pixel format that every player knows, the index in front so that a browser
plays it while it loads."""

PALETTE_FRAMES = 45
"""A GIF's 256 colours are chosen from its first frames, three seconds of the game. Until then frames wait in memory,
and then all go through at once, which must not hold up a game that is being recorded."""

GIF = (
    f"split[all][some];[some]trim=end_frame={PALETTE_FRAMES}[first];"
    "haldclutsrc=2,trim=end_frame=1,scale={width}:{height}:flags=neighbor,setsar=1,format=rgb24[spectrum];"
    "[first][spectrum]concat,palettegen[colours];[all][colours]paletteuse=dither=none"
)
"""The filters of a GIF. Beside its first frames a picture of 64 colours from all of the spectrum counts: else a ghost
that comes later would have another's colour."""

ENDINGS = (".mp4", ".gif")

GIF_FPS = 50
"""Viewers slow down what is faster: a GIF counts hundredths of a second, and one alone means "as you like"."""

# The encoder stays out of reach of the terminal's Ctrl-C, which is for us: it has a file to finish. Windows knows no
# sessions, the others no such flag.
if sys.platform == "win32":
    OWN_GROUP = subprocess.CREATE_NEW_PROCESS_GROUP
else:
    OWN_GROUP = 0


class Video:
    """An MP4 (H.264, yuv420p), or a GIF that loops, which grows in a hidden file and takes its name when it is whole.

    Use it as a context manager: leaving it, by an error too, finishes the video with the frames it has. Without any
    frame nothing is left behind, and an older file at `path` stays.

    Args:
        path: where the video goes; ends in ".mp4" or ".gif", in a folder that exists.
        fps: frames a second.

    Raises:
        ValueError: `path` ends otherwise, or `fps` is not a positive number, or above 50 for a GIF.
        OSError: `path` cannot be written. Said at once, before there is a frame to lose.
    """

    def __init__(self, path: Path, fps: int) -> None:
        if fps < 1:
            raise ValueError(f"fps is {fps}; expected a positive number.")
        if path.suffix.lower() == ".gif" and fps > GIF_FPS:
            raise ValueError(f"fps is {fps}; expected at most {GIF_FPS} for a GIF, or the name of an MP4.")
        self._file = UnfinishedFile(path, "video", *ENDINGS)
        self.path = self._file.path
        self.fps = fps
        self.frames = 0
        """How many frames were written."""
        self._size: tuple[int, int] | None = None
        self._encoder: subprocess.Popen[bytes] | None = None

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, uint8 `[H, W, 3]`; in an MP4 H and W are even.

        Raises ValueError for another array or another size than the first frame's, OSError when the encoder fails.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"The frame is {frame.dtype} {list(frame.shape)}; expected uint8 [H, W, 3].")
        height, width = frame.shape[:2]
        if self._size is None:
            self._size = (width, height)
            self._encoder = self._start(width, height)
        if self._size != (width, height):
            raise ValueError(
                f"The frame is {width} x {height}; the video began with {self._size[0]} x {self._size[1]}."
            )
        try:
            self._stream.write(np.ascontiguousarray(frame).data)
        except BrokenPipeError:
            self.close()  # says what the encoder said before it went
        self.frames += 1

    def _start(self, width: int, height: int) -> subprocess.Popen[bytes]:
        gif = self.path.suffix.lower() == ".gif"
        encoding = ("-vf", GIF.format(width=width, height=height), "-loop", "0") if gif else MP4
        raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(self.fps), "-i", "-")
        return subprocess.Popen(
            [get_ffmpeg_exe(), "-y", "-loglevel", "error", *raw, *encoding, str(self._file.partial)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            creationflags=OWN_GROUP,
        )

    @property
    def _stream(self) -> IO[bytes]:
        if self._encoder is None or self._encoder.stdin is None:
            raise ValueError("The video is closed.")
        return self._encoder.stdin

    def close(self) -> None:
        """Finish the video and give it its name; once. Raises OSError when the encoder could not (a full disk)."""
        encoder, self._encoder = self._encoder, None
        try:
            if encoder is not None:
                _, complaint = encoder.communicate()
                if encoder.returncode != 0:
                    said = complaint.decode(errors="replace").strip()
                    raise OSError(
                        f"The video {self.path} cannot be written: {said or f'ffmpeg ended with {encoder.returncode}'}"
                    )
                self._file.finish()
        finally:
            self._file.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except OSError:
            if error is None:  # else the first error tells more than the broken video it left
                raise
