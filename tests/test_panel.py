"""What the window shows: frames in their places, a panel that tells the truth and fits, cards that can be read."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pygame
import pytest

from neural_pacman import ink
from neural_pacman.actions import Action
from neural_pacman.card import Card
from neural_pacman.panel import CAPTION_HEIGHT, PANEL_WIDTH, Panel, View, draw, natural_size

GREEN, PINK = (20, 200, 40), (220, 60, 160)
PANEL = Panel("pacman", 12, "cpu", 2, 1240, 387, 14.9, 15, "you", Action.NO_ACTION)
LONG = "a sentence that goes on and on, far beyond what any side panel or caption or banner could hold in one line"
HELP = Card("Keys", LONG, tuple((f"key {i}", f"what key {i} does") for i in range(16)), footer="H goes back")


def frame(color: ink.Color = GREEN) -> np.ndarray:
    return np.full((512, 512, 3), color, np.uint8)


def drawn(view: View, size: tuple[int, int] = (744, 512)) -> np.ndarray:
    """The view in a window of that width and height, uint8 `[H, W, 3]`."""
    surface = pygame.Surface(size)
    draw(view, surface)
    return pygame.surfarray.array3d(surface).transpose(1, 0, 2)


def told(**changed: object) -> np.ndarray:
    """The panel's part of a window, where some of what it tells is changed."""
    panel = dataclasses.replace(PANEL, **changed)  # type: ignore[arg-type]
    return drawn(View((frame(),), panel=panel))[:, 512:]


def colored(picture: np.ndarray, color: ink.Color) -> np.ndarray:
    """Which pixels have that colour (shrinking a picture rounds it), bool `[H, W]`."""
    return np.all(np.abs(picture.astype(int) - color) <= 3, axis=2)


def rows_of_letters(picture: np.ndarray) -> int:
    """How many lines stand on a dark sheet, from what is bright in it."""
    bright = (picture.max(axis=2) > 140).any(axis=1)
    return int(sum(later and not earlier for earlier, later in pairwise([False, *bright])))


def test_the_frame_is_untouched_beside_a_panel_in_a_window_of_the_natural_size() -> None:
    shown = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    picture = drawn(View((shown,), panel=PANEL), natural_size())
    np.testing.assert_array_equal(picture[:, :512], shown)
    assert picture[:, 512:].any()


def test_without_a_panel_the_picture_has_the_whole_window() -> None:
    picture = drawn(View((frame(),)), (744, 744))
    assert (picture == GREEN).all()


def test_two_frames_stand_side_by_side_under_their_captions() -> None:
    view = View((frame(GREEN), frame(PINK)), ("recording", "dream"))
    picture = drawn(view, natural_size(2, panel=False, captions=True))
    assert (picture[CAPTION_HEIGHT:, :512] == GREEN).all() and (picture[CAPTION_HEIGHT:, 512:] == PINK).all()
    captions = picture[:CAPTION_HEIGHT].max(axis=(0, 2)) > 100
    assert captions[:512].any() and captions[512:].any()


def test_no_frame_is_black() -> None:
    assert not drawn(View()).any()


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize(("size", "side"), [((1366, 768), 768), ((1100, 1024), 1024), ((300, 512), 300)])
def test_sharp_pictures_are_whole_multiples_and_smooth_ones_fill(
    smooth: bool, size: tuple[int, int], side: int
) -> None:
    if not smooth and side >= 512:
        side = side // 512 * 512
    picture = colored(drawn(View((frame(),), smooth=smooth), size), GREEN)
    assert picture.any(axis=0).sum() == picture.any(axis=1).sum() == side
    assert picture.sum() == side**2


def test_sharp_pixels_are_squares() -> None:
    shown = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(drawn(View((shown,), smooth=False), (192, 192)), shown.repeat(3, 0).repeat(3, 1))


@pytest.mark.parametrize(
    "size", [(1, 1), (7, 300), (300, 7), (64, 48), (199, 400), (320, 240), (512, 512), (500, 900), (3000, 400)]
)
@pytest.mark.parametrize("frames", [0, 1, 2, 3])
def test_any_size_of_window_is_drawn_and_the_picture_keeps_half_of_its_width(
    size: tuple[int, int], frames: int
) -> None:
    crowded = dataclasses.replace(PANEL, slow=True, recording="GIF 3 s", psnr=(33.1, float("inf")), world=LONG)
    pictures = (frame(),) * frames
    for card in (None, HELP, Card(LONG, progress=0.5)):
        drawn(View(pictures, (LONG,) * frames, crowded, LONG, card), size)
    if frames == 1:
        green = colored(drawn(View(pictures, panel=crowded), size), GREEN)
        assert green.any(axis=0).sum() >= min(size[1], size[0] // 2)


def test_the_panel_grows_with_the_window() -> None:
    picture = drawn(View((frame(),), panel=PANEL), (2 * 744, 2 * 512))
    assert colored(picture, GREEN).any(axis=0).sum() == 1024
    assert ink.BLUE in picture[1024 // 2, -2 * PANEL_WIDTH :]


def test_the_panel_leaves_out_lines_in_a_low_window_and_itself_in_a_narrow_one() -> None:
    high, low = (rows_of_letters(drawn(View(panel=PANEL), (744, height))[15:-15, -140:-20]) for height in (512, 250))
    assert 3 <= low < high
    assert colored(drawn(View((frame(),), panel=PANEL), (190, 190)), GREEN).all()


@pytest.mark.parametrize(
    "changed",
    [
        {"world": "other"},
        {"seed": 13},
        {"seed": None},
        {"device": "cuda"},
        {"denoising_steps": 4},
        {"points": 1250},
        {"step": 388},
        {"rate": 7.5},
        {"rate": 0.0},
        {"pace": 30},
        {"player": "agent"},
        {"action": Action.LEFT},
        {"held": frozenset({Action.UP})},
        {"slow": True},
        {"psnr": (33.2, 28.0)},
        {"recording": "MP4 12 s"},
    ],
    ids=lambda changed: f"{changed}",
)
def test_everything_that_the_panel_knows_is_seen(changed: dict[str, object]) -> None:
    assert (told(**changed) != told()).any()


def test_each_held_key_lights_its_own_cap() -> None:
    quiet = told()
    places = {}
    for action in (Action.LEFT, Action.RIGHT, Action.UP, Action.DOWN):
        lit = colored(told(held=frozenset({action})), ink.YELLOW) & ~colored(quiet, ink.YELLOW)
        assert lit.sum() > 500
        places[action] = np.argwhere(lit).mean(axis=0)
    assert places[Action.LEFT][1] < places[Action.DOWN][1] < places[Action.RIGHT][1]
    assert places[Action.UP][0] < places[Action.DOWN][0]
    assert places[Action.UP][1] == pytest.approx(places[Action.DOWN][1], abs=3)


def test_the_action_in_force_is_outlined_though_nobody_holds_a_key() -> None:
    outlined = colored(told(action=Action.RIGHT), ink.YELLOW).sum()
    held = colored(told(action=Action.RIGHT, held=frozenset({Action.RIGHT})), ink.YELLOW).sum()
    assert colored(told(), ink.YELLOW).sum() < outlined < held


def test_a_machine_too_slow_and_a_recording_stand_out_in_colour() -> None:
    assert not colored(told(), ink.ORANGE).any() and not colored(told(), ink.RED).any()
    assert colored(told(rate=7.0, slow=True), ink.ORANGE).sum() > 500
    assert colored(told(recording="MP4 12 s"), ink.RED).sum() > 50


def test_long_words_stay_inside_the_panel_and_under_their_picture() -> None:
    crowded = dataclasses.replace(PANEL, world=LONG, device=LONG, player=LONG, recording=LONG, points=1e15)
    view = View((frame(), frame(PINK)), (LONG, LONG), crowded)
    size = natural_size(2, captions=True)
    picture, plain = drawn(view, size), drawn(dataclasses.replace(view, panel=PANEL, captions=(" ", " ")), size)
    differs = (picture != plain).any(axis=2)
    assert not differs[CAPTION_HEIGHT:, : 1024 + 12].any() and not differs[:, -12:].any()
    assert not differs[:CAPTION_HEIGHT, 505:519].any()


def test_a_line_too_long_ends_in_dots_and_one_that_fits_is_whole() -> None:
    assert ink.shortened("pacman", 24, 200) == "pacman"
    short = ink.shortened(LONG, 24, 200)
    assert short.endswith("...") and LONG.startswith(short[:-3])
    assert 150 < ink.text_width(short, 24) <= 200
    assert ink.shortened(LONG, 24, 5) == ""


def test_what_no_font_can_draw_is_left_out() -> None:
    odd = "pac\0man\n\tin \udc80 \x1b[1mC:\\"
    assert ink.shortened(odd, 24, 400) == "pacman in  [1mC:\\"
    drawn(View((frame(),), (odd,), dataclasses.replace(PANEL, world=odd), odd, Card(odd, odd, ((odd, odd),))))


def test_text_is_wrapped_between_words_and_keeps_its_own_breaks() -> None:
    lines = ink.wrapped(f"first\n{LONG}", 24, 300)
    assert lines[0] == "first" and " ".join(lines[1:]) == LONG
    assert max(ink.text_width(line, 24) for line in lines) <= 300


def test_a_banner_lies_over_the_bottom_of_the_picture_and_beside_the_panel() -> None:
    banner = drawn(View((frame(),), panel=PANEL, banner="paused"))
    plain = drawn(View((frame(),), panel=PANEL))
    changed = (banner != plain).any(axis=2)
    assert changed[-30:, :512].all() and not changed[:-30].any() and not changed[:, 512:].any()


def test_a_banner_is_told_to_its_end_in_a_narrow_window() -> None:
    ends = [drawn(View((frame(),), panel=PANEL, banner=f"{LONG} {end}"), (500, 400)) for end in ("here", "there")]
    assert (ends[0] != ends[1]).any()


@pytest.mark.parametrize("footer", ["loading the autoencoder of a world with quite a long name", LONG])
def test_a_footer_longer_than_the_title_is_told_to_its_end(footer: str) -> None:
    whole, shorter = (drawn(View(card=Card("A", footer=told)), (744, 512)) for told in (footer, footer[:-1]))
    assert (whole != shorter).any()


@pytest.mark.parametrize("size", [(512, 512), (744, 512), (480, 320), (320, 240)])
@pytest.mark.parametrize("panel", [None, PANEL])
def test_every_key_of_the_help_is_told_however_small_the_window(size: tuple[int, int], panel: Panel | None) -> None:
    whole = drawn(View((frame(),), panel=panel, card=HELP), size)
    for i in (0, 7, 8, 15):
        keys = tuple((key, "" if k == i else does) for k, (key, does) in enumerate(HELP.keys))
        lacking = drawn(View((frame(),), panel=panel, card=dataclasses.replace(HELP, keys=keys)), size)
        assert (lacking != whole).sum() > 100


def test_a_card_dims_the_picture_and_leaves_the_panel() -> None:
    card, plain = (drawn(View((frame(),), panel=PANEL, card=card)) for card in (HELP, None))
    assert (card[:5, :512] < 40).all()
    np.testing.assert_array_equal(card[:, 512:], plain[:, 512:])


def test_pacman_eats_his_way_along_the_progress_bar() -> None:
    places, pellets = [], []
    for progress in (-1, 0, 0.5, 1, 2):
        picture = drawn(View(card=Card("", progress=progress)), (512, 512))
        places.append(np.argwhere(colored(picture, ink.YELLOW))[:, 1].mean())
        pellets.append(colored(picture, ink.PELLET).sum())
    assert places == sorted(places) and pellets == sorted(pellets, reverse=True)
    assert places[0] == places[1] and places[3] == places[4]
    assert places[3] - places[1] > 200


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8), np.zeros((0, 8, 3), np.uint8)],
    ids=["dtype", "shape", "empty"],
)
def test_a_foreign_frame_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[H, W, 3\]"):
        drawn(View((frame(), wrong)))


def test_letters_outlive_somebody_elses_closing_of_pygame() -> None:
    before = drawn(View(panel=PANEL, card=Card("before")))
    pygame.quit()  # as other environments do when they close
    after = drawn(View(panel=PANEL, card=Card("before")))
    np.testing.assert_array_equal(after, before)
    drawn(View(panel=PANEL, card=Card("words that were never drawn")))


def test_the_title_card_needs_no_pytorch() -> None:
    script = """
import sys
from neural_pacman.renderer import Renderer
from neural_pacman.panel import Card, View
with Renderer("early") as window:
    window.draw(View(card=Card("NEURAL PAC-MAN", progress=0.1, footer="loading PyTorch ...")))
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
