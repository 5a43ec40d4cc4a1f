"""Choose a world's seeds: real histories, from episodes that no trainer reads.

Where a dataset has label columns, seeds cover four kinds of situation: an episode's start, the middle of a maze,
frightened ghosts and the last life. Without labels they are an episode's start and its middle.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from neural_pacman.episodes import HISTORY, Episode
from neural_pacman.seeds import KINDS, Start

AHEAD = 16
"""Steps after a seed in which no life may be lost: a dream should not end as it begins."""
APART = 20
"""Screen px between two ghosts that both show."""
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
    offers = [(episode, candidates(episode)) for episode in episodes]
    offers = [offer for offer in offers if offer[1]]
    most = max((len(kinds) for _, kinds in offers), default=0)
    offers.sort(key=lambda offer: (len(offer[1]) < most - 1, len(offer[0])))
    offers = offers[: min(most_episodes, max(int(most_share * len(offers)), 1))]
    if not offers:
        raise ValueError(f"No episode is long enough for a seed; expected at least {HISTORY + AHEAD} states in one.")
    starts = []
    for kind in KINDS:
        offering = [(episode, kinds[kind]) for episode, kinds in offers if kind in kinds]
        starts += [Start.at(episode, state, kind) for episode, state in offering[:per_kind]]
    used = {start.episode for start in starts}
    # An episode held out for nothing would be a waste: it gives one seed of whatever it has.
    for episode, kinds in offers:
        if episode.number not in used:
            kind, state = next(iter(kinds.items()))
            starts.append(Start.at(episode, state, kind))
    return starts
