"""`python -m training`: from a dataset to a world in one command, and what it says before."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import pyarrow.parquet as pq
import pytest
import torch
import tyro

import neural_pacman  # noqa: F401, registers the environment
from neural_pacman.episodes import read_episodes
from neural_pacman.seeds import Seeds
from neural_pacman.world import WorldModel
from neural_pacman.world_folder import find_world, read_config
from training.__main__ import main
from training.cache import Cache
from training.denoiser import Chains
from training.estimate import FOUND, measure_data
from training.mirror import Mirror
from training.plan import BUDGET, WorldTraining, divide, kept_division, make_plan, parse_budget

ROOT = Path(__file__).parent.parent


def asked(dataset: Path, out: Path, *more: str) -> list[str]:
    quick = ["--size", "tiny", "--steps", "3", "--batch-size", "4", "--frames-in-memory", "16", "--precision", "fp32"]
    return ["--dataset", str(dataset), "--out", str(out), *quick, "--device", "cpu", *more]


def train(*given: Any) -> None:
    main(tyro.cli(WorldTraining, args=asked(*given)))


def test_one_command_makes_a_world_that_plays_and_a_second_one_does_nothing(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = tmp_path / "my world"
    given = asked(sample, world, "--notices", str(sample / "LICENSE-PyPacman"))
    made = subprocess.run(
        [sys.executable, "-m", "training", *given], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    for word in ("autoencoder", "cache", "denoiser", "outcome", "3 steps", "230 frames", "min", "MB"):
        assert word in made.stdout.split("autoencoder: CPU")[0]

    model = WorldModel.from_pretrained(world, device="cpu")
    assert model.config.size == "tiny" and (world / "LICENSE-PyPacman").exists()
    shipped = read_config(find_world("pacman"))
    for name in ("num_inference_steps", "history_noise", "settled_share"):
        assert getattr(model.config, name) == getattr(shipped, name)
    (held_out,) = model.config.held_out_episodes
    seeds = Seeds.of(model)
    assert {seeds[i].episode for i in range(len(seeds))} == set(held_out["episodes"])
    cache = Cache(tmp_path / "my world.run" / "cache")
    (trained,) = (episode for episode in read_episodes(sample) if episode.number not in held_out["episodes"])
    assert set(cache.episodes) == {trained.number} and trained.rewards is not None
    assert model.outcome.config.points == sorted({0, *trained.rewards})
    env = gymnasium.make("NeuralPacman-v0", world=str(world), device="cpu")
    env.reset(seed=0)
    frame, _, _, _, _ = env.step(0)
    assert frame.shape == (512, 512, 3)
    env.close()

    before = {file: file.read_bytes() for file in world.rglob("*") if file.is_file()}
    train(sample, world, "--notices", str(sample / "LICENSE-PyPacman"))
    said, bars = capsys.readouterr()
    assert said.count("finished, 3 steps") == 3 and "The world is in" in said
    assert "frames" not in bars and "encoding" not in bars
    assert {file: file.read_bytes() for file in world.rglob("*") if file.is_file()} == before
    with pytest.raises(ValueError, match="holds out .*now asked for"):
        train(sample, world, "--held-out", str(trained.number))


def test_one_episode_without_labels_is_enough_for_a_world(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the public dataset: nothing but frames, actions and ends."""
    rows = pq.read_table(sample / "rows.parquet", columns=["episode", "frame_image", "action", "done"])
    last = rows["episode"].to_numpy() == rows["episode"][-1].as_py()
    (tmp_path / "data").mkdir()
    pq.write_table(rows.filter(last).slice(0, 80), tmp_path / "data" / "rows.parquet")
    train(tmp_path / "data", tmp_path / "world")
    said = " ".join(capsys.readouterr().out.split())
    assert "too few episodes to hold one out" in said
    assert "no dataset says the reward of a step (a dream brings no points), lives (none is lost)." in said
    model = WorldModel.from_pretrained(tmp_path / "world", device="cpu")
    assert model.config.held_out_episodes == [] and model.outcome.config.points == [0]
    seeds = Seeds.of(model)
    assert {seeds[i].kind for i in range(len(seeds))} == {"start", "maze"}
    latents = seeds[0].latents[None]
    outcome = model.judge(latents, torch.zeros(1, 32, dtype=torch.long), latents[:, -1])
    assert outcome.points.tolist() == [0.0]


@pytest.mark.parametrize(
    ("mirror", "work", "takes"), [((), "230 frames", "4 MB"), (("--mirror.rows", "528"), "460 frames", "8 MB")]
)
def test_a_dry_run_says_time_and_disk_and_writes_nothing(
    mirror: tuple[str, ...], work: str, takes: str, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(sample, tmp_path / "world", "--dry-run", "--budget", "10m", *mirror)
    lines = capsys.readouterr().out.splitlines()
    assert not any(tmp_path.iterdir())
    table = {cells[0]: cells[1:] for line in lines if len(cells := [c.strip() for c in line.split("│")[1:-1]]) == 4}
    assert list(table) == ["autoencoder", "cache", "denoiser", "outcome", "all"]
    for _, time_left, disk in table.values():
        assert time_left.endswith("min") and disk.endswith("MB")
    assert table["cache"][0] == work and table["cache"][2] == takes
    minutes = {stage: float(cells[1].split()[0]) for stage, cells in table.items()}
    assert minutes["all"] == pytest.approx(10, abs=0.5)
    assert minutes["denoiser"] > minutes["autoencoder"] > minutes["outcome"] > 0


def test_finding_pictures_is_counted_and_takes_longer_than_reading(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(WorldTraining((str(sample),), tmp_path / "world", "tiny", frames_in_memory=16, device="cpu"))
    monkeypatch.setattr("training.estimate._timed", lambda make: (make(), 0.5))
    assert measure_data(plan, 230) == {"reading": 0.5 * (16 + FOUND * 16), "cache": 230.0}


@pytest.mark.parametrize(("text", "minutes"), [("90m", 90), ("2h", 120), ("1.5h", 90)])
def test_a_budget_is_minutes_or_hours(text: str, minutes: float) -> None:
    assert parse_budget(text) == minutes


@pytest.mark.parametrize("text", ["", "2", "h", "2d", "-1h", "0m", "nanh", "infh", "two hours"])
def test_a_budget_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"The budget is '{text}'; expected a time such as 90m or 2h"):
        parse_budget(text)


def test_a_budget_is_divided_once(tmp_path: Path) -> None:
    minutes = divide(100, {"reading": 60.0, "cache": 540.0})
    assert sum(minutes.values()) == pytest.approx(90)
    with pytest.raises(ValueError, match="The budget is 5 minutes, and reading and encoding .* alone take 10.0"):
        divide(5, {"cache": 600.0})
    plan = make_plan(WorldTraining(("data",), tmp_path / "world", "tiny"))
    assert kept_division(plan, "2h") is None
    plan.run.mkdir()
    (plan.run / BUDGET).write_text(json.dumps({"budget": "2h", "minutes": minutes}))
    assert kept_division(plan, "2h") == minutes and kept_division(plan, "3h") is None


def test_what_would_fail_at_the_end_fails_at_the_start(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="notes exists and is not a world"):
        train(sample, tmp_path / "notes")
    with pytest.raises(FileNotFoundError, match="no notice at .*LICENSE-me"):
        train(sample, tmp_path / "world", "--notices", str(tmp_path / "LICENSE-me"))
    with pytest.raises(FileNotFoundError, match="No dataset at"):
        train(tmp_path / "nowhere", tmp_path / "world")
    pq.write_table(pq.read_table(sample / "rows.parquet", columns=["action"]), tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=r"has columns \['action'\]; missing 'episode'"):
        train(tmp_path / "rows.parquet", tmp_path / "world")
    assert {path.name for path in tmp_path.iterdir()} == {"notes", "rows.parquet"}


def test_every_stage_gets_the_seed_and_the_device(tmp_path: Path) -> None:
    plan = make_plan(WorldTraining(("data",), tmp_path / "world", "tiny", seed=7, device="cpu", threads=1))
    assert {(loop.seed, loop.device, loop.threads) for loop in plan.loops.values()} == {(7, "cpu", 1)}
    assert len({loop.steps for loop in plan.loops.values()}) == 3  # each stage its own


def test_the_notebooks_command_reaches_the_stages(tmp_path: Path) -> None:
    notebook = (ROOT / "docs" / "lab_notebook.md").read_text(encoding="utf-8")
    commands = re.findall(r"^python -m training (.*)$", notebook.replace("\\\n", " "), re.MULTILINE)
    config = tyro.cli(WorldTraining, args=shlex.split(commands[0]))
    plan = make_plan(replace(config, device="cpu"))
    assert plan.cache.mirror == Mirror(528, ("FF80FF", "FF8000")) and plan.cache.frames_of(100) == 200
    given = plan.denoiser
    assert (given.chain, given.event_share, given.own_from, given.free_from) == (12, 0.3, 0.05, 0.15)
    assert plan.autoencoder.frames_in_memory == 16_000
    assert config.notices and all((ROOT / notice).is_file() for notice in config.notices)
    usual = make_plan(WorldTraining(("data",), tmp_path / "world")).denoiser
    assert vars(usual).items() >= vars(Chains()).items()


def test_on_a_gpu_the_denoiser_is_compiled_and_its_batches_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = WorldTraining(("data",), tmp_path / "world", device="cuda")
    monkeypatch.setattr("training.plan.resolve_device", torch.device)
    loops = make_plan(config).loops
    assert loops["denoiser"].compile and loops["denoiser"].batch_size == 256 and loops["autoencoder"].workers
    assert {loop.batch_size for loop in make_plan(replace(config, batch_size=3)).loops.values()} == {3}
    on_cpu = make_plan(replace(config, device="cpu")).loops
    assert not on_cpu["denoiser"].compile and on_cpu["denoiser"].batch_size == 12
