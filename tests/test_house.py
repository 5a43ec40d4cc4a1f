"""Promises of the repository as a whole: what is installed, what imports what, and that the README tells the truth."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from neural_pacman.episodes import read_episodes
from tests import make_data

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SHIPPED = sorted(folder.parent for folder in (ROOT / "neural_pacman" / "worlds").glob("*/world.json"))


def fenced(language: str) -> list[str]:
    """The README's code blocks in one language."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for named, text in blocks if named == language]


def imported(module: Path) -> set[str]:
    """Names that a file imports at any depth, however late."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that pip would install, built from a copy so that the clone stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    clone = folder / "clone"
    for package in ("neural_pacman", "training", "agents", "benchmarks"):
        shutil.copytree(ROOT / package, clone / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, clone)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=clone, check=True, capture_output=True, text=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_only_the_engine_is_installed(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"neural_pacman"}
    assert "neural_pacman/py.typed" in names
    entry_points = next(wheel.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    assert "neural-pacman = neural_pacman.cli:main" in entry_points


def test_every_file_of_a_shipped_world_is_installed(wheel: zipfile.ZipFile) -> None:
    files = {f.relative_to(ROOT).as_posix() for world in SHIPPED for f in world.rglob("*") if f.is_file()}
    assert files <= set(wheel.namelist())


@pytest.mark.parametrize("world", SHIPPED, ids=lambda folder: folder.name)
def test_a_shipped_world_is_small_and_names_where_its_frames_come_from(world: Path) -> None:
    assert sum(file.stat().st_size for file in world.rglob("*") if file.is_file()) < 16 * 2**20
    assert "Paolo D'Elia" in (world / "LICENSE-PyPacman").read_text(encoding="utf-8")


def test_the_engine_imports_nothing_that_makes_or_checks_it() -> None:
    outside = ("training", "agents", "benchmarks", "tests")
    for module in (ROOT / "neural_pacman").rglob("*.py"):
        assert not {name for name in imported(module) if name.split(".")[0] in outside}, module


def test_what_is_installed_is_what_the_constraints_say() -> None:
    pins = {r.name: r for r in map(Requirement, re.findall(r"^\w.*", (ROOT / "constraints.txt").read_text(), re.M))}
    wanted = [*PROJECT["dependencies"]]
    for extra in ("play", "sb3", "train", "dev"):
        wanted += PROJECT["optional-dependencies"][extra]
    for requirement in map(Requirement, wanted):
        name = requirement.name.lower().replace("_", "-")
        assert pins[name].specifier.contains(version(name)), f"{name} {version(name)} is installed"
        assert all(requirement.specifier.contains(pin.version) for pin in pins[name].specifier)
    assert not [name for name in pins if name.startswith(("nvidia", "cuda", "triton"))]


def test_the_readmes_commands_exist(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shell = [shlex.split(line, comments=True) for block in fenced("sh") for line in block.splitlines()]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    made = [words[1] for words in shell if words[0] == "make"]
    assert made == ["play", "test"] and set(made) <= set(targets)
    assert {words[0] for words in shell} <= {"make", "python", *PROJECT["scripts"]}
    installs = [word for words in shell if "pip" in words for word in words if word.startswith(".[")]
    extras = {extra for word in installs for extra in word[2:-1].split(",")}
    assert installs and extras <= set(PROJECT["optional-dependencies"])
    asked = 0
    for words in shell:
        if words[0] in PROJECT["scripts"]:
            module, given = "neural_pacman", words[1:2]
        elif words[:2] == ["python", "-m"] and words[2].split(".")[0] in ("training", "agents", "benchmarks"):
            module, given = words[2], []
        else:
            continue
        monkeypatch.setattr(sys, "argv", [module, *given, "--help"])
        with pytest.raises(SystemExit) as ended, warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that the module may be imported already
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        told = capsys.readouterr().out
        assert not ended.value.code and all(word in told for word in words if word.startswith("--")), words
        asked += 1
    assert asked >= 3


def test_the_readme_shows_files_that_are_there() -> None:
    for picture in re.findall(r"\]\((docs/[^)]+)\)", README):
        assert (ROOT / picture).is_file(), picture
    (tree,) = fenced("")
    top = Path()
    for line in tree.splitlines():
        nested, paths = line.startswith("  "), re.split(r"\s{2,}", line.strip())[0]
        top = top if nested else ROOT / paths
        for path in paths.split(", "):
            assert (top / path if nested else top).exists(), path


@pytest.mark.parametrize(
    ("example", "result", "shape"),
    list(zip(fenced("python"), ("observation", "observations"), ((512, 512, 3), (8, 84, 84, 3)), strict=True)),
    ids=("one", "many"),
)
def test_the_readmes_examples_run(example: str, result: str, shape: tuple[int, ...]) -> None:
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names[result].shape == shape  # type: ignore[attr-defined]


def test_no_file_names_a_machines_own_path() -> None:
    homes = re.compile(r"(?<![\w.])/(home|root|Users|work|mnt|opt)/\w")
    tops = [top for top in ROOT.iterdir() if not top.name.startswith(".") or top.name == ".ci"]
    for file in (file for top in tops for file in ([top] if top.is_file() else top.rglob("*"))):
        if file.suffix in {".py", ".md", ".toml", ".txt", ".json", ""} and file.is_file():
            assert not homes.search(file.read_text(encoding="utf-8")), file


def test_the_sample_is_small_and_names_where_its_frames_come_from(sample: Path) -> None:
    assert sum(file.stat().st_size for file in sample.iterdir()) <= make_data.LIMIT
    assert "Copyright (c) 2020 Paolo D'Elia" in (sample / "LICENSE-PyPacman").read_text(encoding="utf-8")


def test_the_command_that_cut_the_sample_cuts_it_again(sample: Path, tmp_path: Path) -> None:
    path = make_data.main(make_data.Args(dataset=sample, out=tmp_path, before=40, after=12))
    first, second = read_episodes(path)
    whole = list(read_episodes(sample))
    assert first.images == whole[0].images[-40:]
    assert second.images == whole[1].images[:11]


def test_a_boundary_that_is_not_there_is_refused(sample: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 ends of episode 7"):
        make_data.main(make_data.Args(dataset=sample, out=tmp_path, episode=7))
    with pytest.raises(ValueError, match="not two episodes' rows"):
        make_data.main(make_data.Args(dataset=sample, out=tmp_path, before=200))
