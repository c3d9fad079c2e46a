"""``tailrace demo``, as a newcomer types it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.integration.cli.processes import TAILRACE, Family, call, family
from tests.patience import stretched

pytestmark = pytest.mark.timeout(180)

TEXT: Final = Path(__file__).parents[2] / "tailrace" / "cli" / "demo" / "sample.md"
GOOD: Final = re.compile(r"all 21 viewers got exactly the log: \d+ deliveries, nothing lost, nothing doubled\.")
CONTROL_CODE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@contextlib.contextmanager
def demo(tmp_path: Path, *arguments: str, env: dict[str, str] | None = None) -> Iterator[Family]:
    """Its temporary files go where the test can see whether they stay."""
    temporary = tmp_path / "tmp"
    temporary.mkdir(exist_ok=True)
    with family(tmp_path / "output", "demo", *arguments, env={"TMPDIR": str(temporary), **(env or {})}) as started:
        yield started


def figures(said: str) -> dict[str, str]:
    """The rows of the table."""
    rows = (re.split(r"\s*[│|]\s*", line.strip().strip("│|").strip()) for line in said.splitlines() if "│" in line)
    return {row[0]: row[1] for row in rows if len(row) == 2}


def left_in(tmp_path: Path) -> list[str]:
    return sorted(entry.name for entry in (tmp_path / "tmp").iterdir())


def test_nothing_is_lost_and_nothing_doubled_though_a_gateway_is_killed(tmp_path: Path) -> None:
    with demo(tmp_path, str(TEXT)) as running:
        assert running.wait(seconds=90) == 0, running.said
        said = running.said
        running.await_nobody()

    assert GOOD.search(said)
    table = figures(said)
    assert table["viewers"] == "21"
    assert int(table["deliveries"]) == 21 * int(table["events in the log"])
    assert int(table["resumes"]) >= 10
    assert [table[name] for name in ("gaps", "lost", "doubled", "wrong or out of order")] == ["0"] * 4
    assert re.search(r"gateway A \(pid \d+\) killed with SIGKILL; 10 viewers were on it", said)
    assert "all of them resumed on gateway B" in said
    assert not CONTROL_CODE.search(said), "a CI log shows control codes as rubbish"
    assert left_in(tmp_path) == []


def test_on_a_terminal_it_is_alive(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update({"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40", "TMPDIR": str(tmp_path)})
        os.execv(TAILRACE[0], [*TAILRACE, "demo", str(TEXT)])
    shown = b""
    # At the end of the other side Linux answers with EIO.
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 65536):
            shown += piece
    os.close(terminal)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0, shown.decode(errors="replace")
    text = shown.decode()
    assert "\x1b[?25h" in text, "the cursor is shown again"
    assert "╭─ summary" in text
    assert text.count("deliveries · viewers") > 10, "it is drawn again and again"
    assert GOOD.search(text)


def broken_pdf() -> bytes:
    return b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\nxref\n0 2\ngarbage"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("missing.md", None, "does not exist"),
        ("empty.md", b"", "is empty"),
        ("binary.txt", bytes(range(256)) * 8, "holds binary data"),
        ("broken.pdf", broken_pdf(), "is not a readable PDF"),
    ],
)
def test_a_wrong_file_is_a_sentence_and_exit_code_1(
    name: str, content: bytes | None, sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with demo(tmp_path, str(file)) as running:
        assert running.wait(seconds=60) == 1
        said = running.said
        running.await_nobody()

    last = said.splitlines()[-1]
    assert last.startswith(f"The file '{file}' ")
    assert sentence in last
    assert "the execution is failed" in said
    assert "Traceback" not in said
    assert left_in(tmp_path) == []


def await_first_line(running: Family) -> None:
    """Until our own code runs: the interpreter catches SIGINT as it starts, and our first line gives it back."""
    status, caught = Path(f"/proc/{running.process.pid}/status"), False
    while "starting" not in running.said:
        mask = re.search(r"^SigCgt:\s*([0-9a-f]+)", status.read_text(), re.MULTILINE)
        assert mask, "the process has gone"
        catches = bool(int(mask[1], 16) >> (signal.SIGINT - 1) & 1)
        if caught and not catches:
            return
        caught = caught or catches


@pytest.mark.parametrize("moment", ["", "starting", "submitted", "killed with SIGKILL"])
def test_ctrl_c_at_any_moment_leaves_nothing_behind(moment: str, tmp_path: Path) -> None:
    with demo(tmp_path, str(TEXT)) as running:
        if moment:
            running.await_words(moment)
        else:
            await_first_line(running)
        running.signal(signal.SIGINT)

        # Until its imports are done, the signal itself ends it.
        assert running.wait(seconds=20) in ({130} if moment else {130, -signal.SIGINT})
        running.await_nobody()
        assert "Traceback" not in running.said
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGHUP])
def test_other_orders_to_end_leave_nothing_behind(order: signal.Signals, tmp_path: Path) -> None:
    with demo(tmp_path, str(TEXT)) as running:
        running.await_words("submitted")
        running.signal(order)

        assert running.wait(seconds=20) == 128 + order
        running.await_nobody()
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("moment", ["starting", "gateway A is", "killed with SIGKILL"])
def test_killed_itself_it_leaves_nothing_behind(moment: str, tmp_path: Path) -> None:
    with demo(tmp_path, str(TEXT)) as running:
        running.await_words(moment)
        running.signal(signal.SIGKILL)
        running.wait()

        running.await_nobody(seconds=6.0)
    assert left_in(tmp_path) == []


def test_a_loss_is_never_called_a_success(tmp_path: Path) -> None:
    """A log that keeps next to nothing is not what the viewers got, and the verdict must say so.

    Whether they were told of gaps too depends on how quickly each of them read.
    """
    with demo(tmp_path, str(TEXT), env={"TAILRACE_MAX_ENTRIES": "1"}) as running:
        assert running.wait(seconds=90) == 1
        said = running.said

    assert "Not as promised" in said
    assert int(figures(said)["wrong or out of order"]) > 0
    assert "The logs of the processes are in" in said


def test_the_death_of_the_worker_is_told_with_what_it_said(tmp_path: Path) -> None:
    with demo(tmp_path, str(TEXT)) as running:
        running.await_words("submitted")
        os.kill(running.member("-m tailrace worker"), signal.SIGKILL)

        assert running.wait(seconds=30) == 1
        running.await_nobody()
        said = running.said

    assert "the worker was ended by SIGKILL; it said:" in said
    assert "worker ready for default" in said


def test_it_can_stay_to_be_played_with(tmp_path: Path) -> None:
    with demo(tmp_path, str(TEXT), "--stay") as running:
        said = running.await_words("Ctrl-C ends everything.", seconds=90)
        replay = re.search(r"curl -N (http\S+/v1/executions/(\S+)/events)", said)
        redis_url = re.search(r"^redis +(\S+)", said, re.MULTILINE)
        gateways = re.findall(r"^gateway +(\S+)", said, re.MULTILINE)
        assert replay is not None
        assert redis_url is not None
        assert len(gateways) == 2
        for gateway in gateways:
            assert httpx.get(f"{gateway}/readyz").status_code == 200
        events = figures(said)["events in the log"]
        assert httpx.get(replay[1]).text.count("\nid: ") == int(events)
        tail = call("tail", replay[2], "--redis-url", redis_url[1])
        assert tail.returncode == 0
        assert len(tail.stdout.splitlines()) == int(events)

        running.signal(signal.SIGINT)

        assert running.wait() == 0
        running.await_nobody()
        assert "Traceback" not in running.said


def test_without_a_file_it_takes_its_own_text(tmp_path: Path) -> None:
    from tailrace.cli.demo.document import SAMPLE, choose

    (tmp_path / "README.md").write_text("# Here")
    assert choose(None, tmp_path) == SAMPLE
    assert SAMPLE.is_file()
    assert choose(Path("given.md"), tmp_path) == tmp_path / "given.md"
    assert choose(Path("/abs.md"), tmp_path) == Path("/abs.md")


def test_the_help_is_there_at_once() -> None:
    """The whole of it, start of the interpreter included; the best of three, the machine may be busy."""
    durations = []
    for _ in range(3):
        started = time.monotonic()
        assert call("--help").returncode == 0
        durations.append(time.monotonic() - started)
    assert min(durations) < stretched(0.5)
