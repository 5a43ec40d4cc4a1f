"""docs/environment.md: its examples run, in order, and show what they say."""

from __future__ import annotations

import re
import textwrap
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import pygame
import pytest

import neural_pacman  # noqa: F401  registers

PAGE = (Path(__file__).parent.parent / "docs" / "environment.md").read_text(encoding="utf-8")
BLOCKS = [textwrap.dedent(text) for text in re.findall(r"^ *```python\n(.*?)^ *```$", PAGE, re.MULTILINE | re.DOTALL)]


def test_the_pages_examples_run(tiny_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = gym.spec("NeuralPacman-v0").kwargs
    monkeypatch.setitem(arguments, "world", str(tiny_world))
    monkeypatch.setitem(arguments, "device", "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Gymnasium's player says of plots without a display
        import gymnasium.utils.play  # noqa: F401
    assert PAGE.count("```") == 2 * len(BLOCKS) and any("play(" in block for block in BLOCKS)
    names: dict[str, Any] = {}
    for block in BLOCKS:
        if "play(" in block:  # somebody has to press Esc
            pygame.display.init()
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_ESCAPE))
        exec(compile(block, "environment.md", "exec"), names)
        for comment, shape in re.findall(r"^ *(\w+).*# uint8 (\[[\d, ]+\])", block, re.MULTILINE):
            value = names[comment]
            space = getattr(value, "observation_space", value)
            assert (str(space.dtype), str(list(space.shape))) == ("uint8", shape), comment
    before, after = names["env"].unwrapped.history()[-2:]
    assert names["reward"] == pytest.approx(names["change"]([before], 0, after), abs=1)
    ended = names["grays"]
    ended.unwrapped.max_episode_steps = 1
    observations, *_, infos = ended.step([0, 1, 2, 3])
    assert observations in ended.observation_space
    assert all(observation in ended.single_observation_space for observation in infos["final_obs"])
    assert [file.suffix for file in (tmp_path / "videos").iterdir()] == [".mp4"]
