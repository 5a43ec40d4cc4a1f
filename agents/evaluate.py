"""What an agent reaches: `python -m agents.evaluate RUN/agent.zip`, and how it plays (`--video`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from stable_baselines3 import PPO

from agents.saved import DreamSettings, Evaluation, load_agent
from neural_pacman.command import command
from neural_pacman.devices import resolve_device
from neural_pacman.progress import progress_bar
from neural_pacman.video import Video

STYLE = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
"""How the scripts' command lines are laid out: all settings without the name of their group."""

FIRST_SEED = 1_000_000
"""Dream `i` of an evaluation is seeded with this and `i`, whoever is evaluated."""


@dataclass
class Evaluating:
    """Load an agent and let it play."""

    agent: tyro.conf.Positional[Path]
    """The agent.zip of a run."""
    seeds: int = 20
    """Dreams to evaluate in, each from a seed of its own: the same ones every time."""
    deterministic: bool = False
    """Take the most probable action instead of drawing one, as the agent learned to."""
    world: str | None = None
    """Another world than the one that the agent learned in, or where that one is now."""
    video: Path | None = None
    """Film a dream: a name that ends in .mp4 or .gif."""
    device: str = "auto"
    """cuda, mps, cpu, or auto."""


def main(config: Evaluating) -> None:
    """Film a dream if asked to; print the mean of the returns and its standard error."""
    check_seeds(config.seeds)
    agent, record = load_agent(config.agent, str(resolve_device(config.device)), config.world)
    dreams = record.dreams
    if config.video:  # first, since a video that cannot be written is said at once
        film(agent, dreams, config.video, deterministic=config.deterministic)
        print(f"The video is in {config.video}.")
    points = evaluate(agent, dreams, config.seeds, deterministic=config.deterministic)
    print(f"{Evaluation(record.step, points)}, of at most {dreams.max_episode_steps} steps")


def evaluate(agent: PPO, dreams: DreamSettings, seeds: int, *, deterministic: bool = False) -> list[float]:
    """The game points that an agent reaches, one dream a seed: the same seeds, dreams and chances every time.

    The agent's own random numbers are left as they are.
    """
    env = dreams.make(seeds, str(agent.device))
    env.seed(FIRST_SEED)
    observations = env.reset()
    points = np.full(seeds, np.nan)
    steps = progress_bar(leave=False, total=dreams.max_episode_steps, desc="evaluation", unit="step")
    with torch.random.fork_rng(), steps:
        torch.manual_seed(FIRST_SEED)
        while np.isnan(points).any():
            assert isinstance(observations, np.ndarray)
            actions, _ = agent.predict(observations, deterministic=deterministic)
            observations, _, dones, infos = env.step(actions)
            for dream in np.flatnonzero(dones & np.isnan(points)):
                points[dream] = infos[dream]["points"]
            steps.update()
    env.close()
    return points.tolist()


def film(agent: PPO, dreams: DreamSettings, path: Path, *, deterministic: bool = False) -> None:
    """Write a dream in which the agent plays as a video of 512 x 512.

    Raises ValueError or OSError when there can be no video at `path`.
    """
    env = dreams.make(1, str(agent.device), render_mode="rgb_array")
    env.seed(FIRST_SEED)
    observations = env.reset()
    fps = env.get_attr("world")[0].config.frames_per_second
    dones = np.array([False])
    steps = progress_bar(leave=False, total=dreams.max_episode_steps, desc="video", unit="step")
    with Video(path, fps) as video, torch.random.fork_rng(), steps:
        torch.manual_seed(FIRST_SEED)
        while not dones[0]:
            (picture,) = env.get_images()
            assert picture is not None and isinstance(observations, np.ndarray)
            video.write(picture)
            actions, _ = agent.predict(observations, deterministic=deterministic)
            observations, _, dones, _ = env.step(actions)
            steps.update()
    env.close()


def check_seeds(seeds: int) -> None:
    """ValueError for fewer seeds than a standard error needs."""
    if seeds < 2:
        raise ValueError(f"seeds is {seeds}; expected 2 or more, for a mean and its standard error.")


if __name__ == "__main__":
    command(main, Evaluating, *STYLE)
