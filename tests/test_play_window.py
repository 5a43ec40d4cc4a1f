"""The window, played in by a person: every key does what the help says, at the very next step."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pygame
import pytest

from agents.train import main as train
from neural_pacman.actions import Action
from neural_pacman.controls import BINDINGS, CONTROLS, HELP, STEERING, Control, Steering
from neural_pacman.episodes import read_episodes
from neural_pacman.frames import decode_image
from neural_pacman.panel import View
from neural_pacman.session import Begin, DreamOn, Rewind, Session, Step
from tests.scripted import BEGINNING, Person, ScriptedWorld, colors, played, scripted_world
from tests.test_agents import settings as training_settings
from tests.test_video import read_video
from tests.xvfb import focused_title, needs_display, virtual_display, xdotool

__all__ = ["scripted_world"]

ROOT = Path(__file__).parent.parent


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "session.jsonl"


def steps(log: Path) -> list[str]:
    """The actions of all steps of a session."""
    return [event.action.name for event in Session.read(log).events if isinstance(event, Step)]


def test_a_key_pressed_while_a_frame_is_dreamed_leads_to_the_next_one(
    scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    keys = {2: "+left", 4: "-left +up", 5: "+right", 6: "-right", 7: "-up"}

    def press(step: int) -> None:
        for key in keys.get(step, "").split():
            kind = pygame.KEYDOWN if key[0] == "+" else pygame.KEYUP
            pygame.event.post(pygame.Event(kind, key=pygame.key.key_code(key[1:])))

    scripted_world.while_dreaming = press
    person = played(Person.begin, monkeypatch, steps=9, fps=60, session=log)
    names = "NO_ACTION NO_ACTION LEFT LEFT UP RIGHT UP NO_ACTION NO_ACTION"
    assert steps(log) == names.split()
    assert colors(person.view)[0] in (Action.NO_ACTION, BEGINNING)


def test_a_key_pressed_between_two_frames_leads_to_the_next_one(
    scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        yield from person.until_step(2)  # which is shown a third of a second before the next is due
        person.tap("down")

    person = played(script, monkeypatch, steps=5, fps=3, session=log)
    assert steps(log) == ["NO_ACTION", "NO_ACTION", "DOWN", "NO_ACTION", "NO_ACTION"]
    shown = [(view.panel.step, *colors(view)) for view in person.views if view.panel and view.panel.step in (2, 3)]
    assert set(shown) == {(2, Action.NO_ACTION), (3, Action.DOWN)}


def test_the_newest_frame_is_shown_before_the_next_is_due(
    scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    dreamed: dict[int, float] = {}
    seen: dict[int, float] = {}

    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        while True:
            if person.view.panel:
                seen.setdefault(person.view.panel.step, time.perf_counter())
            yield

    scripted_world.while_dreaming = lambda step: dreamed.setdefault(step, time.perf_counter())
    played(script, monkeypatch, steps=6, fps=2)
    delays = [seen[step] - dreamed[step] for step in range(1, 6)]
    assert float(np.median(delays)) < 0.4  # the next one is due after half a second


def test_a_slow_dream_leaves_the_window_awake(scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted_world.seconds = 0.5

    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        yield from person.until_step(4)
        before = len(person.views)
        person.press("left")  # while the next frame is dreamed, which takes half a second
        yield from person.until(lambda view: view.panel and Action.LEFT in view.panel.held)
        assert person.view.panel and person.view.panel.step == 4
        assert person.view.panel.slow and 0 < person.view.panel.rate < 2.1
        yield from person.until_step(6)
        assert len(person.views) - before > 3  # more often than there are frames
        person.tap("space")
        yield from person.until(lambda view: "paused" in view.banner)
        person.tap("escape")

    played(script, monkeypatch)


def test_pause_single_step_and_going_on(
    scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    counts = []

    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        yield from person.until_step(2)
        person.tap("space")
        yield from person.until(lambda view: "paused" in view.banner)
        yield from waiting(0.3)
        counts.append(len(scripted_world.asked))
        yield from waiting(0.3)
        counts.append(len(scripted_world.asked))
        person.tap("up", ".")
        yield from person.until_step(counts[0] + 1)
        yield from waiting(0.3)
        counts.append(len(scripted_world.asked))
        person.tap("space")
        yield from person.until_step(counts[0] + 3)
        person.tap("escape")

    played(script, monkeypatch, fps=30, session=log)
    assert counts[1] == counts[0] and counts[2] == counts[0] + 1
    assert steps(log)[counts[0]] == "UP"
    assert len(steps(log)) >= counts[0] + 3


def draws_in(number: int, view: View) -> bool:
    return view.panel is not None and view.panel.denoising_steps == number


def waiting(seconds: float) -> Generator[None]:
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        yield


def test_holding_backspace_runs_time_backwards_and_playing_on_is_a_new_branch(
    scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    back = []

    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        person.press("left")
        yield from person.until_step(10)
        person.press("backspace")
        yield from person.until(lambda view: view.panel and view.panel.step <= 4)
        assert person.view.banner == "rewinding"
        assert person.view.panel and person.view.panel.points == 10 * person.view.panel.step
        person.release("left")
        person.press("down")
        person.release("backspace")
        yield from person.until(lambda view: colors(view) == [Action.DOWN])
        back.append(person.view.panel.step if person.view.panel else 0)
        yield from person.until_step(8)
        person.tap("space")

    def to_the_beginning(person: Person) -> Generator[None]:
        yield from script(person)
        person.press("backspace")
        yield from person.until(lambda view: "began here" in view.banner)
        assert colors(person.view) == [BEGINNING]
        person.tap("escape")

    played(to_the_beginning, monkeypatch, fps=30, session=log)
    assert 1 <= back[0] <= 5
    events = Session.read(log).events
    kinds = "".join({Begin: "b", Step: "s", Rewind: "r", DreamOn: "d"}[type(event)] for event in events)
    first = kinds.index("r")
    again = kinds.index("s", first)
    assert kinds[:first] == "b" + "s" * (first - 1)
    assert again - first >= 6  # steps back
    assert steps(log)[0:2] == ["LEFT", "LEFT"] and events[again] == Step(Action.DOWN, 2, events[again].checksum)  # type: ignore[union-attr]
    assert kinds.count("r") == kinds.count("s")  # all the way


def test_seeds_again_and_the_next_one(
    scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        yield from person.until_step(2)
        person.tap("n")
        yield from person.until(lambda view: view.panel and view.panel.seed == 8 and view.panel.step == 2)
        person.tap("r")
        yield from person.until(lambda view: view.panel and view.panel.step < 2)
        assert person.view.panel and person.view.panel.seed == 8
        person.tap("escape")

    played(script, monkeypatch, seed=7, session=log)
    assert [event.seed for event in Session.read(log).events if isinstance(event, Begin)] == [7, 8, 8]


def test_a_key_pressed_twice_while_a_frame_is_dreamed_counts_twice(
    scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        yield from person.until_step(1)
        person.tap("n", "n", "n", "r")
        yield from person.until(lambda view: view.panel and view.panel.seed == 10 and view.panel.step > 0)
        person.tap("escape")

    played(script, monkeypatch, seed=7, session=log)
    assert [event.seed for event in Session.read(log).events if isinstance(event, Begin)] == [7, 8, 9, 10, 10]


def test_a_video_that_is_lost_leaves_the_game_and_is_said_again_in_the_end(
    scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        yield from person.until_step(1)
        person.tap("v")
        yield from person.until(lambda view: "cannot be written" in view.banner)
        assert person.view.panel and not person.view.panel.recording
        yield from person.until_step(person.view.panel.step + 2)
        person.tap("escape")

    monkeypatch.setattr("neural_pacman.video.get_ffmpeg_exe", lambda: "false")
    with pytest.raises(OSError, match=r"neural-pacman-001\.mp4 cannot be written"):
        played(script, monkeypatch, captures=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_ended_dream_waits_and_can_be_left_begun_anew_or_dreamed_on(
    scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    scripted_world.length = 3

    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        yield from person.until(lambda view: view.banner.startswith("episode over"))
        assert all(word in person.view.banner for word in ("Enter", "R", "C"))
        yield from waiting(0.2)
        assert person.view.panel and person.view.panel.step == 3
        person.tap("c")
        yield from person.until_step(5)
        assert person.view.banner == ""
        person.press("backspace")  # to before the end, which then ends it again
        yield from person.until(lambda view: view.panel and view.panel.step < 3)
        person.release("backspace")
        yield from person.until(lambda view: view.banner.startswith("episode over"))
        person.tap("return")
        yield from person.until(lambda view: view.panel and view.panel.seed == 1 and view.panel.step == 3)
        person.tap("r")
        yield from person.until(lambda view: view.panel and view.panel.step < 3)
        person.tap("escape")

    played(script, monkeypatch, fps=30, session=log)
    events = Session.read(log).events
    assert [event.seed for event in events if isinstance(event, Begin)] == [0, 1, 1]
    assert sum(isinstance(event, DreamOn) for event in events) == 1


def test_slower_faster_and_denoising_steps(
    scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    paces = []

    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        yield from person.until_step(1)
        for key in ("-", "-", "=", "=", "="):
            person.tap(key)
            yield from waiting(0.15)
            paces.append(person.view.panel.pace if person.view.panel else 0)
        for key, number in (("4", 4), ("1", 1), ("2", 2)):
            person.tap(key)
            yield from person.until(partial(draws_in, number))
            yield from waiting(0.1)
        person.tap("escape")

    played(script, monkeypatch, session=log)
    assert paces == [8, 4, 8, 15, 30]
    used = [event.denoising_steps for event in Session.read(log).events if isinstance(event, Step)]
    assert [n for i, n in enumerate(used) if i == 0 or used[i - 1] != n] == [2, 4, 1, 2]
    assert scripted_world.asked == [n if n != 2 or i > used.index(4) else 0 for i, n in enumerate(used)]


def test_pictures_videos_and_gifs_are_taken_while_playing(
    scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        person.press("left")
        yield from person.until_step(1)
        person.tap("v", "g")
        yield from person.until(lambda view: view.panel and "MP4" in view.panel.recording)
        yield from person.until_step(6)
        person.tap("g")
        yield from person.until(lambda view: "wrote neural-pacman-001.gif" in view.banner)
        person.tap("p", "p")
        yield from person.until(lambda view: view.banner == "wrote neural-pacman-002.png")
        yield from person.until_step(12)
        person.tap("escape")  # in the middle of the video

    played(script, monkeypatch, captures=tmp_path, fps=30)
    endings = ["001.gif", "001.mp4", "001.png", "002.png"]
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"neural-pacman-{end}" for end in endings]
    _, frames = read_video(tmp_path / "neural-pacman-001.mp4")
    assert len(frames) >= 10
    assert np.abs(frames[-1, 256, 256].astype(int) - (200, 0, 0)).max() < 16
    assert (decode_image((tmp_path / "neural-pacman-001.png").read_bytes()) == (200, 0, 0)).all()


def test_a_folder_that_cannot_be_written_is_said_and_the_game_goes_on(
    scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = []

    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        for key in ("p", "v"):
            person.tap(key)
            yield from person.until(lambda view: "Cannot write" in view.banner)
            said.append(person.view.banner)
            yield from person.until(lambda view: "Cannot write" not in view.banner)
        person.tap("escape")

    monkeypatch.setattr("neural_pacman.play_window.NOTE_SECONDS", 0.2)
    played(script, monkeypatch, captures=tmp_path / "missing")
    assert len(said) == 2 and all("missing" in note for note in said)


def test_panel_scaling_help_and_unknown_keys(scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        yield from person.until_step(1)
        person.tap("tab")
        yield from person.until(lambda view: view.panel is None)
        person.tap("tab", "x")
        yield from person.until(lambda view: view.panel is not None and not view.smooth)
        person.tap("h")
        yield from person.until(lambda view: view.card is not None)
        assert person.view.card and person.view.card.keys == HELP
        yield from waiting(0.2)
        before = len(scripted_world.asked)
        yield from waiting(0.2)
        assert len(scripted_world.asked) == before  # nobody is eaten while reading
        person.tap("h", "q", "j")
        yield from person.until_step(before + 2)
        person.tap("escape")

    played(script, monkeypatch)


def test_taking_over_without_an_agent_says_how_to_bring_one(
    scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        person.tap("t")
        yield from person.until(lambda view: "--agent" in view.banner)
        person.tap("escape")

    played(script, monkeypatch)


def test_the_title_card_shows_the_keys_and_how_far_loading_is(
    scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(person: Person) -> Generator[None]:
        yield from person.until(lambda view: view.card and "Enter" in view.card.footer)
        assert scripted_world.asked == []
        person.tap("left")  # steers, and begins
        yield from person.until_step(1)
        person.tap("escape")

    person = played(script, monkeypatch)
    first = person.views[0].card
    assert first is not None and first.keys == HELP and first.progress is not None
    assert first.footer in ("starting PyTorch", "loading the world", "the first dream")
    shares = [view.card.progress for view in person.views if view.card and view.card.progress is not None]
    assert shares == sorted(shares)
    assert person.views[-1].card is None


def test_escape_while_loading_quits(scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(person: Person) -> Generator[None]:
        person.tap("escape")
        yield

    played(script, monkeypatch)
    assert scripted_world.asked == []


def test_an_error_while_dreaming_ends_the_game_and_loses_nothing(
    scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch, log: Path, tmp_path: Path
) -> None:
    def fail(step: int) -> None:
        if step == 4:
            raise ValueError("the network has had enough")

    scripted_world.while_dreaming = fail
    with pytest.raises(ValueError, match="had enough"):
        played(Person.begin, monkeypatch, session=log, out=tmp_path / "v.mp4", fps=30)
    assert len(steps(log)) == 3
    assert len(read_video(tmp_path / "v.mp4")[1]) >= 4


def test_no_thread_stays_behind(scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    played(Person.begin, monkeypatch, steps=2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dream")]


def test_keys_of_videos_leave_the_film_of_it_all_alone(
    scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        yield from person.until_step(2)
        person.tap("v")
        yield from person.until_step(6)
        person.tap("v")
        yield from person.until(lambda view: view.banner == "wrote neural-pacman-001.mp4")

    played(script, monkeypatch, captures=tmp_path, out=tmp_path / "film.mp4", steps=20, fps=30)
    short, film = (len(read_video(tmp_path / name)[1]) for name in ("neural-pacman-001.mp4", "film.mp4"))
    assert film == 21 and 3 <= short < 20


def test_a_window_closed_while_recording_leaves_whole_files(
    scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        person.tap("v", "g")
        yield from person.until(lambda view: view.panel and "GIF" in view.panel.recording)
        yield from person.until_step(8)
        pygame.event.post(pygame.Event(pygame.QUIT))
        yield

    played(script, monkeypatch, captures=tmp_path, out=tmp_path / "film.mp4", save=tmp_path / "mine.parquet", fps=30)
    for name in ("film.mp4", "neural-pacman-001.mp4", "neural-pacman-001.gif"):
        assert len(read_video(tmp_path / name)[1]) > 3
    (episode,) = read_episodes(tmp_path / "mine.parquet")
    assert len(episode) >= 8
    assert len(list(tmp_path.iterdir())) == 4


def test_who_never_begins_leaves_older_files_as_they_were(
    scripted_world: ScriptedWorld,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    log: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def script(person: Person) -> Generator[None]:
        yield from person.until(lambda view: view.card and "Enter" in view.card.footer)
        person.tap("escape")

    film = tmp_path / "film.mp4"
    for file in (film, log):
        file.write_text("older")
    played(script, monkeypatch, out=film, session=log)
    assert film.read_text() == log.read_text() == "older"
    assert "Wrote" not in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 2


def test_an_agent_goes_on_with_the_next_dream_by_itself(
    scripted_world: ScriptedWorld, monkeypatch: pytest.MonkeyPatch, tiny_world: Path, tmp_path: Path, log: Path
) -> None:
    config = training_settings(tiny_world, tmp_path / "run", steps=8)
    train(config)
    scripted_world.length = 3
    monkeypatch.setattr("neural_pacman.play_window.END_SECONDS", 0.2)

    def script(person: Person) -> Generator[None]:
        yield from person.until(lambda view: view.banner.startswith("episode over"))

    played(script, monkeypatch, agent=tmp_path / "run" / "agent.zip", session=log, steps=7, fps=30)
    assert [event.seed for event in Session.read(log).events if isinstance(event, Begin)] == [0, 1, 2]


def test_the_help_names_every_key_once() -> None:
    assert set(CONTROLS.values()) == set(Control)
    assert len(CONTROLS) == sum(len(binding.names) for binding in BINDINGS)
    assert not set(CONTROLS) & set(STEERING)
    for name in [*CONTROLS, *STEERING]:
        assert name.startswith("[") or pygame.key.name(pygame.key.key_code(name)) == name


def test_the_last_key_pressed_wins_whichever_hand_pressed_it() -> None:
    steering = Steering()
    taken: list[Any] = []
    for name, down in (("left", True), ("w", True), ("w", False), ("a", True), ("left", False), ("a", False)):
        steering.feed(name, down)
        taken.append(steering.take().name)
    assert taken == ["LEFT", "UP", "LEFT", "LEFT", "LEFT", "NO_ACTION"]
    assert steering.held == frozenset()


@needs_display
def test_the_game_is_played_with_a_real_keyboard_in_a_real_window(tiny_world: Path, tmp_path: Path) -> None:
    log, saved = tmp_path / "s.jsonl", tmp_path / "mine.parquet"
    options = ["--world", str(tiny_world), "--device", "cpu", "--fps", "30", "--captures", str(tmp_path)]
    command = [sys.executable, "-m", "neural_pacman", "play", *options, "--session", str(log), "--save", str(saved)]
    with virtual_display() as display:
        environment = os.environ | {"DISPLAY": display, "SDL_VIDEODRIVER": "x11", "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        patiently(lambda: focused_title(display).startswith("Neural Pac-Man"))
        # Again and again: SDL shows a window twice as it opens, and keys for the first go to nobody.
        patiently(lambda: xdotool(display, "key", "Return") or happened('"NO_ACTION"', log))
        for keys, seen in (
            ("keydown Left", '"LEFT"'),
            ("key v keyup Left keydown w", '"UP"'),
            ("keyup w keydown BackSpace", '"rewind"'),
            ("keyup BackSpace key p key n", '"seed": 1'),
            ("key 4", '"denoising_steps": 4'),
        ):
            xdotool(display, *keys.split())
            patiently(partial(happened, seen, log))
        xdotool(display, "key", "Escape")
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    session = Session.read(log)
    taken = {event.action.name for event in session.events if isinstance(event, Step)}
    assert taken == {"LEFT", "UP", "NO_ACTION"}
    assert any(isinstance(event, Rewind) for event in session.events)
    assert [event.seed for event in session.events if isinstance(event, Begin)] == [0, 1]
    assert {event.denoising_steps for event in session.events if isinstance(event, Step)} == {2, 4}
    names = ["mine.parquet", "neural-pacman-001.mp4", "neural-pacman-001.png", "s.jsonl"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    assert len(read_video(tmp_path / names[1])[1]) > 1
    assert all(f"Wrote {tmp_path / name}" in said for name in names)


def happened(event: str, log: Path) -> bool:
    return event in journal(log)


def journal(log: Path) -> str:
    """What there is by now of a session that is being played."""
    growing = list(log.parent.glob(f".{log.stem}.*"))
    return growing[0].read_text() if growing else ""


def patiently(true: Callable[[], object]) -> None:
    """Wait for something to become true; TimeoutError after a minute."""
    start = time.perf_counter()
    while not true():
        if time.perf_counter() - start > 60:
            raise TimeoutError("waited in vain")
        time.sleep(0.05)
