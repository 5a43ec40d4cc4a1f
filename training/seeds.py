"""Choose a world's seeds: real histories, from episodes that no trainer reads.

Where a dataset has label columns, seeds cover four kinds of situation: an episode's start, the middle of a maze,
frightened ghosts and the last life. Without labels they are an episode's start and its middle.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from neural_pacman.episodes import HISTORY, Episode, read_episodes
from neural_pacman.seeds import KINDS, Start, write_seeds
from training.cache import write_json

SEEDS, HELD_OUT = "seeds.parquet", "held_out.json"

AHEAD = 16
"""Steps after a seed in which no life may be lost: a dream should not end as it begins."""
APART = 20
"""Screen px between two ghosts that both show."""
MOST_HELD_OUT = 0.75
"""Share of a single dataset's states beyond which they are too much to lose to seeds."""
NORMAL, FRIGHTENED = 1, 2
LABELS = ("lives", "ghost_state", "ghost_xy", "pellets_left")


def candidates(episode: Episode) -> dict[str, int]:
    """For each kind of seed that the episode offers, the state to begin at (the middle one of those that fit)."""
    ends = np.arange(HISTORY - 1, len(episode) - AHEAD)
    if not len(ends):
        return {}
    if any(label not in episode.labels for label in LABELS):
        return {"start": int(ends[0]), "maze": int(ends[len(ends) // 2])}
    lives, states, places, pellets = (episode.labels[label] for label in LABELS)
    lost = np.flatnonzero(lives[1:] < lives[:-1])
    quiet = np.array([not ((lost >= k - HISTORY) & (lost < k + AHEAD)).any() for k in ends])
    gaps = np.abs(places[:, :, None] - places[:, None, :]).max(-1)  # Chebyshev distance of each pair of ghosts
    first, second = np.triu_indices(places.shape[1], 1)
    ends = ends[quiet & (gaps[ends][:, first, second] >= APART).all(-1)]
    normal = np.array([(states[k - HISTORY + 1 : k + 1] == NORMAL).all() for k in ends], bool)
    fits = {
        "start": ends == HISTORY - 1,
        "maze": normal & (lives[ends] > 1) & (pellets[ends] <= 150),
        "frightened": (states[ends] == FRIGHTENED).sum(-1) >= 3,
        "last_life": (states[ends] == NORMAL).all(-1) & (lives[ends] == 1),
    }
    return {kind: int(ends[good][good.sum() // 2]) for kind, good in fits.items() if good.any()}


def choose_seeds(
    episodes: Iterable[Episode], most_episodes: int = 12, most_share: float = 0.25, per_kind: int = 6
) -> list[Start]:
    """Seeds from `most_episodes` episodes, or `most_share` of them if that is fewer; up to `per_kind` of each kind.

    Episodes that offer more kinds come first and then shorter ones, since what they hold is lost to training. All
    episodes that seeds come from must be held out of it. Raises ValueError when nothing fits.
    """
    offers = []  # of each episode its length and its seeds; the rest of it need not stay in memory
    for episode in episodes:
        fits = candidates(episode)
        if fits:
            offers.append((len(episode), {kind: Start.at(episode, state, kind) for kind, state in fits.items()}))
    if not offers:
        raise ValueError(f"No episode is long enough for a seed; expected at least {HISTORY + AHEAD} states in one.")
    most = max(len(kinds) for _, kinds in offers)
    offers.sort(key=lambda offer: (len(offer[1]) < most - 1, offer[0]))
    offers = offers[: min(most_episodes, max(int(most_share * len(offers)), 1))]
    starts = []
    for kind in KINDS:
        starts += [kinds[kind] for _, kinds in offers if kind in kinds][:per_kind]
    used = {start.episode for start in starts}
    # An episode held out for nothing would be a waste: it gives one seed of whatever it has.
    for _, kinds in offers:
        start = next(iter(kinds.values()))
        if start.episode not in used:
            starts.append(start)
    return starts


def hold_out(datasets: tuple[str, ...], wanted: tuple[int, ...], folder: Path) -> tuple[int, ...]:
    """Choose and write a world's seeds, once; returns the episodes that no trainer may read.

    The seeds come from the first dataset: from the episodes `wanted`, or where none are from those that
    `choose_seeds` takes. A dataset that would lose most of its states to them is trained on as a whole, which is said.
    Raises ValueError when nothing fits, an episode wanted is not there, or nothing would be left to train on.
    """
    seeds, chosen = folder / SEEDS, folder / HELD_OUT
    wanted = tuple(sorted(set(wanted)))
    if seeds.exists() and chosen.exists():
        held_out = tuple(json.loads(chosen.read_text(encoding="utf-8")))
        if wanted and held_out != wanted:
            raise ValueError(
                f"{folder} holds out {held_out}; now asked for {wanted}. Give another folder or delete it."
            )
        return held_out
    states: dict[int, int] = {}

    def episodes() -> Iterator[Episode]:
        for episode in read_episodes(datasets[0]):
            states[episode.number] = len(episode)
            if not wanted or episode.number in wanted:
                yield episode
        if missing := set(wanted) - states.keys():
            raise ValueError(f"{datasets[0]} has no episodes {sorted(missing)}; it has {sorted(states)}.")

    starts = choose_seeds(episodes(), *(len(wanted), 1.0) if wanted else ())
    held_out = wanted or tuple(sorted({start.episode for start in starts}))
    share = sum(states[number] for number in held_out) / sum(states.values())
    if wanted and share == 1 and len(datasets) == 1:
        raise ValueError(f"Nothing is left of {datasets[0]} to train on beside the held-out episodes {held_out}.")
    if not wanted and share > MOST_HELD_OUT and len(datasets) == 1:
        tqdm.write(f"{datasets[0]} has too few episodes to hold one out: what seeds come from is trained on too.")
        held_out = ()
    folder.mkdir(parents=True, exist_ok=True)
    write_seeds(seeds, starts)
    write_json(chosen, held_out)
    return held_out
