"""Looks: what a decoded frame shows of what is in doubt, and dreams that settle on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from neural_pacman.autoencoder import MOST_LIVE, RENEWED, Decoded, FrameAutoencoder, SparseConv2d, nothing_told
from neural_pacman.engine import DreamEngine, shared_world
from neural_pacman.episodes import read_episodes
from neural_pacman.frames import FRAME_SIZE, prepare, psnr, to_images, to_tensor
from neural_pacman.looks import PATIENCE, TILE, Place, middle
from neural_pacman.seeds import Seeds, stacked
from neural_pacman.world import WorldModel
from training.looks import find_pictures
from training.reader import PELLET_XY


def shown(model: FrameAutoencoder, frames: Tensor) -> Tensor:
    """Frames, written to, as they are shown when none was before."""
    model._decide(frames, model.blank(len(frames)))
    return frames


def after_nothing(model: FrameAutoencoder, latents: Tensor) -> Decoded:
    """The frames of latents as they are shown when none was before."""
    return model.decode_after(model.blank(len(latents)), latents)


def test_a_pixel_of_two_looks_shows_one_of_them_or_something_else() -> None:
    background, other = np.zeros((2, 512, 512, 3), np.uint8)
    pellet = (255, 240, 230)
    background[3, 4] = other[100, 200] = pellet  # one stands in the background, the other does not
    model = FrameAutoencoder.create("tiny", background, other)
    drawn = {0.0: 0, 0.3: 0, 0.5: 1, 0.9: 1, 1.2: 1}
    for brightness, decided in drawn.items():
        frames = torch.full((2, 3, 512, 512), -1.0)
        frames[1, :, 3, 4] += 2 * brightness
        frames[1, :, 100, 200] += 2 * brightness
        frames[1, :, 50, 50] += 2 * brightness  # a pixel of one look
        frames[0, 2, 3, 4] += 1.5  # blue, as a ghost
        before, after = frames.clone(), shown(model, frames)
        white = to_tensor(background)[:, 3, 4] if decided else torch.full((3,), -1.0)
        assert torch.allclose(after[1, :, 3, 4], white) and torch.allclose(after[1, :, 100, 200], white)
        assert torch.equal(after[0], before[0]) and torch.equal(after[1, :, 50, 50], before[1, :, 50, 50])
    with pytest.raises(ValueError, match="no background"):
        FrameAutoencoder.create("tiny", None, other)


def test_a_spot_of_two_looks_is_decided_as_a_whole() -> None:
    background, other = np.zeros((2, 512, 512, 3), np.uint8)
    other[100:104, 200:204] = 200
    model = FrameAutoencoder.create("tiny", background, other)
    frames = to_tensor(np.stack([background] * 3))
    for frame, strength in zip(frames, (0.6, 0.3, 0.6), strict=True):  # brighter in the middle than at its rim
        frame[:, 100:104, 200:204] += strength * 200 / 127.5
        frame[:, 101:103, 201:203] += 0.2
    frames[2, 2, 100:104, 200:202] = 1.0  # a ghost hides half of it
    hidden = frames[2, :, 100:104, 200:202].clone()
    whole = to_images(shown(model, frames))
    assert np.array_equal(whole[0], other) and np.array_equal(whole[1], background)
    assert np.array_equal(whole[2, :, 202:], other[:, 202:]) and torch.equal(frames[2, :, 100:104, 200:202], hidden)


def test_both_looks_may_be_others_than_the_background() -> None:
    background, dark, bright = np.zeros((3, 512, 512, 3), np.uint8)
    background[100:104, 200:204] = (130, 130, 0)  # somebody passed there too often
    bright[100:104, 200:204] = 250
    model = FrameAutoencoder.create("tiny", background, np.concatenate([bright, dark]))
    faint, strong = ((look.astype(int) * share).astype(np.uint8) for look, share in ((bright, 0.2), (bright, 0.8)))
    assert np.array_equal(to_images(shown(model, to_tensor(np.stack([faint, strong])))), np.stack([dark, bright]))


def test_a_decoded_frame_shows_what_was_decided() -> None:
    torch.manual_seed(0)
    background = np.full((512, 512, 3), 100, np.uint8)
    other = background.copy()
    other[::2] = 160
    plain, deciding = (FrameAutoencoder.create("tiny", background, look) for look in (None, other))
    deciding.load_state_dict(plain.state_dict())
    latents = torch.randn(2, 32, 16, 16) / 4
    before, after = plain.decode(latents), deciding.decode(latents)
    assert torch.equal(before[:, :, 1::2], after[:, :, 1::2])
    assert torch.equal(shown(deciding, before.clone()), after)
    assert (before != after)[:, :, ::2].float().mean() > 0.1


PINK, CYAN, BLUE = (255, 128, 255), (128, 255, 255), (50, 50, 255)
HEIGHT, WIDTH = 552, 456


def ghost(colour: tuple[int, int, int], eyes: int) -> np.ndarray:
    """A sprite of the game, uint8 `[24, 24, 3]`: a body with a foot cut out and eyes at one side or the other."""
    drawn = np.zeros((24, 24, 3), np.uint8)
    drawn[2:, 1:23] = colour
    drawn[0:2, 6:18] = colour
    drawn[20:, 9:15] = 0
    drawn[6:11, eyes : eyes + 4] = drawn[6:11, eyes + 9 : eyes + 13] = 255
    return drawn


GHOSTS = [ghost(colour, eyes) for colour in (PINK, CYAN, BLUE) for eyes in (2, 8)]


PELLETS = [(row, column) for row in range(120, 420, 60) for column in range(90, 380, 50)]
"""The rows and columns of pellets."""


def screen_with(
    *ghosts: tuple[int, int, int], figures: tuple[int, ...] = (), pellets: Sequence[tuple[int, int]] = ()
) -> np.ndarray:
    """A screen of the game, uint8 `[552, 456, 3]`: ghosts (which, row, column), the first uppermost, figures, and
    pellets (row, column)."""
    screen = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    screen[100:104] = (0, 0, 255)  # a wall
    for row, column in pellets:
        screen[row : row + 4, column : column + 4] = (255, 240, 230)
    for which, row, column in reversed(ghosts):
        view = screen[row : row + 24, column : column + 24]
        view[:] = np.where(GHOSTS[which].any(-1, keepdims=True), GHOSTS[which], view)
    for place, figure in enumerate(figures):  # bars of different lengths, that touch nothing
        screen[530:540, 2 + 14 * place : 4 + 14 * place] = 255
        screen[532:538, 4 + 14 * place : 5 + figure + 14 * place] = 255
    return screen


LANES = 240, 302, 400, 440
"""The rows of a pink, a cyan and two blue ghosts, as a rule; two that touch walk in another one, now and then the pink
one alone does."""


def screens(count: int = 140) -> list[np.ndarray]:
    """Ghosts wherever they go, one pink, one cyan and two blue ones, two more over one another, and a score of two
    figures of seven, which counts up."""
    rng = np.random.default_rng(0)
    columns = rng.permuted(np.tile(4 * np.arange(20, 90), (4, 1)), axis=1)
    made = []
    for number in range(count):
        looks = 2 * np.array([0, 1, 2, 2]) + rng.integers(0, 2, 4)
        lanes = LANES if number % 2 else (200, *LANES[1:])
        alone = [
            (int(look), *at) for look, *at in zip(looks, lanes, columns[:, number // 2 % 70].tolist(), strict=True)
        ]
        if number % 20 >= 18:  # a cyan one that is back has been a blue one
            back = 2, LANES[1], 200 + 4 * (number // 20 % 4)
            alone = [alone[0], *(alone[2:] if number % 2 == 0 else [back, alone[2]])]
        column = int(4 * rng.integers(20, 80))
        pair = [(number % 6, 200, column), ((number + 1) % 6, 200, column + 12)] if number % 2 else []
        made.append(screen_with(*pair, *alone, figures=(number % 7, number // 7 % 7)))
    return made


START = [(0, 240, 200), (2, 240, 224), (4, 440, 212)]
"""Who is where when a life begins: pink and cyan touch."""


def lives(count: int = 140) -> list[np.ndarray]:
    """A pink, a cyan and a blue ghost, wherever they go; between the first and the second of each fifth two screens a
    life begins, or has just begun."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count // 2):
        columns = 4 * rng.integers(20, 90, 3)
        for begins in (False, number % 5 == 0):
            looks = 2 * np.arange(3) + rng.integers(0, 2, 3)
            there = [(int(look), *at) for look, *at in zip(looks, LANES[:3], columns.tolist(), strict=True)]
            gone = 4 * (number // 5 % 5 - 2)
            begun = [(int(look), row, column + gone) for look, (_, row, column) in zip(looks, START, strict=True)]
            made.append(screen_with(*(begun if begins else there)))
    return made


def meals(count: int = 100) -> list[np.ndarray]:
    """A pink and a cyan ghost, and pellets: between the first and the second of each two screens the pink one eats one
    that is beside it; the cyan one passes over another."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count // 2):
        eaten, passed = number % len(PELLETS), (number + 7) % len(PELLETS)
        standing = [place for i, place in enumerate(PELLETS) if i not in (eaten, passed) and rng.random() < 0.7]
        pink, cyan = (
            (PELLETS[i][0] + 4 * int(rng.integers(-3, 3)) - 8, PELLETS[i][1] + aside)
            for i, aside in ((eaten, 8), (passed, -8))
        )
        for pellets in ([*standing, PELLETS[eaten]], standing):
            look = int(rng.integers(0, 2))
            made.append(screen_with((look, *pink), (2 + look, *cyan), pellets=[*pellets, PELLETS[passed]]))
    return made


AGAIN = [(0, 460, 140), (2, 460, 340)]
"""Who is where when a life begins because pink was caught."""


def life(screen: np.ndarray, lives: int) -> np.ndarray:
    """A screen with a bar as long as there are lives left."""
    screen[530:540, 302 : 304 + 4 * lives] = (255, 255, 0)
    return screen


def caught(count: int = 90) -> list[np.ndarray]:
    """Meals, but before the second of each fifth two screens cyan was near to pink, and one of three lives is lost."""
    made = meals(count)
    for number in range(count // 2):
        lives = 3 - number % 3
        for screen in made[2 * number : 2 * number + 2]:
            life(screen, lives)
        if number % 5 == 0:
            row, column = 4 * number % 240 + 106, 4 * number % 220 + 90
            gone, left = 4 * (number // 5 % 9 - 4), 3 - number // 5 % 2
            again = [(which, down, across + gone) for which, down, across in AGAIN]
            made[2 * number] = life(screen_with((0, row, column), (2, row, column + 32), pellets=PELLETS), left)
            made[2 * number + 1] = life(screen_with(*again, pellets=PELLETS), left - 1)
    return made


FIGURES = [
    np.pad(
        np.array([[[200 * (figure >> bit & 1) + 55] * 3] for bit in range(4)], np.uint8).repeat(2, 0),
        ((0, 0), (0, 4), (0, 0)),
        "edge",
    )
    for figure in range(10)
]


def scored(score: int, pellets: Sequence[tuple[int, int]], *ghosts: tuple[int, int, int]) -> np.ndarray:
    """A screen with a score on its left, beginning at the left, and pellets, the last four of them big ones."""
    screen = screen_with(*ghosts, pellets=pellets)
    for row, column in {*pellets} & {*PELLETS[-4:]}:
        screen[row - 2 : row + 6, column - 2 : column + 6] = (255, 240, 230)
    for place, figure in enumerate(str(score)):
        screen[530:538, 2 + 8 * place : 7 + 8 * place] = FIGURES[int(figure)]
    return screen


def counted(count: int = 248) -> list[np.ndarray]:
    """Pink eats between the first and the second of each two screens: ten points, or a hundred for a big pellet.
    Something else brings two hundred now and then."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count // 2):
        eaten = 7 * number % 31 % len(PELLETS)
        standing = [place for i, place in enumerate(PELLETS) if i != eaten and rng.random() < 0.7]
        down, aside = (int(way) for way in rng.integers(0, 6, 2))
        pink = PELLETS[eaten][0] - 20 + 4 * down, PELLETS[eaten][1] + 8 + 2 * aside
        score = 10 * (37 * (number // 3) % 10 ** (1 + number % 3))
        look = int(rng.integers(0, 2))
        after = score + (100 if eaten >= len(PELLETS) - 4 else 10)
        if number % 20 == 19:  # something else
            standing.append(PELLETS[eaten])
            after = score + 200
        made += [scored(score, [*standing, PELLETS[eaten]], (look, *pink)), scored(after, standing, (look, *pink))]
    return made


@pytest.fixture(scope="module")
def scoring() -> FrameAutoencoder:
    """One that has seen them."""
    played = counted()
    return FrameAutoencoder.create("tiny", *find_pictures(np.stack([prepare(screen) for screen in played]), played))


@pytest.fixture(scope="module")
def drawn() -> FrameAutoencoder:
    """An autoencoder with the looks that are found in those screens."""
    played = screens()
    background, other, signs, sprites, _ = find_pictures(np.stack([prepare(screen) for screen in played[:30]]), played)
    assert background is not None and other is not None and signs is not None and sprites is not None
    return FrameAutoencoder.create("tiny", background, other, signs, sprites)


@pytest.fixture(scope="module")
def living() -> FrameAutoencoder:
    """One with the looks that are found where lives begin."""
    played = lives()
    return FrameAutoencoder.create("tiny", *find_pictures(np.stack([prepare(screen) for screen in played]), played))


@pytest.fixture(scope="module")
def eating() -> FrameAutoencoder:
    """One with the looks that are found where pellets are eaten."""
    played = meals()
    pictures = find_pictures(np.stack([prepare(screen) for screen in played]), played)
    return FrameAutoencoder.create("tiny", *pictures)


@pytest.fixture(scope="module")
def chased() -> FrameAutoencoder:
    """One with the looks that are found where lives are lost, and where everybody goes anywhere."""
    played = caught()
    background, other, signs, sprites, _ = find_pictures(np.stack([prepare(screen) for screen in played]), played)
    assert sprites is not None
    paths = sprites[len(sprites) // 2 :]
    paths[~paths.any(-1)] = 255
    return FrameAutoencoder.create("tiny", background, other, signs, sprites)


def decided(model: FrameAutoencoder, screen: np.ndarray, blur: int = 1, strength: float = 1.0) -> np.ndarray:
    """What is shown of a screen that was decoded blurred, and faded towards black."""
    frames = to_tensor(prepare(screen))[None]
    frames = torch.nn.functional.avg_pool2d(frames, blur, 1, blur // 2, count_include_pad=False)
    return to_images(shown(model, strength * (frames + 1) - 1))[0]


def test_the_looks_of_what_is_drawn_are_found_in_screens(drawn: FrameAutoencoder) -> None:
    assert drawn.sprites is not None and drawn.signs is not None
    found = [tile.movedim(0, -1).add(1).mul(127.5).round().byte().numpy() for tile in drawn.sprites.colours]
    masks = drawn.sprites.covers.bool().numpy()
    cut = []
    for tile, mask in zip(found, masks, strict=True):
        rows, columns = np.nonzero(mask)
        tile[~mask] = 0
        cut.append(tile[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    alike = [any(np.array_equal(one, which[:, 1:23]) for which in GHOSTS) for one in cut]
    assert len(cut) == 6 and all(alike)  # and none of two ghosts, one over the other
    assert len(drawn.signs.places) == 2
    looks = [next(i for i, which in enumerate(GHOSTS) if np.array_equal(one, which[:, 1:23])) for one in cut]
    things = drawn.sprites.things.tolist()
    thing = dict(zip(looks, things, strict=True))
    assert thing[0] == thing[1] != thing[2] == thing[3] and thing[0] * thing[2] > 0 == thing[4] == thing[5]
    assert drawn.sprites.cast == 4 and not drawn.sprites.changing


def test_what_is_drawn_blurred_is_shown_as_the_game_draws_it(drawn: FrameAutoencoder) -> None:
    screen = screen_with((0, 200, 100), (3, 202, 124), (4, 302, 130), (5, 400, 90), figures=(3, 6))
    real, below = prepare(screen), np.s_[120:]  # the wall, which stays blurred
    assert psnr(decided(drawn, screen), real) > 45
    for blur, strength in ((3, 1.0), (5, 1.0), (3, 0.7)):
        frames = to_tensor(real)[None]
        seen = torch.nn.functional.avg_pool2d(frames, blur, 1, blur // 2, count_include_pad=False)
        before = psnr(to_images(strength * (seen + 1) - 1)[0][below], real[below])
        assert psnr(decided(drawn, screen, blur, strength)[below], real[below]) > before + 5, (blur, strength)


def test_the_uppermost_is_found_first_and_the_covered_one_still(drawn: FrameAutoencoder) -> None:
    assert drawn.sprites is not None
    real = to_tensor(prepare(screen_with((1, 200, 100), (2, 200, 112))))
    (upper, lower), surplus = drawn.sprites.find(real)
    assert not surplus
    colours = [drawn.sprites.colours[place.sprite][:, 18, 8] for place in (upper, lower)]
    assert [colour.add(1).mul(127.5).round().int().tolist() for colour in colours] == [list(PINK), list(CYAN)]
    assert (lower.row - upper.row, lower.column - upper.column) == (0, 12)


def test_what_stands_out_beside_the_uppermost_may_be_another_one(drawn: FrameAutoencoder) -> None:
    assert drawn.sprites is not None
    for aside in (-8, 8):
        real = to_tensor(prepare(screen_with((4, 200, 160), (0, 200, 160 + aside))))  # the brighter one is below
        (upper, lower), surplus = drawn.sprites.find(real)
        assert not surplus
        colours = [drawn.sprites.colours[place.sprite][:, 18, 8] for place in (upper, lower)]
        assert [colour.add(1).mul(127.5).round().int().tolist() for colour in colours] == [list(BLUE), list(PINK)]
        assert (lower.row - upper.row, lower.column - upper.column) == (0, aside)


def test_of_a_ghost_that_is_two_the_better_one_is_shown(drawn: FrameAutoencoder) -> None:
    whole = screen_with((0, 240, 100), (2, 400, 90))
    for strength in (0.7, 0.4):  # it fits a ghost still, or hardly
        twice = np.maximum(whole, (strength * screen_with((1, 302, 120))).astype(np.uint8))
        assert psnr(decided(drawn, twice), prepare(whole)) > 40
    blue = screen_with((4, 240, 100), (4, 302, 120))  # of these there are several
    assert psnr(decided(drawn, blue, blur=3), prepare(blue)) > 40


def test_a_ghost_that_has_faded_or_is_in_anothers_colour_is_found(drawn: FrameAutoencoder) -> None:
    real = screen_with((0, 240, 100), (3, 302, 120))
    faded = np.maximum(screen_with((0, 240, 100)), (0.35 * screen_with((3, 302, 120))).astype(np.uint8))
    assert psnr(decided(drawn, faded), prepare(real)) > 45
    both_pink = screen_with((0, 240, 100), (1, 302, 120))
    both_pink[302:326] = (0.8 * both_pink[302:326]).astype(np.uint8)  # the worse one is whom nobody else is
    assert psnr(decided(drawn, both_pink), prepare(real)) > 45


def test_nobody_leaves_the_paths(drawn: FrameAutoencoder) -> None:
    stray = screen_with((0, 240, 300))
    assert psnr(decided(drawn, stray, blur=5), prepare(stray)) < 40
    beside = screen_with((0, 244, 100))  # and is shown on them where most of it is there
    assert psnr(decided(drawn, beside), prepare(screen_with((0, 242, 100)))) > 40


def test_what_is_no_sprite_or_hardly_there_stays_as_it_was_decoded(drawn: FrameAutoencoder) -> None:
    faint = decided(drawn, screen_with((0, 200, 100)), strength=0.17)
    assert (faint == prepare((0.17 * screen_with((0, 200, 100))).astype(np.uint8))).mean() > 0.99
    strange = screen_with()
    strange[200:224:2, 100:124] = (0, 255, 0)
    strange[340:376, 300:340] = (255, 255, 255)
    assert psnr(decided(drawn, strange), prepare(strange)) > 45


def after(model: FrameAutoencoder, known: Tensor, screen: np.ndarray) -> tuple[np.ndarray, Tensor]:
    """What is shown of a screen after others that something is known of, and what is known now."""
    frames = to_tensor(prepare(screen))[None]
    now = model._decide(frames, known)[0].known
    return to_images(frames)[0], now


def test_nobody_vanishes_alone(drawn: FrameAutoencoder) -> None:
    pink, cyan, blue = (0, 240, 100), (2, 302, 120), (4, 400, 90)
    everyone = screen_with(pink, cyan, blue)
    _, started = after(drawn, drawn.blank(1), everyone)
    for gone, left in (("pink", (cyan, blue)), ("blue", (pink, cyan))):
        known = started
        for times in range(PATIENCE + 3):  # of the blue ones there are several
            seen, known = after(drawn, known, screen_with(*left))
            stays = gone == "pink" or times < PATIENCE
            assert (psnr(seen, prepare(everyone)) > 40) == stays, (gone, times)
    _, known = after(drawn, started, screen_with(cyan, blue))
    seen, known = after(drawn, known, screen_with((0, 240, 300), cyan, blue))  # it may come back anywhere
    assert psnr(seen, prepare(screen_with((0, 240, 300), cyan, blue))) > 40
    seen, _ = after(drawn, known, screen_with())  # all of them go at once: it is another scene
    assert psnr(seen, prepare(screen_with())) > 40


def test_who_is_hidden_goes_with_who_hides_it(drawn: FrameAutoencoder) -> None:
    _, known = after(drawn, drawn.blank(1), screen_with((2, 240, 108), (0, 240, 100)))
    for column in range(112, 240, 8):
        one = screen_with((2, 240, column))
        seen, known = after(drawn, known, one)
        assert psnr(seen, prepare(one)) > 40
    apart = screen_with((2, 240, 240), (0, 240, 216))
    seen, known = after(drawn, known, apart)
    assert psnr(seen, prepare(apart)) > 40
    seen, _ = after(drawn, known, screen_with((2, 240, 244)))  # nobody is near: it was found, and stays
    assert psnr(seen, prepare(screen_with((2, 240, 244), (0, 240, 216)))) > 40


def test_who_is_hidden_stays_where_nobody_walks_away(drawn: FrameAutoencoder) -> None:
    _, known = after(drawn, drawn.blank(1), screen_with((2, 240, 108), (0, 240, 100)))
    seen, _ = after(drawn, known, screen_with((2, 302, 300)))  # farther than anybody walks
    assert psnr(seen, prepare(screen_with((2, 302, 300), (0, 240, 100)))) > 40


def at_home(model: FrameAutoencoder) -> tuple[int, int]:
    """Where a ghost is on a screen that has come home."""
    assert model.sprites is not None and model.sprites.home is not None
    return model.sprites.home[0] + 4, model.sprites.home[1] - 44


def all_blue(model: FrameAutoencoder) -> tuple[list[tuple[int, int]], list[tuple[int, int, int]], Tensor]:
    """Where pink and cyan were when they turned blue, two others that were so before, and what is known then."""
    places, pair = [(240, 100), (302, 120)], [(4, 400, 90), (5, 440, 90)]
    _, known = after(model, model.blank(1), screen_with((0, *places[0]), (2, *places[1]), *pair))
    _, known = after(model, known, screen_with(*[(4, *place) for place in places], *pair))
    return places, pair, known


def test_one_of_several_that_is_gone_comes_home_as_who_is_away(drawn: FrameAutoencoder) -> None:
    home = at_home(drawn)
    assert home[0] == LANES[1] and 200 <= home[1] <= 212
    pink, blue, another = (0, 240, 100), (4, 400, 90), (5, 440, 90)
    _, known = after(drawn, drawn.blank(1), screen_with(pink, blue, another))
    for _ in range(PATIENCE):
        seen, known = after(drawn, known, screen_with(pink, blue))
        assert psnr(seen, prepare(screen_with(pink, blue, another))) > 35
    for _ in range(2):
        seen, known = after(drawn, known, screen_with(pink, blue))
        assert max(psnr(seen, prepare(screen_with(pink, blue, (cyan, *home)))) for cyan in (2, 3)) > 38


def test_one_of_several_comes_home_as_who_it_was(drawn: FrameAutoencoder) -> None:
    home = at_home(drawn)
    places, pair, blue = all_blue(drawn)
    for gone in range(2):
        left = screen_with((4, *places[1 - gone]), *pair)
        seen, known = after(drawn, blue, left)
        for _ in range(PATIENCE):
            seen, known = after(drawn, known, left)
        alike = [psnr(seen, prepare(screen_with((4, *places[1 - gone]), *pair, (look, *home)))) for look in range(4)]
        assert np.argmax(alike) // 2 == gone and max(alike) > 38, alike


def test_two_of_several_come_home_one_after_the_other(drawn: FrameAutoencoder) -> None:
    home = at_home(drawn)
    places, pair, known = all_blue(drawn)
    for _ in range(PATIENCE + 1):
        seen, known = after(drawn, known, screen_with(*pair))
    waits = [
        psnr(seen, prepare(screen_with((4, *places[1 - who]), (look, *home), *pair)))
        for who in range(2)
        for look in (2 * who, 2 * who + 1)
    ]
    first = int(np.argmax(waits))
    assert max(waits) > 38, waits
    away = (first, home[0], home[1] + 30)  # it is there no more
    for _ in range(2):
        seen, known = after(drawn, known, screen_with(away, *pair))
    both = [
        psnr(seen, prepare(screen_with(away, (look, *home), *pair))) for look in range(4) if look // 2 != first // 2
    ]
    assert max(both) > 38, both


def test_nobody_comes_from_nowhere(drawn: FrameAutoencoder) -> None:
    four = [(0, 240, 100), (2, 302, 120), (4, 400, 90), (5, 440, 90)]
    _, known = after(drawn, drawn.blank(1), screen_with(*four[1:]))
    seen, known = after(drawn, known, screen_with(*four))  # somebody was out of sight when it began
    assert psnr(seen, prepare(screen_with(*four))) > 35
    seen, known = after(drawn, known, screen_with(*four, (4, 400, 300)))
    assert psnr(seen, prepare(screen_with(*four))) > 35
    turned = [(4, 240, 104), *four[1:]]  # one that looks like another now is still the same
    seen, known = after(drawn, known, screen_with(*turned))
    assert psnr(seen, prepare(screen_with(*turned))) > 35
    fresh, _ = after(drawn, drawn.blank(1), screen_with(*four, (4, 400, 300)))
    assert psnr(fresh, prepare(screen_with(*four, (4, 400, 300)))) > 35


def test_of_two_figures_alike_it_is_the_one_that_follows(drawn: FrameAutoencoder) -> None:
    for last in range(5):
        _, known = after(drawn, drawn.blank(1), screen_with(figures=(last, 0)))
        following, another = (screen_with(figures=(last + ahead, 0)) for ahead in (1, 2))
        halfway = ((following.astype(int) + another) // 2).astype(np.uint8)
        seen, _ = after(drawn, known, halfway)
        assert np.array_equal(seen, decided(drawn, following)), last
        seen, _ = after(drawn, known, another)  # where it is clear it is what is seen
        assert np.array_equal(seen, decided(drawn, another)), last


def test_pellets_change_where_they_are_eaten(eating: FrameAutoencoder) -> None:
    assert eating.sprites is not None and eating.sprites.cast == 2
    eater = eating.sprites.colours[eating.sprites.things == eating.sprites.changing][:, :, 18, 8]
    assert eater.add(1).mul(127.5).round().int().tolist() == [list(PINK)] * 2
    near, far = ((0, PELLETS[i][0] - 8, PELLETS[i][1] + 8) for i in (0, 9))
    cyan, over = ((2, PELLETS[i][0] - 8, PELLETS[i][1] - 8) for i in (20, 5))
    blank, left = eating.blank(1), PELLETS[1:]
    _, known = after(eating, blank, screen_with(near, cyan, pellets=PELLETS))
    for drawn, shown in (
        ((near, cyan, left[:14] + left[15:]), (near, cyan, left)),  # one that is eaten, and one far from there
        ((far, cyan, left), (far, cyan, left)),
        ((far, cyan, PELLETS), (far, cyan, left)),
        ((far, over, left[:4] + left[5:]), (far, over, left)),  # one that is hidden
        ((far, cyan, left[:4] + left[5:]), (far, cyan, left)),
    ):
        seen, known = after(eating, known, screen_with(*drawn[:2], pellets=drawn[2]))
        expected, _ = after(eating, blank, screen_with(*shown[:2], pellets=shown[2]))
        assert psnr(seen, expected) > 50, drawn


def test_pellets_go_as_near_as_they_are_eaten(eating: FrameAutoencoder) -> None:
    assert 18 < eating.bite < 32  # where pink was, and where the next ones stood
    one, other = ((0, PELLETS[i][0] - 8, PELLETS[i][1] + 8) for i in (9, 10))
    _, known = after(eating, eating.blank(1), screen_with(one, pellets=PELLETS[:9] + PELLETS[10:]))
    for drawn in (PELLETS[:9] + PELLETS[10:], PELLETS[:9] + PELLETS[12:]):  # whatever is
        seen, _ = after(eating, known, screen_with(other, pellets=drawn))
        middles = [((row + 2) * 512 // HEIGHT, (column + 50) * 512 // HEIGHT) for row, column in PELLETS[9:12]]
        assert [seen[place].max() > 200 for place in middles] == [False, False, True]  # the next one is too far


def test_a_recorded_pellet_is_as_it_is_shown_wherever_it_is(eating: FrameAutoencoder) -> None:
    def standing(known: Tensor) -> int:
        return int(known[0, : eating.parts[0]].clamp(min=0).sum())

    def followed(*screens: np.ndarray) -> Tensor:
        return eating.follow(to_tensor(np.stack([prepare(screen) for screen in screens])))

    pink, (row, column) = (0, PELLETS[9][0] - 8, PELLETS[9][1] + 8), PELLETS[-1]  # far away
    all_of_them = screen_with(pink, pellets=PELLETS[10:])
    one_less = screen_with(pink, pellets=PELLETS[10:-1])
    count = standing(followed(all_of_them))
    assert count == len(PELLETS[10:])
    assert standing(followed(all_of_them, one_less)) == count - 1
    assert standing(followed(all_of_them, one_less, all_of_them)) == count
    half = screen_with(pink, (2, row - 10, column - 22), pellets=PELLETS[10:-1])  # cyan hides half of where it was
    assert standing(followed(all_of_them, half)) == count
    _, dreamed = after(eating, followed(all_of_them), one_less)
    assert standing(dreamed) == count


def test_who_is_met_ends_a_life(chased: FrameAutoencoder, drawn: FrameAutoencoder, living: FrameAutoencoder) -> None:
    assert drawn.sprites is not None and living.sprites is not None and chased.sprites is not None
    assert not drawn.sprites.meets and not living.sprites.meets and chased.sprites.meets == TILE // 2
    pink = 0, 240, 100

    def told(*screens: np.ndarray) -> tuple[np.ndarray, Decoded]:
        known = chased.blank(1)
        for screen in screens[:-1]:
            _, known = after(chased, known, screen)
        frames = to_tensor(prepare(screens[-1]))[None]
        now, _ = chased._decide(frames, known)
        return to_images(frames)[0], now

    def played(lives: int, *apart: int | None) -> list[np.ndarray]:
        """Cyan so far from pink on each screen, or out of sight."""
        ghosts = [[pink] if way is None else [pink, (2, 240, 100 + way)] for way in apart]
        return [life(screen_with(*some), lives) for some in ghosts]

    for apart, met in (
        ((44, 36, 28), False),
        ((44, 28, 14), True),  # where it is seen
        ((44, 34, 24, None), True),  # where it has gone meanwhile
        ((44, 44, 24, None), True),
        ((24, 24, 24, None), False),  # it stood there
        ((34, 44, 54, None), False),  # it went away
    ):
        seen, now = told(*played(3, *apart))
        shown_apart = [way for way in apart if way is not None][-1]
        expected = life(screen_with(*AGAIN), 2) if met else played(3, shown_apart)[0]
        assert psnr(seen, prepare(expected)) > 45, apart
        assert (now.lost.item(), now.over.item()) == (met, False), apart
    lost = [(pink, (2, 240, 134)), (pink,), ((0, 240, 124),)]  # nobody knows where cyan is when pink comes there
    assert not told(*(life(screen_with(*ghosts), 3) for ghosts in lost))[1].lost.item()
    seen, now = told(*played(1, 44, 28, 14))  # the last one
    assert psnr(seen, prepare(life(screen_with(*AGAIN), 1))) > 45
    assert (now.lost.item(), now.over.item()) == (False, True)


def test_what_eats_hides_nobody_and_is_hidden_by_nobody(eating: FrameAutoencoder) -> None:
    pink, cyan = ((which, PELLETS[i][0] - 8, PELLETS[i][1] + aside) for which, i, aside in ((0, 9, 8), (2, 9, -8)))
    both = screen_with(cyan, pink)  # and is below whom it meets
    _, known = after(eating, eating.blank(1), both)
    for left in (pink, cyan):
        seen, _ = after(eating, known, screen_with(left))
        assert psnr(seen, prepare(both)) > 45, left


def test_where_all_are_known_nothing_else_is_shown(drawn: FrameAutoencoder) -> None:
    four = [(0, 240, 100), (2, 302, 120), (4, 400, 90), (5, 440, 90)]
    traces = screen_with(*four, figures=(0, 0))
    traces[302:326, 200:206] = traces[302:326, 150:156] = (0, 200, 0)  # beside somebody and alone
    assert psnr(decided(drawn, traces), prepare(screen_with(*four, figures=(0, 0)))) < 40
    for before, clean in ((four, True), (four[1:], False)):
        _, known = after(drawn, drawn.blank(1), screen_with(*before, figures=(0, 0)))
        seen, _ = after(drawn, known, traces)
        assert (psnr(seen, prepare(screen_with(*four, figures=(0, 0)))) > 45) == clean


def test_another_scene_begins_where_all_are_elsewhere(drawn: FrameAutoencoder) -> None:
    _, known = after(drawn, drawn.blank(1), screen_with((0, 240, 100), (2, 302, 120), (4, 400, 90), (5, 440, 90)))
    there = [(0, 240, 220), (2, 302, 240)]
    seen, known = after(drawn, known, screen_with(*there))  # and nobody is held where he was
    assert psnr(seen, prepare(screen_with(*there))) > 40
    seen, _ = after(drawn, known, screen_with(*there, (4, 400, 200)))
    assert psnr(seen, prepare(screen_with(*there, (4, 400, 200)))) > 40
    _, known = after(drawn, drawn.blank(1), screen_with((0, 240, 100), (2, 302, 120), (4, 400, 90), (5, 440, 90)))
    left = (4, 302, 120)  # what looks like one of several where a thing was
    seen, _ = after(drawn, known, screen_with(*there, left))
    assert psnr(seen, prepare(screen_with(*there))) > 40


def test_who_was_only_held_where_he_was_begins_no_scene(drawn: FrameAutoencoder) -> None:
    pink, cyan, blue, another = (0, 240, 100), (2, 302, 120), (4, 400, 90), (5, 440, 90)
    _, known = after(drawn, drawn.blank(1), screen_with(pink, cyan, blue, another))
    _, known = after(drawn, known, screen_with(cyan, blue, another))
    seen, _ = after(drawn, known, screen_with((0, 240, 220), (2, 302, 240), another))
    assert psnr(seen, prepare(screen_with((0, 240, 220), (2, 302, 240), blue, another))) > 35


def test_a_scene_begins_as_recordings_show_it(drawn: FrameAutoencoder, living: FrameAutoencoder) -> None:
    assert drawn.sprites is not None and not drawn.sprites.starts
    assert living.sprites is not None and living.sprites.cast == len(living.sprites.starts) == 3
    before = [(1, 240, 340), (3, 302, 100), (5, 400, 330)]
    everyone = prepare(screen_with(*START))
    _, known = after(living, living.blank(1), screen_with(*before))
    for drawn_now in (
        START,
        [START[0], START[2]],  # cyan is not
        [before[0], *START[1:]],  # pink is where it was
        [(0, 240, 208), (5, 440, 204), before[1]],  # it began a moment ago
    ):
        seen, now = after(living, known, screen_with(*drawn_now))
        assert psnr(seen, everyone) > 45, drawn_now
        seen, _ = after(living, now, screen_with(START[0], START[2]))  # and he stays there
        assert psnr(seen, everyone) > 45, drawn_now
    for still in (before[:2], before[1:]):  # nobody begins alone
        start = START[2] if still == before[:2] else START[0]
        seen, now = after(living, known, screen_with(start, *still))
        assert psnr(seen, prepare(screen_with(start, *still))) > 45
    seen, _ = after(living, known, screen_with())  # nor does everybody leave
    assert psnr(seen, prepare(screen_with(*before))) > 45
    seen, _ = after(living, living.blank(1), screen_with(START[0], START[2]))
    assert psnr(seen, prepare(screen_with(START[0], START[2]))) > 45


def test_the_score_follows_what_is_eaten(scoring: FrameAutoencoder) -> None:
    assert sorted(scoring.points.tolist()) == [10] * (len(PELLETS) - 4) + [100] * 4
    small, big = PELLETS[9], PELLETS[-2]

    def number(known: Tensor) -> int | None:
        assert scoring.signs is not None
        return scoring.signs.number(known.split(scoring.parts, 1)[1][0].tolist())

    for score, eaten, drawn, shown in (
        (120, small, 120, 130),  # it stands still, though a pellet is gone
        (120, small, 150, 130),  # it goes on by too much
        (190, small, 190, 200),
        (90, small, 90, 100),  # one figure more
        (120, big, 120, 220),
        (950, big, 950, 1050),
        (120, None, 130, 120),  # nothing was eaten
        (120, None, 320, 320),  # but something that is no pellet
        (120, small, 320, 330),
    ):
        pink = (0, (eaten or small)[0] - 8, (eaten or small)[1] + 8)
        left = [place for place in PELLETS if place != eaten]
        _, known = after(scoring, scoring.blank(1), scored(score, PELLETS, pink))
        seen, known = after(scoring, known, scored(drawn, left, pink))
        expected = prepare(scored(shown, left, pink))
        assert psnr(seen, expected) > 45 and number(known) == shown, (score, eaten, drawn)
        seen, known = after(scoring, known, scored(shown, PELLETS, pink))  # what was eaten does not come back alone
        assert psnr(seen, expected) > 45 and number(known) == shown, (score, eaten, drawn)


def test_frames_tell_what_was_eaten(scoring: FrameAutoencoder, eating: FrameAutoencoder) -> None:
    small, big = PELLETS[9], PELLETS[-2]
    for model, tells in ((scoring, True), (eating, False)):
        assert model.tells_points == tells
        for eaten, points in ((small, 10), (big, 100), (None, 0)):
            pink = (0, (eaten or small)[0] - 8, (eaten or small)[1] + 8)
            left = [place for place in PELLETS if place != eaten]
            screens_of_two = (scored(120, pellets, pink) for pellets in (PELLETS, left))
            before, now = (to_tensor(prepare(screen))[None] for screen in screens_of_two)
            first, _ = model._decide(before, model.blank(1))
            second, _ = model._decide(now, first.known)
            assert first.points.item() == -1 and second.points.item() == (points if tells else -1), (tells, eaten)


def test_what_frames_tell_goes_before_what_is_judged(scoring: FrameAutoencoder) -> None:
    background, other, signs, sprites, _ = scoring.pictures
    world = WorldModel.create("tiny", background, points=(0, 10, 210), other=other, signs=signs, sprites=sprites)
    with torch.no_grad():
        world.outcome.step.head.weight.zero_()
        world.outcome.step.head.bias.copy_(torch.tensor([0.0, 0.0, 9.0, -9.0]))  # 210 points, and no life lost
    history, actions = torch.zeros(4, 32, 32, 16, 16), torch.full((4, 32), 4)
    told = nothing_told(torch.zeros(4, 3, 512, 512), world.autoencoder.blank(4))
    told = told._replace(
        points=torch.tensor([-1, 0, 20, 100]),  # not known; 200 are for something else
        lost=torch.tensor([False, True, False, False]),
        over=torch.tensor([False, False, True, False]),
    )
    judged, alone = (world.judge(history, actions, history[:, 0], decoded) for decoded in (told, None))
    assert alone.points.tolist() == [210] * 4 and alone.life_lost.max() < 0.5 and alone.end.max() < 0.5
    assert judged.points.tolist() == [210, 200, 220, 300]
    assert judged.life_lost.gt(0.5).tolist() == told.lost.tolist() and judged.end.gt(0.5).tolist() == told.over.tolist()


def test_many_pellets_change_together_anywhere() -> None:
    background, other = np.zeros((2, 512, 512, 3), np.uint8)
    places = [(20 * row, 20 * column) for row in range(5) for column in range(5)]
    for row, column in places:
        other[200 + row : 204 + row, 200 + column : 204 + column] = 255
    sheet = np.zeros((1024, 512, 3), np.uint8)
    sheet[4:28, 4:28] = sheet[4:20, 36:60] = PINK  # two looks of one thing, in the first tile
    sheet[512:] = 255
    sheet[612:614, 100:102] = (255, 0, 0)
    model = FrameAutoencoder.create("tiny", background, other, sprites=sheet)
    assert model.sprites is not None and model.sprites.cast == 1 and model.sprites.changing
    frame = background.copy()
    frame[50:74, 60:84] = PINK
    frames = to_tensor(np.stack([frame] * 3))
    known = model._decide(frames.clone(), model.blank(3))[0].known
    for changed, count in zip(frames, (3, RENEWED - 1, RENEWED), strict=True):
        for row, column in places[:count]:
            changed[:, 200 + row : 204 + row, 200 + column : 204 + column] = 1
    now = model._decide(frames, known)[0].known
    assert (now[:, : len(places)] == 1).sum(1).tolist() == [0, 0, RENEWED]
    assert np.array_equal(to_images(frames)[0], frame)


def test_looks_that_cannot_be_are_refused() -> None:
    black = np.zeros((512, 512, 3), np.uint8)
    with pytest.raises(ValueError, match="all black; expected one sprite"):
        FrameAutoencoder.create("tiny", black, sprites=np.zeros((552, 552, 3), np.uint8))
    with pytest.raises(ValueError, match=r"\[600, 552, 3\]; expected 552 rows or twice as many"):
        FrameAutoencoder.create("tiny", black, sprites=np.zeros((600, 552, 3), np.uint8))
    sheet = np.zeros((1104, 552, 3), np.uint8)
    sheet[4:28, 4:28] = PINK
    sheet[700:702, 200:202, 2] = 2
    with pytest.raises(ValueError, match="sprite that is not one of the sheet's 1"):
        FrameAutoencoder.create("tiny", black, sprites=sheet)
    with pytest.raises(ValueError, match="look the same on all screens; expected two looks"):
        FrameAutoencoder.create("tiny", black, signs=np.zeros((1104, 552, 3), np.uint8))
    with pytest.raises(ValueError, match=r"\[1000, 552, 3\]; expected whole screens of 552 rows"):
        FrameAutoencoder.create("tiny", black, signs=np.zeros((1000, 552, 3), np.uint8))
    with pytest.raises(ValueError, match="has 2048 rows; expected one to three frames of 512"):
        FrameAutoencoder.create("tiny", black, np.concatenate([black] * 4))
    with pytest.raises(ValueError, match="no background"):
        FrameAutoencoder.create("tiny", None, signs=np.zeros((1104, 552, 3), np.uint8))


def test_pictures_that_are_there_are_kept_and_screens_of_another_shape_left_out(drawn: FrameAutoencoder) -> None:
    nothing = np.zeros((0, 512, 512, 3), np.uint8)
    assert find_pictures(nothing, [], drawn.pictures) == drawn.pictures
    still = [screen_with() for _ in range(8)]
    frames = np.stack([prepare(screen) for screen in still])
    assert find_pictures(frames, [*still, np.zeros((20, 20, 3), np.uint8)])[2:] == (None, None, None)


def test_signs_and_sprites_are_saved_with_the_world(drawn: FrameAutoencoder, tmp_path: Path) -> None:
    background, other, signs, sprites, _ = drawn.pictures
    ways = np.zeros((HEIGHT, HEIGHT, 3), np.uint8)
    ways[100, 100] = ways[100, 124] = 250, 64, 255
    looks = background, other, signs, sprites, ways
    world = WorldModel.create(
        "tiny", background, other=other, signs=signs, sprites=sprites, ways=ways, settled_share=0.25
    )
    world.save_pretrained(tmp_path / "world")
    again = WorldModel.from_pretrained(tmp_path / "world", device="cpu")
    assert again.hash == world.hash and again.config.settled_share == 0.25
    for one, same in zip(again.autoencoder.pictures, looks, strict=True):
        assert one is not None and same is not None and np.array_equal(one, same)
    screen = screen_with((2, 200, 100), figures=(1, 4))
    assert np.array_equal(decided(again.autoencoder, screen, blur=3), decided(drawn, screen, blur=3))
    plain = WorldModel.create("tiny", background, other=other, signs=signs)
    plain.load_state_dict(world.state_dict())
    assert plain.hash != world.hash


class Pixels(FrameAutoencoder):
    """An autoencoder whose latents are the means of 32 x 32 blocks, so that blocks of one colour come back exactly."""

    def encode(self, frames: Tensor) -> Tensor:
        means = torch.nn.functional.avg_pool2d(frames, 32)
        return torch.cat([means, means.new_zeros(len(means), 29, *means.shape[2:])], 1)

    def _decode(self, latents: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(latents[:, :3], scale_factor=32.0)


@pytest.fixture
def pixels() -> Pixels:
    """With one block of two looks, black and pink."""
    made = FrameAutoencoder.create("tiny")
    background, other = np.zeros((2, 512, 512, 3), np.uint8)
    other[128:160, 128:160] = PINK
    return Pixels(made.dc, made.pixel_unshuffle, background, other)


def colour_at(latents: Tensor, row: int, column: int) -> list[int]:
    return latents[0, :3, row, column].add(1).mul(127.5).round().int().tolist()


def test_what_fades_little_by_little_does_not_when_it_settles(pixels: Pixels) -> None:
    fading = held = torch.full((1, 32, 16, 16), -1.0)
    pink = to_tensor(np.array([[PINK]], np.uint8)).flatten()
    fading, held = fading.clone(), held.clone()
    fading[0, :3, 4, 4] = held[0, :3, 4, 4] = pink
    for _ in range(10):
        fading[0, :3, 4, 4] -= 0.1 * (pink + 1)
        held[0, :3, 4, 4] -= 0.1 * (pink + 1)
        held = pixels.encode(after_nothing(pixels, held).shown)
    assert colour_at(fading, 4, 4) == [0, 0, 0] and colour_at(held, 4, 4) == list(PINK)


def test_a_dream_goes_on_from_what_its_frames_show(pixels: Pixels) -> None:
    world = shared_world("pacman", "cpu")
    engine = DreamEngine(world)
    latents, actions, known = stacked([Seeds.of(world)[0]])
    engine.reset(latents, actions, [torch.Generator().manual_seed(0)], known=known)
    moved = []
    for step in range(3):
        dreamed, shown = engine.latent, to_tensor(engine.decode())
        engine.step([step])
        went_on_from = engine.history()[-2]
        with torch.no_grad():
            as_shown = world.autoencoder.encode(shown)[0]
        moved.append(float((went_on_from - dreamed[0]).abs().max()))
        assert (went_on_from - as_shown).abs().max() < 0.02  # which is of whole levels of colour
    assert moved[0] < 0.02 < 0.1 < min(moved[1:])  # the first one was recorded, so nothing of it was in doubt
    assert pixels.decides and not FrameAutoencoder.create("tiny", np.zeros((512, 512, 3), np.uint8)).decides


@pytest.mark.parametrize("share", [0.0, 0.1, MOST_LIVE + 0.2])
def test_a_convolution_that_passes_over_empty_places_makes_the_same(share: float) -> None:
    torch.manual_seed(0)
    conv = FrameAutoencoder.create("tiny", np.zeros((512, 512, 3), np.uint8)).dc.encoder.conv_in
    assert isinstance(conv, SparseConv2d)
    given = torch.randn(2, 768, 32, 32) * (torch.rand(2, 1, 32, 32) < share)
    given[:, :, 0, 0] = given[:, :, -1, -1] = 1  # at the edges too
    with torch.no_grad():
        torch.testing.assert_close(conv(given), torch.nn.Conv2d.forward(conv, given), rtol=1e-4, atol=1e-4)


def test_each_dreams_own_noise_says_when_it_settles_on_what_it_shows() -> None:
    torch.manual_seed(0)
    background = np.full((512, 512, 3), 100, np.uint8)
    other = np.where(np.arange(512)[:, None, None] % 2, 160, background).astype(np.uint8)
    world = WorldModel.create("tiny", background, other=other)
    histories, led = torch.randn(1, 32, 32, 16, 16).expand(5, -1, -1, -1, -1) / 4, torch.zeros(5, 31, dtype=torch.int64)
    settled: dict[float, list[bool]] = {}
    for share in (0.0, 0.4, 1.0):
        object.__setattr__(world.config, "settled_share", share)
        engine, moved = DreamEngine(world, 5), []
        engine.reset(histories, led, [torch.Generator().manual_seed(i) for i in range(5)])
        for _ in range(4):
            before, picture, state = engine.latent, engine.decode(), engine.get_state()
            engine.step([0] * 5)
            newest = torch.stack([engine.history(dream)[-2] for dream in range(5)])
            moved += ((newest - before).flatten(1).abs().amax(1) > 1e-6).tolist()
            after = engine.latent
            engine.set_state(state)  # a state is of before it settled, and shows what was shown
            assert torch.equal(engine.latent, before) and np.array_equal(engine.decode(), picture)
            engine.step([0] * 5)
            assert torch.equal(engine.latent, after)
        settled[share] = moved
    assert not any(settled[0.0]) and all(settled[1.0]) and 0.2 < np.mean(settled[0.4]) < 0.6
    alone = DreamEngine(world, 1)  # as among others
    object.__setattr__(world.config, "settled_share", 0.4)
    alone.reset(histories[:1], led[:1], [torch.Generator().manual_seed(3)])
    before = alone.latent
    alone.step([0])
    assert bool(((alone.history()[-2] - before[0]).abs().max() > 1e-6) == settled[0.4][3])


def test_where_little_of_a_pellet_is_drawn_the_encoder_tells_what_it_saw(sample: Path) -> None:
    shipped = WorldModel.from_pretrained("pacman", device="cpu").autoencoder
    episode = next(read_episodes(sample))
    guessed = 0
    for state in (45, 48, 108, 111):
        real = to_tensor(episode.frames(state, state + 1))
        with torch.no_grad():
            latents = shipped.encode(real)
            drawn, (asked, known, *_) = shipped._decode(latents), after_nothing(shipped, latents)
        there, alone, told = (
            each[:, : shipped.parts[0]]
            for each in (
                shipped._decide(real.clone(), shipped.blank(1))[0].known,
                shipped._decide(drawn, known * 0 - 1)[0].known,
                known,
            )
        )
        seen = (there >= 0) & (told >= 0)
        guessed += int((alone != there)[seen].sum())
        assert torch.equal(told[seen], there[seen])
        assert psnr(to_images(asked)[0], to_images(real)[0]) > 40
    assert guessed > 2


def test_the_shipped_world_knows_its_game() -> None:
    shipped = WorldModel.from_pretrained("pacman", device="cpu").autoencoder
    assert shipped.sprites is not None and shipped.signs is not None and shipped.sprites.cast == 5
    eater = shipped.sprites.things == shipped.sprites.changing
    pixels = shipped.sprites.colours[eater].movedim(1, -1)[shipped.sprites.covers[eater] > 0]
    assert eater.sum() > 30 and pixels.add(1).mul(127.5).round().int().unique(dim=0).tolist() == [[255, 255, 0]]
    apart = np.abs(PELLET_XY[:, None] - shipped.middles.flip(1).numpy()).max(-1)
    assert apart.shape == (181, 181) and apart.min(0).max() < 1.5 and apart.min(1).max() < 1.5
    assert shipped.points.sort().values.tolist() == [10] * 177 + [100] * 4 and shipped.signs.others == 200
    assert [max(values) for _, values in shipped.signs.figures] == [9, 9, 9, 9, 0]  # the fifth is never another one
    assert 21 < shipped.bite < 24 and shipped.tells_points  # the game takes a pellet where tiles touch
    assert shipped.sprites.meets == TILE // 2
    assert shipped.sprites.home is not None
    house = (np.array(shipped.sprites.home) + TILE / 2 + 0.5) * FRAME_SIZE / shipped.sprites.side
    assert np.abs(house - (222, 256)).max() < 24
    begins = {int(shipped.sprites.things[start.sprite]): start[1:3] for start in shipped.sprites.starts}
    assert len(begins) == len(shipped.sprites.starts) == 5  # each ghost, and Pac-Man below their house
    below = max(begins.values())[0] - shipped.sprites.home[0]
    assert below == pytest.approx(6 * 24, abs=12)  # sprites lie elsewhere in their tiles
    figures = [shipped.signs.get_buffer(f"likely{i}")[:-1] for i in range(len(shipped.signs.places))]
    ten = [follows for follows in figures if len(follows) >= 10]  # the last look is nothing, before there is a figure
    assert len(ten) >= 3 and all(follows.sum(1).eq(2).all() for follows in ten)  # each stays or goes on to the next


def test_one_of_several_that_was_met_and_is_not_there_was_eaten() -> None:
    sprites = WorldModel.from_pretrained("pacman", device="cpu").autoencoder.sprites
    assert sprites is not None and sprites.home is not None
    things = sprites.things.tolist()
    pacman = things.index(sprites.changing)
    first, *others = sorted({*things} - {0, sprites.changing})
    there = [Place(things.index(it), 92, 140 + 72 * i) for i, it in enumerate(others)]
    for apart in (8, 40):
        met = Place(things.index(0), 380, 260 + apart, was=first)
        found = [Place(pacman, 380, 260), *there]
        drawn, _, cast = sprites._follow(found, [*found, met])
        home = [place for place in cast if things[place.sprite] == first]
        assert [place[1:3] for place in home] == ([sprites.home] if apart == 8 else [])
        assert any(place.sprite == met.sprite for place in drawn) == (apart == 40)


def test_who_may_be_eaten_too_or_was_elsewhere_meets_nobody() -> None:
    sprites = WorldModel.from_pretrained("pacman", device="cpu").autoencoder.sprites
    assert sprites is not None
    things = sprites.things.tolist()
    pacman = Place(things.index(sprites.changing), 380, 260)
    red, blue = (things.index(it) for it in (min({*things} - {0, sprites.changing}), 0))
    near = Place(red, 380, 272, across=-8)
    hidden, hides = near._replace(unseen=1), Place(blue, 380, 272)
    assert sprites._met([pacman, near], [pacman, hidden]) is not None  # as far as it would have gone on
    assert sprites._met([pacman, near, hides], [pacman, hidden]) is None  # with a frightened one, that was eaten
    assert sprites._met([pacman, near], [pacman, near._replace(column=264), hides._replace(column=264)]) is None
    across = near._replace(column=240)  # it passed him, or was lost from sight and came back far away
    assert sprites._met([pacman, near], [pacman, across]) is not None
    assert sprites._met([pacman, near._replace(column=320)], [pacman, across]) is None


def test_a_life_begins_within_a_step_and_who_has_one_way_goes_it() -> None:
    sprites = WorldModel.from_pretrained("pacman", device="cpu").autoencoder.sprites
    assert sprites is not None and sprites.ways is not None
    things = sprites.things.tolist()
    pacman = Place(things.index(sprites.changing), 380, 260)
    left = {}
    for apart in (12, 18, 22, 26, 37):  # a ghost that comes 8 towards Pac-Man, who comes 12
        was, now = (Place(things.index(3), 380, 260 + at) for at in (apart, apart - 8))
        left[apart] = sprites._met([pacman, was], [pacman._replace(column=272), now])
    assert left == {12: 0.75, 18: 0.5, 22: 0.25, 26: 0, 37: None}
    across = range(252, 301)  # their house, from the one on the left to the one on the right
    assert all(sprites._on_path(252 - TILE // 2, column - TILE // 2) for column in across)
    assert not sprites._on_path(252 - TILE // 2, 0)
    who = {things[start.sprite]: start for start in sprites.starts}
    far, pace = sprites.ways.far(sprites.changing), sprites.ways.pace
    for share in (0.0, 0.25, 0.75):
        for led, way in ((2, -1), (3, 1)):
            begun = {things[place.sprite]: place for place in sprites._started(share, sprites._set_out(), led)}
            assert begun.keys() == who.keys()
            moved = begun[sprites.changing].column - who[sprites.changing].column
            assert moved == way * round(share * far)
            assert begun[3] == who[3]  # above their house: it may go left or right
            inside = [begun[it] for it in sorted({*begun} - {3, sprites.changing})]
            node = [sprites.ways.nodes[sprites.ways.nearest(*middle(place))] for place in inside]
            assert [(place.down, place.across) for place in inside] == [(-pace, 0), (0, -pace), (0, pace)]
            for place, at in zip(inside, node, strict=True):
                assert (middle(place) == at + np.rint(share * np.array([place.down, place.across]))).all()


def test_two_that_would_walk_into_pacman_at_once_come_home_to_two_places() -> None:
    sprites = WorldModel.from_pretrained("pacman", device="cpu").autoencoder.sprites
    assert sprites is not None
    things = sprites.things.tolist()
    pacman = Place(things.index(sprites.changing), 380, 452)
    pair = [Place(things.index(0), 364, 452, 1, it, down=8) for it in (11, 17)]  # one over the other, unseen
    cast, drawn = sprites._steer([pacman, *pair], [pacman, *(it._replace(unseen=2) for it in pair)], [pacman], {}, 0.25)
    assert sorted(things[place.sprite] for place in cast) == [sprites.changing, 11, 17]
    home = [place for place in cast if place.sprite != pacman.sprite]
    assert home[0][1:3] != home[1][1:3] and all(place in drawn for place in home)


def test_of_two_that_are_eaten_at_once_the_second_comes_home_to_where_one_begins() -> None:
    sprites = WorldModel.from_pretrained("pacman", device="cpu").autoencoder.sprites
    assert sprites is not None and sprites.home is not None
    things = sprites.things.tolist()
    *others, first, second = sorted({*things} - {0, sprites.changing})
    pacman = Place(things.index(sprites.changing), 380, 260)
    eaten = [Place(things.index(0), 380, 268, was=it) for it in (first, second)]
    begins = next(start for start in sprites.starts if things[start.sprite] == second)
    near = [start for start in sprites.starts if things[start.sprite] != sprites.changing]
    free = [Place(things.index(it), 92, 140 + 72 * i) for i, it in enumerate(others)]
    drawn, _, cast = sprites._follow([pacman, *free], [pacman, *free, *eaten])
    at = {things[place.sprite] or place.was: place[1:3] for place in cast}
    assert len(cast) == 5 and at[first] == sprites.home and at[second] == begins[1:3] != sprites.home
    # It waits below who ate it while all of them are taken.
    taken = [*free, *(start._replace(sprite=free[0].sprite) for start in near)]
    drawn, _, cast = sprites._follow([pacman, *taken], [pacman, *taken, *eaten])
    waits = [place for place in cast if not things[place.sprite]]
    assert {place.was for place in waits} == {first, second} and drawn[-3] == pacman and {*drawn[-2:]} == {*waits}
    drawn, _, cast = sprites._follow([pacman, *free], [pacman, *free, *waits])
    at = {things[place.sprite]: place[1:3] for place in drawn}
    assert len(cast) == 5 and {at[first], at[second]} == {sprites.home, begins[1:3]} and 0 not in at


def test_others_count_where_one_may_have_been_eaten(scoring: FrameAutoencoder) -> None:
    sprites = WorldModel.from_pretrained("pacman", device="cpu").autoencoder.sprites
    assert sprites is not None and scoring.signs is not None
    things = sprites.things.tolist()
    pacman = Place(things.index(sprites.changing), 380, 260)
    blue = Place(things.index(0), 380, 292)
    ghosts = [Place(things.index(it), 92, 140 + 72 * i) for i, it in enumerate((3, 9, 11))]
    far, near = (torch.tensor([[pacman, *ghosts, one]]) for one in (blue._replace(column=92), blue))
    unknown = near.clone()
    unknown[0, -1] = -1
    for last, now, fed in ((far, far, False), (near, far, True), (far, near, True), (unknown, far, True)):
        assert sprites.fed(last, now) == [fed]
    _, known = after(scoring, scoring.blank(1), scored(120, PELLETS))
    looks = known.long().split(scoring.parts, 1)[1]
    for fed, number in ((True, 320), (False, 120)):
        frame = to_tensor(prepare(scored(320, PELLETS)))[None].contiguous()
        now = scoring.signs(frame, looks, torch.tensor([True]), torch.tensor([0]), None, [fed])
        assert scoring.signs.number(now[0].tolist()) == number


def test_who_is_hidden_turns_with_who_hides_it() -> None:
    sprites = WorldModel.from_pretrained("pacman", device="cpu").autoencoder.sprites
    assert sprites is not None
    things = sprites.things.tolist()
    pacman = Place(things.index(sprites.changing), 380, 260)
    over, below, *others = (Place(things.index(it), 92, 140) for it in sorted({*things} - {0, sprites.changing}))
    others = [other._replace(row=236, column=140 + 72 * i) for i, other in enumerate(others)]
    blue = over._replace(sprite=things.index(0))
    turned = [other._replace(sprite=things.index(0)) for other in others]
    last = [pacman, over, below, *others]
    _, _, cast = sprites._follow([pacman, over, *turned], [pacman, over, *others])
    seen = sorted(things[place.sprite] for place in cast)  # who is seen is as it is seen
    assert seen == [0, 0, *sorted((sprites.changing, things[over.sprite]))]
    for known in (last, [place for place in last if place != below]):  # one alone does not turn, nor does anybody come
        _, surplus, cast = sprites._follow([pacman, blue, *others], known)
        assert surplus == [blue] and sorted(place.sprite for place in cast) == sorted(place.sprite for place in known)
    blues = [it._replace(sprite=blue.sprite, was=things[it.sprite]) for it in (over, *others)]
    _, surplus, cast = sprites._follow([pacman, over, *blues[1:]], [pacman, *blues])
    assert surplus == [over]
    assert {place.was for place in cast if place.sprite == blue.sprite} == {it.was for it in blues}
    was_blue = over._replace(sprite=blue.sprite, was=things[over.sprite])  # it is who is blue already
    _, surplus, cast = sprites._follow([pacman, blue, *others], [pacman, was_blue, below, *others])
    assert not surplus and {place.was for place in cast if place.sprite == blue.sprite} == {things[over.sprite]}
    _, surplus, cast = sprites._follow([pacman, blue, *others], last, recorded=True)  # and recordings are as they are
    assert not surplus and any(place.sprite == blue.sprite for place in cast)
    for found in ([pacman, blue, *turned], [pacman, *turned]):
        _, _, cast = sprites._follow(found, last)
        looks = {things[place.sprite] or place.was: things[place.sprite] for place in cast}
        assert len(cast) == 5 and not looks[things[below.sprite]] and not looks[things[over.sprite]]


def test_two_that_pass_each_other_stay_who_they_were() -> None:
    sprites = WorldModel.from_pretrained("pacman", device="cpu").autoencoder.sprites
    assert sprites is not None
    things = sprites.things.tolist()
    first, second, *_ = sorted({*things} - {0, sprites.changing})
    blue = Place(things.index(0), 0, 0)
    was = [
        blue._replace(row=308, column=332, was=first, down=16),
        blue._replace(row=332, column=340, was=second, across=16),
    ]
    _, _, cast = sprites._follow([blue._replace(row=324, column=332), blue._replace(row=332, column=356)], was)
    assert {(place.was, *place[1:3]) for place in cast} == {(first, 324, 332), (second, 332, 356)}


def test_one_of_several_is_a_thing_again_where_it_is_or_comes_home() -> None:
    sprites = WorldModel.from_pretrained("pacman", device="cpu").autoencoder.sprites
    assert sprites is not None and sprites.home is not None
    things = sprites.things.tolist()
    red = things.index(min({*things} - {0, sprites.changing}))
    blue, home = Place(things.index(0), 380, 92), Place(red, *sprites.home)
    for now, may in ((Place(red, 380, 132), True), (home, True), (Place(red, 92, 260), False)):
        assert sprites._may_be(blue, now) == may
        assert sprites._may_be(blue._replace(unseen=1), now)
    assert not sprites._may_be(home, blue) and sprites._may_be(home, home._replace(column=92))


def test_nobody_comes_home_whom_nobody_can_have_eaten() -> None:
    sprites = WorldModel.from_pretrained("pacman", device="cpu").autoencoder.sprites
    assert sprites is not None and sprites.home is not None
    things = sprites.things.tolist()
    red, *others = sorted({*things} - {0, sprites.changing})
    pacman, far = Place(things.index(sprites.changing), 380, 260), Place(things.index(0), 92, 140, was=red)
    free = [Place(things.index(it), 92, 212 + 40 * i) for i, it in enumerate(others)]
    home = Place(things.index(red), *sprites.home)
    near_him, near_home = far._replace(row=380, column=268), far._replace(row=home.row + 40, column=home.column)
    for was, recorded, comes in (
        (far, False, False),
        (far, True, True),
        (far._replace(unseen=1), False, True),
        (near_him, False, True),
        (near_home, False, True),
    ):
        _, surplus, cast = sprites._follow([pacman, *free, home], [pacman, *free, was], recorded)
        assert (home in surplus, any(place[:3] == home[:3] for place in cast)) == (not comes, comes)
        assert len(cast) == 5
    _, _, cast = sprites._follow([*free, home], [*free, far])  # nobody is there who might not have eaten it
    assert any(place[:3] == home[:3] for place in cast)


def test_a_life_that_a_dream_draws_to_begin_was_lost_but_for_a_new_maze() -> None:
    model = WorldModel.from_pretrained("pacman", device="cpu").autoencoder
    sprites = model.sprites
    assert sprites is not None and len(sprites.starts) == sprites.cast
    known = model.blank(1)
    spots, _, cast, _ = known.split(model.parts, 1)
    cast[:] = torch.tensor(
        [start._replace(row=92, column=140 + 40 * i) for i, start in enumerate(sprites.starts)]
    ).view(-1)
    for eaten, recorded, lost in ((0, False, True), (RENEWED, False, False), (0, True, False)):
        spots[:], spots[:, :eaten] = 1, 0
        frames = model._grounds(torch.ones_like(spots))
        sprites._draw(frames[0], sprites.starts)
        now, _ = model._decide(frames, model.before_next(known, torch.tensor([4]), recorded), recorded)
        assert (now.lost.item(), now.over.item()) == (lost, False)
        shown = [Place(*place) for place in model.cast_of(now.known)[0].tolist()]
        assert {place[:3] for place in shown} == {start[:3] for start in sprites.starts} or recorded
