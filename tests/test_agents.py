"""Agents: a killed run ends where an uninterrupted one ends, a saved agent plays as before, no file is unpickled."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.save_util import load_from_zip_file

from agents.evaluate import Evaluating, evaluate, film
from agents.evaluate import main as evaluate_main
from agents.saved import (
    AGENT,
    DreamSettings,
    Evaluation,
    LearningSettings,
    load_agent,
    load_weights,
    new_agent,
    read_record,
    save_agent,
)
from agents.train import Training, compare
from agents.train import main as train
from neural_pacman.policy import RECORD
from tests.test_video import read_video

ROOT = Path(__file__).parent.parent
STEPS = 96
LEG = 16
PATIENCE = 300
"""Seconds that a process may take to get somewhere, on however slow a machine."""
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in the processes that are killed: another number of threads adds up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(world: Path, run: Path, **changes: Any) -> Training:
    """A run of a few seconds that learns fast enough to play otherwise in the end."""
    dreams = DreamSettings(str(world), obs_size=36, frame_stack=2, max_episode_steps=6)
    learning = LearningSettings(
        num_envs=2, rollout_steps=4, batch_size=4, epochs=2, learning_rate=0.01, checkpoint_steps=LEG
    )
    ours = {"steps": STEPS, "eval_steps": 40, "seeds": 4, "curve_seeds": 2, "device": "cpu"}
    return Training(run, dreams=dreams, learning=learning, **{**ours, **changes})


def words(config: Training) -> list[str]:
    """The command line of these settings."""
    values = {**config.__dict__, **config.dreams.__dict__, **config.learning.__dict__}
    options = {
        name: value for name, value in values.items() if name not in ("dreams", "learning") and value is not None
    }
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def launch(module: str, *given: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *given],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def tensors(file: Path) -> dict[str, Any]:
    return load_from_zip_file(file, load_data=False)[1]


@pytest.fixture(scope="module")
def whole(lively_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from end to end; do not change it."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(settings(lively_world, run))
    return run


# --- training


def test_a_run_leaves_an_agent_its_curves_and_a_video(whole: Path) -> None:
    record = read_record(whole / AGENT)
    assert record.step == STEPS and record.seconds > 0
    assert [(evaluation.step, len(evaluation.points)) for evaluation in record.evaluations] == [
        (0, 4),
        (48, 2),
        (96, 4),
    ]
    before, *_, after = record.evaluations
    assert before.points[:2] != after.points[:2], "an agent that plays as before proves nothing below"
    assert max(before.points) > 6, "game points, where six clipped rewards are at most six"
    assert any((whole / "tensorboard").iterdir())
    assert 1 <= len(read_video(whole / "agent.mp4")[1]) <= 6
    assert {path.name for path in whole.iterdir()} == {AGENT, "agent.mp4", "tensorboard"}


@needs_signals
def test_a_killed_run_ends_where_an_uninterrupted_one_ends(lively_world: Path, whole: Path, tmp_path: Path) -> None:
    config = settings(lively_world, tmp_path / "killed")
    file = config.run / AGENT
    process = launch("agents.train", *words(config))
    deadline = time.monotonic() + PATIENCE
    while not (file.exists() and read_record(file).step >= LEG):
        assert process.poll() is None and time.monotonic() < deadline, "the process got nowhere"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    record = read_record(file)
    assert LEG <= record.step < STEPS

    process = launch("agents.train", *words(config))
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert f"from step {record.step}" in out and "untrained" in out and "standard error" in out
    assert "step/s" in err and "training" in err and "evaluation" in err
    once, again = read_record(whole / AGENT), read_record(file)
    assert again.evaluations == once.evaluations and again.step == once.step
    for name, saved in tensors(whole / AGENT)["policy"].items():
        assert torch.equal(saved, tensors(file)["policy"][name]), name


def test_a_finished_run_is_shown_again_wherever_the_world_has_moved(
    lively_world: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world, run = tmp_path / "moved", tmp_path / "run"
    shutil.copytree(lively_world, world)
    shutil.copytree(whole, run)
    train(settings(world, run))
    record = read_record(whole / AGENT)
    assert compare(record.evaluations[0], record.evaluations[-1]) in capsys.readouterr().out
    assert (run / AGENT).read_bytes() == (whole / AGENT).read_bytes()


def test_a_run_takes_no_other_settings_and_no_other_world(lively_world: Path, tiny_world: Path, whole: Path) -> None:
    config = settings(lively_world, whole)
    for other, message in (
        (
            dataclasses.replace(config, learning=dataclasses.replace(config.learning, gamma=0.5)),
            "gamma was 0.99, now 0.5",
        ),
        (settings(tiny_world, whole), "world was [0-9a-f]{12}, now [0-9a-f]{12}"),
    ):
        with pytest.raises(ValueError, match=f"was trained otherwise \\({message}\\). Give another folder"):
            train(other)


def test_minutes_end_a_run_early(lively_world: Path, tmp_path: Path) -> None:
    train(settings(lively_world, tmp_path, minutes=1e-6))
    record = read_record(tmp_path / AGENT)
    assert 0 < record.step < STEPS and record.seconds >= 6e-5
    assert [(evaluation.step, len(evaluation.points)) for evaluation in record.evaluations] == [
        (0, 4),
        (record.step, 4),
    ]


def test_latents_are_learned_from_too(lively_world: Path, tmp_path: Path) -> None:
    config = settings(lively_world, tmp_path, steps=LEG)
    train(dataclasses.replace(config, dreams=dataclasses.replace(config.dreams, obs_type="latent")))
    assert read_record(tmp_path / AGENT).step == LEG


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Training(Path("run"), steps=0), "steps is 0; expected more than 0"),
        (lambda: Training(Path("run"), minutes=-1), "minutes is -1"),
        (lambda: Training(Path("run"), seeds=1), "seeds is 1; expected 2 or more"),
        (lambda: DreamSettings(obs_size=24), "obs_size is 24; SB3's CnnPolicy needs 36"),
        (lambda: DreamSettings(frame_stack=0), "frame_stack is 0"),
        (lambda: LearningSettings(num_envs=0), "num_envs is 0"),
        (lambda: LearningSettings(batch_size=1), "batch_size is 1"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_gain_is_told_in_standard_errors() -> None:
    before, after = Evaluation(0, [0.0, 20.0]), Evaluation(7, [90.0, 130.0])
    assert (before.mean, before.standard_error) == (10.0, 10.0)
    assert "gain in the same dreams: 100.0 ± 10.0 points (2 dreams) (10.0 standard errors)" in compare(before, after)
    assert compare(Evaluation(0, [5.0, 5.0]), Evaluation(7, [5.0, 5.0])).endswith("0.0 ± 0.0 points (2 dreams)")


# --- saved, loaded, evaluated


def test_a_loaded_agent_reaches_what_it_reached(whole: Path) -> None:
    agent, record = load_agent(whole / AGENT, "cpu")
    torch.manual_seed(5)
    chances = torch.get_rng_state()
    assert evaluate(agent, record.dreams, 4) == record.evaluations[-1].points
    assert torch.equal(torch.get_rng_state(), chances), "evaluating leaves the training's random numbers alone"
    untrained = new_agent(record.learning, record.dreams.make(2, "cpu"), "cpu")
    assert evaluate(untrained, record.dreams, 4) == record.evaluations[0].points
    for name, saved in tensors(whole / AGENT)["policy.optimizer"]["state"].items():
        for key, value in saved.items():
            assert torch.equal(value, agent.policy.optimizer.state_dict()["state"][name][key])


def test_the_command_evaluates_and_films(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = tmp_path / "dream.mp4"
    evaluate_main(Evaluating(whole / AGENT, seeds=4, video=video, device="cpu"))
    out = capsys.readouterr().out
    assert str(read_record(whole / AGENT).evaluations[-1]) in out and "(4 dreams), of at most 6 steps" in out
    frames = read_video(video)[1]
    assert frames.shape[1:] == (512, 512, 3)
    with pytest.raises(ValueError, match="ends in .mp4"):
        agent, record = load_agent(whole / AGENT, "cpu")
        film(agent, record.dreams, tmp_path / "dream.avi")


def test_a_deterministic_agent_takes_the_most_probable_action(lively_world: Path) -> None:
    dreams = settings(lively_world, Path("none")).dreams
    agent = new_agent(LearningSettings(num_envs=2), dreams.make(2, "cpu"), "cpu")
    sure, drawn = evaluate(agent, dreams, 3, deterministic=True), evaluate(agent, dreams, 3)
    assert sure == evaluate(agent, dreams, 3, deterministic=True) != drawn


def test_sb3_itself_opens_the_file(whole: Path) -> None:
    agent, record = load_agent(whole / AGENT, "cpu")
    theirs = PPO.load(whole / AGENT, device="cpu")
    observation = np.stack([agent.observation_space.sample() for _ in range(5)])
    ours = agent.predict(observation, deterministic=True)[0]
    assert np.array_equal(theirs.predict(observation, deterministic=True)[0], ours)
    assert theirs.num_timesteps == record.step


def test_a_failed_save_leaves_the_former_file(whole: Path, tmp_path: Path) -> None:
    file = tmp_path / AGENT
    shutil.copy(whole / AGENT, file)
    agent, record = load_agent(file, "cpu")
    record.step = object()  # type: ignore[assignment]
    with pytest.raises(TypeError):
        save_agent(agent, record, file)
    assert list(tmp_path.iterdir()) == [file] and file.read_bytes() == (whole / AGENT).read_bytes()


# --- foreign and damaged files


class Burglar:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def rewrite(file: Path, entries: dict[str, bytes | None]) -> None:
    """Replace entries of a zip; None takes one out."""
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in {**content, **entries}.items():
            if data is not None:
                archive.writestr(name, data)


def test_no_file_is_unpickled(whole: Path, tmp_path: Path) -> None:
    trace, file = tmp_path / "trace", tmp_path / AGENT
    pickled = pickle.dumps(Burglar(trace))
    shutil.copy(whole / AGENT, file)
    data = {"policy_class": {":type:": "x", ":serialized:": base64.b64encode(pickled).decode()}}
    rewrite(file, {"data": json.dumps(data).encode()})
    with pytest.raises((KeyError, TypeError, AttributeError)):
        PPO.load(file, device="cpu")
    assert trace.exists(), "the trap works"
    trace.unlink()

    agent, record = load_agent(file, "cpu")
    assert evaluate(agent, record.dreams, 4) == record.evaluations[-1].points
    rewrite(file, {"policy.pth": pickled})
    with pytest.raises(ValueError, match="is no whole agent"):
        load_agent(file, "cpu")
    stored = io.BytesIO()
    torch.save({"weights": Burglar(trace)}, stored)
    rewrite(file, {"policy.pth": stored.getvalue()})
    with pytest.raises(ValueError, match="is no whole agent"):
        load_agent(file, "cpu")
    assert not trace.exists()


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[content.index(b"policy.optimizer.pth") + 5000] ^= 0xFF
    file.write_bytes(content)


def recorded(**changes: Any) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        with zipfile.ZipFile(file) as archive:
            values = json.loads(archive.read(RECORD))
        rewrite(file, {RECORD: json.dumps({**values, **changes}).encode()})

    return change


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.write_text("an agent"), "BadZipFile"),
        (lambda file: file.write_bytes(b""), "BadZipFile"),
        (truncated, "BadZipFile|no item"),
        (flipped, "wasn't a zip-file|BadZipFile|CRC"),
        (lambda file: rewrite(file, {RECORD: None}), "no item named 'neural_pacman.json'"),
        (lambda file: rewrite(file, {RECORD: b"[1]"}), "TypeError|ValueError"),
        (
            lambda file: rewrite(file, {"policy.optimizer.pth": None}),
            r"holds \['policy'\]; expected \['policy', 'policy.op",
        ),
        (lambda file: rewrite(file, {"policy.pth": b"weights"}), "UnpicklingError|RuntimeError"),
        (lambda file: rewrite(file, {"env.pth": b"weights"}), "UnpicklingError|RuntimeError"),
        (recorded(format_version=9), "format version 9; this neural-pacman reads 1"),
        (recorded(moves=3), "unexpected keyword argument 'moves'"),
        (recorded(dreams={"obs_size": "84"}), "TypeError"),
        (recorded(dreams={"obs_size": 3}), "obs_size is 3"),
    ],
)
def test_a_file_that_is_no_agent_is_said_in_one_line(
    whole: Path, tmp_path: Path, damage: Callable[[Path], Any], said: str
) -> None:
    file = tmp_path / AGENT
    shutil.copy(whole / AGENT, file)
    damage(file)
    with pytest.raises(ValueError, match=f"is no whole agent of agents.train .*({said}).*Train it anew") as error:
        load_agent(file, "cpu")
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_weights_of_another_network_are_refused(whole: Path, lively_world: Path) -> None:
    dreams = DreamSettings(str(lively_world), obs_size=84)
    agent = new_agent(LearningSettings(num_envs=2), dreams.make(2, "cpu"), "cpu")
    with pytest.raises(ValueError, match=r"is no whole agent .*size mismatch"):
        load_weights(agent, whole / AGENT)


def test_an_error_is_one_line_of_the_command(tmp_path: Path) -> None:
    process = launch("agents.evaluate", str(tmp_path / "none.zip"))
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert (
        err
        == f"error: There is no agent at {tmp_path / 'none.zip'}; expected the agent.zip of a run of agents.train.\n"
    )
