"""The engine: batches agree with single dreams, states bring back the same future, nothing is copied without need."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neural_pacman.engine import DreamEngine, EngineState, Shelf, shared_world
from neural_pacman.seeds import Seeds
from neural_pacman.world import WorldModel
from neural_pacman.world_folder import CONFIG


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def begin(engine: DreamEngine, seeds: list[int]) -> DreamEngine:
    """Start dream `i` at the world's seed `seeds[i]` with noise of its own."""
    histories = [Seeds.of(engine.world)[i] for i in seeds]
    engine.reset(
        torch.stack([h.latents for h in histories]),
        torch.stack([h.actions for h in histories]),
        [generator(100 + i) for i in seeds],
    )
    return engine


@pytest.fixture(scope="module")
def world(tiny_world: Path) -> WorldModel:
    return shared_world(tiny_world, device="cpu")


@pytest.fixture
def engine(world: WorldModel) -> DreamEngine:
    return begin(DreamEngine(world), [1])


def test_a_shelf_keeps_copies_in_one_block_and_has_no_place_for_nothing() -> None:
    shelf, tensor = Shelf(), torch.arange(4)
    kept = [shelf.keep(tensor), shelf.keep(tensor + 1)]
    tensor.zero_()
    assert [it.tolist() for it in kept] == [[0, 1, 2, 3], [1, 2, 3, 4]]
    assert kept[0].untyped_storage().data_ptr() == kept[1].untyped_storage().data_ptr()
    blocks = len(shelf._places)
    assert shelf.keep(torch.empty(3, 0)).shape == (3, 0) and len(shelf._places) == blocks


def test_a_batch_dreams_what_single_dreams_do(world: WorldModel) -> None:
    batch = begin(DreamEngine(world, num_dreams=3), [0, 1, 2])
    single = [begin(DreamEngine(world), [i]) for i in range(3)]
    for actions in ([0, 1, 2], [3, 4, 0], [1, 1, 1], [2, 0, 4]):
        together = batch.step(actions)
        for i, alone in enumerate(single):
            step = alone.step([actions[i]])
            torch.testing.assert_close(batch.latent[i], alone.latent[0], rtol=0, atol=1e-4)
            assert together.points[i] == step.points[0] and together.end[i] == step.end[0]
    assert batch.decode().shape == (3, 512, 512, 3)


def test_each_step_is_the_world_s_own_dream_of_the_last_32(world: WorldModel, engine: DreamEngine) -> None:
    seed = Seeds.of(world)[1]
    noise = generator(101)
    history, actions = seed.latents[None], seed.actions[None]
    for action in (2, 0, 3):
        engine.step([action])
        actions = torch.cat([actions, torch.tensor([[action]])], dim=1)[:, -32:]
        dreamed = world.dream(history, actions, torch.randn(32, 16, 16, generator=noise)[None])
        torch.testing.assert_close(engine.latent, dreamed, rtol=0, atol=0)
        history = torch.cat([history[:, 1:], dreamed[:, None]], dim=1)


def test_num_inference_steps_reaches_the_sampler(world: WorldModel) -> None:
    passes: list[int] = []
    handle = world.denoiser.register_forward_hook(lambda *_: passes.append(1))
    begin(DreamEngine(world, num_inference_steps=3), [0]).step([0])
    handle.remove()
    assert len(passes) == 3


def test_a_step_is_decoded_once_in_all_sizes(world: WorldModel, engine: DreamEngine) -> None:
    decoded: list[int] = []
    handle = world.autoencoder.dc.decoder.register_forward_hook(lambda *_: decoded.append(1))
    large, small = engine.decode(), engine.decode(128)
    assert len(decoded) == 1
    areas = large.reshape(1, 128, 4, 128, 4, 3).mean(axis=(2, 4))
    assert np.abs(areas - small).max() <= 1
    engine.step([0])
    engine.decode()
    handle.remove()
    assert len(decoded) == 2


def test_a_state_brings_back_the_same_future(engine: DreamEngine) -> None:
    engine.step([2])
    state = engine.get_state()
    futures = []
    for restored in (state, pickle.loads(pickle.dumps(state))):
        engine.set_state(restored)
        engine.step([1])
        engine.step([3])
        futures.append(engine.latent)
    assert torch.equal(*futures)
    assert not torch.equal(futures[0], state.latents[-1]), "a dream that stands still proves nothing"


def test_states_share_the_latents_of_their_steps(engine: DreamEngine) -> None:
    """A state a step for a thousand steps is what rewinding needs; each may cost one latent, not 32."""
    states = []
    for _ in range(10):
        engine.step([0])
        states.append(engine.get_state())
    distinct = {latent.data_ptr() for state in states for latent in state.latents}
    assert len(distinct) == 32 + 9
    assert len(pickle.dumps(states[0])) < 1.1 * 2**20


def test_a_state_may_enter_a_fresh_engine(world: WorldModel, engine: DreamEngine) -> None:
    other = DreamEngine(world)
    other.set_state(engine.get_state())
    engine.step([1])
    other.step([1])
    assert torch.equal(engine.latent, other.latent)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"version": 0}, "has version 0; this neural_pacman reads version 5"), ({"world": "0" * 64}, "another world")],
)
def test_foreign_states_are_refused_and_change_nothing(
    engine: DreamEngine, change: dict[str, Any], message: str
) -> None:
    state, before = engine.get_state(), engine.latent
    with pytest.raises(ValueError, match=message):
        engine.set_state(dataclasses.replace(state, **change))
    assert engine.latent is before


def test_what_is_no_state_or_of_another_batch_is_refused(world: WorldModel, engine: DreamEngine) -> None:
    with pytest.raises(TypeError, match="Given a dict"):
        engine.set_state({})  # type: ignore[arg-type]
    pair: EngineState = begin(DreamEngine(world, num_dreams=2), [0, 1]).get_state()
    with pytest.raises(ValueError, match="holds 2 dreams; this engine dreams 1"):
        engine.set_state(pair)


def test_nothing_happens_before_reset(world: WorldModel) -> None:
    engine = DreamEngine(world)
    for act in (lambda: engine.step([0]), lambda: engine.latent, engine.decode, engine.get_state):
        with pytest.raises(RuntimeError, match="reset"):
            act()


@pytest.mark.parametrize("actions", [[5], [-1], [0, 1], [0.0], 0])
def test_wrong_actions_are_refused(engine: DreamEngine, actions: list[int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        engine.step(actions)


def test_wrong_histories_are_refused(world: WorldModel) -> None:
    seed = Seeds.of(world)[0]
    engine = DreamEngine(world)
    with pytest.raises(ValueError, match=r"latents have shape \[32, 32, 16, 16\]; expected \[1, 32, 32, 16, 16\]"):
        engine.reset(seed.latents, seed.actions[None], [generator(0)])
    with pytest.raises(ValueError, match="2 generators for 1 dreams"):
        engine.reset(seed.latents[None], seed.actions[None], [generator(0), generator(1)])
    with pytest.raises(ValueError, match=r"known has shape \[1, 7\]; expected \[1, 0\]"):
        known = torch.zeros(1, 7, dtype=torch.int16)
        engine.reset(seed.latents[None], seed.actions[None], [generator(0)], known=known)


@pytest.mark.parametrize("wrong", [{"num_dreams": 0}, {"num_inference_steps": 0}])
def test_wrong_numbers_are_refused(world: WorldModel, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="is 0; expected 1 or more"):
        DreamEngine(world, **wrong)


def test_a_world_is_loaded_once_until_its_folder_changes(tiny_world: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_world, tmp_path / "world")
    first = shared_world(str(folder), device="cpu")
    assert shared_world(folder / ".." / "world", device="cpu") is first
    (folder / CONFIG).touch()
    assert shared_world(folder, device="cpu") is not first


def test_saved_states_share_few_blocks_of_memory(engine: DreamEngine) -> None:
    states = []
    for step in range(40):
        engine.step([step % 5])
        states.append(engine.get_state())
    expected = [(state.latents[-1].clone(), state.generators[0].clone()) for state in states]
    for tensors in ([state.latents[-1] for state in states], [state.generators[0] for state in states]):
        assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) <= 2
    for _ in range(70):  # nobody writes to what was kept
        engine.step([0])
        engine.get_state()
    for state, (latent, noise) in zip(states, expected, strict=True):
        assert torch.equal(state.latents[-1], latent) and torch.equal(state.generators[0], noise)
