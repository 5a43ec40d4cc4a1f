"""How long a step of the environment takes on this machine, as whoever plays or trains in it sees it."""

from __future__ import annotations

import time

import numpy as np
import torch

from neural_pacman.actions import Action
from neural_pacman.env import NeuralPacmanEnv
from neural_pacman.progress import progress_bar
from training.branches import any_key
from training.figures import Report

WARM_UP = 20
"""Steps before the first that counts."""


def step_time(
    world: str, steps: int = 300, *, num_inference_steps: int | None = None, device: str = "auto", seed: int = 0
) -> Report:
    """The median of `steps` steps of the environment with frames of 512 x 512, in milliseconds, under sticky keys.

    `world` is a name, a folder or a hub id. Returns it with the number of threads.
    """
    env = NeuralPacmanEnv(world=world, num_inference_steps=num_inference_steps, device=device)
    player = np.random.default_rng(seed)
    action = int(Action.NO_ACTION)
    took: list[float] = []
    env.reset(seed=seed)
    with progress_bar(total=WARM_UP + steps, desc="a step's time", unit="step") as bar:
        for number in range(WARM_UP + steps):
            action = action if player.random() < 0.9 else any_key(player)
            began = time.perf_counter()
            _, _, ended, cut, _ = env.step(action)
            took.append(time.perf_counter() - began)
            if ended or cut:
                env.reset(seed=seed + number)
            bar.update()
    env.close()
    counted = took[WARM_UP:]
    return {
        "median_ms": 1000 * float(np.median(counted)),
        "threads": torch.get_num_threads(),
        "n": len(counted),
    }
