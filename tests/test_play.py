"""Playing: by script, agent, recording and session, in a window or without one; what is kept of it can be used."""

from __future__ import annotations

import dataclasses
import itertools
import json
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.train import main as train
from neural_pacman.actions import Action
from neural_pacman.episodes import Recording, read_episodes, write_episodes
from neural_pacman.frames import psnr
from neural_pacman.play import Play, interruptible, play
from neural_pacman.session import Begin, Rewind, Session, Step
from tests.scripted import BEGINNING, COLORS, Person, ScriptedWorld, played, scripted_world
from tests.test_agents import settings as training_settings
from tests.test_training import MAINS, stages
from tests.test_video import read_video
from training.checkpoint import EXPORT

__all__ = ["scripted_world"]


def actions_of(session: Path) -> list[Action]:
    return [event.action for event in Session.read(session).events if isinstance(event, Step)]


def write_actions(path: Path, *actions: Action) -> str:
    path.write_text("".join(f"{action.name}\n" for action in actions))
    return str(path)


def test_a_script_plays_one_dream_after_the_other_into_the_video(
    scripted_world: ScriptedWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted_world.length = 10
    session, video = tmp_path / "s.jsonl", tmp_path / "dream.mp4"
    play(Play(headless=True, steps=25, seed=4, seed_index=2, session=session, out=video))
    assert [event.seed for event in Session.read(session).events if isinstance(event, Begin)] == [4, 5, 6]
    _, frames = read_video(video)
    assert len(frames) == 25 + 3  # each dream's first frame too
    shown = COLORS[[BEGINNING, *actions_of(session)[:10]]]
    assert np.abs(frames[:11, 32, 32].astype(int) - shown).max() < 16
    said = capsys.readouterr().out
    assert f"Wrote {video}: 28 frames, 1.9 s." in said and f"Wrote {session}: 28 events." in said


@pytest.mark.parametrize("steps", [2, 200])
def test_without_a_window_a_video_that_cannot_be_written_is_an_error(
    steps: int, scripted_world: ScriptedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neural_pacman.video.get_ffmpeg_exe", lambda: "false")
    with pytest.raises(OSError, match=r"v\.mp4 cannot be written"):
        play(Play(headless=True, steps=steps, out=tmp_path / "v.mp4", session=tmp_path / "s.jsonl"))
    assert len(scripted_world.asked) < 100
    assert [file.name for file in tmp_path.iterdir()] == ["s.jsonl"]  # which is not lost with it


def test_a_video_without_a_frame_is_not_said_to_be_written(
    scripted_world: ScriptedWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="seed_index is 1000"):
        play(Play(headless=True, seed_index=1000, out=tmp_path / "v.mp4"))
    assert "Wrote" not in capsys.readouterr().out and list(tmp_path.iterdir()) == []


def test_a_demo_lasts_fifteen_seconds_of_the_game(scripted_world: ScriptedWorld, tmp_path: Path) -> None:
    play(Play(headless=True, out=tmp_path / "v.mp4"))
    assert len(scripted_world.asked) == 225


def test_a_file_of_actions_is_played_to_its_end(
    scripted_world: ScriptedWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    actions = [Action.UP, Action.UP, Action.LEFT, Action.NO_ACTION]
    file = write_actions(tmp_path / "a.txt", *actions)
    play(Play(headless=True, actions=file, session=tmp_path / "s.jsonl", out=tmp_path / "v.gif"))
    assert actions_of(tmp_path / "s.jsonl") == actions
    assert len(read_video(tmp_path / "v.gif")[1]) == 5
    assert "The script ends here." in capsys.readouterr().out


def test_a_window_and_no_window_show_the_same_frames(
    tiny_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        for key in ("left", "up", "right"):
            person.tap(key)
            yield from person.until_step((person.view.panel.step if person.view.panel else 0) + 2)

    window, headless = tmp_path / "window.jsonl", tmp_path / "headless.jsonl"
    settings: dict[str, Any] = {"world": str(tiny_world), "device": "cpu", "seed": 3}
    played(script, monkeypatch, **settings, steps=9, session=window, out=tmp_path / "window.mp4")
    file = write_actions(tmp_path / "a.txt", *actions_of(window))
    out = tmp_path / "v.mp4"
    play(Play(**settings, headless=True, actions=file, session=headless, out=out))
    assert len(set(actions_of(window))) > 2
    assert Session.read(window).events == Session.read(headless).events  # with a checksum for each frame
    assert (tmp_path / "window.mp4").read_bytes() == out.read_bytes()


def moved(person: Person, times: int, looks: int) -> Generator[None]:
    """Look until what is shown has changed so many times, or nothing seems to move any more."""
    seen = [person.view.frames]
    for _ in range(looks):
        if person.view.frames is not seen[-1]:
            seen.append(person.view.frames)
        if len(seen) > times:
            return
        yield


def test_a_session_of_all_that_can_happen_is_replayed_bit_for_bit(
    lively_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        for number, key in enumerate(itertools.cycle(("left", "up", "4", "right", "1", "backspace", "c", "down", "n"))):
            person.press(key)
            yield from moved(person, times=2, looks=60)
            person.release(key)
            if number == 26:
                person.tap("escape")

    first, again = tmp_path / "first.jsonl", tmp_path / "again.jsonl"
    played(script, monkeypatch, world=str(lively_world), device="cpu", session=first, fps=30)
    play(Play(str(lively_world), device="cpu", replay=first, session=again, headless=True, out=tmp_path / "v.mp4"))
    events = Session.read(first).events
    assert len(events) > 20 and {type(event).__name__ for event in events} >= {"Begin", "Step", "Rewind"}
    assert {event.denoising_steps for event in events if isinstance(event, Step)} >= {1, 4}
    assert Session.read(again) == Session.read(first)
    assert "every frame was the one that was played" in capsys.readouterr().out
    assert len(read_video(tmp_path / "v.mp4")[1]) == len(events) - sum(
        type(event).__name__ == "DreamOn" for event in events
    )


def test_a_replay_in_a_window_cannot_be_steered_and_says_when_frames_differ(
    tiny_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tmp_path / "s.jsonl"
    world: dict[str, Any] = {"world": str(tiny_world), "device": "cpu"}
    play(Play(**world, headless=True, steps=6, session=session, out=tmp_path / "v.mp4"))
    lines = [json.loads(line) for line in session.read_text().splitlines()]
    lines[0]["torch"] = "1.0"
    lines[5]["checksum"] += 1
    session.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def script(person: Person) -> Generator[None]:
        yield from person.until_step(1)
        for key in ("backspace", "n", "4"):
            person.tap(key)
            yield from person.until(lambda view: "played as it was" in view.banner)
        person.tap("left")
        yield from person.until(lambda view: "frames differ from step 4 on (torch 1.0 then" in view.banner)
        person.tap("escape")

    monkeypatch.setattr("neural_pacman.play_window.NOTE_SECONDS", 0.3)
    person = played(script, monkeypatch, **world, replay=session)
    panel = person.view.panel
    assert panel and (panel.player, panel.step, panel.denoising_steps) == ("session", 6, 2)


def test_a_session_of_another_world_is_refused(tiny_world: Path, lively_world: Path, tmp_path: Path) -> None:
    session = tmp_path / "s.jsonl"
    play(Play(str(tiny_world), device="cpu", headless=True, steps=2, session=session, out=tmp_path / "v.mp4"))
    before = session.read_bytes()
    with pytest.raises(ValueError, match=r"played in another world \(tiny, hash .* --world"):
        play(Play(str(lively_world), replay=session, headless=True, session=session, out=tmp_path / "w.mp4"))
    assert session.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s.jsonl", "v.mp4"]


def test_a_dream_runs_beside_the_recording_that_moves_it(
    tiny_world: Path, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (episode for episode in read_episodes(sample))

    def script(person: Person) -> Generator[None]:
        yield from person.until_step(3)
        person.tap("space")
        yield from person.until(lambda view: "paused" in view.banner)
        panel = person.view.panel
        assert panel and panel.player == "recording" and panel.psnr is not None
        assert person.view.captions == ("the recording", "the dream")
        recorded, dreamed = person.view.frames
        assert np.array_equal(recorded, first.frames(31 + panel.step, 32 + panel.step)[0])
        assert (
            panel.psnr[0] == pytest.approx(psnr(dreamed, recorded)) and panel.action == first.actions[30 + panel.step]
        )
        likeness = dict.fromkeys([panel.step], panel.psnr)
        person.press("backspace")
        yield from person.until_step_back(panel.step - 2)
        person.release("backspace")
        person.tap("space")
        yield from person.until(lambda view: view.panel and view.panel.step == panel.step)
        assert person.view.panel and person.view.panel.psnr == pytest.approx(likeness[panel.step])
        person.tap("n")
        yield from person.until(lambda view: view.panel and view.panel.seed == 1 and view.panel.step > 1)
        step = person.view.panel.step if person.view.panel else 0
        assert np.array_equal(person.view.frames[0], second.frames(31 + step, 32 + step)[0])
        person.tap("escape")

    played(script, monkeypatch, world=str(tiny_world), device="cpu", compare=str(sample), fps=8)


def test_a_recording_ends_and_its_video_shows_both(
    tiny_world: Path, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    *_, last = read_episodes(sample)
    out = tmp_path / "v.mp4"
    play(Play(str(tiny_world), device="cpu", compare=str(sample), seed=1, headless=True, out=out, steps=None))
    _, frames = read_video(out)
    assert len(frames) == len(last) - 31 and frames.shape[1:] == (512, 1024, 3)
    alike = [psnr(frames[-1][:, :512], recorded) for recorded in last.frames(len(last) - 5, len(last))]
    assert max(alike) == alike[-1] > 24  # as much as is left of thin lines in a video
    assert "The recording ends here." in capsys.readouterr().out


@pytest.fixture(scope="module", params=["rgb", "latent"])
def agent(request: pytest.FixtureRequest, tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an agent that has hardly learned anything, and sees pictures or latents."""
    run = tmp_path_factory.mktemp("runs") / "agent"
    config = training_settings(tiny_world, run, steps=16)
    config.dreams = dataclasses.replace(config.dreams, obs_type=request.param)
    config.learning = dataclasses.replace(config.learning, learning_rate=1e-3)  # of several minds in the end
    train(config)
    return run / "agent.zip"


def test_an_agent_plays_until_a_key_takes_over_and_hands_back(
    scripted_world: ScriptedWorld, agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tmp_path / "s.jsonl"
    mine: list[int] = []

    def script(person: Person) -> Generator[None]:
        yield from person.until_step(3)
        assert person.view.panel and person.view.panel.player == "agent"
        person.tap("t")
        yield from person.until(lambda view: view.panel and view.panel.player == "you")
        mine.append((person.view.panel.step if person.view.panel else 0) + 1)
        person.press("up")
        yield from person.until_step(mine[0] + 10)
        person.tap("t")
        person.release("up")
        yield from person.until(lambda view: view.panel and view.panel.player == "agent")

    played(script, monkeypatch, agent=agent, session=session, steps=60, fps=30)
    actions = actions_of(session)
    assert len(actions) == 60
    assert actions[mine[0] : mine[0] + 8] == [Action.UP] * 8
    assert len(set(actions[:3] + actions[-30:])) > 2


def test_an_agent_repeats_itself_from_a_seed(tiny_world: Path, agent: Path, tmp_path: Path) -> None:
    sessions = []
    for seed in (1, 1, 2):
        session = tmp_path / "s.jsonl"
        settings = Play(str(tiny_world), device="cpu", agent=agent, seed=seed, steps=12, session=session)
        play(dataclasses.replace(settings, headless=True, out=tmp_path / "v.mp4"))
        sessions.append(Session.read(session).events)
    assert sessions[0] == sessions[1]
    assert actions_in(sessions[0]) != actions_in(sessions[2])


def actions_in(events: tuple[Any, ...]) -> list[Action]:
    return [event.action for event in events if isinstance(event, Step)]


@pytest.mark.parametrize("content", [None, b"no zip at all"])
def test_a_missing_or_foreign_agent_is_named(tiny_world: Path, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "agent.zip"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises((FileNotFoundError, ValueError), match=r"agent\.zip.*agents\.train"):
        play(Play(str(tiny_world), device="cpu", agent=file, headless=True, out=tmp_path / "v.mp4"))
    assert not (tmp_path / "v.mp4").exists()


def test_the_branch_that_was_kept_is_saved_as_a_dataset_that_trains(
    tiny_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[tuple[int, int], np.ndarray] = {}

    def script(person: Person) -> Generator[None]:
        yield from person.begin()
        person.press("left")
        yield from person.until_step(9)
        person.press("backspace")
        yield from person.until_step_back(4)
        person.release("left")
        person.press("down")
        person.release("backspace")
        yield from person.until_step(12)
        person.tap("n")
        yield from person.until(lambda view: view.panel and view.panel.seed == 1 and view.panel.step >= 3)
        person.tap("n")
        yield from person.until(lambda view: view.panel and view.panel.seed == 2 and view.panel.step == 0)
        person.tap("escape")

    session, saved = tmp_path / "s.jsonl", tmp_path / "mine.parquet"
    world = {"world": str(tiny_world), "device": "cpu"}
    person = played(script, monkeypatch, **world, session=session, save=saved, fps=15)
    for view in person.views:
        if view.panel:
            shown[view.panel.seed or 0, view.panel.step] = view.frames[0]
    branches = kept(Session.read(session))
    episodes = list(read_episodes(saved))
    assert len(episodes) == sum(len(branch) > 0 for branch in branches) >= 2
    for number, (episode, branch) in enumerate(zip(episodes, branches, strict=False)):
        assert list(episode.actions) == branch
        assert episode.dones is not None and not episode.dones.any()
        matches = [
            np.array_equal(episode.raw(step), shown[number, step])
            for step in range(len(episode))
            if (number, step) in shown
        ]
        assert len(matches) > 2 * (number < 2) and all(matches)
    assert Action.LEFT in branches[0] and Action.DOWN in branches[0]
    training = stages(saved, tmp_path / "training")
    for name, main in MAINS.items():
        settings = getattr(training, name)
        if name != "cache":
            settings.loop.steps = 4
        main(settings)
    assert (training.outcome.run / EXPORT).is_dir()


def kept(session: Session) -> list[list[Action]]:
    """The actions of each dream along the branch that was kept."""
    branches: list[list[Action]] = []
    for event in session.events:
        if isinstance(event, Begin):
            branches.append([])
        elif isinstance(event, Step):
            branches[-1].append(event.action)
        elif isinstance(event, Rewind):
            branches[-1].pop()
    return branches


def test_nothing_played_is_nothing_saved(
    scripted_world: ScriptedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(person: Person) -> Generator[None]:
        yield from person.until(lambda view: view.card and "Enter" in view.card.footer)
        person.tap("escape")

    played(script, monkeypatch, save=tmp_path / "mine.parquet")
    assert list(tmp_path.iterdir()) == []
    assert "nothing to save" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["out", "session", "save"])
def test_a_path_that_cannot_be_written_is_refused_before_the_world_is_even_looked_for(
    name: str, tmp_path: Path
) -> None:
    ending = {"out": "mp4", "session": "jsonl", "save": "parquet"}[name]
    settings: dict[str, Any] = {"out": tmp_path / "v.mp4", name: tmp_path / "missing" / f"file.{ending}"}
    with pytest.raises(FileNotFoundError, match=r"Cannot write a \w+ into .*missing"):
        play(Play(world="no such world", headless=True, **settings))
    settings[name] = tmp_path / "file.txt"
    with pytest.raises(ValueError, match=rf"file\.txt; expected a name that ends in .*\.{ending}"):
        play(Play(world="no such world", headless=True, **settings))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("setting", ["seed", "seed_index", "steps", "fps", "num_inference_steps"])
def test_a_setting_out_of_its_range_is_named(setting: str) -> None:
    with pytest.raises(ValueError, match=rf"--{setting.replace('_', '-')} is -1"):
        play(Play(**{setting: -1}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"agent": Path("a.zip"), "compare": "d"}, "--agent and --compare"),
        ({"replay": Path("s.jsonl"), "compare": "d"}, "--compare and --replay"),
        ({"compare": "d", "session": Path("s.jsonl")}, "--compare and --session"),
        ({"compare": "d", "seed_index": 1}, "--compare and --seed-index"),
        ({"replay": Path("s.jsonl"), "seed_index": 1}, "--replay and --seed-index"),
        ({"replay": Path("s.jsonl"), "num_inference_steps": 1}, "--replay and --num-inference-steps"),
        ({"actions": "demo"}, "--actions without --headless"),
        ({"actions": "demo", "headless": True, "agent": Path("a.zip")}, "--actions and --agent"),
    ],
)
def test_settings_that_exclude_each_other_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        play(Play(**settings))


def test_a_recording_that_is_not_there_or_too_short_is_named(tiny_world: Path, tmp_path: Path) -> None:
    common: dict[str, Any] = {"world": str(tiny_world), "device": "cpu", "headless": True, "out": tmp_path / "v.mp4"}
    with pytest.raises(FileNotFoundError, match="No dataset at"):
        play(Play(**common, compare=str(tmp_path / "none.parquet")))
    states = [
        Recording([np.full((512, 512, 3), 9, np.uint8)], np.array([action]), np.zeros(1), np.ones(1, bool))
        for action in (0, 1)
    ]
    write_episodes(tmp_path / "short.parquet", states)
    with pytest.raises(ValueError, match=r"No episode of .*short\.parquet has two states"):
        play(Play(**common, compare=str(tmp_path / "short.parquet")))
    assert not (tmp_path / "v.mp4").exists()


def test_the_first_interrupt_is_a_request_and_the_second_an_interrupt() -> None:
    # Shells start what runs in the background deaf to interrupts.
    given = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with interruptible() as asked:
            signal.raise_signal(signal.SIGINT)
            assert asked.is_set()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, given)
