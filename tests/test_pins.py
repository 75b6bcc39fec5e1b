"""The pinned versions: one of each package on each platform, within the limits of pyproject.toml."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import transferbench
import yaml
from packaging.requirements import Requirement

ROOT = Path(transferbench.__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = {
    "Linux x86_64": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    "Linux aarch64": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
    "macOS": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
    "Windows": {"sys_platform": "win32", "platform_system": "Windows", "platform_machine": "AMD64"},
}
OF_GPU = ("nvidia-", "cuda-", "triton")


def pins_on(platform: str, python: str = "3.11") -> dict[str, str]:
    """Return the versions on a platform, by package; each package has one."""
    machine = PLATFORMS[platform] | {"python_version": python, "python_full_version": f"{python}.5"}
    here = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate(machine)]
    versions = {pin.name: str(pin.specifier).removeprefix("==") for pin in here}
    assert len(versions) == len(here)
    return versions


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_is_asked_for_is_pinned_within_its_limits(platform, python):
    versions = pins_on(platform, python)
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for asked in (Requirement(text) for group in groups for text in group):
        if asked.name != "transferbench" and (not asked.marker or asked.marker.evaluate(PLATFORMS[platform])):
            assert asked.specifier.contains(versions[asked.name.replace("_", "-")]), asked


def test_only_linux_has_packages_for_gpus():
    found = {platform: [n for n in pins_on(platform) if n.startswith(OF_GPU)] for platform in PLATFORMS}
    assert found["Linux x86_64"] == found["Linux aarch64"] != []
    assert found["macOS"] == found["Windows"] == []


def test_what_a_machine_without_gpu_leaves_out_is_for_gpus():
    names = (ROOT / "without-gpu.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert {name for name in names if name.startswith(OF_GPU)} == set(names) <= set(pins_on("Linux x86_64"))


def test_the_public_tests_have_every_python():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    assert all(job["strategy"]["matrix"]["python"] == list(PYTHONS) for job in jobs.values())
    assert PROJECT["requires-python"] == ">=3.11,<3.15"


def planned(clone: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Return what `make -n` says of the set-up."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "-n", ".venv/.ready", *words]
    return subprocess.run(
        command, cwd=clone, env=own, capture_output=True, text=True, check=False, encoding="utf-8"
    )


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_a_set_up_is_made_anew_where_its_python_is_gone_or_the_clone_moved(tmp_path):
    clone = tmp_path / "a clone"
    (clone / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "without-gpu.txt"):
        shutil.copy(ROOT / name, clone)
    python, ready = clone / ".venv" / "bin" / "python", clone / ".venv" / ".ready"
    python.symlink_to(sys.executable)
    assert "-m venv" in planned(clone).stdout
    ready.write_text(f"{clone.resolve()}\n")
    assert "-m venv" not in planned(clone).stdout
    (tmp_path / "alias").symlink_to(clone)
    ready.write_text(f"{tmp_path / 'alias'}\n")
    assert "-m venv" not in planned(clone).stdout
    moved = clone.rename(tmp_path / "another clone")
    assert "-m venv" in planned(moved).stdout
    (moved / ".venv" / ".ready").write_text(f"{moved.resolve()}\n")
    assert "-m venv" not in planned(moved).stdout
    (moved / ".venv" / "bin" / "python").unlink()
    assert "-m venv" in planned(moved).stdout


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_the_build_of_torch_is_one_of_three():
    found = planned(ROOT, "TORCH=nonsense")
    assert found.returncode == 2
    assert "TORCH=nonsense: expected auto, cpu or cuda" in found.stderr
    assert planned(ROOT, "TORCH=cpu").returncode == 0
