"""What ``pip install tailrace`` gives: one package that works without the checkout, beside anybody's own folders."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.integration.cli.processes import family
from tests.patience import patient

pytestmark = pytest.mark.timeout(600)

ROOT: Final = Path(__file__).parents[2]
BUILD: Final = "import sys; from hatchling import build; print(getattr(build, sys.argv[1])(sys.argv[2]))"
GOOD: Final = re.compile(r"all 21 viewers got exactly the log: \d+ deliveries, nothing lost, nothing doubled\.")

OWN_PROJECT: Final = {
    **{f"{name}/__init__.py": f"OWN = {name!r}\n" for name in ("bus", "gateway", "workers", "bench", "tests")},
    "my_app.py": """
import workers
from tailrace import Context, Pipeline, Registry, Step


def name_the_folder(ctx: Context) -> str:
    return f"own {workers.OWN}"


registry = Registry([Pipeline("own", (Step("name", name_the_folder),))])
""",
    "script.py": """
import asyncio

import bench, bus, gateway, tests, workers
from tailrace import Entry, open_bus


async def main():
    print("mine:", bench.OWN, bus.OWN, gateway.OWN, tests.OWN, workers.OWN)
    async with await open_bus() as opened:
        execution_id = await opened.submit("own")
        async for item in opened.follow(execution_id):
            if isinstance(item, Entry) and item.type == "execution.completed":
                print("result:", item.data["result"])


asyncio.run(main())
""",
    "tests/test_own.py": """
import bus, gateway, workers
from tailrace import Step


def test_my_folders_are_mine():
    assert (bus.OWN, gateway.OWN, workers.OWN) == ("bus", "gateway", "workers")
    assert Step.__module__.startswith("tailrace.workers.")
""",
}


@dataclass(frozen=True)
class Installed:
    sdist: Path
    wheel: Path
    bin: Path

    @property
    def environment(self) -> dict[str, str]:
        """Without anything that would lead it to the checkout."""
        ours = ("PYTHONPATH", "VIRTUAL_ENV", "TAILRACE_REDIS_URL", "TAILRACE_PIPELINES")
        return {name: value for name, value in os.environ.items() if name not in ours}


def run(*command: str | Path, cwd: Path) -> str:
    ran = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240, check=False
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """A source distribution of the checkout, a wheel of that, and a fresh environment that has the wheel.

    The packages it needs are those of the environment that runs the tests: nothing is fetched, and the checkout stays
    out, since a ``.pth`` file in a folder that another one names is not read.
    """
    place = tmp_path_factory.mktemp("installed")
    sdist = place / run(sys.executable, "-c", BUILD, "build_sdist", place, cwd=ROOT).splitlines()[-1]
    with tarfile.open(sdist) as archive:
        archive.extractall(place / "source", filter="data")
    (source,) = (place / "source").iterdir()
    wheel = place / run(sys.executable, "-c", BUILD, "build_wheel", place, cwd=source).splitlines()[-1]
    run(sys.executable, "-m", "venv", "--without-pip", place / "venv", cwd=place)
    python = place / "venv" / "bin" / "python"
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install"),
        *("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", wheel),
        cwd=place,
    )
    (packages,) = (place / "venv" / "lib").glob("python*/site-packages")
    (packages / "locked.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return Installed(sdist, wheel, python.parent)


def files_of_the_checkout() -> set[str]:
    """Tracked by Git, or new and not ignored, where the links in ``tailrace`` put them."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    linked = ("bus/", "gateway/", "workers/")
    return {
        f"tailrace/{name}" if name.startswith(linked) else name
        for name in listed
        if name.startswith((*linked, "tailrace/")) and (ROOT / name).is_file()
    }


def test_the_wheel_holds_the_one_package_whole_and_nothing_else(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        names = archive.namelist()
    package = {name for name in names if name.startswith("tailrace/")}

    assert len(names) == len(set(names))
    assert {name.split("/")[0] for name in set(names) - package} == {
        installed.wheel.name.rsplit("-", 3)[0] + ".dist-info"
    }
    assert package == files_of_the_checkout()
    assert {
        "tailrace/py.typed",
        "tailrace/bus/scripts/append.lua",
        "tailrace/gateway/limits/bucket.lua",
        "tailrace/gateway/streams/socket_schema.json",
        "tailrace/cli/demo/sample.md",
    } <= package


def test_the_source_distribution_holds_the_package_once(installed: Installed) -> None:
    with tarfile.open(installed.sdist) as archive:
        members = [member for member in archive.getmembers() if not member.isdir()]
    names = {member.name.partition("/")[2] for member in members}
    package = {name for name in names if name.startswith("tailrace/")}

    assert all(member.isfile() for member in members), "a link would lead nowhere"
    assert package == files_of_the_checkout()
    assert names - package == {".gitignore", "CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}


def test_the_demo_runs_from_the_wheel(installed: Installed, tmp_path: Path) -> None:
    where = run(installed.bin / "python", "-c", "import tailrace.bus; print(tailrace.bus.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.bin.parent)
    program = (str(installed.bin / "tailrace"),)
    environment = {**installed.environment, "TMPDIR": str(tmp_path)}
    with family(tmp_path / "output", "demo", env=environment, program=program, cwd=tmp_path) as demo:
        assert demo.wait(seconds=90) == 0, demo.said

        assert GOOD.search(demo.said)
        assert str(ROOT) not in demo.said
        demo.await_nobody()


def test_a_project_may_have_its_own_folders_of_our_names(
    installed: Installed, server_url: str, prefix: str, tmp_path: Path
) -> None:
    """Its scripts, its worker and its tests find its own; Tailrace finds Tailrace's."""
    project = tmp_path / "project"
    for name, text in OWN_PROJECT.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    environment = {**installed.environment, "TAILRACE_REDIS_URL": server_url, "TAILRACE_PREFIX": prefix}
    python = str(installed.bin / "python")

    worker_program = (str(installed.bin / "tailrace"), "worker", "--pipelines", "my_app:registry")
    with family(tmp_path / "worker", env=environment, program=worker_program, cwd=project) as worker:
        worker.await_words("worker ready")
        with family(tmp_path / "script", env=environment, program=(python, "script.py"), cwd=project) as script:
            assert script.wait(seconds=60) == 0, f"{script.said}\n{worker.said}"
            assert "mine: bench bus gateway tests workers" in script.said
            assert "result: own workers" in script.said
    tested = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=patient(60.0),
        check=False,
    )
    assert tested.returncode == 0, tested.stdout
    assert "1 passed" in tested.stdout
