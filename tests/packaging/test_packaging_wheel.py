"""The wheel: what is in it, and that it works in an environment and a folder that know nothing of the checkout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny import JOB

import mtnas

ROOT = Path(__file__).resolve().parents[2]

USE = """\
import json, pathlib, mtnas, yaml
from mtnas.base.resources import resource_folder
from mtnas.measure.devices import read_device
from mtnas.report.html import __file__ as report
from mtnas.space.rules import read_rules
folders = {name: str(resource_folder(name)) for name in ("search_spaces", "hardware_profiles")}
rules = [read_rules(path.stem) for path in sorted(pathlib.Path(folders["search_spaces"]).glob("*.yaml"))]
print(json.dumps({"package": mtnas.__file__, "folders": folders, "rules": len(rules),
                  "device": read_device("local-ort").runtime, "version": mtnas.__version__}))
"""


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command that sees nothing of the checkout or of this process's settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_"))}
    settings = {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run([str(word) for word in words], cwd=cwd, env=settings, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the checkout without a network."""
    if find_spec("hatchling") is None or find_spec("pip") is None:
        pytest.skip("building needs hatchling and pip: pip install -e .[dev]")
    folder = tmp_path_factory.mktemp("wheel")
    words = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    done = run(sys.executable, *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def content(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs' folder of a fresh environment with the wheel, and with this environment's packages to borrow.

    The borrowed folder comes last on the path, and its own `mtnas`, an editable one, is not seen: `.pth` files of a
    folder that is added by a `.pth` file are not read.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    programs = folder / "bin"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    words = ["-m", "pip", "--python", programs / "python", "install", "-q", "--no-deps", "--no-index", wheel]
    done = run(sys.executable, *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    return programs


def test_the_wheel_holds_the_package_and_its_data(content: list[str]) -> None:
    tracked = [path for path in (ROOT / "mtnas").rglob("*.py") if "__pycache__" not in path.parts]
    assert {path.relative_to(ROOT).as_posix() for path in tracked} <= set(content)
    for folder in ("search_spaces", "hardware_profiles"):
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file() and not path.name.startswith(".")]
        assert files
        assert {f"mtnas/_data/{path.relative_to(ROOT).as_posix()}" for path in files} <= set(content)
    for name in ("job/default.yaml", "job/template.yaml", "report/style.css", "report/boot.js"):
        assert f"mtnas/{name}" in content


def test_the_wheel_holds_nothing_else(content: list[str]) -> None:
    roots = {name.split("/")[0] for name in content}
    assert roots == {"mtnas", f"mtnas-{mtnas.__version__}.dist-info"}
    wrong = [name for name in content if name.endswith((".pyc", ".safetensors", ".onnx")) or "/runs/" in name]
    assert not wrong
    assert any(name.endswith("licenses/LICENSE") for name in content)


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!~; \[]", requirement)[0].lower()


def test_the_wheel_says_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        lines = archive.read(f"mtnas-{mtnas.__version__}.dist-info/METADATA").decode().splitlines()
        scripts = archive.read(f"mtnas-{mtnas.__version__}.dist-info/entry_points.txt").decode()
    needs = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {name_of(need) for need in needs if "extra ==" not in need} == set(map(name_of, project["dependencies"]))
    for extra, wanted in project["optional-dependencies"].items():
        assert {name_of(need) for need in needs if f"extra == '{extra}'" in need} == set(map(name_of, wanted))
    assert "mtnas = mtnas.cli:main" in scripts


def test_the_installed_package_finds_its_data(installed: Path, tmp_path: Path) -> None:
    done = run(installed / "python", "-c", USE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert str(ROOT) + os.sep not in found["package"] and found["version"] == mtnas.__version__
    for name, folder in found["folders"].items():
        assert Path(folder) == Path(found["package"]).parent / "_data" / name
    assert found["rules"] == len(list((ROOT / "search_spaces").glob("*.yaml"))) and found["device"] == "onnxruntime"


def test_doctor_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    done = run(installed / "mtnas", "doctor", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    assert str(ROOT / "mtnas") not in done.stdout


def test_a_tiny_plan_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(JOB)
    done = run(installed / "mtnas", "plan", "tiny.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.yaml"]


def test_a_tiny_job_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(JOB.replace("epochs: 3", "epochs: 1").replace("trials: 8", "trials: 4"))
    done = run(installed / "mtnas", "run", "tiny.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["met"] and (tmp_path / result["model"]).is_file() and (tmp_path / result["report"]).is_file()
