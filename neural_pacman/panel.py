"""What the window shows at one moment, and how it is drawn: the picture, the side panel, a card over the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neural_pacman import ink
from neural_pacman.card import Card, sheet

# isort: split
import pygame

if TYPE_CHECKING:  # its module loads PyTorch, and the title card is there before that
    from neural_pacman.actions import Action

__all__ = ["GAME_PACE", "PANEL_WIDTH", "Card", "Panel", "View", "draw", "natural_size"]

GAME_PACE = 15.0
"""Frames a second of the game itself."""

# Pixels of a window of its natural size; in another one they grow and shrink with it.
FRAME_SIZE = 512
PANEL_WIDTH = 232
CAPTION_HEIGHT = 24
BANNER_HEIGHT = 30

SMALLEST_SCALE = 0.7
"""Below it letters are dots: lines are left out instead."""
LEAST_PANEL = 100
"""Pixels of the screen: a panel that would be narrower is left out."""
LEAST_CARD = 300
"""Pixels of the screen: a card over a narrower picture covers the panel as well."""

TURNS = {"RIGHT": 0, "DOWN": 90, "LEFT": 180, "UP": 270}


@dataclass(frozen=True)
class Panel:
    """What the side panel tells."""

    world: str
    """The world's name."""
    seed: int | None
    """What the dream began with, if it began with a number."""
    device: str
    """Where the network runs: "cpu", "cuda"."""
    denoising_steps: int
    """Passes of the network for a frame."""
    points: float
    """Points dreamed so far."""
    step: int
    """Steps dreamed so far."""
    rate: float
    """Frames a second dreamed lately; 0.0 until that is known."""
    pace: float
    """Frames a second asked for; the game's own are `GAME_PACE`."""
    player: str
    """Who plays: "you", "agent", "recording", "session"."""
    action: Action
    """The action in force."""
    held: frozenset[Action] = frozenset()
    """Directions whose keys are down."""
    slow: bool = False
    """Whether the machine cannot keep the pace; the panel says so in words."""
    psnr: tuple[float, float] | None = None
    """PSNR of this frame and the mean since the start, dB, where there is a recording to compare with."""
    recording: str = ""
    """What is being recorded, as "MP4 12 s"; it gets a red dot."""


@dataclass(frozen=True, eq=False)
class View:
    """All that the window shows at one moment."""

    frames: tuple[np.ndarray, ...] = ()
    """uint8 `[H, W, 3]` each, upright RGB, side by side from the left. None at all is black."""
    captions: tuple[str, ...] = ()
    """A line above each frame; without any the frames have that room too."""
    panel: Panel | None = None
    """The side panel; None leaves the picture the whole window."""
    banner: str = ""
    """A line over the bottom of the picture."""
    card: Card | None = None
    """A sheet over the picture, or over the whole of a small window."""
    smooth: bool = True
    """Frames fill the room smoothly; False: sharply, each pixel a square of pixels, where they are not to shrink."""


def natural_size(frames: int = 1, panel: bool = True, captions: bool = False) -> tuple[int, int]:
    """Width and height of the window in which so many frames stand pixel for pixel."""
    return FRAME_SIZE * frames + PANEL_WIDTH * panel, FRAME_SIZE + CAPTION_HEIGHT * captions


def draw(view: View, surface: pygame.Surface) -> None:
    """Draw a view onto a whole surface of any size.

    The panel stands at the right and grows with the window. Where there is little room it takes at most half of the
    width and tells only what matters most, and it is left out where that would be less than `LEAST_PANEL` pixels.

    Raises:
        ValueError: a frame is not uint8 `[H, W, 3]`.
    """
    for frame in view.frames:
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise ValueError(f"The frame is {frame.dtype} {list(frame.shape)}; expected uint8 [H, W, 3].")
    natural = natural_size(max(1, len(view.frames)), view.panel is not None, bool(view.captions))
    scale = max(SMALLEST_SCALE, min(surface.width / natural[0], surface.height / natural[1]))
    surface.fill(ink.BLACK)
    picture = surface.get_rect()
    if view.panel and (width := min(round(PANEL_WIDTH * scale), picture.width // 2)) >= LEAST_PANEL:
        picture.width -= width
        _draw_panel(view.panel, surface, pygame.Rect(picture.right, 0, width, picture.height), scale)
    _draw_frames(view, surface, picture, scale)
    if view.banner:
        _draw_banner(view.banner, surface, picture, scale)
    if view.card:
        covered = picture if picture.width >= LEAST_CARD else surface.get_rect()
        surface.blit(sheet(view.card, covered.size, scale), covered)


def _draw_frames(view: View, surface: pygame.Surface, picture: pygame.Rect, scale: float) -> None:
    """The frames in cells of equal width, each as large as its cell holds it, with its caption above it."""
    caption = round(CAPTION_HEIGHT * scale) if view.captions else 0
    for i, frame in enumerate(view.frames):
        left, right = (picture.left + picture.width * k // len(view.frames) for k in (i, i + 1))
        cell = pygame.Rect(left, caption, right - left, picture.height - caption)
        if cell.width < 1 or cell.height < 1:
            continue
        height, width = frame.shape[:2]
        times = min(cell.width / width, cell.height / height)
        sharp = not view.smooth and times >= 1
        if sharp:
            times = math.floor(times)
        place = pygame.Rect(0, 0, max(1, round(width * times)), max(1, round(height * times)))
        place.center = cell.center
        shown = pygame.image.frombuffer(np.ascontiguousarray(frame).data, (width, height), "RGB")
        if place.size == (width, height):
            surface.blit(shown, place)
        else:
            # To the window's own format first, then straight into its place: three times as fast as the other way.
            resize = pygame.transform.scale if sharp else pygame.transform.smoothscale
            resize(shown.convert(surface), place.size, surface.subsurface(place))
        if i < len(view.captions):
            above = pygame.Rect(cell.left + 8, place.top - caption, max(0, cell.width - 16), caption)
            ink.write(surface, view.captions[i], round(21 * scale), ink.GREY, above, "center")


def _draw_banner(text: str, surface: pygame.Surface, picture: pygame.Rect, scale: float) -> None:
    """A line over the picture's foot; more than one where it is narrow."""
    edge, high = round(4 * scale), round((BANNER_HEIGHT - 8) * scale)
    lines = ink.wrapped(text, round(23 * scale), picture.width - 4 * edge)
    strip = pygame.Rect(picture.left, 0, picture.width, min(len(lines) * high + 2 * edge, picture.height))
    strip.bottom = picture.bottom
    veil = pygame.Surface(strip.size)
    veil.set_alpha(225)
    surface.blit(veil, strip)
    rows = [ink.line(words, round(23 * scale), ink.YELLOW, high, "center") for words in lines]
    ink.stack(rows, surface, strip.inflate(-4 * edge, -2 * edge))


def _draw_panel(panel: Panel, surface: pygame.Surface, area: pygame.Rect, scale: float) -> None:
    """As many of the panel's lines as there is room for: some at the top, some at the foot."""
    ink.wall(surface, area, scale)
    room = area.inflate(-2 * round(20 * scale), -2 * round(19 * scale))
    top, foot = _panel_rows(panel, room.width, scale)
    while (height := sum(row.height for row in top + foot)) > max(0, room.height):
        last = max(row.rank for row in top + foot)
        rows = top if any(row.rank == last for row in top) else foot
        del rows[max(i for i, row in enumerate(rows) if row.rank == last)]
    ink.stack(top, surface, room)
    ink.stack([ink.space(room.height - height), *foot], surface, room.move(0, sum(row.height for row in top)))


def _panel_rows(panel: Panel, width: int, scale: float) -> tuple[list[ink.Row], list[ink.Row]]:
    """The rows at the panel's top, and those at its foot."""

    def px(length: float) -> int:
        return max(1, round(length * scale))

    def pair(label: str, value: str, rank: int, color: ink.Color = ink.WHITE) -> ink.Row:
        def paint(surface: pygame.Surface, area: pygame.Rect) -> None:
            written = ink.write(surface, value, px(21), color, area, "right")
            area.width = max(0, written.left - area.left - px(6))
            ink.write(surface, label, px(21), ink.GREY, area)

        return ink.Row(px(20), paint, rank)

    def gauge(surface: pygame.Surface, area: pygame.Rect) -> None:
        bar = pygame.Rect(area.left, area.centery - px(8) // 2, area.width, px(8))
        pygame.draw.rect(surface, ink.DEEP_BLUE, bar, border_radius=bar.height)
        bar.width = round(bar.width * min(1.0, panel.rate / panel.pace if panel.pace > 0 else 1.0))
        if bar.width:
            pygame.draw.rect(surface, ink.ORANGE if panel.slow else ink.YELLOW, bar, border_radius=bar.height)

    def recording(surface: pygame.Surface, area: pygame.Rect) -> None:
        pygame.draw.aacircle(surface, ink.RED, (area.left + px(5), area.centery), px(5))
        area = pygame.Rect(area.left + px(17), area.top, max(0, area.width - px(17)), area.height)
        ink.write(surface, panel.recording, px(21), ink.RED, area)

    def dots(rank: int) -> ink.Row:
        return ink.Row(px(22), lambda surface, area: ink.pellets(surface, area, scale), rank)

    top = [ink.line(panel.world, px(31), ink.YELLOW, px(28), rank=4), ink.space(px(4), rank=4)]
    if panel.seed is not None:
        top.append(pair("Seed", str(panel.seed), 6))
    top += [pair("Device", panel.device, 7), pair("Denoising steps", str(panel.denoising_steps), 8), dots(9)]
    top.append(ink.line("Points", px(21), ink.GREY, px(18), rank=5))
    top.append(ink.line(f"{panel.points:,.0f}", px(48), ink.WHITE, px(40), rank=1))
    top.append(pair("Step", f"{panel.step:,}", 3))
    if panel.psnr:
        top.append(pair("PSNR", f"{panel.psnr[0]:.1f} dB", 3))
        top.append(pair("PSNR, mean", f"{panel.psnr[1]:.1f} dB", 5))
    top.append(dots(9))
    speed = "Pace" if panel.pace == GAME_PACE else f"Pace x{panel.pace / GAME_PACE:.2g}"
    rate = f"{panel.rate:.1f}" if panel.rate else "-"
    top.append(pair(speed, f"{rate} of {panel.pace:g} fps", 2, ink.ORANGE if panel.slow else ink.WHITE))
    top.append(ink.Row(px(16), gauge, 3))
    if panel.slow:
        told = ink.wrapped("This machine cannot keep the pace.", px(20), width)
        top += [ink.line(words, px(20), ink.ORANGE, px(18), rank=4) for words in told]
    foot = [
        pair("Player", panel.player, 5),
        ink.space(px(6), rank=9),
        ink.Row(px(82), lambda surface, area: _draw_keys(panel, surface, area, scale), 2),
        ink.line(panel.action.name.replace("_", " "), px(23), ink.YELLOW, px(26), "center", rank=3),
    ]
    if panel.recording:
        foot.append(ink.Row(px(24), recording, 2))
    return top, foot


def _draw_keys(panel: Panel, surface: pygame.Surface, area: pygame.Rect, scale: float) -> None:
    """Four key caps: filled while held, outlined in yellow where the action in force points."""
    gap, line, radius = (max(1, round(length * scale)) for length in (5, 2, 7))
    side = max(1, min((area.width - 2 * gap) // 3, (area.height - gap) // 2))
    left, top = area.centerx - (3 * side + 2 * gap) // 2, area.centery - (2 * side + gap) // 2
    held = {action.name for action in panel.held}
    for name, column, row in (("UP", 1, 0), ("LEFT", 0, 1), ("DOWN", 1, 1), ("RIGHT", 2, 1)):
        cap = pygame.Rect(left + column * (side + gap), top + row * (side + gap), side, side)
        lit, used = name in held, name == panel.action.name
        pygame.draw.rect(surface, ink.YELLOW if lit else ink.DEEP_BLUE, cap, border_radius=radius)
        if not lit:
            pygame.draw.rect(surface, ink.YELLOW if used else ink.BLUE, cap, line, border_radius=radius)
        color = ink.BLACK if lit else ink.YELLOW if used else ink.GREY
        ink.arrow(surface, color, cap.center, side * 0.27, TURNS[name])
