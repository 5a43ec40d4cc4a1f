"""Whether the dream lasts: `python -m benchmarks.soak`.

Thousands of steps of the batched environment under random actions, with random resets of some of the dreams, and with
the automatic ones of short episodes. Nothing may change its shape, dtype or range, nothing may be NaN, and after a
warm-up the memory must stay where it is. Exit code 1 when something of this does not hold.

    python -m benchmarks.soak --obs-type latent --steps 10000
    python -m benchmarks.soak --obs-type rgb --steps 1000
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from benchmarks.machine import machine, memory, named, release
from benchmarks.result import check_out, markdown_table, write
from neural_pacman.actions import NUM_ACTIONS
from neural_pacman.command import command
from neural_pacman.frames import FRAME_SIZE
from neural_pacman.progress import progress_bar
from neural_pacman.vector_env import NeuralPacmanVectorEnv

UNTRIMMED = "resident memory, untrimmed"
"""With what the C library keeps of freed memory, which goes up and down by chance: shown, not judged."""


@dataclass
class Soak:
    """Step the batched dream for long, and see that nothing leaks, drifts or breaks."""

    world: str = "pacman"
    """A shipped world's name, a world's folder, or a hub id."""
    out: Path | None = None
    """Where the result goes besides the terminal: a name that ends in .md or .json."""
    num_envs: int = 8
    """Dreams."""
    obs_type: Literal["rgb", "latent"] = "latent"
    """What is observed."""
    obs_size: int = FRAME_SIZE
    """Height and width of rgb observations."""
    steps: int = 10_000
    """Steps of the whole batch."""
    max_episode_steps: int = 100
    """Steps after which a dream is truncated and begins anew."""
    reset_share: float = 0.02
    """How probable it is that some of the dreams are reset before a step."""
    warm_up: float = 0.2
    """Share of the steps before the memory is judged."""
    tolerance: float = 0.02
    """How far the most memory after the warm-up may lie above the least."""
    samples: int = 200
    """How often the memory is looked at."""
    num_inference_steps: int | None = None
    """Denoising steps a frame; the world's own number by default."""
    device: str = "auto"
    """cuda, mps, cpu, or auto."""
    seed: int = 0
    """Seed of the actions, the resets and the dreams."""


@dataclass(frozen=True)
class Flatness:
    """How flat a series of memory sizes is.

    Attributes:
        low, high: the least and the most, bytes.
        growth: how far the most lies above the least: 0.02 is 2%.
        slope: bytes a step, of the straight line that fits best.
    """

    low: int
    high: int
    growth: float
    slope: float


def flatness(steps: Sequence[int], sizes: Sequence[int], after: float) -> Flatness:
    """The flatness of the sizes, bytes, that were seen later than step `after`.

    ValueError when there are fewer than two of them, which say nothing.
    """
    late = [(step, size) for step, size in zip(steps, sizes, strict=True) if step > after]
    if len(late) < 2:
        raise ValueError(f"The memory was looked at {len(late)} times after step {after:g}; expected at least 2.")
    x, y = np.array(late, dtype=np.float64).T
    return Flatness(int(y.min()), int(y.max()), float(y.max() / y.min() - 1), float(np.polyfit(x, y, 1)[0]))


def wrong_array(
    name: str, array: object, dtype: type, shape: tuple[int, ...], low: float = -np.inf, high: float = np.inf
) -> str | None:
    """What is wrong with an array that should have this dtype, shape and range, in words; None when it is right."""
    wanted = f"{np.dtype(dtype)} {list(shape)}"
    if not isinstance(array, np.ndarray):
        return f"{name}: a {type(array).__name__}; expected {wanted}."
    if array.dtype != dtype or array.shape != shape:
        return f"{name}: {array.dtype} {list(array.shape)}; expected {wanted}."
    if unreal := array.size - int(np.isfinite(array).sum()):
        return f"{name}: {unreal} of {array.size} numbers are NaN or infinite."
    if array.min() < low or array.max() > high:
        return f"{name}: from {array.min()} to {array.max()}; expected {low:g} to {high:g}."
    return None


class Checks:
    """What a batched dream must return at every step; each check gives what is wrong, in words."""

    def __init__(self, env: NeuralPacmanVectorEnv) -> None:
        space = env.single_observation_space
        assert isinstance(space, spaces.Box)
        self._dtype, self._shape = space.dtype.type, space.shape
        self._bounds = float(space.low.min()), float(space.high.max())
        self._dreams = env.num_envs

    def observations(self, observations: object) -> list[str]:
        shape = (self._dreams, *self._shape)
        return _all(wrong_array("observations", observations, self._dtype, shape, *self._bounds))

    def step(self, result: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]) -> list[str]:
        observations, rewards, terminations, truncations, infos = result
        each = (self._dreams,)
        wrong = self.observations(observations) + _all(
            wrong_array("rewards", rewards, np.float64, each),
            wrong_array("points", infos.get("points"), np.float64, each),
            wrong_array("terminations", terminations, np.bool_, each),
            wrong_array("truncations", truncations, np.bool_, each),
        )
        ended = np.flatnonzero(np.logical_or(terminations, truncations))
        last = infos.get("final_obs", [None] * self._dreams)
        return wrong + _all(
            *(wrong_array(f"final_obs[{i}]", last[i], self._dtype, self._shape, *self._bounds) for i in ended)
        )


def _all(*wrong: str | None) -> list[str]:
    return [words for words in wrong if words is not None]


def run(config: Soak, env_class: type[NeuralPacmanVectorEnv] = NeuralPacmanVectorEnv) -> dict[str, Any]:
    """Soak one environment, up to the first step that returns something wrong.

    The report's `problems` are sentences, none of them when all is well. Raises what the environment raises, and
    ValueError for settings with which nothing could be judged.
    """
    after = config.warm_up * config.steps
    every = max(1, config.steps // config.samples)
    if config.steps // every - after // every < 2:
        raise ValueError(f"{config.steps} steps leave fewer than 2 looks at the memory after the warm-up; take more.")
    env = env_class(
        config.num_envs,
        max_episode_steps=config.max_episode_steps,
        world=config.world,
        obs_type=config.obs_type,
        obs_size=config.obs_size,
        num_inference_steps=config.num_inference_steps,
        device=config.device,
    )
    for index in progress_bar(range(len(env.seeds)), desc="encoding the seeds", unit="seed"):
        env.seeds[index]  # kept from here on: no leak
    report: dict[str, Any] = {
        "world": {"name": env.world.config.name, "hash": env.world.hash},
        "machine": machine(env.device),
        "conditions": {name: value for name, value in asdict(config).items() if name not in ("world", "out", "device")},
    }
    random = np.random.default_rng(config.seed)
    checks = Checks(env)
    counts = dict.fromkeys(("steps", "terminations", "truncations", "random_resets"), 0)
    looks: list[int] = []
    sizes: dict[str, list[int]] = {name: [] for name in (*memory(env.device), UNTRIMMED)}
    started = time.perf_counter()
    problems = checks.observations(env.reset(seed=config.seed)[0])
    with progress_bar(total=config.steps, desc=f"soak, {config.obs_type}", unit="step") as bar:
        for step in range(1, config.steps + 1):
            if random.random() < config.reset_share:
                mask = random.random(config.num_envs) < 0.5
                mask[random.integers(config.num_envs)] = True
                problems += checks.observations(env.reset(options={"reset_mask": mask})[0])
                counts["random_resets"] += int(mask.sum())
            result = env.step(random.integers(NUM_ACTIONS, size=config.num_envs))
            problems += checks.step(result)
            counts["steps"] = step
            bar.update(1)
            if problems:
                problems[0] = f"Step {step}: {problems[0]}"
                break
            counts["terminations"] += int(result[2].sum())
            counts["truncations"] += int(result[3].sum())
            if step % every == 0:
                del result  # at some steps it holds more than at others
                looks.append(step)
                sizes[UNTRIMMED].append(memory(env.device)["resident memory"])
                release()
                for name, size in memory(env.device).items():
                    sizes[name].append(size)
    env.close()
    report["counts"] = {**counts, "seconds": time.perf_counter() - started}
    report["memory"] = {}
    for name, seen in sizes.items() if not problems else ():
        flat = flatness(looks, seen, after)
        report["memory"][name] = {**asdict(flat), "steps": looks, "bytes": seen}
        if flat.growth > config.tolerance and name != UNTRIMMED:
            problems.append(
                f"The {name} is not flat: after the warm-up {flat.low / 1e6:.1f} to {flat.high / 1e6:.1f} MB, "
                f"{flat.growth:.1%} apart where {config.tolerance:.1%} are allowed, {_slope(flat.slope)}."
            )
    report["problems"] = problems
    return report


def _slope(bytes_per_step: float) -> str:
    return f"{bytes_per_step / 1e3:+.3g} MB per 1,000 steps"


def to_markdown(report: dict[str, Any]) -> str:
    """The report as people read it."""
    conditions, counts = report["conditions"], report["counts"]
    seen = conditions["obs_type"] + (f" {conditions['obs_size']}" if conditions["obs_type"] == "rgb" else "")
    rows: list[tuple[str, str]] = [
        ("steps", f"{counts['steps']:,} of {conditions['steps']:,}"),
        ("steps a second", f"{counts['steps'] / counts['seconds']:.1f}"),
        ("ends dreamed", f"{counts['terminations']:,}"),
        ("truncations", f"{counts['truncations']:,}"),
        ("dreams reset at random", f"{counts['random_resets']:,}"),
    ]
    allowed = f" (allowed +{conditions['tolerance']:.2%})"
    for name, flat in report["memory"].items():
        rows += [
            (f"{name} after the warm-up", f"{flat['low'] / 1e6:.1f} to {flat['high'] / 1e6:.1f} MB"),
            (f"{name}, most over least", f"+{flat['growth']:.2%}{allowed * (name != UNTRIMMED)}"),
            (f"{name}, slope", _slope(flat["slope"])),
        ]
    verdict = "\n".join(f"- {problem}" for problem in report["problems"]) or (
        "Holds: shapes, dtypes and ranges as declared, nothing NaN, memory flat."
    )
    return f"""# Soak: {conditions["num_envs"]} dreams, {seen}

World {report["world"]["name"]} ({report["world"]["hash"][:12]}). {named(report["machine"])}

{markdown_table(["", "measured"], rows)}
Episodes of {conditions["max_episode_steps"]} steps at most, random actions; before {conditions["reset_share"]:.0%} of \
the steps a random part of the dreams is reset. The warm-up is the first {conditions["warm_up"]:.0%} of the steps.
Before each look freed memory is given back to the system, where the C library can be asked to; *{UNTRIMMED}* is what
was seen before that.

{verdict}
"""


def main(config: Soak, env_class: type[NeuralPacmanVectorEnv] = NeuralPacmanVectorEnv) -> None:
    """Soak, print and write the result; SystemExit with code 1 when something does not hold."""
    check_out(config.out)
    report = run(config, env_class)
    text = to_markdown(report)
    write(config.out, report, text)
    print(text)
    if report["problems"]:
        sys.exit("\n".join(("The soak failed.", *report["problems"])))


if __name__ == "__main__":
    command(main, Soak)
