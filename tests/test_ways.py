"""Ways: what is believed of where things are heading, and dreams in which they go there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from neural_pacman.actions import Action
from neural_pacman.autoencoder import FrameAutoencoder
from neural_pacman.episodes import read_episodes
from neural_pacman.frames import prepare, psnr, to_images, to_tensor
from neural_pacman.looks import TILE, Place, middle
from neural_pacman.ways import LEADS, WAYS, Chase, Heading, Turn, Ways
from neural_pacman.world import WorldModel
from tests.test_looks import chased, screen_with
from training.ways import Run, _over, _search, find_ways

__all__ = ["chased"]

UP, DOWN, LEFT, RIGHT = range(4)
UNIT, SIDE = 24, 552
TOP, WEST = 148, 156
"""The middle of the first node's tile."""
MAZE = """
#####
#.#.#
#####
"""


def screen(shortest: int = 255, lag: int = 0) -> np.ndarray:
    """A screen with nodes in the shape of `MAZE`."""
    made = np.zeros((SIDE, SIDE, 3), np.uint8)
    for down, line in enumerate(MAZE.split()):
        for across, there in enumerate(line):
            if there == "#":
                made[TOP + UNIT * down, WEST + UNIT * across] = shortest, lag, 255
    return made


def node(down: int, across: int) -> np.ndarray:
    return np.array([TOP + UNIT * down, WEST + UNIT * across])


STILL = Chase(node(0, 0), np.zeros(2, int), node(0, 0))
"""What is chased stands in the corner."""


def certain(ways: Ways, down: int, across: int, since: int = -1) -> Heading:
    """The belief that a thing is heading for this node."""
    return ways.set_out(since, ways.nearest(*node(down, across)))


def test_who_is_heading_somewhere_goes_the_shortest_way() -> None:
    ways = Ways(screen())
    assert len(ways.nodes) == 13
    start, goal = ways.nearest(*node(0, 1)), ways.nearest(*node(2, 1))
    assert ways.distance[start, goal] == ways.distance[goal, start] == 4
    assert ways.turns[start, goal].tolist() == [0, 0, 0.5, 0.5]  # one way is as long as the other
    assert ways.turns[ways.nearest(*node(0, 2)), goal].tolist() == [0, 1, 0, 0]
    astray = Ways(screen(shortest=204)).turns[ways.nearest(*node(0, 2)), goal]
    assert np.allclose(astray, [0, 0.8 + 0.2 / 3, 0.2 / 3, 0.2 / 3])


def test_of_ways_that_are_as_short_the_one_that_leads_there_is_taken() -> None:
    start, goal = (0, 1), (2, 1)
    for choice, way in ((LEFT, -1), (RIGHT, 1)):
        told = np.zeros((SIDE, SIDE, 3), np.uint8)
        plain = Ways(screen(shortest=250))
        told[plain.nearest(*node(*start)), plain.nearest(*node(*goal)), 0] = choice
        ways = Ways(np.concatenate([screen(shortest=250), told]))
        at = ways.nearest(*node(*start))
        path = [ways.nodes[there].tolist() for there in ways.path(at, ways.nearest(*node(*goal)))]
        assert path == [node(*place).tolist() for place in (start, (0, 1 + way), (1, 1 + way), (2, 1 + way))]
        for since, sure in ((at, True), (-1, False)):
            heading = certain(ways, *goal, since)
            turn = ways.turn(heading, node(*start), np.array([8, 0]), None, STILL)
            assert turn is not None
            assert turn.likely[choice] > 0.98 if sure else turn.likely[choice] == turn.likely[5 - choice]
    assert plain.path(at, ways.nearest(*node(*goal))) == {}  # it is not known which


def test_every_turn_says_where_a_thing_is_heading_and_every_arrival_makes_it_certain() -> None:
    ways = Ways(screen(shortest=250))
    turn = ways.turn(ways.anywhere(), node(0, 2) - (0, 4), np.array([0, 8]), node(0, 2) + (4, 0), STILL)
    assert turn is not None and turn.way == DOWN and turn.before == 4
    belief = ways.took(turn, DOWN).to
    believed = ways.nodes[belief > 1.5 / len(belief)]
    assert belief.sum() == pytest.approx(1) and (believed[:, 0] > TOP).all() and len(believed) >= 3
    # It comes to where it was heading, and sets out for where what is chased is.
    chase = Chase(node(2, 0), np.array([0, -12]), node(2, 0))
    there = ways.turn(certain(ways, 2, 2), node(2, 2) - (4, 0), np.array([8, 0]), None, chase)
    assert there is not None and there.way < 0
    assert ways.nodes[there.heading.to.argmax()].tolist() == node(2, 0).tolist()
    assert WAYS[int(there.likely.argmax())] == (0, -1)
    assert ways.place(there, LEFT, np.array([8, 0])).tolist() == (node(2, 2) - (0, 4)).tolist()


def test_what_is_chased_counts_where_it_was_a_little_before() -> None:
    for lag, across in ((0, 2), (255, 1)):
        ways = Ways(screen(lag=lag))
        chase = Chase(node(0, 2), np.array([0, UNIT]), node(0, 3))
        turn = ways.turn(certain(ways, 2, 0), node(2, 0), np.array([0, -8]), None, chase)
        assert turn is not None and ways.nodes[turn.heading.to.argmax()].tolist() == node(0, across).tolist(), lag


@pytest.mark.parametrize(
    ("at", "step", "to", "way"),
    [
        ((0, 20), (0, 8), (0, 28), RIGHT),
        ((0, 20), (0, 8), (0, 20), LEFT),  # it turned back at the node
        ((0, 12), (0, 8), (0, 20), None),  # it has not come so far
        ((0, 20), (0, 8), (0, 24), None),  # it has just come there
        ((0, 26), (0, 8), (0, 34), RIGHT),  # two pixels are nothing
        ((0, 46), (0, 8), (6, 48), DOWN),
        ((6, 48), (6, 2), (14, 48), None),  # between two nodes
        ((22, 48), (8, 0), (30, 48), DOWN),
        ((44, 48), (8, 0), (48, 44), LEFT),
        ((44, 48), (8, 0), (60, 60), -1),  # on no path at all
    ],
)
def test_it_is_told_which_way_a_thing_takes(
    at: tuple[int, int], step: tuple[int, int], to: tuple[int, int], way: int | None
) -> None:
    ways, origin = Ways(screen()), node(0, 0)
    turn = ways.turn(None, origin + at, np.array(step), origin + to, STILL)
    assert (None if turn is None else turn.way) == way


@pytest.mark.parametrize(
    ("at", "step", "way", "goes"),
    [
        ((0, 18), (0, 12), LEFT, (0, 6)),  # turns round anywhere
        ((0, 6), (0, 12), LEFT, (0, 0)),  # and stops
        ((0, 6), (0, 12), UP, (0, 18)),
        ((0, 18), (0, 12), DOWN, (0, 30)),  # no way leads down there
        ((0, 42), (0, 12), DOWN, (6, 48)),
        ((0, 47), (0, 12), DOWN, (12, 48)),  # it is at the node, found a pixel before it
        ((0, 42), (0, 12), -1, (0, 54)),  # no action, so on as it goes
        ((6, 48), (6, 6), DOWN, (18, 48)),  # it turned down in the step before
        ((36, 48), (12, 0), DOWN, (48, 48)),
        ((42, 48), (12, 0), DOWN, (48, 48)),  # there it stops
        ((48, 48), (0, 0), DOWN, (48, 48)),
        ((48, 48), (0, 0), LEFT, (48, 36)),
        ((24, 36), (0, 0), LEFT, None),  # it is nowhere
    ],
)
def test_who_is_led_turns_at_nodes_and_goes_round_and_stops(
    at: tuple[int, int], step: tuple[int, int], way: int, goes: tuple[int, int] | None
) -> None:
    corner = node(0, 0)
    to = Ways(screen()).lead(corner + at, np.array(step), way, 12)
    assert (None if to is None else tuple((to - corner).tolist())) == goes


def test_who_is_led_does_not_go_home() -> None:
    maze = np.zeros((SIDE, SIDE, 3), np.uint8)
    for place in [
        *((0, across) for across in range(5)),
        *((2, across) for across in range(5)),
        (1, 0),
        (1, 4),
        (3, 2),
        (4, 2),
    ]:
        maze[tuple(node(*place))] = 255, 0, 8
    ways, at = Ways(maze), node(2, 2)

    def led(at: np.ndarray) -> np.ndarray:
        place = ways.lead(at, np.array([0, 12]), DOWN, 12)
        assert place is not None
        return place

    assert np.array_equal(led(at), at + (12, 0))
    ways.close(ways.nearest(*node(4, 2)), ways.nearest(*node(0, 2)))
    assert np.array_equal(led(at), at + (0, 12))
    assert (ways.open == (ways.beside >= 0)).sum() == ways.open.size - 3  # in, on, and out again


def test_a_way_that_there_is_not_tells_nothing() -> None:
    ways = Ways(screen())
    turn = ways.turn(None, node(0, 1) - (0, 4), np.array([0, 8]), node(0, 1) + (4, 0), STILL)
    assert turn is not None and turn.way == DOWN and not turn.likely[DOWN]
    assert np.array_equal(ways.took(turn, DOWN).to, ways.anywhere().to)


def test_a_screen_of_another_shape_or_without_two_nodes_side_by_side_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[600, 552, 3\]; expected 552 rows or twice as many"):
        Ways(np.zeros((600, SIDE, 3), np.uint8))
    lonely = np.zeros((SIDE, SIDE, 3), np.uint8)
    lonely[100, 100] = lonely[124, 124] = 255
    with pytest.raises(ValueError, match="no two nodes side by side"):
        Ways(lonely)


def cyan(model: FrameAutoencoder, known: object) -> Place:
    """Who the cyan one is known to be."""
    assert model.sprites is not None and isinstance(known, type(model.blank(1)))
    things = model.sprites.things.tolist()
    (place,) = (
        Place(*row) for row in model.cast_of(known)[0].tolist() if things[row[0]] not in (0, model.sprites.changing)
    )
    return place


PINK = 0, 440, 200
AT = 240, 100


@pytest.fixture(scope="module")
def steered(chased: FrameAutoencoder) -> FrameAutoencoder:
    """One in which cyan walks to the right, where a way leads down, and pink stands."""
    known = chased.follow(to_tensor(prepare(screen_with(PINK, (2, *AT)))[None]))
    place = cyan(chased, known)
    row, column = place.row + TILE // 2, place.column + TILE // 2
    nodes = np.zeros((SIDE, SIDE, 3), np.uint8)
    for across in range(-2, 3):
        nodes[row, column + UNIT * across] = 253, 64, 255
    for down in range(5):
        nodes[row + UNIT * down, column + 2 * UNIT] = 253, 64, 255
    background, other, signs, sprites, _ = chased.pictures
    return FrameAutoencoder.create("tiny", background, other, signs, sprites, nodes)


def frames(*places: tuple[int, int]) -> np.ndarray:
    """What is shown while cyan is at these places, from where it begins."""
    return np.stack([prepare(screen_with(PINK, (2, AT[0] + down, AT[1] + across))) for down, across in places])


COMING = [(0, 20), (0, 28), (0, 36), (0, 44)]


def test_a_dream_shows_a_turn_as_it_would_be_and_a_recording_as_it_is(steered: FrameAutoencoder) -> None:
    known = steered.follow(to_tensor(frames(*COMING)))
    for drawn, goes in (((-4, 48), (4, 48)), ((4, 48), (4, 48)), ((0, 48), (0, 48))):  # up into a wall, down, not yet
        dreamed = to_tensor(frames(drawn))
        now = steered._decide(dreamed, known)[0].known
        assert psnr(to_images(dreamed)[0], frames(goes)[0]) > 38, drawn
        recorded = steered.follow(to_tensor(frames(drawn)), known)
        first_of_a_dream = to_tensor(frames(drawn))
        steered._decide(first_of_a_dream, steered.before_next(known, recorded=True))
        assert psnr(to_images(first_of_a_dream)[0], frames(drawn)[0]) > 38, drawn
        for after, (down, across) in ((now, goes), (recorded, drawn)):
            place, first = cyan(steered, after), cyan(steered, steered.follow(to_tensor(frames((0, 0)))))
            assert (place.row - first.row, place.column - first.column) == (down, across)


def test_who_is_not_found_goes_on_where_it_would(steered: FrameAutoencoder) -> None:
    known = steered.follow(to_tensor(frames(*COMING)))
    gone = prepare(screen_with(PINK))[None]
    for place in ((4, 48), (12, 48), (20, 48)):
        shown = to_tensor(gone)
        known = steered._decide(shown, known)[0].known
        assert psnr(to_images(shown)[0], frames(place)[0]) > 38, place


def test_who_is_steered_is_not_shown_where_it_was_drawn(steered: FrameAutoencoder) -> None:
    known = steered.follow(to_tensor(frames(*COMING)))
    assert steered.sprites is not None
    dreamed = to_tensor(frames((-4, 48)))
    cast, heading = steered.cast_of(known), known[:, -steered.parts[-1] :].clone()
    heading[:, -1] = -1
    _, _, (scene,) = steered.sprites(dreamed, cast, heading)
    steered.sprites.show(
        dreamed, to_tensor(frames((0, 0)))[:, :, :1, :1] + 0 * dreamed, [scene._replace(all_known=False)]
    )
    assert psnr(to_images(dreamed)[0], frames((4, 48))[0]) > 38


def test_who_is_steered_to_whom_it_chases_meets_it_a_step_later(steered: FrameAutoencoder) -> None:
    def near(down: int, across: int) -> Tensor:
        return to_tensor(prepare(screen_with((0, AT[0] + 18, AT[1] + 54), (2, AT[0] + down, AT[1] + across)))[None])

    known = steered.follow(torch.cat([near(*place) for place in COMING]))
    assert cyan(steered, known).row == cyan(steered, steered.follow(near(0, 44))).row
    for drawn, meets in (((-4, 48), False), ((10, 48), True)):  # shown 14 pixels above pink, then found there
        now = steered._decide(near(*drawn), known)[0]
        assert (now.lost | now.over).item() == meets, drawn
        known = now.known


ROWS, COLUMNS = 5, 9
"""Nodes of the lattice on which pink is chased."""


def play(rng: np.random.Generator, chases: bool, searches: bool = False, led: bool = True) -> Run:
    """Frames of pink, who wanders on the lattice 12 pixels a step, and cyan, 8 a step, who goes to where pink was when
    it set out, one of the shortest ways or as it `searches`, or wanders too; until they come near each other. And
    actions, by which pink goes if it is `led`."""

    def ways(at: tuple[int, int]) -> list[tuple[int, int]]:
        around = [(at[0] + down, at[1] + across) for down, across in WAYS]
        return [place for place in around if 0 <= place[0] < ROWS and 0 <= place[1] < COLUMNS]

    pink, cyan = np.array([0, 0]), np.array([ROWS - 1, COLUMNS - 1]) * UNIT
    onward, towards, target = (0, 1), (ROWS - 1, COLUMNS - 2), (0, 0)
    tiles = [(column + 4, row + 4) for row in range(ROWS) for column in range(COLUMNS)]  # from where the maze begins
    left: list[tuple[int, int]] = []
    made, actions = [], []
    for step in range(60):
        made.append(screen_with((0, *(pink + (200, 100))), (2, *(cyan + (200, 100)))))
        if np.abs(pink - cyan).max() < 2 * UNIT:
            break
        if step % 2 == 0:
            at = int(pink[0]) // UNIT, int(pink[1]) // UNIT
            onward = ways(at)[int(rng.integers(len(ways(at))))]
        if step % 3 == 0:
            here = int(cyan[0]) // UNIT, int(cyan[1]) // UNIT
            if here == target:
                target = (round(pink[0] / UNIT), round(pink[1] / UNIT))
            apart = [abs(down - target[0]) + abs(across - target[1]) for down, across in ways(here)]
            good = [way for way, far in zip(ways(here), apart, strict=True) if far == min(apart) or not chases]
            if searches:
                begin, end = ((column + 4, row + 4) for row, column in (here, target))
                left = left or [(row - 4, column - 4) for column, row in _search(begin, end, tiles)[1:]]
                good = left[:1] or good
                left = left[1:]
            towards = good[int(rng.integers(len(good)))]
        goes = np.sign(np.array(onward) * UNIT - pink)
        actions.append(LEADS.index(WAYS.index((int(goes[0]), int(goes[1])))) if led else int(rng.integers(4)))
        pink = pink + 12 * goes
        cyan = cyan + 8 * np.sign(np.array(towards) * UNIT - cyan)
    return np.stack([prepare(screen) for screen in made]), np.array(actions)


def test_where_things_turn_and_that_they_chase_is_found_in_recordings(chased: FrameAutoencoder) -> None:
    background, other, signs, sprites, _ = chased.pictures
    assert sprites is not None and background is not None
    first = cyan(chased, chased.follow(to_tensor(frames((-40, 0)))))
    lattice = sprites.copy()
    paths = lattice[len(lattice) // 2 :]
    white = paths == 255
    paths[white.all(-1)] = 0
    row, column = first.row + TILE // 2, first.column + TILE // 2
    for down in range(ROWS):
        paths[row + UNIT * down, column : column + UNIT * (COLUMNS - 1) + 1] = 255
    for across in range(COLUMNS):
        paths[row : row + UNIT * (ROWS - 1) + 1, column + UNIT * across] = 255
    model = FrameAutoencoder.create("tiny", background, other, signs, lattice)
    rng = np.random.default_rng(0)
    for searches in (False, True):
        found = find_ways(model, (play(rng, True, searches) for _ in range(5)))
        assert found is not None and len(found) == SIDE * (1 + searches)
        nodes = np.argwhere(found[:SIDE].any(-1))
        assert nodes[0].tolist() == [row, column] and len(nodes) == ROWS * COLUMNS
        shortest, _, pace = found[row, column]
        assert shortest >= 242 and pace == 8
        if searches:
            assert model.sprites is not None and Ways(found).led[model.sprites.changing] == 12
    found = find_ways(model, (play(rng, True, True, led=False) for _ in range(4)))
    assert found is not None and not any(Ways(found).led)
    assert find_ways(model, (play(rng, False) for _ in range(3))) is None
    assert find_ways(FrameAutoencoder.create("tiny", background), ()) is None


def test_who_is_drawn_nearly_where_it_would_be_is_shown_there(steered: FrameAutoencoder) -> None:
    known = steered.follow(to_tensor(frames(*COMING[:2])))
    for drawn, goes in (((0, 34), (0, 36)), ((2, 38), (0, 36)), ((0, 28), (0, 28))):  # and one that stands still
        shown = to_tensor(frames(drawn))
        steered._decide(shown, known)
        assert psnr(to_images(shown)[0], frames(goes)[0]) > 38, drawn


def test_who_is_drawn_farther_off_than_things_go_goes_on(steered: FrameAutoencoder) -> None:
    background, other, signs, sprites, nodes = steered.pictures
    assert nodes is not None
    for pace, goes in ((8, (0, 36)), (12, (0, 46))):  # not where it comes slower than at its pace: that is an error
        paced = nodes.copy()
        paced[nodes.any(-1), 2] = pace
        model = FrameAutoencoder.create("tiny", background, other, signs, sprites, paced)
        known = model.follow(to_tensor(frames(*COMING[:2])))
        for recorded, there in ((False, goes), (True, (0, 46))):
            shown = to_tensor(frames((0, 46)))
            model._decide(shown, model.before_next(known, recorded=recorded), recorded)
            assert psnr(to_images(shown)[0], frames(there)[0]) > 38, (pace, recorded)


def test_who_is_hidden_in_a_dream_comes_out_where_it_would(steered: FrameAutoencoder) -> None:
    known = steered.follow(to_tensor(frames(*COMING)))
    assert steered.sprites is not None
    things = steered.sprites.things.tolist()
    pink, cyan_one = (Place(*row) for row in steered.cast_of(known)[0].tolist())
    other = Place(things.index(things[cyan_one.sprite]), cyan_one.row, cyan_one.column + 6)
    hidden = cyan_one._replace(row=other.row, column=other.column)  # as if somebody there hid it
    beliefs = {things[cyan_one.sprite]: steered.sprites.ways.anywhere()} if steered.sprites.ways else {}
    for plausible in (0, 0.25):
        cast, drawn = steered.sprites._steer([pink, cyan_one], [pink, hidden], [pink], dict(beliefs), plausible)
        goes = [place for place in cast if place.sprite == cyan_one.sprite]
        assert [place[1:3] for place in goes] == [
            (cyan_one.row + 4, cyan_one.column + 4) if plausible else (other.row, other.column)
        ]
        assert drawn == ([*goes, pink] if plausible else [pink])


@pytest.fixture(scope="module")
def knowing() -> FrameAutoencoder:
    """The shipped one, which knows where ghosts are heading."""
    return WorldModel.from_pretrained("pacman", device="cpu").autoencoder


def test_who_was_never_seen_is_behind_who_may_hide_it_in_a_dream(knowing: FrameAutoencoder) -> None:
    sprites = knowing.sprites
    assert sprites is not None
    things = sprites.things.tolist()
    red, cyan_one, *others = sorted({*things} - {0, sprites.changing})
    pacman, blue = Place(things.index(sprites.changing), 380, 260), Place(things.index(0), 92, 100)
    frame = to_tensor(knowing.pictures[0])[None] if knowing.pictures[0] is not None else torch.empty(0)
    shown = [pacman, Place(things.index(cyan_one), 284, 284), *(Place(things.index(it), 236, 332) for it in others[:1])]
    turned = [pacman, blue._replace(row=284, column=284), shown[2]]

    def drawn(places: list[Place]) -> Tensor:
        seen = frame.clone()
        sprites._draw(seen[0], places)
        return seen

    def cast(known: Tensor) -> list[int]:
        places = [Place(*row) for row in knowing.cast_of(known)[0].tolist() if row[0] >= 0]
        return sorted(things[place.sprite] or place.was for place in places if place.sprite != pacman.sprite)

    known = knowing.follow(torch.cat([drawn(shown), drawn(turned)]))
    assert cast(known) == [cyan_one, others[0]]
    dreamed = drawn(turned)
    known = knowing._decide(dreamed, known)[0].known
    assert cast(known) == [red, cyan_one, others[0]]  # behind the blue one, the only one
    known = knowing._decide(drawn([pacman, shown[2], Place(things.index(red), 188, 260)]), known)[0].known
    assert red in cast(known)


def test_who_was_hidden_takes_the_way_on_which_it_is_seen_if_that_is_as_likely(knowing: FrameAutoencoder) -> None:
    sprites = knowing.sprites
    assert sprites is not None and sprites.ways is not None
    things, ways = sprites.things.tolist(), sprites.ways
    one, other = sorted({*things} - {0, sprites.changing})[:2]
    pacman = Place(things.index(sprites.changing), 380, 260)
    above, below = (Place(things.index(it), 190, 260, down=-8) for it in (one, other))  # leaving home side by side
    goes_left = above._replace(row=188, column=254, down=-2, across=-6)
    for belief, column in (
        (ways.anywhere(), 266),
        (ways.set_out(-1, ways.nearest(200, 60)), 254),  # it is heading for the left
    ):
        hidden = below._replace(row=188, column=254)
        last, now = [pacman, above, below], [pacman, goes_left, hidden]
        cast, _ = sprites._steer(last, now, now[:2], {one: ways.anywhere(), other: belief}, 0.25)
        assert {place.sprite: place[1:3] for place in cast}[below.sprite] == (188, column)


def test_who_comes_home_sets_out_for_what_eats(knowing: FrameAutoencoder) -> None:
    sprites = knowing.sprites
    assert sprites is not None and sprites.home is not None and sprites.ways is not None
    things = sprites.things.tolist()
    red = min({*things} - {0, sprites.changing})
    pacman, eyes = Place(things.index(sprites.changing), 380, 260), Place(things.index(0), *sprites.home, was=red)
    for at, knows in ((sprites.home, True), ((188, 260), False)):  # where it is red again
        beliefs = {red: sprites.ways.anywhere()}
        sprites._steer([pacman, eyes], [pacman, Place(things.index(red), *at)], [], beliefs, 0.25)
        goal = sprites.ways.nearest(*middle(pacman))
        assert (beliefs.get(red, sprites.ways.anywhere()).to[goal] == 1) == knows


def test_who_is_over_whom_in_a_dream_is_as_recordings_show_it(knowing: FrameAutoencoder) -> None:
    sprites = knowing.sprites
    assert sprites is not None and sprites.ways is not None
    things = sprites.things.tolist()
    red, cyan_one, *_ = sorted({*things} - {0, sprites.changing})
    pacman = Place(things.index(sprites.changing), 380, 260)
    one, other = (Place(things.index(it), 188, 300, across=8) for it in (red, cyan_one))
    assert _over([[{cyan_one: other, red: one}, {red: one, cyan_one: other._replace(column=310)}]]) == {
        red: 0,
        cyan_one: 1,
    }
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        for over in ([], [2 if it == cyan_one else 1 for it in range(sprites.side)]):
            patch.setattr(sprites.ways, "over", over)
            for plausible in (0, 0.25):  # red is found where cyan is too
                _, drawn = sprites._steer([], [one, pacman, other], [one], {}, plausible)
                shown += [[things[place.sprite] for place in drawn]]
    assert shown == [[red]] * 3 + [[cyan_one]]


def test_one_of_several_that_would_walk_into_what_eats_is_eaten(knowing: FrameAutoencoder) -> None:
    sprites = knowing.sprites
    assert sprites is not None
    things = sprites.things.tolist()
    red = min({*things} - {0, sprites.changing})
    for apart, eaten in ((30, False), (20, True)):
        pacman = Place(things.index(sprites.changing), 284, 260)
        blue = Place(things.index(0), 284, 260 + apart, 1, red, 0, -8)
        beliefs: dict[int, Heading] = {}
        cast, drawn = sprites._steer([pacman, blue], [pacman, blue], [blue, pacman], beliefs, 0.25)
        goes = cast[1]
        assert cast[0] == pacman and drawn == cast[::-1]
        assert (things[goes.sprite] == red) == eaten  # it comes home in its own colour
        assert goes[1:3] == (sprites.home if eaten else (284, 252 + apart))
        _, _, cast = sprites._follow([pacman], cast)
        (stays,) = (place for place in cast if place.sprite != pacman.sprite)
        assert (things[stays.sprite] == red and stays[1:3] == sprites.home) == eaten
        assert sprites.ways is not None
        assert not eaten or beliefs[red].since[0] == sprites.ways.nearest(*middle(goes))
    taken = Place(blue.sprite, *sprites.home or ())  # where all of home is taken it waits, below him
    starts = [taken, *(start._replace(sprite=taken.sprite) for start in sprites.starts)]
    (_, goes, *_), drawn = sprites._steer([pacman, blue], [pacman, blue, *starts], [blue, pacman], {}, 0.25)
    assert goes[:3] == (blue.sprite, 284, 272) and drawn[-1] == goes
    _, _, cast = sprites._follow([pacman], [pacman, goes])  # until it is free
    assert [place[1:3] for place in cast if things[place.sprite] == red] == [sprites.home]
    again = [pacman, Place(things.index(red), 92, 100), blue]  # so does one that is taken for who is there
    assert sprites._steer([pacman, blue], again, [blue, pacman], {}, 0.25)[0][2][:3] == (blue.sprite, 284, 272)
    there, seen = pacman._replace(column=blue.column + 8), blue._replace(unseen=0)
    for plausible, first in ((0.25, there), (0, seen)):  # seen there, in a dream or not
        assert sprites._steer([pacman, seen], [there, seen], [seen, there], {}, plausible)[1][0] == first


@pytest.mark.parametrize("action", [Action.LEFT, Action.UP, Action.NO_ACTION])
def test_a_dreams_pacman_goes_where_the_action_leads(knowing: FrameAutoencoder, action: Action) -> None:
    sprites = knowing.sprites
    assert sprites is not None and sprites.ways is not None and sprites.ways.far(sprites.changing) == 12
    things = sprites.things.tolist()
    frame = to_tensor(knowing.pictures[0])[None] if knowing.pictures[0] is not None else torch.empty(0)

    def drawn(row: int, column: int) -> Tensor:
        seen = frame.clone()
        sprites._draw(seen[0], [Place(things.index(sprites.changing), row, column)])
        return seen

    def at(known: Tensor) -> list[int]:
        (place,) = (row for row in knowing.cast_of(known)[0].tolist() if row[0] >= 0)
        return place[1:3]

    known = knowing.follow(torch.cat([drawn(380, 251), drawn(380, 263)]))  # to the right, and on odd pixels
    assert at(known) == [380, 263]
    for steps in range(1, 5):
        shown = drawn(380, 263)  # whatever is drawn
        known = knowing._decide(shown, knowing.before_next(known, torch.tensor([action])))[0].known
        assert psnr(to_images(shown)[0], to_images(drawn(*at(known)))[0]) > 35
        if steps == 1:
            assert at(known) == [380, {Action.LEFT: 251}.get(action, 275)]
    recorded = knowing._decide(drawn(380, 266), knowing.before_next(known, torch.tensor([action]), recorded=True))[0]
    assert at(recorded.known) == [380, 266]


def test_recorded_ghosts_turn_as_is_believed(sample: Path, knowing: FrameAutoencoder) -> None:
    model = knowing
    assert model.sprites is not None and model.sprites.ways is not None
    ways = model.sprites.ways
    assert len(ways.nodes) == 193 and ways.pace == 8 and len(model.sprites.movers) == 4
    red, cyan_one, orange, pink = model.sprites.movers
    assert ways.choices is not None
    assert 0 < ways.over[red] < ways.over[pink] < min(ways.over[cyan_one], ways.over[orange])
    episode = next(iter(read_episodes(sample)))
    turns: list[float] = []
    took = ways.took

    def counted(turn: Turn, way: int) -> Heading:
        turns.append(float(turn.likely[way] / turn.likely.sum()))
        return took(turn, way)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ways, "took", counted)
        known = model.follow(to_tensor(episode.frames(0, 60)))
    assert len(turns) > 40 and np.mean(turns) > 0.7
    beliefs = known[0, -model.parts[-1] : -1].view(4, 2, -1)[:, 0].float().sum(1) / 32767
    assert torch.allclose(beliefs, torch.ones(4), atol=0.01)
