"""Dreams beside what really happened, to look at: contact sheets and videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from neural_pacman.video import Video
from training.clips import REACHES, Clip, spread
from training.contact_sheet import contact_sheet, save_image
from training.free_running import Dreamed

SHEET_STEPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LONG_SHEET = "sheet-long.png"
INK = (200, 200, 200)


class Pictures:
    """Makes `sheet-16.png`, `sheet-64.png`, `sheet-256.png` and `dream-1.mp4`, ... of some of the dreams.

    A context manager, so that the videos are finished.

    Args:
        folder: where the pictures go; must exist.
        clips: what is dreamed along.
        rows: histories on each contact sheet.
        videos: how many of the longest dreams become videos, the real game on the left.
    """

    def __init__(self, folder: Path, clips: Sequence[Clip], rows: int, videos: int) -> None:
        self.folder = folder
        self.sheets: dict[int, list[Clip]] = {}
        for reach in sorted(REACHES):
            able = [clip for clip in clips if clip.ahead >= reach]
            if able and rows:
                self.sheets[reach] = [able[i] for i in spread(len(able), rows)]
        longest = [clip for clip in clips if clip.ahead == max(clip.ahead for clip in clips)]
        self._filmed = [longest[i] for i in spread(len(longest), videos)] if videos else []
        self._wanted = {id(clip): reach for reach, shown in self.sheets.items() for clip in shown}
        self._frames: dict[tuple[int, int], np.ndarray] = {}
        self._videos: dict[int, Video] = {}
        self._open = ExitStack()

    def __enter__(self) -> Pictures:
        for number, clip in enumerate(self._filmed, 1):
            video = Video(self.folder / f"dream-{number}.mp4", clip.episode.format.frames_per_second)
            self._videos[id(clip)] = self._open.enter_context(video)
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @property
    def names(self) -> list[str]:
        """The files, sheets first."""
        sheets = [f"sheet-{reach}.png" for reach in self.sheets]
        return [*sheets, *(video.path.name for video in self._videos.values())]

    def looks_at(self, clip: Clip, step: int) -> bool:
        """Whether the frame of a step is needed."""
        return id(clip) in self._videos or (step in SHEET_STEPS and step <= self._wanted.get(id(clip), 0))

    def see(self, dreamed: Dreamed) -> None:
        """Take in one step."""
        if dreamed.frame is None:
            return
        key = id(dreamed.clip)
        if video := self._videos.get(key):
            video.write(side_by_side(dreamed.clip.real(dreamed.step), dreamed.frame, dreamed.step))
        if dreamed.step in SHEET_STEPS and dreamed.step <= self._wanted.get(key, 0):
            self._frames[key, dreamed.step] = dreamed.frame

    def save_sheets(self) -> None:
        """Write the contact sheets, once all has been seen."""
        for reach, clips in self.sheets.items():
            steps = [step for step in SHEET_STEPS if step <= reach]
            real = np.stack([[clip.real(step) for step in steps] for clip in clips])
            dreamed = np.stack([[self._frames[id(clip), step] for step in steps] for clip in clips])
            sheet = contact_sheet({"real": real, "dream": dreamed}, steps, [clip.name for clip in clips])
            save_image(sheet, self.folder / f"sheet-{reach}.png")


def save_long_sheet(frames: Mapping[int, np.ndarray], folder: Path) -> None:
    """Write `sheet-long.png`: dreams that no recording leads, uint8 `[N, 512, 512, 3]` by step."""
    dreams = np.stack(list(frames.values()), axis=1)
    names = [f"run {number + 1}" for number in range(len(dreams))]
    save_image(contact_sheet({"dream": dreams}, list(frames), names), folder / LONG_SHEET)


def side_by_side(real: np.ndarray, dreamed: np.ndarray, step: int) -> np.ndarray:
    """A real frame, a dreamed one on its right, and their names in the bars beside them: uint8 `[512, 1024, 3]`."""
    both = Image.fromarray(np.concatenate([real, dreamed], axis=1))
    draw = ImageDraw.Draw(both)
    for left, words in ((4, f"real\n\nstep\n{step}"), (real.shape[1] + 4, "dream")):
        draw.multiline_text((left, 4), words, fill=INK)
    return np.array(both)
