"""One step at a time from real history: PSNR, turns, rewards, lost lives and ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from neural_pacman.actions import NUM_ACTIONS, Action
from neural_pacman.engine import LATENT_SHAPE
from neural_pacman.episodes import HISTORY, Episode
from neural_pacman.frames import FRAME_SIZE, to_images
from neural_pacman.world import WorldModel
from training.clips import AHEAD, Clip, batches, encode_states
from training.figures import Report, detection, mean, psnr
from training.sprites import SPRITE_SIZE, to_frame_xy

AROUND = 64
"""Side of the square around Pac-Man in which a turn is judged, frame px."""
FARTHEST_STEP = 16
"""Screen px that Pac-Man can go in one step, with room to spare: more is the tunnel or a lost life."""
DIRECTIONS = {Action.LEFT: (-1, 0), Action.RIGHT: (1, 0), Action.UP: (0, -1), Action.DOWN: (0, 1)}


class TeacherForced:
    """Measures steps, and remembers what it saw until it is asked for a report.

    Args:
        world: what is measured.
        batch_size: dreams in one forward pass.
        num_inference_steps: denoising steps a frame; None takes the world's own number.
        seed: of the noise.
    """

    def __init__(self, world: WorldModel, batch_size: int, num_inference_steps: int | None, seed: int) -> None:
        self.world, self.batch_size, self.num_inference_steps = world, batch_size, num_inference_steps
        self.generator = torch.Generator().manual_seed(seed)
        self.reconstruction: list[float] = []
        self.psnr: list[float] = []
        self.repeat_last: list[float] = []
        self.turns: list[tuple[int, np.ndarray]] = []  # the true action; PSNR around Pac-Man under each of the five
        self.points: list[tuple[float, float]] = []  # real, judged
        self.lives: list[tuple[bool, bool]] = []  # really lost, judged lost
        self.ends: list[tuple[bool, bool]] = []  # really ended, judged ended

    def measure(self, clip: Clip, shown: Sequence[int], turning: Sequence[int]) -> None:
        """Dream each of a clip's 64 steps: judge all, decode and compare those `shown`, turn elsewhere at `turning`."""
        for steps in batches(range(1, AHEAD + 1), self.batch_size):
            history, actions = clip.windows(steps)
            latents = self._dream(history, actions, self._noise(len(steps)))
            self._judge(clip, steps, history, actions, latents)
            for step, latent in zip(steps, latents, strict=True):
                if step in shown:
                    self._compare(clip, step, latent)
        for step in turning:
            self._turn(clip, step)

    def measure_end(self, episode: Episode) -> None:
        """See whether the world knows that the episode ends with its last action, whose frame was never drawn."""
        history = encode_states(self.world, episode, len(episode) - HISTORY, len(episode))[None]
        actions = torch.from_numpy(episode.actions[None, -HISTORY:]).to(self.world.device)
        end = self.world.judge(history, actions, history[:, -1]).end  # which does not look at the next latent
        self.ends.append((True, bool(end[0] > 0.5)))

    def report(self) -> Report:
        """All figures with their numbers of cases; what the dataset has no labels for is left out."""
        better = [dream > last for dream, last in zip(self.psnr, self.repeat_last, strict=True)]
        report: Report = {
            "autoencoder": {"psnr": mean(self.reconstruction), "n": len(self.reconstruction)},
            "one_step": {
                "psnr": mean(self.psnr),
                "repeat_last": mean(self.repeat_last),
                "better_than_repeat_last": mean(better),
                "n": len(self.psnr),
            },
            "ends": detection(self.ends),
        }
        if self.turns:
            report["turns"] = _report_turns(self.turns)
        if self.lives:
            report["lives_lost"] = detection(self.lives)
        if self.points:
            report["rewards"] = _report_rewards(self.points)
        return report

    def _noise(self, count: int) -> Tensor:
        return torch.randn(count, *LATENT_SHAPE, generator=self.generator).to(self.world.device)

    def _dream(self, history: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        return self.world.dream(history, actions, noise, self.num_inference_steps)

    def _judge(self, clip: Clip, steps: Sequence[int], history: Tensor, actions: Tensor, latents: Tensor) -> None:
        outcome = self.world.judge(history, actions, latents)
        episode = clip.episode
        for step, points, lost, end in zip(steps, *(values.tolist() for values in outcome), strict=True):
            state = clip.start + step
            self.ends.append((False, end > 0.5))
            if episode.rewards is not None:
                self.points.append((float(episode.rewards[state - 1]), points))
            if "lives" in episode.labels:
                lives = episode.labels["lives"]
                self.lives.append((bool(lives[state] < lives[state - 1]), lost > 0.5))

    def _compare(self, clip: Clip, step: int, latent: Tensor) -> None:
        real = clip.real(step)
        rebuilt, dream = to_images(self.world.decode(torch.stack([clip.latent(step), latent])))
        self.reconstruction.append(psnr(rebuilt, real))
        self.psnr.append(psnr(dream, real))
        self.repeat_last.append(psnr(clip.real(step - 1), real))

    def _turn(self, clip: Clip, step: int) -> None:
        history, actions = clip.windows([step] * NUM_ACTIONS)
        true = int(actions[0, -1])
        actions[:, -1] = torch.arange(NUM_ACTIONS, device=actions.device)
        noise = self._noise(1).expand(NUM_ACTIONS, *LATENT_SHAPE)  # the action alone makes the difference
        pictures = to_images(self.world.decode(self._dream(history, actions, noise)))
        place = clip.episode.labels["player_xy"][clip.start + step]
        real = around(clip.real(step), place)
        self.turns.append((true, np.array([psnr(around(picture, place), real) for picture in pictures])))


def find_turns(episode: Episode, start: int) -> list[int]:
    """Steps 1 to 64 after state `start` at which Pac-Man's motion changes into the direction that the action asks for.

    He must have been moving before: pushing off from a standstill is no turn. None of the other four actions could have
    moved him the same way, so the true one has a right to win.
    """
    places, lives = episode.labels["player_xy"], episode.labels["lives"]
    turns = []
    for state in range(start + 1, start + AHEAD + 1):
        before, after = places[state - 1] - places[state - 2], places[state] - places[state - 1]
        action = Action(int(episode.actions[state - 1]))
        jumped = max(abs(before).max(), abs(after).max()) > FARTHEST_STEP or lives[state - 2] != lives[state]
        if action is Action.NO_ACTION or jumped or not before.any():
            continue
        asked = DIRECTIONS[action]
        if before @ asked <= 0 < after @ asked:
            turns.append(state - start)
    return turns


def spread_turns(starts: Sequence[tuple[Episode, int]], count: int) -> list[list[int]]:
    """For each start, which turns to measure: `count` in all, spread evenly over those there are, or all of them."""
    every = [(i, step) for i, (episode, start) in enumerate(starts) for step in find_turns(episode, start)]
    chosen = np.linspace(0, len(every) - 1, min(count, len(every))).round().astype(int)
    return [[every[c][1] for c in chosen if every[c][0] == i] for i in range(len(starts))]


def around(frame: np.ndarray, player_xy: np.ndarray) -> np.ndarray:
    """The 64 px square of a frame around Pac-Man, whose sprite's corner is at `player_xy` on the screen."""
    centre = to_frame_xy(player_xy + SPRITE_SIZE / 2)
    x, y = np.clip((centre - AROUND / 2).round().astype(int), 0, FRAME_SIZE - AROUND)
    return frame[y : y + AROUND, x : x + AROUND]


def _report_turns(turns: Sequence[tuple[int, np.ndarray]]) -> Report:
    margins = [scores[true] - np.delete(scores, true) for true, scores in turns]
    return {
        "better_than_each_other": mean([bool((margin > 0).all()) for margin in margins]),
        "better_than_one_other": mean([bool(difference > 0) for margin in margins for difference in margin]),
        "better_than_no_action": mean([bool(scores[true] > scores[Action.NO_ACTION]) for true, scores in turns]),
        "psnr_around": mean([float(scores[true]) for true, scores in turns]),
        "margin_over_best_other": mean([float(margin.min()) for margin in margins]),
        "n": len(turns),
    }


def _report_rewards(points: Sequence[tuple[float, float]]) -> Report:
    return {
        "pellets": detection([(_is_pellet(real), _is_pellet(said)) for real, said in points]),
        "power_pellets": detection([(real == 100, said == 100) for real, said in points]),
        "pellets_and_power_pellets": detection([(_eaten(real), _eaten(said)) for real, said in points]),
        "ghosts": detection([(real >= 200, said >= 200) for real, said in points]),
        "exact": mean([real == said for real, said in points]),
        "exact_where_scored": mean([real == said for real, said in points if real]),
        "n": len(points),
    }


def _is_pellet(points: float) -> bool:
    """Whether a step's points hold a pellet's 10 or two pellets' 20, alone or beside a ghost's hundreds."""
    return points % 100 in (10, 20)


def _eaten(points: float) -> int:
    """What was eaten from the maze's floor: 0 nothing, 1 a pellet, 2 a power pellet."""
    return 2 if points == 100 else int(_is_pellet(points))
