"""Where things are heading: what a screen does not show of what moves on it, and what it has shown of that before.

In the data a thing that comes to where it was heading sets out for where what changes spots is then, the shortest way
along the paths, and keeps to that, whatever happens, until it is there. So its turns look like chance to who sees where
everybody is, and few of them are: where a thing is heading follows from where it has been. What is believed of it is a
probability for every node of the paths. Every turn says which of them are likely, and every arrival makes one of them
certain. Of two ways that are as short it is always the same one that leads from one place to another, so it is believed
as well where a thing set out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SPREAD = 3.0
"""Nodes, from what changes spots on, after which one is e times less likely to be where a thing of which nothing is
known is heading."""
LEAP = 48
"""How far, each way, nothing goes in a step."""
OFF = 2
"""How far, each way, a place that is found may be from where a thing is, in the game's pixels."""
HALF = 1
"""How near it is to a node where it is at that node."""
WAYS = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Rows and columns of a step up, down, left and right."""
LEADS = (2, 3, 0, 1, -1)
"""On which of `WAYS` each action leads, -1 for none."""
UNLIKELY = 1e-4
"""Where a thing is heading as little likely as that, it does not matter which of two ways it would take."""


class Chase(NamedTuple):
    """Where what changes spots was before a step, by how many rows and columns it had come there in the one before, and
    where it went, `[2]` each."""

    at: np.ndarray
    step: np.ndarray
    to: np.ndarray

    def after(self, share: float) -> np.ndarray:
        """Where it was after this share of the step, or, where that is negative, of the one before."""
        went = self.to - self.at
        return self.at + share * (self.step if share < 0 or np.abs(went).max() > LEAP else went)


class Heading(NamedTuple):
    """What is believed of a thing: how likely it is heading for each of `n` nodes, and the node where it set out if it
    is, -1 where that is not known, `[n]` each."""

    to: np.ndarray
    since: np.ndarray


class Turn(NamedTuple):
    """What a thing does at a node in a step: the node; how far before that it was, in the game's pixels; which of
    `WAYS` it takes, -1 where that is not seen; how likely each of them was, `[4]`; what was believed; and how likely
    each way was for who is heading for each node, `[n, 4]`."""

    node: int
    before: int
    way: int
    likely: np.ndarray
    heading: Heading
    turns: np.ndarray


class Ways:
    """What things do where paths meet. Places are rows and columns of the middles of their tiles.

    Args:
        screen: uint8 `[side, side, 3]`, as large as the game's screen when that is padded to a square, not black at the
            nodes of the paths: where the middles of tiles are in which things may turn. Nodes that are as near to each
            other as the nearest, in a row or a column, are side by side. There it says in red how many of 255 turns go
            the shortest way, in green how long before a turn, in 255ths of a step, it was where what changes spots is
            that counts, and in blue how far a thing goes in a step, in the game's pixels, or some times as far. With
            `[2 * side, side, 3]`, the lower half says which of the ways that are as short lead from node to node (see
            `choices`): in the row of the one and the column of the other, low byte in red, high byte in green. And in
            the row of a thing's number, in the first column, blue says over how many others it is drawn, and one more;
            and in the second one how far it goes in a step where actions lead it, in the game's pixels.

    Raises ValueError for a screen of another shape, or without two nodes side by side.
    """

    def __init__(self, screen: np.ndarray) -> None:
        side = screen.shape[1]
        if len(screen) not in (side, 2 * side):
            raise ValueError(f"The ways have shape {list(screen.shape)}; expected {side} rows or twice as many.")
        screen, told = screen[:side], screen[side:]
        self.nodes = np.argwhere(screen.any(-1))
        apart = np.abs(self.nodes[:, None] - self.nodes)
        lengths = np.where(apart.min(-1) == 0, apart.sum(-1), 0)
        unit = int(min(lengths[lengths > 0], default=0))
        if not unit:
            raise ValueError("The ways have no two nodes side by side; expected some in one row or column.")
        red, green, blue = screen[tuple(self.nodes[0])]
        self.lag, self.pace = int(green) / 255, int(blue)
        number = {tuple(node): i for i, node in enumerate(self.nodes.tolist())}
        around = self.nodes[:, None] + unit * np.array(WAYS)
        beside = np.array([[number.get(tuple(node), -1) for node in nodes] for nodes in around.tolist()])
        there = beside >= 0
        count = len(self.nodes)
        self.distance = np.where(np.eye(count, dtype=bool), 0, count)
        """Nodes from each to each, on the shortest way."""
        shorter = there
        for _ in range(count):
            onward = np.where(there[:, :, None], self.distance[beside] + 1, count)  # [from, way, to]
            shorter = there[:, :, None] & (onward <= onward.min(1, keepdims=True))
            nearer = np.minimum(self.distance, onward.min(1))
            if (nearer == self.distance).all():
                break
            self.distance = nearer
        self.beside, self.shortest = beside, red / 255
        """The node beside each on each of `WAYS`, -1 for none, `[n, 4]`; and the share of shortest ways."""
        ways = np.where(np.eye(count, dtype=bool)[:, None], there[:, :, None], shorter).swapaxes(1, 2)
        shortest, any_way = (kind / kind.sum(-1, keepdims=True).clip(1) for kind in (ways, there[:, None]))
        self.turns = self.shortest * shortest + (1 - self.shortest) * any_way
        """How likely each way is at every node for who is heading to another, `[n, n, 4]`."""
        self.choices = told[:count, :count, :2] @ np.array([1, 256]) if len(told) else None
        """Which of several ways that are as short are taken from node to node, `[n, n]`: their numbers, one after the
        other, in two bits each; None where that is not known."""
        self.over: list[int] = told[:, 0, 2].tolist()
        """Over how many others a thing of this number is drawn, and one more; 0 where that is not known."""
        self.led: list[int] = told[:, 1, 2].tolist()
        """How far a thing of this number goes in a step where actions lead it; 0 where that is not known."""
        self.open = self.beside >= 0
        """Which ways what is led may take, `[n, 4]`."""
        self._paths: dict[tuple[int, int], dict[int, int]] = {}

    def path(self, start: int, goal: int) -> dict[int, int]:
        """The way that is taken at every node from one to another, as far as it is known."""
        if (start, goal) not in self._paths:
            path: dict[int, int] = {}
            node, left = start, int(self.choices[start, goal]) if self.choices is not None else 0
            while node != goal:
                nearer = [
                    way
                    for way, other in enumerate(self.beside[node].tolist())
                    if other >= 0 and self.distance[other, goal] < self.distance[node, goal]
                ]
                way = left & 3 if len(nearer) > 1 else nearer[0] if nearer else -1
                if way not in nearer or (len(nearer) > 1 and self.choices is None):
                    break
                left >>= 2 * (len(nearer) > 1)
                path[node] = way
                node = int(self.beside[node, way])
            self._paths[start, goal] = path
        return self._paths[start, goal]

    def turn(
        self, heading: Heading | None, at: np.ndarray, step: np.ndarray, to: np.ndarray | None, chase: Chase
    ) -> Turn | None:
        """What a thing does on the step from one place to another, or to where it is not seen; None if it passes no
        node, or may not be past it yet.

        `heading` is what is believed of it, None for nothing, and `step` how it came to where it is, rows and columns.
        """
        passed = self.ahead(at, step)
        if passed is None:
            return None
        node, before = passed
        axis, way = self._axis(at, step), -1
        if to is not None:
            rest = straight(to - self.nodes[node])
            if not rest.any():
                return None
            if not rest.all():
                way = WAYS.index((int(np.sign(rest[0])), int(np.sign(rest[1]))))
            back = rest[axis] * step[axis] < 0
            if way >= 0 and back and int((to - at)[axis] * np.sign(step[axis])) > OFF:
                return None
        to_node, since = (part.copy() for part in heading or self.towards(*chase.at))
        # Who was heading for this node sets out anew.
        arrived, to_node[node] = to_node[node], 0
        goal = self.nearest(*chase.after(before / self.speed(step) - self.lag))
        if arrived >= to_node[goal]:
            since[goal] = node
        to_node[goal] += arrived
        believed = Heading(to_node, since)
        turns = self.turns_of(node, believed)
        return Turn(node, before, way, np.asarray(to_node @ turns), believed, turns)

    def turns_of(self, node: int, heading: Heading) -> np.ndarray:
        """How likely each way is at a node for who is heading for each node, `[n, 4]`, and set out as is believed."""
        turns = self.turns[node].copy()
        for other in np.flatnonzero((heading.to > UNLIKELY) & (heading.since >= 0)).tolist():
            chosen = self.path(int(heading.since[other]), other).get(node)
            if chosen is not None:
                turns[other] = (1 - self.shortest) * (self.beside[node] >= 0) / (self.beside[node] >= 0).sum()
                turns[other, chosen] += self.shortest
        return turns

    def ahead(self, at: np.ndarray, step: np.ndarray) -> tuple[int, int] | None:
        """The node that a thing passes in a step, if it goes on as it came, and how far before it is; None for none."""
        away, axis, speed = self.nodes - at, self._axis(at, step), self.speed(step)
        along = away[:, axis] * int(np.sign(step[axis]))
        near = (np.abs(away[:, 1 - axis]) <= OFF) & (along >= -OFF) & (along < speed)
        node = int(np.where(near, np.abs(along), speed + OFF).argmin())
        return (node, int(along[node])) if near[node] else None

    def onward(self, at: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Where a thing is that goes on as far as it came, `[2]`."""
        axis, to = self._axis(at, step), at.copy()
        to[axis] += self.speed(step) * int(np.sign(step[axis]))
        return to

    def close(self, home: int, start: int) -> None:
        """Let nothing that is led from one node go home, to another one: farther than to the first node through which
        every way leads there."""
        gates = [node for node in range(len(self.nodes)) if node != start and home not in self._reached(start, node)]
        gate = min(gates, key=lambda node: int(self.distance[start, node]), default=home)
        outside = self._reached(start, gate) | {gate, -1}
        self.open &= np.array([[other in outside for other in others] for others in self.beside.tolist()])

    def _reached(self, start: int, without: int) -> set[int]:
        """The nodes to which ways lead from one that do not pass another one."""
        reached, left = {start}, [start]
        while left:
            beside = {*self.beside[left.pop()].tolist()} - reached - {without, -1}
            reached |= beside
            left += beside
        return reached

    def far(self, thing: int) -> int:
        """How far a thing of this number goes in a step where actions lead it; 0 where it is not known that they do."""
        return self.led[thing] if thing < len(self.led) else 0

    def lead(self, at: np.ndarray, step: np.ndarray, way: int, far: int) -> np.ndarray | None:
        """Where a thing is, `[2]`, that came so and is led so far on one of `WAYS`, or on as it goes (-1); None where
        that is not known. It turns round anywhere, elsewhere at nodes, and stops where no way leads on."""
        going = self._going(at, step)
        if going < 0:
            node, before = self.nearest(*at), 0
            if np.abs(self.nodes[node] - at).max() > OFF:
                return None
        else:
            going = way if way >= 0 and not np.add(WAYS[way], WAYS[going]).any() else going
            away, axis, sign = self.nodes - at, int(going > 1), int(sum(WAYS[going]))
            along = away[:, axis] * sign
            near = (np.abs(away[:, 1 - axis]) <= OFF) & (along >= -HALF) & (along <= far)
            if not near.any():
                return np.asarray(at + far * np.array(WAYS[going]))
            node = int(np.where(near, along, far + 1).argmin())
            before = int(along[node]) if along[node] > HALF else 0
        onward = next((it for it in (way, going) if it >= 0 and self.open[node, it]), None)
        left = 0 if onward is None else far - before
        return np.asarray(self.nodes[node] + left * np.array(WAYS[onward or 0]))

    def _going(self, at: np.ndarray, step: np.ndarray) -> int:
        """On which of `WAYS` a thing is going that came so, -1 for none."""
        axis = self._axis(at, step)
        sign = int(np.sign(step[axis]))
        return WAYS.index((sign, 0) if axis == 0 else (0, sign)) if sign else -1

    def speed(self, step: np.ndarray) -> int:
        """How far a thing goes that came so: as it was seen, unless that is nearly as far as things go."""
        far = int(np.abs(step).sum())
        paces = round(far / self.pace) * self.pace if self.pace else 0
        return paces if abs(far - paces) <= OFF and paces else far

    def may_be(self, at: np.ndarray, step: np.ndarray, to: np.ndarray) -> bool:
        """Whether a thing that came so may have gone to this place: it is not much farther off than it came."""
        return bool(np.abs(to - at).sum() <= 1.5 * self.speed(step) + OFF)

    def _axis(self, at: np.ndarray, step: np.ndarray) -> int:
        """Whether a thing that came so is going up or down, 0, or sideways, 1: after a turn it is on the way on which
        it left the node."""
        left = at - self.nodes[np.abs(self.nodes - at).sum(-1).argmin()]
        return int(np.abs(left if step.all() else step).argmax())

    def took(self, turn: Turn, way: int) -> Heading:
        """What is believed of a thing that goes this way."""
        to = turn.heading.to * turn.turns[:, way]
        return turn.heading._replace(to=to / to.sum()) if to.any() else self.anywhere()

    def place(self, turn: Turn, way: int, step: np.ndarray) -> np.ndarray:
        """Where a thing is, `[2]`, that came so and goes this way."""
        return np.asarray(self.nodes[turn.node] + (self.speed(step) - turn.before) * np.array(WAYS[way]))

    def anywhere(self, since: int = -1) -> Heading:
        """What is believed of a thing that may be heading anywhere, since it was at this node."""
        return Heading(np.full(len(self.nodes), 1 / len(self.nodes)), np.full(len(self.nodes), since))

    def set_out(self, since: int, goal: int) -> Heading:
        """What is believed of a thing that sets out for a node where it is at another one."""
        return self.anywhere(since)._replace(to=np.eye(len(self.nodes))[goal])

    def towards(self, row: float, column: float) -> Heading:
        """What is believed of a thing of which it is not known what it did, while what changes spots is here: that it
        is as likely to be heading for somewhere near there as for anywhere."""
        to, since = self.anywhere()
        near = np.exp(-self.distance[self.nearest(row, column)] / SPREAD)
        return Heading((near / near.sum() + to) / 2, since)

    def nearest(self, row: float, column: float) -> int:
        """The node nearest to a place."""
        return int(np.abs(self.nodes - (row, column)).sum(-1).argmin())


def straight(step: np.ndarray) -> np.ndarray:
    """A step without what may be an error of the places that it leads from and to."""
    return np.where(np.abs(step) <= OFF, 0, step)
