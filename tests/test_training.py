"""Training: a killed run ends where an uninterrupted one ends, a seed is honoured, and what does not fit is refused."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tyro
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neural_pacman.actions import Action
from neural_pacman.autoencoder import FrameAutoencoder
from neural_pacman.command import command
from neural_pacman.denoiser import DENOISERS, Denoiser, unfold
from neural_pacman.episodes import HISTORY, read_episodes
from neural_pacman.outcome import OutcomeModel
from neural_pacman.progress import progress_bar
from neural_pacman.sampler import noise_levels
from neural_pacman.world import WorldModel
from neural_pacman.world_folder import BACKGROUND
from training import autoencoder, denoiser, outcome
from training.assemble import Assembly, assemble, load_parts
from training.autoencoder import AutoencoderTraining
from training.background import median_frame, other_look
from training.cache import (
    EPISODES,
    FRAME_BYTES,
    FRAME_SHAPE,
    KEY,
    LATENTS,
    Cache,
    CacheBuilding,
    build_cache,
    encoder_hash,
    load_autoencoder,
)
from training.checkpoint import CHECKPOINT, EXPORT, STAGE, UNFINISHED, WEIGHTS, read_checkpoint, read_state
from training.denoiser import LEAST_LEAN, STRAYED, TOLD_NOISE, DenoiserLoss, DenoiserTraining, WindowBatches
from training.loop import LoopConfig, Trainer
from training.outcome import OutcomeBatches, OutcomeLoss, OutcomeTraining, point_classes, unknown_outcomes
from training.seeds import choose_seeds, hold_out
from training.take_apart import TakingApart
from training.take_apart import main as take_apart

ROOT = Path(__file__).parent.parent
STEPS = 30
PATIENCE = 600
"""Seconds that a killed run may take to get somewhere, on however slow a machine."""
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP and SIGKILL are POSIX's")


def loop(**changes: Any) -> LoopConfig:
    settings: dict[str, Any] = {"steps": STEPS, "batch_size": 2, "checkpoint_steps": 5, "warmup_steps": 4}
    settings |= {"sample_steps": 30, "precision": "fp32", "device": "cpu", "threads": 1}
    return LoopConfig(**settings | changes)


@dataclass
class Stages:
    """The settings of the four stages, every folder of which lies under one root."""

    autoencoder: AutoencoderTraining
    cache: CacheBuilding
    denoiser: DenoiserTraining
    outcome: OutcomeTraining


def stages(dataset: Path, root: Path, base: Path | None = None) -> Stages:
    """Tiny stages under `root`, on the trained parts under `base` (by default their own)."""
    base = base or root
    data = (str(dataset),)
    return Stages(
        AutoencoderTraining(data, root / "autoencoder", "tiny", frames_in_memory=24, screens=24, crop=64, loop=loop()),
        CacheBuilding(data, base / "autoencoder" / EXPORT, root / "cache", precision="fp32", device="cpu"),
        DenoiserTraining(base / "cache", root / "denoiser", "tiny", chain=3, loop=loop()),
        OutcomeTraining(base / "cache", root / "outcome", "tiny", loop=loop()),
    )


MAINS: dict[str, Callable[[Any], Any]] = {
    "autoencoder": autoencoder.main,
    "cache": build_cache,
    "denoiser": denoiser.main,
    "outcome": outcome.main,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in the processes that are killed: another number of threads adds up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage, run without interruption."""
    root = tmp_path_factory.mktemp("whole")
    for name, main in MAINS.items():
        main(getattr(stages(sample, root), name))
    return root


def arguments(settings: Any, prefix: str = "--") -> Iterator[str]:
    """A dataclass as what one would write on the command line."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            yield from arguments(value, f"{prefix}{field.name}.")
        elif isinstance(value, bool):
            yield f"{prefix}{'' if value else 'no-'}{field.name}"
        elif value not in (None, ()):
            yield prefix + field.name.replace("_", "-")
            yield from map(str, value if isinstance(value, tuple) else (value,))


def launch(name: str, settings: Any) -> subprocess.Popen[bytes]:
    """`python -m training.NAME` with these settings."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"training.{name}", *arguments(settings)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)


def wait(process: subprocess.Popen[bytes], until: Callable[[], bool]) -> None:
    """Wait for something that a process does; it must not end before."""
    deadline = time.monotonic() + PATIENCE
    while not until():
        if process.poll() is not None:
            assert process.stderr
            raise AssertionError(f"ended too early with {process.returncode}: {process.stderr.read().decode()}")
        assert time.monotonic() < deadline, "the process got nowhere"
        time.sleep(0.002)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert process.stderr
    process.stderr.close()


def assert_same_weights(file: Path, other: Path) -> None:
    tensors, others = load_file(file), load_file(other)
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        difference = (tensor.double() - others[name].double()).abs().max()
        assert difference <= 1e-6, f"{name} differs by {difference}"


def assert_same_run(run: Path, other: Path) -> None:
    """Checkpoint and exported part are the same within 1e-6, and equally far."""
    assert_same_weights(run / EXPORT / WEIGHTS, other / EXPORT / WEIGHTS)
    assert_same_weights(run / CHECKPOINT, other / CHECKPOINT)
    states = [json.loads((folder / EXPORT / STAGE).read_text()) for folder in (run, other)]
    assert states[0]["step"] == states[1]["step"]
    configs = [json.loads((folder / EXPORT / "config.json").read_text()) for folder in (run, other)]
    assert configs[0].pop("scaling_factor", 1) == pytest.approx(configs[1].pop("scaling_factor", 1), abs=1e-6)
    assert configs[0] == configs[1]


# --- killed and resumed


@needs_signals
def test_a_stage_killed_half_way_ends_where_an_uninterrupted_one_ends(
    whole: Path, sample: Path, tmp_path: Path
) -> None:
    killed = stages(sample, tmp_path, whole)
    processes = {name: launch(name, getattr(killed, name)) for name in MAINS}
    cache = killed.cache.out
    first = json.loads((whole / "cache" / EPISODES).read_text().splitlines()[0])["states"] * FRAME_BYTES

    def half_way(name: str) -> bool:
        if name == "cache":  # in its second episode of two
            return (cache / LATENTS).exists() and (cache / LATENTS).stat().st_size > first
        return (tmp_path / name / CHECKPOINT).exists()

    left = dict(processes)
    deadline = time.monotonic() + PATIENCE
    while left:
        for name, process in list(left.items()):
            if half_way(name):
                kill(left.pop(name))
            elif process.poll() is not None:
                assert process.stderr
                raise AssertionError(f"{name} ended too early: {process.stderr.read().decode()}")
        assert time.monotonic() < deadline, f"{sorted(left)} got nowhere"
        time.sleep(0.002)

    assert not json.loads((cache / KEY).read_text())["complete"]
    with pytest.raises(FileNotFoundError, match="No finished cache"):
        Cache(cache)
    assert len((cache / EPISODES).read_text().splitlines()) == 1
    build_cache(killed.cache)
    for file in (LATENTS, EPISODES):
        assert (cache / file).read_bytes() == (whole / "cache" / file).read_bytes()

    for name in ("autoencoder", "denoiser", "outcome"):
        state, _ = read_checkpoint(tmp_path / name / CHECKPOINT)
        assert 0 < state["step"] < STEPS
        MAINS[name](getattr(killed, name))
        assert_same_run(tmp_path / name, whole / name)


@needs_signals
def test_a_kill_during_a_checkpoint_write_leaves_a_whole_checkpoint(whole: Path, sample: Path, tmp_path: Path) -> None:
    # The largest part that trains in seconds: tens of megabytes take long enough to write to be caught at it.
    settings = replace(stages(sample, tmp_path, whole).denoiser, size="compact")
    settings.loop = loop(steps=6, batch_size=1, checkpoint_steps=1)
    run, unfinished = settings.run, settings.run / UNFINISHED
    process = launch("denoiser", settings)
    caught = False
    while not caught:
        wait(process, lambda: (run / CHECKPOINT).exists() and unfinished.exists() and any(unfinished.iterdir()))
        process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        # Whatever the library calls its file; the exported part, written likewise, is a folder.
        caught = unfinished.exists() and any(file.is_file() for file in unfinished.iterdir())
        if not caught:
            process.send_signal(signal.SIGCONT)
    kill(process)

    state, _ = read_checkpoint(run / CHECKPOINT)
    assert 0 < state["step"] < 6
    settings.loop = replace(settings.loop, checkpoint_steps=None)
    denoiser.main(settings)
    uninterrupted = replace(settings, run=tmp_path / "uninterrupted")
    denoiser.main(uninterrupted)
    assert_same_run(run, uninterrupted.run)
    assert not unfinished.exists()


def test_a_cache_cut_short_anywhere_is_taken_up(whole: Path, sample: Path, tmp_path: Path) -> None:
    """A kill may leave half a line, half a frame, or a line whose frames a crash of the machine lost."""
    first = json.loads((whole / "cache" / EPISODES).read_text().splitlines()[0])["states"]
    settings = replace(stages(sample, tmp_path, whole).cache)
    shutil.copytree(whole / "cache", settings.out)
    key = json.loads((settings.out / KEY).read_text())
    (settings.out / KEY).write_text(json.dumps({**key, "complete": False, "format": None}))
    lines = (settings.out / EPISODES).read_bytes()
    (settings.out / EPISODES).write_bytes(lines[:-100])
    os.truncate(settings.out / LATENTS, first * FRAME_BYTES + 1000)
    build_cache(settings)
    for file in (LATENTS, EPISODES, KEY):
        assert (settings.out / file).read_bytes() == (whole / "cache" / file).read_bytes()


def test_a_run_goes_on_from_its_weights_alone(whole: Path, tmp_path: Path) -> None:
    settings = DenoiserTraining(whole / "cache", tmp_path / "run", "tiny", loop=loop(steps=5))
    denoiser.main(settings)
    (settings.run / CHECKPOINT).unlink()
    exported = load_file(settings.run / EXPORT / WEIGHTS)
    settings.loop = replace(settings.loop, steps=8)
    trainer = new_trainer(settings)
    trainer.resume()
    assert trainer.step == 5
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor, exported[name]) and torch.equal(trainer.average[name], exported[name])
    denoiser.main(settings)
    state, _ = read_checkpoint(settings.run / CHECKPOINT)
    assert state["step"] == 8
    assert any(not torch.equal(t, exported[n]) for n, t in load_file(settings.run / EXPORT / WEIGHTS).items())


def new_trainer(settings: DenoiserTraining) -> Trainer:
    cache = Cache(settings.cache)
    batches = WindowBatches(cache, settings.loop.batch_size, settings.chain, settings.short_share)
    model = Denoiser(**DENOISERS[settings.size])
    identity = cache.identity("denoiser", settings.size)
    return Trainer(settings.run, model, DenoiserLoss(settings), batches, settings.loop, identity)


def test_a_finished_stage_is_left_alone(
    whole: Path, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, main in MAINS.items():
        settings = getattr(stages(sample, tmp_path, whole), name)
        shutil.copytree(whole / name, tmp_path / name)
        before = {file: file.stat().st_mtime_ns for file in (tmp_path / name).rglob("*")}
        main(settings)
        assert {file: file.stat().st_mtime_ns for file in (tmp_path / name).rglob("*")} == before
    out, bars = capsys.readouterr()
    assert out.count(f"finished, {STEPS} steps") == 3
    assert bars == ""  # neither frames nor batches were read


def test_training_from_another_runs_weights_begins_with_them(whole: Path, tmp_path: Path) -> None:
    settings = DenoiserTraining(whole / "cache", tmp_path, "tiny", loop=loop(init=whole / "denoiser" / EXPORT))
    trainer = new_trainer(settings)
    assert trainer.step == 0
    for name, tensor in load_file(whole / "denoiser" / EXPORT / WEIGHTS).items():
        assert torch.equal(trainer.model.state_dict()[name], tensor)
    with pytest.raises(ValueError, match="do not fit"):
        new_trainer(replace(settings, loop=loop(init=whole / "outcome" / EXPORT)))
    with pytest.raises(FileNotFoundError, match="expected an export/ folder"):
        new_trainer(replace(settings, loop=loop(init=tmp_path / "nowhere")))


def test_a_run_with_minutes_ends_in_time(whole: Path, tmp_path: Path) -> None:
    settings = OutcomeTraining(whole / "cache", tmp_path, "tiny", loop=loop(steps=10**6, minutes=0.02))
    outcome.main(settings)
    state = read_state(tmp_path / EXPORT)
    assert state and 0 < state["step"] < 10**6 and state["elapsed"] >= 1.2
    outcome.main(settings)  # it is finished, so nothing more happens
    assert read_state(tmp_path / EXPORT) == state


def test_curves_and_pictures_are_logged(whole: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    events = EventAccumulator(str(whole / "autoencoder" / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"loss", "psnr", "latent_std", "learning_rate"} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("loss")] == [20]
    assert tags["images"] == ["real above reconstruction"]


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(whole: Path, tmp_path: Path) -> None:
    settings = OutcomeTraining(whole / "cache", tmp_path, "tiny", loop=loop(learning_rate=1e30, warmup_steps=1))
    with pytest.raises(FloatingPointError, match="diverged.*learning rate below 1e\\+30"):
        outcome.main(settings)


# --- seeds


@pytest.mark.parametrize("name", ["autoencoder", "denoiser", "outcome"])
def test_a_seed_is_honoured(name: str, whole: Path, sample: Path, tmp_path: Path) -> None:
    weights: list[dict[str, Tensor]] = []
    for run, seed in (("a", 0), ("b", 0), ("c", 1)):
        settings = getattr(stages(sample, tmp_path, whole), name)
        settings.run, settings.loop = tmp_path / run, loop(steps=2, seed=seed)
        torch.manual_seed(len(run) + 17 * len(weights))  # whatever went before in the process
        MAINS[name](settings)
        weights.append(load_file(tmp_path / run / EXPORT / WEIGHTS))
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert any(not torch.equal(weights[0][key], weights[2][key]) for key in weights[0])


# --- windows


def make_cache(folder: Path, lengths: list[int], **columns: list[Any] | None) -> Cache:
    """A cache of episodes in which state `i` of all has latents of value `i` and action `i % 5`."""
    folder.mkdir(parents=True)
    total = sum(lengths)
    latents = np.ones((total, *FRAME_SHAPE), np.float16) * np.arange(total, dtype=np.float16)[:, None, None, None]
    latents.tofile(folder / LATENTS)
    with (folder / EPISODES).open("w") as file:
        for number, (length, stop) in enumerate(zip(lengths, np.cumsum(lengths).tolist(), strict=True)):
            here = slice(stop - length, stop)
            entry: dict[str, Any] = {"episode": number, "states": length}
            entry["actions"] = [i % 5 for i in range(total)][here]
            for name in ("rewards", "dones", "life_lost"):
                column = columns.get(name)
                entry[name] = None if column is None else column[here]
            file.write(json.dumps(entry) + "\n")
    key = {"autoencoder": "a" * 64, "dataset": ["made up"], "complete": True}
    (folder / KEY).write_text(json.dumps(key))
    return Cache(folder)


LENGTHS = [3, 60, 7, 1]


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return make_cache(tmp_path_factory.mktemp("cache") / "counted", LENGTHS)


@given(seed=st.integers(0, 10**6), following=st.integers(1, 5), short_share=st.sampled_from([0.0, 0.5, 1.0]))
def test_windows_never_cross_episodes_and_short_ones_repeat_their_first_state(
    counted: Cache, seed: int, following: int, short_share: float
) -> None:
    batch = WindowBatches(counted, 8, following, short_share)(np.random.default_rng(seed))
    assert batch["latents"].shape == (8, HISTORY + following, *FRAME_SHAPE)
    assert batch["actions"].shape == (8, HISTORY + following)
    for states, actions in zip(batch["latents"][:, :, 0, 0, 0].astype(int), batch["actions"], strict=True):
        assert len(set(counted.episodes[states])) == 1
        padded = int((states == states[0]).sum()) - 1
        assert states[padded:].tolist() == list(range(states[0], states[0] + HISTORY + following - padded))
        assert actions[:padded].tolist() == [Action.NO_ACTION] * padded
        assert actions[padded:].tolist() == (states[padded:] % 5).tolist()
        begins = states[0] == counted.first[states[0]]
        assert begins or (padded == 0 if short_share == 0 else padded < HISTORY)
        if short_share == 1:
            assert padded > 0


def test_latents_in_a_gpus_memory_make_the_same_windows(counted: Cache) -> None:
    """A tensor takes the memory map's place."""
    kept = Cache(counted.folder)
    kept.keep_on(torch.device("cpu"))
    assert isinstance(kept.latents, np.memmap)  # nothing to gain there
    kept.latents = torch.from_numpy(np.array(kept.latents))
    one, other = (WindowBatches(cache, 8, 3, 0.5)(np.random.default_rng(0)) for cache in (counted, kept))
    assert torch.is_tensor(other["latents"]) and np.array_equal(one["latents"], other["latents"].numpy())


def test_a_compiled_denoiser_learns_the_same(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph that torch.compile takes, without what it then makes of it for a processor."""
    compiling = nn.Module.compile
    compiled: list[nn.Module] = []

    def compile_graph(model: nn.Module) -> None:
        compiled.append(model)
        compiling(model, backend="aot_eager")

    monkeypatch.setattr(nn.Module, "compile", compile_graph)
    runs = [tmp_path / name for name in ("compiled", "plain")]
    for run in runs:
        settings = DenoiserTraining(
            whole / "cache", run, "tiny", chain=2, own_from=0.0, free_from=0.0, loop=loop(steps=2)
        )
        settings.loop.compile = run.name == "compiled"
        denoiser.main(settings)
    assert len(compiled) == 1
    assert_same_weights(*(run / EXPORT / WEIGHTS for run in runs))


def test_every_state_with_enough_after_it_is_drawn(counted: Cache) -> None:
    batches = WindowBatches(counted, 400, 4, 0.0)
    newest = batches(np.random.default_rng(0))["latents"][:, HISTORY - 1, 0, 0, 0].astype(int)
    assert set(newest) == {*range(3, 59), *range(63, 66)}
    with pytest.raises(ValueError, match="no episode of more than 100 states"):
        WindowBatches(counted, 4, 100, 0.0)


def test_rare_events_are_drawn_more_often_than_they_come(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "cache", LENGTHS)
    cache.life_lost[20], cache.rewards[40] = 1, 200

    def shares(event_share: float) -> tuple[float, float]:
        batches = WindowBatches(cache, 400, 3, 0.0, event_share)
        newest = batches(np.random.default_rng(0))["latents"][:, HISTORY - 1, 0, 0, 0].astype(int)
        return np.isin(newest, [18, 19, 20]).mean(), np.isin(newest, [38, 39, 40]).mean()

    assert max(shares(0.0)) < 0.12
    assert min(shares(0.8)) > 0.3  # a lost life and a ghost eaten, half and half


class Probe(nn.Module):
    """A denoiser that repeats the last frame and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[tuple[Tensor, ...]] = []

    def forward(self, *given: Tensor) -> Tensor:
        self.given.append(given)
        return given[2][:, -FRAME_SHAPE[0] :]


def test_history_is_noisy_from_the_start_and_the_level_is_told(counted: Cache, tmp_path: Path) -> None:
    config = DenoiserTraining(tmp_path, tmp_path, history_noise=0.5, own_from=0.6)
    batch = {
        name: torch.from_numpy(values)
        for name, values in WindowBatches(counted, 64, 3, 0.0)(np.random.default_rng(0)).items()
    }
    probe = Probe()
    DenoiserLoss(config)(probe, batch, torch.Generator().manual_seed(0), 0.0)
    assert len(probe.given) == 6  # every step of a chain is learned from twice: from noise alone, and further on
    for i, (_, sigma, history, actions, level) in enumerate(probe.given):
        first, step = i % 2 == 0, i // 2
        clean = batch["latents"][:, step : HISTORY + step].float().flatten(1, 2)
        noise = (history - clean).flatten(1).std(1)
        torch.testing.assert_close(noise, level, atol=0.01, rtol=0)
        assert level.min() == 0 and 0.2 < level.max() <= 0.5
        assert (sigma == 1).all() if first else 0.9 < sigma.max() <= 1 and 0.4 <= sigma.min() < 0.5
        assert actions.argmax(-1).tolist() == batch["actions"][:, step : HISTORY + step].tolist()


def test_the_second_pass_is_given_what_the_first_made_leaning_to_what_is_to_come(tmp_path: Path) -> None:
    """The probe repeats the last frame, zeros, and what is to come is hundreds."""
    latents, actions = torch.zeros(256, HISTORY + 1, *FRAME_SHAPE), torch.zeros(256, HISTORY + 1, dtype=torch.int64)
    latents[:, -1] = 100
    probe = Probe()
    batch = {"latents": latents, "actions": actions}
    DenoiserLoss(DenoiserTraining(tmp_path, tmp_path, history_noise=0.0))(probe, batch, torch.Generator(), 0.0)
    (noise, *_), (noisy, sigma, *_) = probe.given
    assert noise.std() == pytest.approx(1, abs=0.01)
    lean = noisy.mean((1, 2, 3)) / (100 * (1 - sigma))
    clear = lean[sigma < 0.9]
    assert clear.min() > LEAST_LEAN - 0.01 and clear.max() < 1.01 and clear.std() > 0.2


def test_late_in_a_run_a_chain_sees_its_own_steps(counted: Cache, tmp_path: Path) -> None:
    """The probe repeats the last frame, so what it made of step 1 is step 0's frame again."""
    config = DenoiserTraining(tmp_path, tmp_path, history_noise=0.0, own_from=0.6, free_from=1.0)
    batch = {
        name: torch.from_numpy(values)
        for name, values in WindowBatches(counted, 64, 2, 0.0)(np.random.default_rng(0)).items()
    }
    probe = Probe()
    for progress, real in ((0.5, True), (0.7, False)):
        probe.given.clear()
        DenoiserLoss(config)(probe, batch, torch.Generator().manual_seed(0), progress)
        before, after = probe.given[0][2], probe.given[2][2]
        expected = batch["latents"][:, HISTORY].float() if real else unfold(before)[:, -1]
        assert torch.equal(unfold(after)[:, -1], expected)


class Straying(Probe):
    """Repeats the last frame too, but in one place says something else, near the truth or far from it."""

    def __init__(self, off: float) -> None:
        super().__init__()
        self.off = nn.Parameter(torch.tensor(off))

    def forward(self, *given: Tensor) -> Tensor:
        dreamed = super().forward(*given).clone()
        dreamed[:, :, 4, 4] = self.off
        return dreamed


@pytest.mark.parametrize("off", [STRAYED - 0.2, STRAYED + 0.2])
def test_a_free_chain_goes_on_from_its_dream_until_it_has_strayed(off: float, tmp_path: Path) -> None:
    config = DenoiserTraining(tmp_path, tmp_path, history_noise=0.0, own_from=0.0, free_from=0.5, tries=3)
    latents, actions = torch.zeros(2, HISTORY + 3, *FRAME_SHAPE), torch.zeros(2, HISTORY + 3, dtype=torch.int64)
    latents[:, HISTORY:] = 0.01  # tells the recording from what the probe repeats
    probe = Straying(off)
    loss, figures = DenoiserLoss(config)(
        probe, {"latents": latents, "actions": actions}, torch.Generator().manual_seed(0), progress=0.6
    )
    strayed = off > STRAYED
    tries = config.tries if strayed else 1  # of the second pass, by other noise each
    step = 2 + tries
    learned = [probe.given[i] for start in range(0, len(probe.given), step) for i in (start, start + 1)]
    dreamed = [probe.given[i] for start in (0, step) for i in range(start + 2, start + step)]
    assert len(probe.given) == 3 * 2 + 2 * tries and len(learned) == 6
    assert all(sigma.allclose(noise_levels(2)[1]) and told.eq(TOLD_NOISE).all() for _, sigma, _, _, told in dreamed)
    assert len({noisy.sum().item() for noisy, *_ in dreamed}) == len(dreamed)
    for i, (_, _, history, _, _) in enumerate(learned[::2]):
        own = unfold(history)[:, HISTORY - i :]
        if strayed:  # the recording takes its place
            assert (own == 0.01).all()
        else:
            assert ((own[:, :, :, 4, 4] - off).abs() < 1e-6).all()
    assert figures["strayed"] == strayed and loss > 0


# --- outcomes


def test_only_what_is_known_of_an_outcome_is_learned(tmp_path: Path) -> None:
    """One episode of several says what its steps brought."""
    cache = make_cache(tmp_path / "cache", LENGTHS)
    cache.rewards[3:63] = [0, 10, 200] * 20
    cache.life_lost[3:63] = 0
    cache.dones[3:63] = [0] * 59 + [1]
    assert unknown_outcomes(cache) == [] and point_classes(cache) == [0, 10, 200]
    batches = OutcomeBatches(cache, [0, 10, 200], 4, 256)
    batch = batches(np.random.default_rng(0))
    states = batch["latents"][:, -1, 0, 0, 0].astype(int)
    known = (states >= 3) & (states < 63)
    assert set(states) <= {*range(2), *range(3, 63), *range(63, 69)}
    assert (batch["points_known"] == known).all() and ((batch["life_lost"] >= 0) == known).all()
    assert ((batch["caught"] >= 0) == (known & (states != 62))).all()  # an end may be a cleared maze
    assert (batch["end"] == (states == 62)).all()  # wherever an episode goes on, it has not ended
    # What is unknown does not count: another class there leaves the loss as it is.
    loss = OutcomeLoss(OutcomeTraining(tmp_path, tmp_path, latent_noise=0.0))
    model = OutcomeModel(points=[0, 10, 200], width=8, end_width=8, num_blocks=1)
    tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
    other = {**tensors, "points": torch.where(torch.from_numpy(known), tensors["points"], 2)}
    losses = [loss(model, b, torch.Generator(), 0.0)[0] for b in (tensors, other)]
    assert (~known).any() and torch.equal(*losses)


def test_without_any_label_a_dream_has_no_points_and_no_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = make_cache(tmp_path / "cache", LENGTHS)
    settings = OutcomeTraining(cache.folder, tmp_path / "run", "tiny", loop=loop(steps=3))
    outcome.main(settings)
    said = capsys.readouterr().out
    assert "no dataset says the reward of a step (a dream brings no points), lives" in said
    model = OutcomeModel.from_pretrained(tmp_path / "run" / EXPORT)
    assert model.config.points == [0]
    batch = OutcomeBatches(cache, [0], 4, 32)(np.random.default_rng(0))
    assert not batch["life_lost"].any() and not batch["end"].any() and not batch["points_known"].any()


def test_rewards_that_are_no_game_points_are_refused(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "cache", [3], rewards=[0, 0.5, 10])
    with pytest.raises(ValueError, match=r"rewards .* \[0.0, 0.5, 10.0\].*whole game points"):
        point_classes(cache)


# --- what does not fit


@pytest.mark.parametrize("name", ["autoencoder", "denoiser", "outcome"])
@pytest.mark.parametrize("exported", [True, False])
def test_the_run_of_another_identity_is_refused(
    name: str, exported: bool, whole: Path, sample: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole / name, tmp_path / name)
    if not exported:
        shutil.rmtree(tmp_path / name / EXPORT)
    settings = replace(getattr(stages(sample, tmp_path, whole), name), size="compact")
    with pytest.raises(ValueError, match=r"holds a run with .*tiny.*now asked for .*compact.*another folder"):
        MAINS[name](settings)


def foreign(file: Path) -> None:
    save_file({"weight": torch.zeros(3)}, file, {"state": json.dumps({"step": 1})})


def other_weights(file: Path) -> None:
    state, tensors = read_checkpoint(file)
    tensors["model.position"] = tensors.pop("model." + next(n[6:] for n in tensors if n.startswith("model.")))
    save_file(tensors, file, {"state": json.dumps(state)})


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: os.truncate(file, 0),
        lambda file: os.truncate(file, 20),
        lambda file: os.truncate(file, file.stat().st_size // 2),
        lambda file: os.truncate(file, file.stat().st_size - 1),
        lambda file: file.write_text("not a checkpoint"),
        foreign,
        other_weights,
    ],
)
def test_a_damaged_checkpoint_is_one_clear_error(damage: Callable[[Path], None], whole: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    shutil.copy(whole / "outcome" / CHECKPOINT, tmp_path / "run")
    damage(tmp_path / "run" / CHECKPOINT)
    settings = OutcomeTraining(whole / "cache", tmp_path / "run", "tiny", loop=loop())
    with pytest.raises(ValueError, match="is not a whole checkpoint of this run.*Delete it"):
        outcome.main(settings)


def test_a_damaged_stage_file_is_one_clear_error(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "outcome", tmp_path / "run")
    (tmp_path / "run" / EXPORT / STAGE).write_text("{")
    with pytest.raises(ValueError, match="stage.json is damaged"):
        outcome.main(OutcomeTraining(whole / "cache", tmp_path / "run", "tiny", loop=loop()))


def test_a_decoder_trained_further_keeps_the_latents(whole: Path, sample: Path, tmp_path: Path) -> None:
    base = whole / "autoencoder" / EXPORT
    settings = replace(stages(sample, tmp_path).autoencoder, train="decoder")
    with pytest.raises(ValueError, match="keeps an encoder, and none is given"):
        autoencoder.main(settings)
    autoencoder.main(replace(settings, loop=loop(init=base)))
    further = settings.run / EXPORT
    assert encoder_hash(further) == encoder_hash(base)
    old, new = load_autoencoder(base), load_autoencoder(further)
    frames = torch.rand(1, 3, 512, 512) * 2 - 1
    latents = old.encode(frames)
    assert torch.equal(new.encode(frames), latents)
    assert not torch.equal(new.decode(latents), old.decode(latents))


def test_an_autoencoder_trained_further_keeps_its_pictures(whole: Path, sample: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(whole / "autoencoder" / EXPORT, base)
    background = np.array(Image.open(base / BACKGROUND))
    background[:8] = 200
    Image.fromarray(background).save(base / BACKGROUND)
    settings = replace(stages(sample, tmp_path).autoencoder, loop=loop(steps=2, init=base))
    autoencoder.main(settings)
    assert np.array_equal(np.array(Image.open(settings.run / EXPORT / BACKGROUND)), background)


def test_a_cache_of_another_autoencoder_or_dataset_is_refused(whole: Path, sample: Path, tmp_path: Path) -> None:
    settings = replace(stages(sample, whole).cache)
    retrained = tmp_path / EXPORT
    shutil.copytree(whole / "autoencoder" / EXPORT, retrained)
    weights = load_file(retrained / WEIGHTS)
    trained_on = {name: t + 1e-3 * name.startswith("decoder.") for name, t in weights.items()}
    save_file(trained_on, retrained / WEIGHTS)
    assert build_cache(replace(settings, autoencoder=retrained)).key["complete"]  # the decoder makes no latents
    save_file({name: tensor + 1e-3 for name, tensor in weights.items()}, retrained / WEIGHTS)
    for other in (
        replace(settings, autoencoder=retrained),
        replace(settings, dataset=(str(sample / "rows.parquet"),)),
        replace(settings, held_out=(2008,)),
    ):
        with pytest.raises(ValueError, match="was made from .*now asked for .*Delete it or give another folder"):
            build_cache(other)
    with pytest.raises(FileNotFoundError, match="No trained autoencoder"):
        build_cache(replace(settings, autoencoder=tmp_path))
    with pytest.raises(ValueError, match="holds a trained outcome; expected a trained autoencoder"):
        build_cache(replace(settings, autoencoder=whole / "outcome" / EXPORT))


def test_a_cache_that_is_not_whole_is_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No finished cache"):
        Cache(tmp_path)
    shutil.copytree(whole / "cache", tmp_path / "cache")
    os.truncate(tmp_path / "cache" / LATENTS, 1000)
    with pytest.raises(ValueError, match="has 1000 bytes; expected .*make it again"):
        Cache(tmp_path / "cache")


def test_nothing_left_to_encode_is_refused(whole: Path, sample: Path, tmp_path: Path) -> None:
    everything = tuple(episode.number for episode in read_episodes(sample))
    settings = replace(stages(sample, tmp_path, whole).cache, held_out=everything)
    with pytest.raises(ValueError, match="No frames are left"):
        build_cache(settings)


def assembly(root: Path, out: Path) -> Assembly:
    autoencoder, denoiser, outcome = (root / part / EXPORT for part in ("autoencoder", "denoiser", "outcome"))
    return Assembly(autoencoder, denoiser, outcome, seeds=root / "seeds.parquet", out=out)


def test_a_world_taken_apart_is_trained_on_and_put_together_again(
    tiny_world: Path, sample: Path, tmp_path: Path
) -> None:
    parts = tmp_path / "parts"
    for _ in range(2):  # what is there already is replaced
        take_apart(TakingApart(str(tiny_world), parts))
    world = WorldModel.from_pretrained(tiny_world, device="cpu")
    kept = Assembly(
        parts / "autoencoder",
        parts / "denoiser",
        parts / "outcome",
        parts / "seeds.parquet",
        tmp_path / "again",
        history_noise=world.config.history_noise,
        shift=world.scheduler.config.shift,
        settled_share=world.config.settled_share,
        precision="fp32",
    )
    assert assemble(kept).hash == world.hash
    # A trainer goes on from them, on a cache made with this very autoencoder.
    build_cache(CacheBuilding((str(sample),), parts / "autoencoder", tmp_path / "cache", precision="fp32"))
    run = tmp_path / "run"
    denoiser.main(DenoiserTraining(tmp_path / "cache", run, "tiny", loop=loop(steps=1, init=parts / "denoiser")))
    trained = assemble(replace(kept, denoiser=run / EXPORT, out=tmp_path / "trained"))
    assert trained.hash != world.hash
    before = load_file(parts / "denoiser" / WEIGHTS)
    moved = [(before[name] - tensor).abs().max() for name, tensor in load_file(run / EXPORT / WEIGHTS).items()]
    assert 0 < max(moved) < 0.01  # from these weights, not from random ones


def test_parts_that_do_not_belong_together_are_refused(whole: Path, tmp_path: Path) -> None:
    fitting = assembly(whole, tmp_path / "world")
    load_parts(fitting)
    other = tmp_path / "other"
    shutil.copytree(whole / "denoiser" / EXPORT, other)
    state = json.loads((other / STAGE).read_text())
    state["identity"]["autoencoder"] = "b" * 64
    (other / STAGE).write_text(json.dumps(state))
    with pytest.raises(ValueError, match="denoiser .* was trained on latents of another autoencoder .*bbbbbbbbbbbb"):
        assemble(replace(fitting, denoiser=other))
    with pytest.raises(ValueError, match="holds a trained outcome; expected a trained denoiser"):
        assemble(replace(fitting, denoiser=fitting.outcome, outcome=fitting.denoiser))
    with pytest.raises(FileNotFoundError, match="No trained outcome"):
        assemble(replace(fitting, outcome=tmp_path))
    assert not (tmp_path / "world").exists()


def test_episodes_to_hold_out_must_be_there_and_leave_some(sample: Path, tmp_path: Path) -> None:
    numbers = [episode.number for episode in read_episodes(sample)]
    with pytest.raises(ValueError, match=rf"has no episodes \[5\]; it has \[{numbers[0]}, {numbers[1]}\]"):
        hold_out((str(sample),), (5, numbers[0]), tmp_path)
    with pytest.raises(ValueError, match="Nothing is left"):
        hold_out((str(sample),), tuple(numbers), tmp_path)
    assert not any(tmp_path.iterdir())


def test_seeds_need_an_episode_that_is_long_enough(sample: Path) -> None:
    short = next(iter(read_episodes(sample)))
    short.images = short.images[:47]
    with pytest.raises(ValueError, match="No episode is long enough for a seed; expected at least 48 states"):
        choose_seeds([short])


def test_settings_that_make_no_sense_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for change in ({"steps": 0}, {"batch_size": -1}, {"minutes": 0.0}, {"checkpoint_steps": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(change))} is .*expected more than 0"):
            LoopConfig(**change)
    with pytest.raises(ValueError, match="no size 'huge'; expected one of tiny, compact, full"):
        FrameAutoencoder.create("huge")
    with pytest.raises(SystemExit):
        tyro.cli(DenoiserTraining, args=["--cache", "c", "--run", "r", "--size", "huge"])
    said = capsys.readouterr().err
    assert "huge" in said and "tiny" in said and "compact" in said


def test_the_command_line_says_what_is_wrong_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["denoiser", "--cache", str(tmp_path), "--run", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"^error: No finished cache in .*; run `python -m training.cache`"):
        command(denoiser.main, DenoiserTraining)


# --- progress


def test_a_bar_in_a_log_file_is_a_line_now_and_then() -> None:
    log = io.StringIO()
    with redirect_stderr(log):
        for _ in progress_bar(range(10_000), desc="counting", unit="number"):
            pass
    lines = [line for line in log.getvalue().splitlines() if line.strip()]
    assert 1 <= len(lines) <= 3
    assert lines[-1].strip().startswith("counting: 10000/10000 [")


def test_spots_of_one_other_look_are_found_and_what_actors_cross_or_score_is_not() -> None:
    rng = np.random.default_rng(0)
    frames = np.zeros((60, 512, 512, 3), np.uint8)
    frames[rng.permutation(60)[:40], 10:13, 10:13] = 250  # a pellet, mostly standing
    frames[rng.permutation(60)[:10], 10:13, 20:23] = (250, 240, 245)  # and one mostly eaten
    frames[:, 10:13, 30:33] = rng.integers(0, 256, (60, 1, 1, 3))  # where everybody walks
    frames[:2, 10:13, 40:43] = 200  # seen twice
    frames[::2, 10:13, 50:53] = 30  # hardly another look
    frames[::2, 10, 60] = 250  # a speck
    for column in range(70, 73):  # a figure of the score: white or black each, but not together
        frames[rng.permutation(60)[:25], 10:13, column] = 250
    background = median_frame(frames)
    other = other_look(frames, background)
    assert (background[10:13, 10:13] == 250).all() and (other[10:13, 10:13] == 0).all()
    assert (background[10:13, 20:23] == 0).all() and (other[10:13, 20:23] == (250, 240, 245)).all()
    rows, columns = np.nonzero((other != background).any(axis=-1))
    assert set(rows) == {10, 11, 12} and set(columns) == {10, 11, 12, 20, 21, 22}
