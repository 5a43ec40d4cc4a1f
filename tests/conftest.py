"""What the tests share: real rows, and a tiny world made from scratch around them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before the libraries load: nothing outside the repository is read, no window opens, small networks run on few threads.
os.environ["HF_HUB_OFFLINE"] = "1"
_cache = tempfile.TemporaryDirectory(prefix="neural-pacman-tests-")
os.environ["HF_HOME"] = _cache.name
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
os.environ.setdefault("OMP_NUM_THREADS", "2")

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

# The same examples in every run, however slow the machine.
settings.register_profile("house", derandomize=True, deadline=None)
settings.load_profile("house")
torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(scope="session")
def sample() -> Path:
    """Folder of 230 real rows across one episode boundary, in the public schema with label columns."""
    return Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def tiny_world(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a whole world: the size `tiny`, random weights, one real seed of each kind. Copy it to change it."""
    from neural_pacman.episodes import read_episodes
    from neural_pacman.seeds import Start, write_seeds
    from neural_pacman.world import WorldModel

    folder = tmp_path_factory.mktemp("worlds")
    ends, begins = read_episodes(sample)
    starts = [
        Start.at(begins, 31, "start"),
        Start.at(begins, 100, "maze"),
        Start.at(ends, int((ends.labels["ghost_state"] == 2).any(axis=1).nonzero()[0].max()), "frightened"),
        Start.at(ends, 100, "last_life"),
    ]
    write_seeds(folder / "seeds.parquet", starts)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        world = WorldModel.create("tiny", background=begins.frames(0, 1)[0], name="tiny")
        # New networks start at zero in places, which repeats the last frame: here actions and noise make a difference.
        for parameter in world.denoiser.parameters():
            if not parameter.any():
                parameter.normal_(std=0.01)
    world.seeds_file = folder / "seeds.parquet"
    world.notices = {"LICENSE-PyPacman": (sample / "LICENSE-PyPacman").read_text(encoding="utf-8")}
    world.save_pretrained(folder / "tiny")
    return folder / "tiny"


@pytest.fixture(scope="module")
def loaded_world(tiny_world: Path) -> Iterator[None]:
    """The tiny world stays loaded from one test of the module to the next."""
    from neural_pacman.engine import shared_world

    world = shared_world(tiny_world, device="cpu")
    yield
    del world


@pytest.fixture(scope="session")
def lively_world(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with outcomes that hang on the actions: few points or many, and an end now and then."""
    from neural_pacman.world import WorldModel

    folder = tmp_path_factory.mktemp("worlds") / "lively"
    world = WorldModel.from_pretrained(tiny_world, device="cpu")
    with torch.random.fork_rng():
        torch.manual_seed(4)
        for trunk in (world.outcome.step, world.outcome.ending):
            torch.nn.init.zeros_(trunk.head.bias)
            torch.nn.init.normal_(trunk.head.weight)
            for name, weight in trunk.named_parameters():
                if name.endswith("modulation.weight"):
                    torch.nn.init.normal_(weight, std=3)
    torch.nn.init.constant_(world.outcome.ending.head.bias[::2], 0.5)
    world.save_pretrained(folder)
    return folder
