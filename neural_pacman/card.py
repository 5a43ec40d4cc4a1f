"""A sheet over the picture: the title with its progress bar, the help with its table of keys."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from neural_pacman import ink

# isort: split
import pygame

KEY_GAP = 18
COLUMN_GAP = 30
SHRINKING = (1.0, 0.93, 0.86, 0.79, 0.72, 0.65, 0.58, 0.51)
"""Scales to try, until a card fits."""


@dataclass(frozen=True)
class Card:
    """A sheet over the picture: the title, the help."""

    title: str
    text: str = ""
    """A line or two under the title; it is wrapped, and keeps its own line breaks."""
    keys: tuple[tuple[str, str], ...] = ()
    """A table: keys, and what they do."""
    progress: float | None = None
    """How much of something is done, 0 to 1: Pac-Man eats his way along a bar. None for no bar."""
    footer: str = ""
    """What to do next, or what is being waited for."""


@lru_cache(maxsize=1)
def sheet(card: Card, size: tuple[int, int], scale: float) -> pygame.Surface:
    """The card on a see-through sheet of that size, its letters as large as the room allows, in one column or two.

    `scale` is for letters that have room enough. Where even the smallest have not, lines at the end are missing.
    """
    surface = pygame.Surface(size, pygame.SRCALPHA)
    surface.fill((*ink.BLACK, 222))
    area = surface.get_rect()
    for smaller, columns in product(SHRINKING, (1, 2)):
        rows, width = _rows(card, area.width, scale * smaller, columns)
        if width <= area.width and sum(row.height for row in rows) <= area.height:
            break
    else:
        rows, width = _rows(card, area.width, scale * SHRINKING[-1], columns=1)
    while rows and sum(row.height for row in rows) > area.height:
        rows.pop()
    middle = pygame.Rect(0, 0, min(width, area.width), sum(row.height for row in rows))
    middle.center = area.center
    ink.stack(rows, surface, middle)
    return surface


def _rows(card: Card, room: int, scale: float, columns: int) -> tuple[list[ink.Row], int]:
    """The card's rows at a scale, and how wide they would like to be, edges included."""

    def px(length: float) -> int:
        return max(1, round(length * scale))

    edge = px(18)
    small, title = px(22), px(54)
    keys_width = max((ink.text_width(keys, small) for keys, _ in card.keys), default=0)
    does_width = max((ink.text_width(does, small) for _, does in card.keys), default=0)
    column = keys_width + px(KEY_GAP) + does_width
    table = columns * column + (columns - 1) * px(COLUMN_GAP) if card.keys else 0
    text = ink.wrapped(card.text, small, room - 2 * edge)
    lines = [ink.text_width(words, small) for words in (*text, card.footer)]
    bar = px(330) if card.progress is not None else 0
    width = 2 * edge + max(table, bar, ink.text_width(card.title, title), *lines)

    def table_row(pairs: list[tuple[str, str]]) -> ink.Row:
        def paint(surface: pygame.Surface, area: pygame.Rect) -> None:
            start = area.left + max(edge, (area.width - table) // 2)
            for i, (keys, does) in enumerate(pairs):
                left = start + i * (column + px(COLUMN_GAP))
                place = pygame.Rect(left, area.top, keys_width, area.height)
                ink.write(surface, keys, small, ink.YELLOW, place, "right")
                left += keys_width + px(KEY_GAP)
                place = pygame.Rect(left, area.top, max(0, min(does_width, area.right - left)), area.height)
                ink.write(surface, does, small, ink.WHITE, place)

        return ink.Row(px(24), paint)

    rows = [
        ink.space(px(14)),
        ink.line(card.title, title, ink.YELLOW, px(46), "center"),
        ink.Row(px(18), lambda surface, area: ink.pellets(surface, area.inflate(-2 * edge, 0), scale)),
    ]
    if text:
        rows.append(ink.space(px(5)))
        rows += [ink.line(words, small, ink.WHITE, px(23), "center") for words in text]
        rows.append(ink.space(px(10)))
    if card.keys:
        high = -(-len(card.keys) // columns)
        rows += [table_row(list(card.keys[i::high])) for i in range(high)]
        rows.append(ink.space(px(10)))
    if card.progress is not None:
        done = card.progress
        rows.append(ink.Row(px(44), lambda surface, area: _bar(surface, area.inflate(-2 * edge, 0), done, scale)))
        rows.append(ink.space(px(8)))
    if card.footer:
        rows.append(ink.line(card.footer, small, ink.PELLET, px(26), "center"))
    rows.append(ink.space(px(12)))
    return rows, width


def _bar(surface: pygame.Surface, area: pygame.Rect, progress: float, scale: float) -> None:
    """A corridor of pellets; Pac-Man has eaten those at the left."""
    corridor = area.inflate(0, -round(8 * scale))
    thick = max(1, round(2 * scale))
    pygame.draw.rect(surface, ink.BLACK, corridor, border_radius=corridor.height // 2)
    pygame.draw.rect(surface, ink.BLUE, corridor, thick, border_radius=corridor.height // 2)
    radius = corridor.height * 0.32
    first, last = corridor.left + corridor.height * 0.5, corridor.right - corridor.height * 0.5
    x = first + (last - first) * min(1.0, max(0.0, progress))
    count = max(2, int((last - first) / max(4, 14 * scale)))
    for i in range(count + 1):
        pellet = first + (last - first) * i / count
        if pellet > x + radius * 0.4:
            pygame.draw.aacircle(surface, ink.PELLET, (round(pellet), corridor.centery), max(1, round(2 * scale)))
    between = (x - first) / (last - first) * count % 1 if last > first else 0.0
    ink.pacman(surface, (x, corridor.centery), radius, 16 + 32 * abs(1 - 2 * between))
