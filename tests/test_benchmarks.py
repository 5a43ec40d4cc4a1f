"""The benchmarks: that they measure what they say, and that the soak finds what it looks for."""

from __future__ import annotations

import gc
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import play, soak, speed
from benchmarks.play import PlaySpeed
from benchmarks.soak import Soak, flatness
from benchmarks.speed import Speed, memory_per_dream, stopwatch
from neural_pacman.engine import shared_world
from neural_pacman.vector_env import NeuralPacmanVectorEnv

MB = 2**20
StepResult = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


def short(world: Path, **others: Any) -> Soak:
    settings: dict[str, Any] = {"num_envs": 2, "steps": 40, "max_episode_steps": 6, "reset_share": 0.3, "samples": 5}
    # The process is that of all tests: what they did before may still be freed.
    return Soak(str(world), device="cpu", **{**settings, "tolerance": 0.25, **others})


def test_every_case_is_timed_beside_the_naive_loop(
    tiny_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "speed.json"
    speed.main(Speed(str(tiny_world), out, device="cpu", quick=True))
    report = json.loads(out.read_text())
    cases = {(case["case"], case["observation"]): case for case in report["cases"]}
    seen = {(name, kind) for name in ("single", "batch of 1", "batch of 2") for kind in ("rgb 512", "rgb 84", "latent")}
    assert set(cases) == seen | {("naive loop of 1", "-")}
    for (name, kind), case in cases.items():
        for figure in (case["ratio"], case["frames_per_second"], case["seconds_per_step"], *case["ratios"]):
            assert math.isfinite(figure) and figure > 0
        assert set(case["shares"]) == {"denoise", "decode", "rest"}
        assert sum(case["shares"].values()) == pytest.approx(1)
        assert all(0 <= share < 1 for share in case["shares"].values()) and case["shares"]["denoise"] > 0
        # Latents are never decoded.
        assert (case["shares"]["decode"] == 0) == (kind == "latent"), name
    assert set(report["memory"]) == {"rgb 512", "rgb 84", "latent"}
    assert report["machine"]["threads"] == torch.get_num_threads() and report["machine"]["processor"]
    printed = capsys.readouterr().out
    assert all(f"| {name} | {kind} |" in printed for name, kind in cases)
    assert [file.name for file in out.parent.iterdir()] == ["speed.json"]


def test_play_in_the_window_is_timed_beside_the_environment_alone(
    tiny_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "play.json"
    play.main(PlaySpeed(str(tiny_world), out, rounds=2, steps=8, device="cpu"))
    report = json.loads(out.read_text())
    for figures in (report["fast"], report["paced"]):
        assert all(0 < figures[part] < 1 for part in ("denoise", "decode", "draw"))
    assert report["paced"]["seconds_per_step"] > 0.04  # 15 a second at the most, and the first of the eight at once
    assert len(report["ratios"]) == 2 and all(ratio > 0 for ratio in report["ratios"])
    assert "The window keeps" in capsys.readouterr().out


def test_the_stopwatch_leaves_the_world_as_it_was(tiny_world: Path) -> None:
    world = shared_world(tiny_world, "cpu")
    before = dict(vars(world))
    latents = torch.zeros(1, 32, 16, 16)
    with pytest.raises(ValueError, match="latents has shape"), stopwatch(world) as spent:
        world.decode_after(world.autoencoder.blank(1), latents)
        world.decode_after(world.autoencoder.blank(1), latents[0, 0])
    assert spent["decode"] > 0 and spent["denoise"] == 0
    assert vars(world) == before


def test_memory_per_dream_is_what_more_dreams_hold_and_what_a_step_takes_besides() -> None:
    def dreams(count: int) -> Callable[[], object]:
        kept = torch.ones(count, 16 * MB // 4)

        def step() -> None:
            passing = torch.ones(count, 48 * MB // 4) * kept[0, 0]
            time.sleep(0.05)
            assert passing[0, 0] == 1

        return step

    more = memory_per_dream(dreams, (4, 1), torch.device("cpu"))
    assert (more["from"], more["to"]) == (1, 4)
    assert more["held"] == pytest.approx(16 * MB, rel=0.2)
    assert more["peak"] > more["held"] + 40 * MB


@pytest.mark.parametrize("settings", [{"rounds": 0}, {"steps": 0}, {"batch_sizes": (4, 0)}], ids=str)
def test_nothing_to_time_is_refused(tiny_world: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        speed.main(Speed(str(tiny_world), device="cpu", **settings))


@pytest.mark.parametrize("main", [lambda out: speed.main(Speed(out=out)), lambda out: soak.main(Soak(out=out))])
def test_a_result_of_another_kind_is_refused_before_the_work(main: Callable[[Path], None], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"speed\.csv; expected a name that ends in \.md or \.json"):
        main(tmp_path / "speed.csv")


@pytest.mark.parametrize("obs_type", ["latent", "rgb"])
def test_a_sound_environment_passes_the_soak(
    tiny_world: Path, tmp_path: Path, obs_type: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gc.collect()
    out = tmp_path / "soak.md"
    soak.main(short(tiny_world, obs_type=obs_type, obs_size=84, out=out))
    text = out.read_text()
    assert text in capsys.readouterr().out and "Holds" in text and "| steps | 40 of 40 |" in text
    counts = {line.split(" | ")[0][2:]: line.split(" | ")[1][:-2] for line in text.splitlines() if " | " in line}
    assert int(counts["truncations"]) > 0 and int(counts["dreams reset at random"]) > 0


class Hoarder(NeuralPacmanVectorEnv):
    """Forgets nothing."""

    def step(self, actions: np.ndarray) -> StepResult:
        vars(self).setdefault("hoard", []).append(np.ones(16 * MB // 8))
        return super().step(actions)


def test_a_leak_fails_the_soak(tiny_world: Path, tmp_path: Path) -> None:
    gc.collect()
    out = tmp_path / "soak.json"
    with pytest.raises(SystemExit) as left:
        soak.main(short(tiny_world, out=out, tolerance=0.1), Hoarder)
    assert "soak failed" in str(left.value.code) and "resident memory is not flat" in str(left.value.code)
    report = json.loads(out.read_text())
    assert report["counts"]["steps"] == 40 and len(report["problems"]) == 1
    assert report["memory"]["resident memory"]["slope"] == pytest.approx(16 * MB, rel=0.3)


class Spoiler(NeuralPacmanVectorEnv):
    """Returns something else at the fifth step."""

    spoil: Callable[[StepResult], StepResult]
    steps = 0

    def step(self, actions: np.ndarray) -> StepResult:
        self.steps += 1
        result = super().step(actions)
        return type(self).spoil(result) if self.steps == 5 else result


def nan(result: StepResult) -> StepResult:
    result[0][1, 3, 5, 7] = np.nan
    return result


def nan_at_the_end(result: StepResult) -> StepResult:
    result[3][0] = True
    return (*result[:4], {**result[4], "final_obs": np.array([np.full_like(result[0][0], np.nan), None], dtype=object)})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (nan, "observations: 1 of 16384 numbers are NaN"),
        (nan_at_the_end, r"final_obs\[0\]: 8192 of 8192 numbers are NaN"),
        (lambda r: (r[0][:1], *r[1:]), r"observations: float32 \[1, 32, 16, 16\]; expected float32 \[2, 32, 16, 16\]"),
        (lambda r: (r[0].astype(np.float64), *r[1:]), "observations: float64"),
        (lambda r: (np.full_like(r[0], 17), *r[1:]), r"observations: from 17.0 to 17.0; expected -16 to 16"),
        (lambda r: (r[0], r[1].astype(np.float32), *r[2:]), "rewards: float32"),
        (lambda r: (r[0], r[1] * np.inf, *r[2:]), "rewards: 2 of 2 numbers are NaN or infinite"),
        (lambda r: (*r[:3], list(r[3]), r[4]), "truncations: a list"),
        (lambda r: (*r[:3], ~r[3], {}), r"final_obs\[1\]: a NoneType"),
    ],
    ids=["nan", "nan at the end", "shape", "dtype", "bounds", "reward dtype", "reward", "list", "no final_obs"],
)
def test_a_step_that_returns_something_wrong_fails_the_soak(
    tiny_world: Path, spoil: Callable[[StepResult], StepResult], says: str
) -> None:
    spoiler = type("Spoiler", (Spoiler,), {"spoil": staticmethod(spoil)})
    with pytest.raises(SystemExit, match=r"Step 5: ") as left:
        soak.main(short(tiny_world, reset_share=0.0), spoiler)
    assert left.match(says)


def test_flatness_is_that_of_the_memory_after_the_warm_up() -> None:
    steps = list(range(10, 110, 10))
    level = flatness(steps, [5 * MB, *[100 * MB] * 9], after=15)
    assert (level.low, level.high, level.growth) == (100 * MB, 100 * MB, 0)
    assert level.slope == pytest.approx(0, abs=1e-6)
    leak = flatness(steps, [100 * MB + 1000 * step for step in steps], after=0)
    assert leak.slope == pytest.approx(1000)
    assert leak.growth == pytest.approx(90_000 / (100 * MB + 10_000))
    sawtooth = flatness(steps, [100 * MB, 103 * MB] * 5, after=0)
    assert sawtooth.growth == pytest.approx(0.03)


def test_a_soak_too_short_to_judge_is_refused(tiny_world: Path) -> None:
    with pytest.raises(ValueError, match="1 times after step 95"):
        flatness([90, 100], [MB, MB], after=95)
    with pytest.raises(ValueError, match="fewer than 2 looks"):
        soak.run(short(tiny_world, steps=1))
