"""The world model: the mission's contract, and a folder that is whole or refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from neural_pacman.actions import one_hot
from neural_pacman.autoencoder import AUTOENCODERS, DEAD_ZONE, FrameAutoencoder
from neural_pacman.denoiser import fold
from neural_pacman.world import WorldModel, known_worlds
from neural_pacman.world_folder import NEEDED, PICTURES, SHIPPED, WEIGHTS, find_world, hashes, sha256


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_frames(batch: int, length: int) -> Tensor:
    return torch.rand(batch, length, 3, 512, 512, generator=random()) * 2 - 1


def looks() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signs, sprites and ways of a screen of 200 px: a block that is white or black, a red square, and two nodes."""
    signs, sprites = np.zeros((400, 200, 3), np.uint8), np.zeros((200, 200, 3), np.uint8)
    signs[10:20, 10:20] = 255
    sprites[2:22, 2:22] = (255, 0, 0)
    ways = np.zeros((200, 200, 3), np.uint8)
    ways[50, 50] = ways[50, 74] = 250, 64, 8
    return signs, sprites, ways


@pytest.fixture(scope="module")
def world() -> WorldModel:
    torch.manual_seed(0)
    background = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    other = background.copy()
    other[32::128, 32::128] = 0  # a few spots: of each that is in doubt the encoder is asked
    world = WorldModel.create("tiny", background, "test", (0, 10, 200), other, *looks())
    for parameter in world.denoiser.parameters():
        if not parameter.any():  # where training begins at "nothing changes", which would hide what a dream depends on
            torch.nn.init.normal_(parameter, std=0.1)
    return world


@pytest.fixture(scope="module")
def frames() -> Tensor:
    return random_frames(1, 32)


@pytest.fixture(scope="module")
def actions() -> Tensor:
    return one_hot(torch.randint(5, (1, 32), generator=random()))


@pytest.fixture(scope="module")
def latents() -> Tensor:
    """Two histories `[2, 32, 32, 16, 16]`."""
    return torch.randn(2, 32, 32, 16, 16, generator=random(1))


@pytest.fixture
def saved(world: WorldModel, tmp_path: Path) -> Path:
    world.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


# --- the contract


def test_compact_fulfils_the_missions_contract() -> None:
    world = WorldModel.create("compact")
    frames = torch.zeros(2, 32, 3, 512, 512)
    actions = one_hot(torch.randint(5, (2, 32), generator=random()))
    frame = world.predict(frames, actions, num_inference_steps=1)
    assert frame.shape == (2, 3, 512, 512) and frame.dtype == torch.float32
    assert frame.isfinite().all() and frame.abs().max() <= 1
    history = world.encode(frames[:, :1]).expand(-1, 32, -1, -1, -1)
    assert fold(history).shape == (2, 1024, 16, 16)
    assert world.dream(history, actions.argmax(-1), torch.randn(2, 32, 16, 16)).shape == (2, 32, 16, 16)


def test_full_has_the_published_size_and_the_same_shapes() -> None:
    with torch.device("meta"):  # shapes without arithmetic: no weight is ever allocated
        world = WorldModel.create("full")
        frames, actions = torch.empty(2, 32, 3, 512, 512), torch.empty(2, 32, 5)
    assert sum(parameter.numel() for parameter in world.autoencoder.dc.parameters()) == 323_356_460
    assert sum(parameter.numel() for parameter in world.denoiser.parameters()) >= 100_000_000
    assert world.autoencoder.scaling_factor == 0.3189
    history = world.encode(frames, chunk=16)
    assert history.shape == (2, 32, 32, 16, 16) and fold(history).shape == (2, 1024, 16, 16)
    assert world.decode(history[:, -1]).shape == (2, 3, 512, 512)
    assert world.predict(frames, actions).shape == (2, 3, 512, 512)


def test_the_full_autoencoder_really_passes_a_frame() -> None:
    with torch.device("meta"):
        world = WorldModel.create("full")
    autoencoder = world.autoencoder.to_empty(device="cpu")
    for tensor in autoencoder.state_dict().values():  # random weights, without the seconds that kaiming's take
        tensor.fill_(1.0) if tensor.ndim < 2 else tensor.uniform_(-0.02, 0.02, generator=random())
    frame = torch.rand(1, 3, 64, 64, generator=random()) * 2 - 1
    with torch.no_grad():
        latent = autoencoder.encode(frame)
        picture = autoencoder.decode(latent)
    assert latent.shape == (1, 32, 2, 2) and picture.shape == frame.shape
    assert latent.isfinite().all() and latent.std() > 0
    assert picture.isfinite().all() and picture.std() > 0


def test_predict_is_repeatable_and_draws_on_nothing_global(world: WorldModel, frames: Tensor, actions: Tensor) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    frame = world.predict(frames, actions)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(frame, world.predict(frames, actions, generator=random(0)))
    assert not torch.equal(frame, world.predict(frames, actions, generator=random(1)))
    assert not torch.equal(frame, world.predict(frames, actions, num_inference_steps=1))


def test_predict_is_encoding_dreaming_and_decoding(world: WorldModel, frames: Tensor, actions: Tensor) -> None:
    noise = torch.randn(1, 32, 16, 16, generator=random())
    latent = world.dream(world.encode(frames), actions.argmax(-1), noise)
    torch.testing.assert_close(world.predict(frames, actions), world.decode(latent))
    torch.testing.assert_close(world.predict(frames.double(), actions.long()), world.decode(latent))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, a: (f[:, :31], a), r"frames has shape \[1, 31, 3, 512, 512\]; expected \[B, 32, 3, 512, 512\]"),
        (lambda f, a: (f[0], a), r"frames has shape \[32, 3, 512, 512\]; expected \[B, 32, 3, 512, 512\]"),
        (lambda f, a: (f[..., :256, :256], a), r"\[1, 32, 3, 256, 256\]; expected \[B, 32, 3, 512, 512\]"),
        (lambda f, a: (f[:0], a[:0]), r"frames has shape \[0, 32"),
        (lambda f, a: (f, a[:, :31]), r"actions has shape \[1, 31, 5\]; expected \[1, 32, 5\]"),
        (lambda f, a: (f, a.expand(2, -1, -1)), r"actions has shape \[2, 32, 5\]; expected \[1, 32, 5\]"),
        (lambda f, a: (f, a.argmax(-1)), r"actions has shape \[1, 32\]; expected \[1, 32, 5\]"),
        (lambda f, a: (f, torch.zeros_like(a)), "actions is not one-hot"),
        (lambda f, a: (f, torch.ones_like(a)), "actions is not one-hot"),
        (lambda f, a: (f, a.softmax(-1)), "actions is not one-hot"),
        (lambda f, a: (f.to(torch.uint8), a), r"frames has dtype torch.uint8; expected floats in \[-1, 1\]"),
        (lambda f, a: (f.clone().fill_(255.0), a), r"frames has values from 255 to 255; expected \[-1, 1\]"),
        (lambda f, a: (f.clone().fill_(torch.nan), a), "frames has values from nan"),
    ],
)
def test_predict_says_what_is_wrong_with_its_input(
    world: WorldModel,
    frames: Tensor,
    actions: Tensor,
    change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        world.predict(*change(frames, actions))


def test_predict_wants_tensors(world: WorldModel, frames: Tensor, actions: Tensor) -> None:
    images: Any = frames.numpy()
    with pytest.raises(TypeError, match=r"frames has type ndarray; expected torch\.Tensor"):
        world.predict(images, actions)


def test_the_batching_options_encode_alike(world: WorldModel) -> None:
    frames = random_frames(2, 3)
    at_once = world.encode(frames)
    assert at_once.shape == (2, 3, 32, 16, 16)
    options: list[Any] = ["sequence", 1, 4, 100]
    for chunk in options:
        torch.testing.assert_close(world.encode(frames, chunk=chunk), at_once, rtol=1e-4, atol=1e-5)
    options = [0, "frame", 1.5]
    for chunk in options:
        with pytest.raises(ValueError, match='expected None, "sequence" or a number of frames'):
            world.encode(frames, chunk=chunk)


def test_latents_of_any_leading_shape_decode(world: WorldModel, latents: Tensor) -> None:
    frames = world.decode(latents[:, :2])
    assert frames.shape == (2, 2, 3, 512, 512) and frames.abs().max() <= 1
    torch.testing.assert_close(world.decode(latents[1, 0]), frames[1, 0], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"latents has shape \[2, 32, 16, 8\]; expected \[\.\.\., 32, 16, 16\]"):
        world.decode(torch.zeros(2, 32, 16, 8))


def test_dreams_depend_on_every_argument_and_refuse_wrong_ones(world: WorldModel, latents: Tensor) -> None:
    actions, noise = torch.randint(5, (2, 32), generator=random()), torch.randn(2, 32, 16, 16, generator=random())
    dreamed = world.dream(latents, actions, noise)
    steered = actions.clone()
    steered[:, -1] = (steered[:, -1] + 1) % 5
    assert not torch.equal(dreamed, world.dream(latents.flip(1), actions, noise))
    assert not torch.equal(dreamed, world.dream(latents, steered, noise))
    assert not torch.equal(dreamed, world.dream(latents, actions, -noise))
    with pytest.raises(ValueError, match=r"noise has shape \[1, 32, 16, 16\]; expected \[2, 32, 16, 16\]"):
        world.dream(latents, actions, noise[:1])
    with pytest.raises(ValueError, match="Action 5 is outside 0 to 4"):
        world.dream(latents, torch.full_like(actions, 5), noise)


def test_a_judged_step_has_points_of_the_game_and_probabilities(world: WorldModel, latents: Tensor) -> None:
    outcome = world.judge(latents, torch.zeros(2, 32, dtype=torch.long), latents[:, 0])
    assert all(point in (0, 10, 200) for point in outcome.points.tolist())
    for probability in (outcome.life_lost, outcome.end):
        assert probability.shape == (2,) and ((probability >= 0) & (probability <= 1)).all()


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no size 'huge'; expected one of tiny, compact, full"):
        WorldModel.create("huge")


# --- the folder


def test_a_saved_world_dreams_the_same(world: WorldModel, saved: Path, frames: Tensor, actions: Tensor) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    again = WorldModel.from_pretrained(saved, device="cpu")
    assert torch.equal(torch.get_rng_state(), before), "loading must not disturb the caller's random numbers"
    assert not again.training and not any(module.training for module in again.modules())
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert torch.equal(again.predict(frames, actions), world.predict(frames, actions))
    assert again.hash == world.hash
    assert list(again.outcome.config.points) == [0, 10, 200]
    assert again.scheduler.config.shift == world.scheduler.config.shift
    assert {file.suffix for file in saved.rglob("*") if file.is_file()} == {".json", ".safetensors", ".png", ".md"}
    card = (saved / "README.md").read_text(encoding="utf-8")
    assert "# test" in card and f"| denoiser | {sum(p.numel() for p in world.denoiser.parameters()):,} |" in card


def test_the_hash_tells_worlds_apart_by_what_they_dream(saved: Path, world: WorldModel) -> None:
    for change, same in [({"name": "renamed"}, True), ({"history_noise": 0.3}, False), ({"settled_share": 0.5}, False)]:
        config = json.loads((saved / "world.json").read_text()) | change
        (saved / "world.json").write_text(json.dumps(config))
        assert (WorldModel.from_pretrained(saved, device="cpu").hash == world.hash) == same
    assert WorldModel.create("tiny").hash != WorldModel.create("tiny").hash


def test_half_precision_halves_the_folder_and_runs_in_full(world: WorldModel, saved: Path, tmp_path: Path) -> None:
    world.save_pretrained(tmp_path / "half", dtype=torch.float16)
    half = WorldModel.from_pretrained(tmp_path / "half", device="cpu")
    for part in ("autoencoder", "denoiser", "outcome"):
        smaller, larger = (folder / part / WEIGHTS for folder in (tmp_path / "half", saved))
        assert smaller.stat().st_size < 0.6 * larger.stat().st_size
    assert {tensor.dtype for tensor in half.state_dict().values() if tensor.is_floating_point()} == {torch.float32}
    assert half.hash != world.hash
    latents = torch.randn(2, 32, 16, 16, generator=random())
    differs = (half.decode(latents) - world.decode(latents)).abs() > 0.05
    assert differs.float().mean() < 1e-3  # pixels of two looks that were on the verge of the other one


def test_values_that_half_precision_cannot_hold_are_stored_in_full(world: WorldModel, tmp_path: Path) -> None:
    world = WorldModel.create("tiny")
    name, tensor = next(iter(world.denoiser.state_dict().items()))
    tensor.fill_(1e6)
    world.save_pretrained(tmp_path / "large", dtype=torch.float16)
    again = WorldModel.from_pretrained(tmp_path / "large", device="cpu")
    assert torch.equal(again.denoiser.state_dict()[name], tensor)


def test_seeds_and_notices_travel_with_the_world(tmp_path: Path, sample: Path) -> None:
    file = next(sample.glob("*.parquet"))
    world = WorldModel.create("tiny")
    world.seeds_file, world.notices = file, {"LICENSE-Game": "Be kind.\n"}
    world.save_pretrained(tmp_path / "first")
    WorldModel.from_pretrained(tmp_path / "first", device="cpu").save_pretrained(tmp_path / "second")
    second = WorldModel.from_pretrained(tmp_path / "second", device="cpu")
    assert second.seeds_file is not None and second.seeds_file.read_bytes() == file.read_bytes()
    assert second.notices == {"LICENSE-Game": "Be kind.\n"}
    assert WorldModel.from_pretrained(tmp_path / "second", device="cpu").autoencoder.background is None
    second.save_pretrained(tmp_path / "second")  # onto itself
    assert hashes(tmp_path / "second") == hashes(tmp_path / "first")


@pytest.mark.parametrize("path", [*NEEDED, *PICTURES])
def test_a_missing_truncated_or_tampered_file_is_named(saved: Path, path: str) -> None:
    file = saved / path
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"damaged: {path} is not the file that was saved"):
            WorldModel.from_pretrained(saved)
    file.unlink()
    with pytest.raises(ValueError, match=f"damaged: {path} is missing"):
        WorldModel.from_pretrained(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "format version 2; this neural-pacman reads 1"),
        ({"action_order": ["UP", "DOWN", "LEFT", "RIGHT", "NO_ACTION"]}, "action order"),
        ({"weights": {}}, f"world.json names no SHA-256 for {NEEDED[0]}"),
        ({"weights": None}, "weights is no table"),
        ({"settled_share": 1.5}, "settled_share is 1.5; expected a share of the steps, 0 to 1"),
        ({"sizes": "huge"}, r"unknown entries \['sizes'\]"),
    ],
)
def test_a_world_json_that_cannot_be_dreamed_by_is_refused(saved: Path, change: dict[str, Any], message: str) -> None:
    file = saved / "world.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        WorldModel.from_pretrained(saved)


def test_a_truncated_world_json_and_a_foreign_folder_are_refused(saved: Path, tmp_path: Path) -> None:
    (saved / "world.json").write_text((saved / "world.json").read_text()[:100])
    with pytest.raises(ValueError, match=r"cannot be used: world\.json"):
        WorldModel.from_pretrained(saved)
    (tmp_path / "foreign").mkdir()
    with pytest.raises(ValueError, match=r"is not a world: it has no world\.json"):
        WorldModel.from_pretrained(tmp_path / "foreign")
    with pytest.raises(ValueError, match="is a file; expected the folder of a world"):
        WorldModel.from_pretrained(saved / "world.json")


def test_weights_that_do_not_fit_leave_nothing_random(saved: Path) -> None:
    another_models, no_weights = saved / "outcome" / WEIGHTS, saved / "denoiser" / "config.json"
    for foreign in (another_models, no_weights):
        shutil.copy(foreign, saved / "denoiser" / WEIGHTS)
        config = json.loads((saved / "world.json").read_text())
        config["weights"][f"denoiser/{WEIGHTS}"] = sha256(foreign)
        (saved / "world.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=r"do not fit the config\.json"):
            WorldModel.from_pretrained(saved)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        WorldModel.from_pretrained("pacwoman")
    assert "There is no world 'pacwoman'" in str(caught.value)
    assert all(name in str(caught.value) for name in known_worlds())


def test_a_hub_out_of_reach_names_the_local_ways() -> None:
    with pytest.raises(FileNotFoundError) as caught:  # the tests run with the hub switched off
        WorldModel.from_pretrained("somebody/some-world")
    assert "no folder 'somebody/some-world' here" in str(caught.value)
    assert "the path of a world's folder" in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_device_is_refused_before_anything_is_read(saved: Path) -> None:
    with pytest.raises(ValueError, match="abacus"):
        WorldModel.from_pretrained(saved, device="abacus")


def test_saving_replaces_a_world_and_nothing_else(world: WorldModel, saved: Path) -> None:
    other = WorldModel.create("tiny", name="other")
    other.save_pretrained(saved)
    assert WorldModel.from_pretrained(saved, device="cpu").hash == other.hash
    assert [folder.name for folder in saved.parent.iterdir()] == ["saved"]
    mine = saved.parent / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(ValueError, match="exists and is not a world"):
        world.save_pretrained(mine)
    assert (mine / "thesis.txt").read_text() == "irreplaceable"


def test_a_save_that_fails_leaves_the_former_world(world: WorldModel, saved: Path) -> None:
    broken = WorldModel.create("tiny")
    broken.seeds_file = saved / "no-such.parquet"
    with pytest.raises(FileNotFoundError):
        broken.save_pretrained(saved)
    assert [folder.name for folder in saved.parent.iterdir()] == ["saved"]
    assert WorldModel.from_pretrained(saved, device="cpu").hash == world.hash


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_a_save_that_is_killed_leaves_the_former_world(world: WorldModel, saved: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from neural_pacman.world_folder import replacing
with replacing(Path(sys.argv[1])) as new:
    (new / "world.json").write_text("half a wor")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", script, str(saved)], capture_output=True, text=True, timeout=60)
    assert killed.returncode == -9, killed.stderr
    assert len(list(saved.parent.iterdir())) == 2
    assert WorldModel.from_pretrained(saved, device="cpu").hash == world.hash
    world.save_pretrained(saved)
    assert [folder.name for folder in saved.parent.iterdir()] == ["saved"]


def test_a_save_that_is_killed_between_its_two_renames_is_repaired_by_the_next(world: WorldModel, saved: Path) -> None:
    saved.rename(saved.with_name(".saved.former"))
    broken = WorldModel.create("tiny")
    broken.seeds_file = saved / "no-such.parquet"
    with pytest.raises(FileNotFoundError):
        broken.save_pretrained(saved)
    assert WorldModel.from_pretrained(saved, device="cpu").hash == world.hash


@pytest.mark.parametrize("name", known_worlds())
def test_a_shipped_world_is_whole_and_small(name: str) -> None:
    assert find_world(name) == SHIPPED / name
    world = WorldModel.from_pretrained(name, device="cpu")
    assert world.config.name == name and world.seeds_file is not None
    assert sum(file.stat().st_size for file in (SHIPPED / name).rglob("*")) < 16 * 2**20


def test_presets_share_their_names() -> None:
    for size in AUTOENCODERS:
        with torch.device("meta"):
            assert WorldModel.create(size).config.size == size


def test_what_hardly_differs_from_the_background_is_the_background() -> None:
    """The small network's faint glow is dropped; what stands clear of it is shown, less the zone that it clears."""
    torch.manual_seed(0)
    background = np.full((512, 512, 3), 100, np.uint8)
    model = FrameAutoencoder.create("tiny", background)
    latents = torch.randn(1, 32, 16, 16)
    raw = F.pixel_shuffle(model.decode_folded(latents), model.pixel_unshuffle)
    assert model.background is not None
    shown = model.decode(latents) - model.background
    faint = raw.abs() <= DEAD_ZONE
    assert 0.01 < faint.float().mean() < 0.99
    assert not shown[faint].any()
    room = (raw + model.background).abs() < 1  # not clamped
    torch.testing.assert_close(shown[~faint & room], (raw - DEAD_ZONE * raw.sign())[~faint & room], atol=1e-5, rtol=0)
