"""Dreams in processes of their own: without a warning, by spawn, and by fork from a process that has used threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = '''
import sys
import warnings
import gymnasium as gym
import numpy as np

ID = "neural_pacman:NeuralPacman-v0"


def one_after_the_other(world):
    """Everything in one process."""
    for mode in ("rgb_array", "human"):
        env = gym.make(ID, world=world, device="cpu", render_mode=mode)
        envs = gym.make_vec(ID, num_envs=2, world=world, device="cpu", render_mode=mode, max_episode_steps=2)
        env.reset(seed=0)
        envs.reset(seed=0)
        for action in range(3):
            env.step(action)
            envs.step(np.full(2, action))
        env.render()
        envs.render()
        for each in (env, env, envs, envs):
            each.close()


def side_by_side(num_envs, context, world):
    """The batch here against one process a dream."""
    arguments = {"num_envs": num_envs, "world": world, "device": "cpu", "obs_size": 48, "max_episode_steps": 2}
    here = gym.make_vec(ID, **arguments)
    here.reset(seed=7)
    here.step(np.zeros(num_envs, int))  # this process has its threads by now
    there = gym.make_vec(
        ID, vectorization_mode="async", vector_kwargs={"context": context, "autoreset_mode": "SameStep"}, **arguments
    )
    for number in range(4):
        actions = np.arange(num_envs) + number
        one, other = (each.reset(seed=5) if number == 0 else each.step(actions) for each in (here, there))
        assert np.abs(one[0].astype(int) - other[0]).max() <= 1
        assert one[-1].keys() == other[-1].keys()
        for key in ("step", "_step", "points", "_final_obs"):
            assert np.array_equal(one[-1].get(key), other[-1].get(key)), key
    there.close()


if __name__ == "__main__":
    world = sys.argv[1]
    one_after_the_other(world)
    print("one process", flush=True)
    side_by_side(1, "spawn", world)
    print("spawned", flush=True)
    import torch

    warnings.simplefilter("default")  # newer Pythons warn of every fork in a process with threads
    torch.set_num_threads(2)
    side_by_side(2, "fork", world)
    print("forked", flush=True)
'''


@pytest.fixture(scope="module")
def transcript(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the script prints, warnings being errors. Its workers end with it, should it hang."""
    script = tmp_path_factory.mktemp("processes") / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(script), str(tiny_world)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        return process.communicate(timeout=200)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return f"{process.communicate()[0]}still not done\n"


def test_nothing_warns_from_import_to_close(transcript: str) -> None:
    assert transcript.startswith("one process\n"), transcript


def test_a_spawned_process_dreams_as_this_one_does_and_nothing_warns(transcript: str) -> None:
    assert transcript.startswith("one process\nspawned\n"), transcript


def test_a_process_that_has_used_threads_can_fork(transcript: str) -> None:
    assert transcript.endswith("forked\n"), transcript
