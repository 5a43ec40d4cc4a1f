"""One step at a time from real history: likeness, denoising steps, turns, rewards, lost lives and ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from neural_pacman.actions import NUM_ACTIONS, Action
from neural_pacman.autoencoder import Decoded
from neural_pacman.engine import LATENT_SHAPE
from neural_pacman.episodes import HISTORY, Episode
from neural_pacman.frames import FRAME_SIZE, psnr, to_images, to_tensor
from neural_pacman.world import WorldModel
from training.clips import Steps, encode_states
from training.figures import Report, detection, detection_within, mean, means
from training.perceptual import likeness, short_likeness
from training.reader import Reading, read
from training.sprites import SPRITE_SIZE, to_frame_xy

AROUND = 64
"""Side of the square around Pac-Man in which a turn is judged, frame px."""
FARTHEST_STEP = 16
"""Screen px that Pac-Man can go in one step, with room to spare: more is the tunnel or a lost life."""
DIRECTIONS = {Action.LEFT: (-1, 0), Action.RIGHT: (1, 0), Action.UP: (0, -1), Action.DOWN: (0, 1)}


DENOISING_STEPS = (1, 2, 4)
"""Numbers of denoising steps a frame that are compared: a world should look as good at one as at four."""
LATE = 2
"""Steps that a lost life may be found too early or too late."""


class TeacherForced:
    """Measures steps, and remembers what it saw until it is asked for a report.

    Args:
        world: what is measured.
        legible: whether the frames are the classic maze's, which the reader of pellets knows.
        num_inference_steps: denoising steps a frame; None takes the world's own number.
        seed: of the noise.
    """

    def __init__(self, world: WorldModel, legible: bool, num_inference_steps: int | None, seed: int) -> None:
        self.world, self.legible, self.num_inference_steps = world, legible, num_inference_steps
        self.generator = torch.Generator().manual_seed(seed)
        self._known = world.autoencoder.blank(1)  # after the last real frame
        self.reconstruction: list[dict[str, float]] = []
        self.pellets: list[bool] = []  # whether the reconstruction has all of a frame's pellets and no others
        self.dream: list[dict[str, float]] = []
        self.repeat_last: list[dict[str, float]] = []
        self.few_steps: dict[int, list[dict[str, float]]] = {count: [] for count in DENOISING_STEPS}
        self.turns: list[tuple[int, np.ndarray]] = []  # the true action; PSNR around Pac-Man under each of the five
        self.points: list[tuple[float, float]] = []  # real, judged
        self.lives: dict[int, list[tuple[bool, bool]]] = {}  # by episode: really lost, judged lost
        self.ends: list[tuple[bool, bool]] = []  # really ended, judged ended

    def measure(
        self, episode: Episode, steps: Steps, shown: Collection[int], few: Collection[int], turning: Collection[int]
    ) -> None:
        """Dream and judge all `steps` of an episode; of these states decode and compare those `shown`, dream those in
        `few` with other numbers of denoising steps, and turn elsewhere on the way to those `turning`."""
        noise = self._noise(len(steps.states))
        latents = self.world.dream(steps.history, steps.actions, noise, self.num_inference_steps)
        self._judge(episode, steps, latents, self._see(episode, range(steps.states.start - 1, steps.states.stop - 1)))
        for i, state in enumerate(steps.states):
            if state in shown:
                self._compare(episode, state, steps.real[i], latents[i])
            if state in few:
                self._dream_anew(episode, state, steps.history[i], steps.actions[i], noise[i])
            if state in turning:
                self._turn(episode, state, steps.history[i], steps.actions[i])

    def measure_end(self, episode: Episode) -> None:
        """See whether the world knows that the episode ends with its last action, whose frame was never drawn."""
        history = encode_states(self.world, episode, len(episode) - HISTORY, len(episode))[None]
        actions = torch.from_numpy(episode.actions[None, -HISTORY:]).to(self.world.device)
        latent = self.world.dream(history, actions, self._noise(1), self.num_inference_steps)
        known = self._see(episode, range(len(episode) - 1, len(episode)))
        outcome = self.world.judge(history, actions, latent, self._told(known, latent))
        self.ends.append((True, bool(outcome.end[0] > 0.5)))

    def report(self) -> Report:
        """All figures with their numbers of cases; what the dataset has no labels for is left out."""
        better = [dream["psnr"] > last["psnr"] for dream, last in zip(self.dream, self.repeat_last, strict=True)]
        report: Report = {
            "autoencoder": {**means(self.reconstruction), "n": len(self.reconstruction)},
            "one_step": {
                "dream": means(self.dream),
                "repeat_last": means(self.repeat_last),
                "better_than_repeat_last": mean(better),
                "n": len(self.dream),
            },
            "denoising_steps": {"one_step": compare_counts(self.few_steps)},
            "ends": detection(self.ends),
        }
        if self.pellets:
            report["autoencoder"]["pellets"] = {"exact": mean(self.pellets), "n": len(self.pellets)}
        if self.turns:
            report["turns"] = _report_turns(self.turns)
        if self.lives:
            report["lives_lost"] = detection_within(list(self.lives.values()), LATE)
        if self.points:
            report["rewards"] = _report_rewards(self.points)
        return report

    def _noise(self, count: int) -> Tensor:
        return torch.randn(count, *LATENT_SHAPE, generator=self.generator).to(self.world.device)

    def _see(self, episode: Episode, states: range) -> Tensor:
        """What is known after each of these states of an episode, int16 `[B, M]`, as in a dream that shows just these;
        the ones before were seen already, or are on the way."""
        if states.start == HISTORY - 1:
            self._known = self.world.follow(to_tensor(episode.frames(0, states.start)))
        known = []
        for state in states:
            self._known = self.world.follow(to_tensor(episode.frames(state, state + 1)), self._known)
            known.append(self._known)
        return torch.cat(known)

    def _told(self, known: Tensor, latents: Tensor) -> Decoded | None:
        return self.world.decode_after(known, latents) if self.world.autoencoder.decides else None

    def _judge(self, episode: Episode, steps: Steps, latents: Tensor, known: Tensor) -> None:
        known = self.world.autoencoder.before_next(known, steps.actions[:, -1])
        outcome = self.world.judge(steps.history, steps.actions, latents, self._told(known, latents))
        for state, points, lost, end in zip(steps.states, *(values.tolist() for values in outcome), strict=True):
            self.ends.append((False, end > 0.5))
            if episode.rewards is not None:
                self.points.append((float(episode.rewards[state - 1]), points))
            if "lives" in episode.labels:
                lives = episode.labels["lives"]
                run = self.lives.setdefault(episode.number, [])
                run.append((bool(lives[state] < lives[state - 1]), lost > 0.5))

    def _compare(self, episode: Episode, state: int, real: Tensor, latent: Tensor) -> None:
        last, frame = episode.frames(state - 1, state + 1)
        rebuilt, dream = to_images(self.world.decode(torch.stack([real, latent])))
        for cases, image in ((self.reconstruction, rebuilt), (self.dream, dream), (self.repeat_last, last)):
            cases.append(likeness(image, frame, episode.format))
        if self.legible:
            self.pellets.append(same_pellets(read(rebuilt), read(frame)))

    def _dream_anew(self, episode: Episode, state: int, history: Tensor, actions: Tensor, noise: Tensor) -> None:
        frame = episode.frames(state, state + 1)[0]
        for count, cases in self.few_steps.items():
            latent = self.world.dream(history[None], actions[None], noise[None], count)
            cases.append(short_likeness(to_images(self.world.decode(latent))[0], frame))

    def _turn(self, episode: Episode, state: int, history: Tensor, actions: Tensor) -> None:
        true = int(actions[-1])
        led = actions.expand(NUM_ACTIONS, -1).clone()
        led[:, -1] = torch.arange(NUM_ACTIONS, device=actions.device)
        noise = self._noise(1).expand(NUM_ACTIONS, *LATENT_SHAPE)  # the action alone makes the difference
        latents = self.world.dream(history.expand(NUM_ACTIONS, *history.shape), led, noise, self.num_inference_steps)
        place = episode.labels["player_xy"][state]
        real = around(episode.frames(state, state + 1)[0], place)
        scores = [psnr(around(picture, place), real) for picture in to_images(self.world.decode(latents))]
        self.turns.append((true, np.array(scores)))


def same_pellets(a: Reading, b: Reading) -> bool:
    """Whether two readings agree on every pellet that no actor hides in either."""
    return bool((a.pellets == b.pellets)[~(a.hidden | b.hidden)].all())


def compare_counts(scores: Mapping[int, Sequence[dict[str, float]]]) -> Report:
    """Mean scores by number of denoising steps, and how far apart the mean HaarPSI are."""
    looks = [value for cases in scores.values() if (value := mean([case["haarpsi"] for case in cases])) is not None]
    return {
        "by_count": {str(count): {**means(cases), "n": len(cases)} for count, cases in scores.items()},
        "spread": max(looks) - min(looks) if looks else None,
        "n": min(map(len, scores.values())),
    }


def find_turns(episode: Episode) -> list[int]:
    """States of an episode in which Pac-Man's motion has changed into the direction that the action asked for.

    He must have been moving before: pushing off from a standstill is no turn. None of the other four actions could have
    moved him the same way, so the true one has a right to win. Only states with a whole history behind them.
    """
    places, lives = episode.labels["player_xy"], episode.labels["lives"]
    turns = []
    for state in range(HISTORY, len(episode)):
        before, after = places[state - 1] - places[state - 2], places[state] - places[state - 1]
        action = Action(int(episode.actions[state - 1]))
        jumped = max(abs(before).max(), abs(after).max()) > FARTHEST_STEP or lives[state - 2] != lives[state]
        if action is Action.NO_ACTION or jumped or not before.any():
            continue
        asked = DIRECTIONS[action]
        if before @ asked <= 0 < after @ asked:
            turns.append(state)
    return turns


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
        "by_points": {
            f"{value:g}": {"right": mean([said == real for real, said in points if real == value]), "n": count}
            for value, count in sorted(Counter(real for real, _ in points).items())
        },
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
