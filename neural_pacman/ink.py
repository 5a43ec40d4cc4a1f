"""Letters, walls and Pac-Man on pygame's surfaces: what the panel and the cards are drawn with."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # a library should not greet on its users' terminals
try:
    import pygame
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        'The window needs pygame-ce: pip install "neural-pacman[play]"', name=missing.name
    ) from missing

Color: TypeAlias = tuple[int, int, int]
Point: TypeAlias = tuple[float, float]
Align: TypeAlias = Literal["left", "center", "right"]

BLACK = (0, 0, 0)
BLUE = (33, 33, 255)
DEEP_BLUE = (22, 22, 96)
YELLOW = (255, 224, 0)
WHITE = (232, 232, 255)
GREY = (150, 150, 196)
PELLET = (255, 184, 174)
ORANGE = (255, 160, 40)
RED = (255, 40, 40)

FINER = 4
"""Letters are drawn so much larger and then scaled down: drawn small, they stand on whole pixels, unevenly."""

FONTS_KEPT = 32

_fonts: dict[int, pygame.font.Font] = {}


class Row(NamedTuple):
    """A line of something stacked from top to bottom."""

    height: int
    paint: Callable[[pygame.Surface, pygame.Rect], object]
    """Draws it inside a rectangle of that height."""
    rank: int = 0
    """Where the rows do not fit, those of the highest rank are left out."""


def stack(rows: Iterable[Row], surface: pygame.Surface, area: pygame.Rect) -> None:
    """Paint rows under one another from the top of an area."""
    top = area.top
    for row in rows:
        row.paint(surface, pygame.Rect(area.left, top, area.width, row.height))
        top += row.height


def space(height: int, rank: int = 0) -> Row:
    """A row of nothing."""
    return Row(height, lambda surface, area: None, rank)


def line(
    text: str,
    size: int,
    color: Color,
    height: int,
    align: Align = "left",
    rank: int = 0,
) -> Row:
    """A row of text."""
    return Row(height, lambda surface, area: write(surface, text, size, color, area, align), rank)


def write(
    surface: pygame.Surface,
    text: str,
    size: int,
    color: Color,
    area: pygame.Rect,
    align: Align = "left",
) -> pygame.Rect:
    """Write one line halfway down an area, shortened to its width. The rectangle that it covers."""
    text = shortened(text, size, area.width)
    if not text:
        return pygame.Rect(area.right if align == "right" else area.left, area.centery, 0, 0)
    letters = _letters(text, size, color)
    place = letters.get_rect(centery=area.centery)
    if align == "left":
        place.left = area.left
    elif align == "right":
        place.right = area.right
    else:
        place.centerx = area.centerx
    surface.blit(letters, place)
    return place


def text_width(text: str, size: int) -> int:
    """How wide a line is, in pixels."""
    return -(-_font(FINER * size).size(_printable(text))[0] // FINER)


@lru_cache(maxsize=512)
def shortened(text: str, size: int, width: int) -> str:
    """As much of a line as fits into so many pixels, with "..." where something is missing; "" where nothing fits."""
    text = _printable(text)
    if text_width(text, size) <= width:
        return text
    for end in range(len(text) - 1, 0, -1):
        if text_width(tried := text[:end].rstrip() + "...", size) <= width:
            return tried
    return ""


@lru_cache(maxsize=128)
def wrapped(text: str, size: int, width: int) -> tuple[str, ...]:
    """Text as lines that fit into so many pixels (a word that does not is shortened when written); keeps its breaks."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        begun = ""
        for word in paragraph.split():
            longer = f"{begun} {word}" if begun else word
            if begun and text_width(longer, size) > width:
                lines.append(begun)
                longer = word
            begun = longer
        lines.append(begun)
    return tuple(lines)


def wall(surface: pygame.Surface, area: pygame.Rect, scale: float) -> None:
    """The maze's double wall around an area, inside its edge."""
    for inset, radius in ((5, 12), (10, 8)):
        edge = area.inflate(-2 * round(inset * scale), -2 * round(inset * scale))
        pygame.draw.rect(surface, BLUE, edge, max(1, round(1.5 * scale)), border_radius=round(radius * scale))


def pellets(surface: pygame.Surface, area: pygame.Rect, scale: float) -> None:
    """A row of pellets along the middle of an area."""
    gap, side = max(4, round(14 * scale)), max(1, round(3 * scale))
    for i in range(area.width // gap + 1):
        pellet = pygame.Rect(0, 0, side, side)
        pellet.center = (area.centerx + round((i - area.width // gap / 2) * gap), area.centery)
        pygame.draw.rect(surface, PELLET, pellet)


def pacman(surface: pygame.Surface, center: Point, radius: float, mouth: float = 35) -> None:
    """Pac-Man looking to the right, his mouth open by `mouth` degrees to each side."""
    rim = [_polar(center, radius, mouth + (360 - 2 * mouth) * i / 40) for i in range(41)]
    fill(surface, YELLOW, [center, *rim])


def arrow(surface: pygame.Surface, color: Color, center: Point, radius: float, turn: float) -> None:
    """An arrow head; `turn` degrees from the right, clockwise."""
    fill(surface, color, [_polar(center, radius, turn + angle) for angle in (0, 130, 230)])


def fill(surface: pygame.Surface, color: Color, points: list[Point]) -> None:
    """A polygon with smooth edges."""
    pygame.draw.polygon(surface, color, points)
    pygame.draw.aalines(surface, color, True, points)


def _printable(text: str) -> str:
    """Text without what no font draws in one line: breaks, control characters, halves of characters in file names."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())


def _polar(center: Point, radius: float, angle: float) -> Point:
    return (
        center[0] + radius * math.cos(math.radians(angle)),
        center[1] + radius * math.sin(math.radians(angle)),
    )


def _font(size: int) -> pygame.font.Font:
    """The font that pygame brings, kept; made anew when somebody has closed pygame since, as environments do."""
    if not pygame.font.get_init():
        pygame.font.init()
    try:
        _fonts[size].get_height()
    except (KeyError, pygame.error):
        if len(_fonts) >= FONTS_KEPT:  # somebody drags the window's edge
            _fonts.clear()
        _fonts[size] = pygame.font.Font(None, size)
    return _fonts[size]


@lru_cache(maxsize=128)
def _letters(text: str, size: int, color: Color) -> pygame.Surface:
    large = _font(FINER * size).render(text, True, color)
    return pygame.transform.smoothscale(large, (text_width(text, size), -(-large.height // FINER)))
