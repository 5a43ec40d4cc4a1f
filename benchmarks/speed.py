"""How fast the dream is: `python -m benchmarks.speed`.

The baseline is the naive loop, what one writes around the published contract: it keeps 32 frames and gives them all to
`WorldModel.predict` at every step. It judges no rewards and turns no frames into images, so the ratios flatter nobody.
Each round times as many steps of it right before or right after each case, so that a slow moment of the machine hits
both. Where a step's time goes is measured in steps of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.machine import Peak, held, machine, memory, named, synchronize
from benchmarks.result import check_out, markdown_table, write
from neural_pacman.actions import NUM_ACTIONS, one_hot
from neural_pacman.command import command
from neural_pacman.engine import shared_world
from neural_pacman.env import NeuralPacmanEnv
from neural_pacman.progress import progress_bar
from neural_pacman.seeds import Seeds
from neural_pacman.vector_env import NeuralPacmanVectorEnv
from neural_pacman.world import WorldModel

Step = Callable[[], object]
"""One step of all of a contender's dreams."""

OBSERVATIONS: dict[str, dict[str, Any]] = {
    "rgb 512": {"obs_type": "rgb"},
    "rgb 84": {"obs_type": "rgb", "obs_size": 84},
    "latent": {"obs_type": "latent"},
}
NAIVE = "naive loop"

PARTS = {"_dream": "denoise", "decode_after": "decode"}
"""Methods of the world whose time is told apart. `dream` and `predict` both denoise in `_dream`."""

MEMORY_STEPS = 3


@dataclass
class Speed:
    """Time the dream, each figure beside the naive loop that encodes 32 frames at every step."""

    world: str = "pacman"
    """A shipped world's name, a world's folder, or a hub id."""
    out: Path | None = None
    """Where the result goes besides the terminal: a name that ends in .md or .json."""
    batch_sizes: tuple[int, ...] = (1, 4, 16, 64)
    """Dreams of the batched environment."""
    naive_batches: tuple[int, ...] = (1, 4)
    """Dreams of naive loops that are timed as the dream is: one shows how far the ratios scatter, more whether a batch
    helps. Each dream holds 100 MB."""
    rounds: int = 7
    """Rounds: the figures are their medians."""
    steps: int = 4
    """Steps of each contender in each round."""
    num_inference_steps: int | None = None
    """Denoising steps a frame; the world's own number by default."""
    device: str = "auto"
    """cuda, mps, cpu, or auto."""
    compile: bool = False
    """Compile the networks first."""
    seed: int = 0
    """Seed of the actions, the histories and the noise."""
    quick: bool = False
    """A run of seconds that shows that everything works: batches of 1 and 2, one round of one step."""


@dataclass(frozen=True)
class Case:
    """What is timed: `dreams` together, of an environment or a naive loop. `start` makes the dreams."""

    name: str
    dreams: int
    observation: str
    start: Callable[[], Step]


def naive_loop(world: WorldModel, dreams: int, config: Speed) -> Step:
    """The published contract in a loop: frames `[B, 32, 3, 512, 512]` and actions `[B, 32, 5]`, all encoded anew."""
    starts = Seeds.of(world)
    begun = [starts[i % len(starts)] for i in range(dreams)]
    frames = torch.cat([world.decode(seed.latents[None]) for seed in begun])
    led = torch.stack([seed.actions for seed in begun])
    generator = torch.Generator().manual_seed(config.seed)

    def step() -> None:
        nonlocal frames, led
        newest = torch.randint(NUM_ACTIONS, (dreams, 1), generator=generator).to(led.device)
        actions = torch.cat([led, newest], dim=1)
        frame = world.predict(
            frames, one_hot(actions), num_inference_steps=config.num_inference_steps, generator=generator
        )
        frames, led = torch.cat([frames[:, 1:], frame[:, None]], dim=1), actions[:, 1:]

    return step


def environment(dreams: int | None, observation: str, config: Speed) -> Step:
    """The environment under random actions and without a time limit: batched, or single where `dreams` is None."""
    arguments: dict[str, Any] = {
        "world": config.world,
        "num_inference_steps": config.num_inference_steps,
        "device": config.device,
        "compile": config.compile,
        **OBSERVATIONS[observation],
    }
    env: NeuralPacmanEnv | NeuralPacmanVectorEnv = (
        NeuralPacmanEnv(**arguments) if dreams is None else NeuralPacmanVectorEnv(dreams, **arguments)
    )
    env.action_space.seed(config.seed)
    env.reset(seed=config.seed)
    return lambda: env.step(env.action_space.sample())  # type: ignore[arg-type]


def cases(world: WorldModel, config: Speed) -> list[Case]:
    """All that is timed beside the naive loop of one dream."""
    found = [
        Case(f"{NAIVE} of {dreams}", dreams, "-", partial(naive_loop, world, dreams, config))
        for dreams in config.naive_batches
    ]
    for observation in OBSERVATIONS:
        found.append(Case("single", 1, observation, partial(environment, None, observation, config)))
        for dreams in config.batch_sizes:
            start = partial(environment, dreams, observation, config)
            found.append(Case(f"batch of {dreams}", dreams, observation, start))
    return found


def seconds(step: Step, steps: int, device: torch.device) -> float:
    """What so many steps take."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    synchronize(device)
    return time.perf_counter() - start


@contextmanager
def stopwatch(world: WorldModel) -> Iterator[dict[str, float]]:
    """Seconds that the world spends in each of `PARTS` while the block runs."""
    spent = dict.fromkeys(PARTS.values(), 0.0)

    def timed(method: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            synchronize(world.device)
            start = time.perf_counter()
            result = method(*given, **options)
            synchronize(world.device)
            spent[part] += time.perf_counter() - start
            return result

        return call

    for name, part in PARTS.items():
        setattr(world, name, timed(getattr(world, name), part))
    try:
        yield spent
    finally:
        for name in PARTS:
            delattr(world, name)


def time_beside(case: Case, naive: Step, world: WorldModel, config: Speed, advance: Step) -> dict[str, Any]:
    """One case beside the naive loop of one dream, round by round; `advance` is called after each round."""
    device, steps = world.device, config.steps
    step = case.start()
    seconds(step, 1, device)  # the first step picks kernels, and compiles
    pairs: list[tuple[float, float]] = []
    spent, total = dict.fromkeys(PARTS.values(), 0.0), 0.0
    for number in range(config.rounds):
        if number % 2:
            own, naives = seconds(step, steps, device), seconds(naive, steps, device)
        else:
            naives, own = seconds(naive, steps, device), seconds(step, steps, device)
        pairs.append((own, naives))
        with stopwatch(world) as parts:
            total += seconds(step, steps, device)
        spent = {part: spent[part] + parts[part] for part in spent}
        advance()
    ratios = [case.dreams * naives / own for own, naives in pairs]
    shares = {part: took / total for part, took in spent.items()}
    took = median(own for own, _ in pairs) / steps
    return {
        "case": case.name,
        "dreams": case.dreams,
        "observation": case.observation,
        "seconds_per_step": took,
        "frames_per_second": case.dreams / took,
        "naive_seconds_per_step": median(naives for _, naives in pairs) / steps,
        "ratio": median(ratios),
        "ratios": ratios,
        "shares": {**shares, "rest": 1 - sum(shares.values())},
    }


def memory_per_dream(start: Callable[[int], Step], batches: tuple[int, ...], device: torch.device) -> dict[str, Any]:
    """Bytes that one more dream takes between the steps (`held`) and at most within one (`peak`).

    That is what the largest batch takes more than the smallest, by dream, so there must be two.
    """
    levels: dict[int, dict[str, int]] = {}
    for dreams in sorted(set(batches)):
        step = start(dreams)
        with Peak(device) as peak:
            for _ in range(MEMORY_STEPS):
                step()
        levels[dreams] = {"held": held(device), "peak": peak.bytes}
        del step
    low, high = min(levels), max(levels)
    more = {name: (levels[high][name] - levels[low][name]) / (high - low) for name in ("held", "peak")}
    return {"from": low, "to": high, **more, "levels": levels}


def measure(config: Speed) -> dict[str, Any]:
    """All figures. Raises what the environments raise, and ValueError when there is nothing to time."""
    if min(config.rounds, config.steps, *config.batch_sizes, *config.naive_batches) < 1:
        raise ValueError("Rounds, steps and batches must be at least 1 each.")
    world = shared_world(config.world, config.device, config.compile)
    device = world.device
    report: dict[str, Any] = {
        "world": {"name": world.config.name, "hash": world.hash},
        "machine": machine(device),
        "memory_of": list(memory(device))[-1],
        "conditions": {
            "rounds": config.rounds,
            "steps": config.steps,
            "num_inference_steps": config.num_inference_steps or world.config.num_inference_steps,
            "compile": config.compile,
            "seed": config.seed,
        },
    }
    starts = Seeds.of(world)
    for index in progress_bar(range(len(starts)), desc="encoding the seeds", unit="seed"):
        starts[index]  # once a process: no part of a step
    kinds: dict[str, tuple[Callable[[int], Step], tuple[int, ...]]] = {
        # The smallest first: what has been freed and not given back must not be there to hide what comes after.
        name: (partial(environment, observation=name, config=config), config.batch_sizes)
        for name in reversed(OBSERVATIONS)
    }
    kinds[NAIVE] = (partial(naive_loop, world, config=config), config.naive_batches)
    report["memory"] = {
        name: memory_per_dream(start, batches, device)
        for name, (start, batches) in progress_bar(kinds.items(), desc="memory", unit="kind")
        if len(set(batches)) > 1
    }
    naive = naive_loop(world, 1, config)
    seconds(naive, 1, device)
    timed = cases(world, config)
    with progress_bar(total=sum(2 * c.dreams + 1 for c in timed) * config.rounds * config.steps, unit="frame") as bar:
        report["cases"] = []
        for case in timed:
            bar.set_description(f"{case.name} {case.observation}")
            advance = partial(bar.update, (2 * case.dreams + 1) * config.steps)
            report["cases"].append(time_beside(case, naive, world, config, advance))
    return report


def to_markdown(report: dict[str, Any]) -> str:
    """The report as people read it."""
    conditions = report["conditions"]
    rows = [
        [
            case["case"],
            case["observation"],
            f"{case['frames_per_second']:.2f}",
            f"{1e3 * case['seconds_per_step']:.1f}",
            f"{case['ratio']:.2f}",
            f"{min(case['ratios']):.2f} to {max(case['ratios']):.2f}",
            *(f"{share:.0%}" for share in case["shares"].values()),
        ]
        for case in report["cases"]
    ]
    head = ["", "observation", "frames/s", "ms a step", "to naive", "of rounds", "denoise", "decode", "rest"]
    grown = [
        [name, f"{more['held'] / 1e6:.1f} MB", f"{more['peak'] / 1e6:.1f} MB", f"{more['from']} to {more['to']}"]
        for name, more in report["memory"].items()
    ]
    passes = f"{conditions['num_inference_steps']} denoising steps a frame{', compiled' * conditions['compile']}"
    return f"""# Speed

World {report["world"]["name"]} ({report["world"]["hash"][:12]}), {passes}.
{named(report["machine"])}

{markdown_table(head, rows)}
Medians of {conditions["rounds"]} rounds of {conditions["steps"]} steps. *Frames/s* counts the frames of all dreams.
*To naive* is frames/s over that of the naive loop of one dream, which encodes 32 frames at every step, timed right
before or after in the same round; beside it the lowest and highest of the rounds. The rest is judging and bookkeeping,
in the naive loop encoding.

{markdown_table(["memory of one more dream", "held", "at the peak of a step", "dreams"], grown)}
Growth of the {report["memory_of"]} from the smallest batch to the largest, by dream: *held* between two steps, and the
most seen while {MEMORY_STEPS} steps ran.
"""


def main(config: Speed) -> None:
    check_out(config.out)
    if config.quick:
        config = replace(config, batch_sizes=(1, 2), naive_batches=(1,), rounds=1, steps=1)
    report = measure(config)
    text = to_markdown(report)
    write(config.out, report, text)
    print(text)


if __name__ == "__main__":
    command(main, Speed)
