"""PPO in the dream: `python -m agents.train --run RUN`. The same command goes on where a run was stopped.

RUN/agent.zip      the agent, whole or not there: `python -m agents.evaluate RUN/agent.zip`
RUN/agent.mp4      how it plays in the end
RUN/tensorboard/   the curves
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from tqdm import tqdm

from agents.evaluate import STYLE, check_seeds, evaluate, film
from agents.saved import (
    AGENT,
    DreamSettings,
    Evaluation,
    LearningSettings,
    Record,
    load_weights,
    new_agent,
    read_record,
    save_agent,
)
from neural_pacman.command import command
from neural_pacman.devices import resolve_device
from neural_pacman.progress import progress_bar


@dataclass
class Training:
    """Train an agent in the dream with Stable-Baselines3's PPO."""

    run: Path
    """Folder of the run; a run that is there goes on."""
    steps: int = 50_000
    """Steps of training, of all dreams together."""
    minutes: float | None = None
    """End after so many minutes of training, evaluations not counted, if the steps are not done by then."""
    eval_steps: int = 12_288
    """Steps between evaluations."""
    seeds: int = 20
    """Dreams in the evaluations before and after training, always the same ones."""
    curve_seeds: int = 5
    """Dreams in the evaluations during training: the first of these."""
    device: str = "auto"
    """cuda, mps, cpu, or auto."""
    dreams: DreamSettings = field(default_factory=DreamSettings)
    learning: LearningSettings = field(default_factory=LearningSettings)

    def __post_init__(self) -> None:
        for name in ("steps", "minutes", "eval_steps"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; expected more than 0.")
        check_seeds(self.seeds)
        check_seeds(self.curve_seeds)


def main(config: Training) -> None:
    """Evaluate the untrained agent, train it with evaluations in between, evaluate and film it: what is left of it."""
    run, file, video = config.run, config.run / AGENT, config.run / "agent.mp4"
    run.mkdir(parents=True, exist_ok=True)
    device = str(resolve_device(config.device))
    env = config.dreams.make(config.learning.num_envs, device)
    agent = new_agent(config.learning, env, device)
    record = Record(config.dreams, config.learning, env.get_attr("world")[0].hash)
    if file.exists():
        record = resume(agent, record, file)
    agent.set_logger(configure(str(run / "tensorboard"), ["tensorboard"]))
    tqdm.write(f"{run.name}: {config.learning.num_envs} dreams at once on {device}, from step {record.step}")

    while True:
        over = is_over(record, config)
        if seeds := seeds_due(record, config, over):
            points = evaluate(agent, config.dreams, seeds)
            record.evaluations.append(Evaluation(record.step, points))
            agent.logger.record("evaluation/points", record.evaluations[-1].mean)
            agent.logger.dump(record.step)
            save_agent(agent, record, file)
            tqdm.write(f"step {record.step}: {record.evaluations[-1]}")
        if over:
            break
        video.unlink(missing_ok=True)
        learn(agent, record, config)
        save_agent(agent, record, file)
    env.close()

    if not video.exists():
        film(agent, config.dreams, video)
    print(compare(record.evaluations[0], record.evaluations[-1]))
    print(f"Dreams end after {config.dreams.max_episode_steps} steps at the latest. Agent: {file}. Video: {video}.")


def resume(agent: PPO, asked: Record, file: Path) -> Record:
    """Take up a saved agent; returns its record. ValueError when it learned in another way than now asked for."""
    record = read_record(file)
    # Where the world lies may change; which world it is may not.
    was, now = (_identity(replace(r, dreams=replace(r.dreams, world=""))) for r in (record, asked))
    if different := [name for name in now if was[name] != now[name]]:
        changes = ", ".join(f"{name} was {was[name]}, now {now[name]}" for name in different)
        raise ValueError(f"{file} was trained otherwise ({changes}). Give another folder, or the settings that it had.")
    load_weights(agent, file)
    agent.num_timesteps = record.step
    return record


def _identity(record: Record) -> dict[str, Any]:
    return {**asdict(record.dreams), **asdict(record.learning), "world": record.world_hash[:12]}


def is_over(record: Record, config: Training) -> bool:
    """Whether the steps, or the minutes, are done."""
    return record.step >= config.steps or (config.minutes is not None and record.seconds >= 60 * config.minutes)


def seeds_due(record: Record, config: Training, over: bool) -> int:
    """In how many dreams to evaluate now; 0 for not yet."""
    last = record.evaluations[-1] if record.evaluations else None
    if last is None or (over and (last.step, len(last.points)) != (record.step, config.seeds)):
        return config.seeds
    return config.curve_seeds if record.step >= last.step + config.eval_steps else 0


def learn(agent: PPO, record: Record, config: Training) -> None:
    """Train up to the next checkpoint.

    All that happens follows from the weights, the optimizer's state and the number of steps done: random numbers are
    drawn anew from it, and dreams begin anew.
    """
    learning = config.learning
    seed = np.random.SeedSequence([learning.seed, record.step]).generate_state(1)[0]
    agent.set_random_seed(int(seed))
    env = agent.get_env()
    assert env is not None
    agent.set_env(env)  # which forgets the dreams that it was in
    rollout = learning.num_envs * learning.rollout_steps
    total = math.ceil(config.steps / rollout) * rollout
    with progress_bar(leave=False, total=total, initial=record.step, desc="training", unit="step") as shown:
        seconds = math.inf if config.minutes is None else 60 * config.minutes - record.seconds
        started = time.monotonic()
        agent.learn(
            min(learning.checkpoint_steps, config.steps - record.step),
            callback=Watch(shown, started + seconds),
            reset_num_timesteps=False,
        )
    record.seconds += time.monotonic() - started
    record.step = agent.num_timesteps


class Watch(BaseCallback):
    """Moves the progress bar, logs game points, and stops at the deadline (of `time.monotonic`)."""

    def __init__(self, shown: tqdm, deadline: float) -> None:
        super().__init__()
        self.shown, self.deadline = shown, deadline

    def _on_step(self) -> bool:
        self.shown.update(self.training_env.num_envs)
        return time.monotonic() < self.deadline

    def _on_rollout_end(self) -> None:
        if ended := self.model.ep_info_buffer:
            points = float(np.mean([dream["points"] for dream in ended]))
            self.logger.record("rollout/points", points)
            self.shown.set_postfix(points=f"{points:.0f}", refresh=False)


def compare(before: Evaluation, after: Evaluation) -> str:
    """What training brought: both evaluations are of the same dreams, so the error is that of the gains in each."""
    gains = Evaluation(after.step, [b - a for a, b in zip(before.points, after.points, strict=False)])
    errors = f" ({gains.mean / gains.standard_error:.1f} standard errors)" if gains.standard_error else ""
    return f"untrained: {before}\nafter {after.step} steps: {after}\ngain in the same dreams: {gains}{errors}"


if __name__ == "__main__":
    command(main, Training, *STYLE)
