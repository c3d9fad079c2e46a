"""What documents from outside can do to a worker: nothing that lasts, and nothing to others."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from tailrace.bus import Bus
from tailrace.workers import Registry, built_in
from tailrace.workers.builtin.document.errors import DocumentError, DocumentTooComplexError
from tailrace.workers.builtin.document.parsers import SERVER, Limits, Parsers
from tailrace.workers.builtin.document.source import given_by_value, opened
from tests.integration.workers.hostile_documents import hostile_documents
from tests.integration.workers.watching import run, types_of, until, watch, working
from tests.unit.workers.pdfs import pdf

pytestmark = pytest.mark.anyio

SECONDS = 1.0
MEMORY_BYTES = 400 << 20
LIMITS = Limits(seconds=SECONDS, memory_bytes=MEMORY_BYTES)
HARMLESS_CHARACTERS = 10_000
SLOW_HTML = b"<html " + b" ".join(b"a%d=1" % number for number in range(200_000)) + b">x"


class Peaks:
    """What the parsers' processes take at most, as the kernel tells it."""

    def __init__(self) -> None:
        self.memory_bytes = 0
        self.processor_seconds = 0.0
        self.processes = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        done = threading.Event()

        def look() -> None:
            while not done.wait(0.02):
                self._look()

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _look(self) -> None:
        pids = children_of(SERVER.pid)
        self.processes = max(self.processes, len(pids))
        for pid in pids:
            self.processor_seconds = max(self.processor_seconds, processor_seconds(pid))
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            sizes = [line.split()[1] for line in status.splitlines() if line.startswith("VmPeak")]
            self.memory_bytes = max([self.memory_bytes, *(int(size) << 10 for size in sizes)])


def children_of(pid: int | None) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def processor_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def busy(server: int | None) -> list[int]:
    """Those that have begun to parse."""
    return [pid for pid in children_of(server) if processor_seconds(pid) > 0.1]


async def digested(parsers: Parsers, path: str, roots: list[Path]) -> str | None:
    """All that the pipeline does with a document; the sentence with which it is refused, or None."""
    try:
        with opened(path, roots) as source:
            document = await parsers.extract(source, lambda _done, _pages: None)
        assert document.characters > 0
        assert len(document.title or "") <= 500
        if document.characters < HARMLESS_CHARACTERS:
            return None
        await parsers.chunks(document, max_words=200, overlap_words=20)
        await parsers.statistics(document)
        keywords = await parsers.keywords(document, 15)
        summary = await parsers.summarize(document, sentences=16, max_words=400)
    except DocumentError as error:
        return str(error)
    assert sum(len(each["phrase"]) for each in keywords) < 10_000
    assert 0 < len(" ".join(summary)) < 20_000
    return None


@asynccontextmanager
async def lag_measured() -> AsyncIterator[list[float]]:
    """How late the event loop is meanwhile, looked at all the time."""
    lags: list[float] = []

    async def look() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            lags.append(time.monotonic() - before - 0.01)

    looking = asyncio.create_task(look())
    try:
        yield lags
    finally:
        looking.cancel()
        await asyncio.wait([looking])


@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="measured in /proc")
async def test_attack_71_two_hundred_hostile_documents_end_within_their_limits_in_a_sentence(tmp_path: Path) -> None:
    parsers = Parsers(LIMITS, processes=3)
    peaks = Peaks()
    names: list[str] = []
    turns = asyncio.Semaphore(6)

    async def one(name: str, content: bytes) -> str | None:
        path = tmp_path / name
        path.write_bytes(content)
        try:
            return await digested(parsers, str(path), [tmp_path])
        finally:
            path.unlink()
            turns.release()

    with peaks.watching():
        async with lag_measured() as lags:
            tasks = []
            documents = hostile_documents()
            # Making them takes its time, too.
            while (document := await asyncio.to_thread(next, documents, None)) is not None:
                await turns.acquire()
                names.append(document[0])
                tasks.append(asyncio.create_task(one(*document)))
            sentences = await asyncio.gather(*tasks)

    assert len(set(names)) == len(names) >= 200
    for sentence in filter(None, sentences):
        assert sentence.startswith("The file '")
        assert sentence.endswith(".")
        assert "\n" not in sentence
        assert len(sentence) < 600
    # One that should use up its processor time may come to its end by the clock first, on a machine that is busy.
    refused = [sentence for sentence in sentences if sentence]
    for reason in ("too complex", "binary data", "not a readable PDF", "encrypted PDF", "holds no words"):
        assert any(reason in sentence for sentence in refused), reason
    print(f"{len(names)} documents, {len(refused)} refused; peaks: {vars(peaks)}, loop lag {max(lags):.3f} s")
    assert 0 < peaks.processes <= 3
    assert peaks.memory_bytes <= MEMORY_BYTES
    assert peaks.processor_seconds <= SECONDS + 1
    assert children_of(SERVER.pid) == []


async def test_attack_71_files_that_are_none_or_have_no_end_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "sparse.txt").touch()
    os.truncate(tmp_path / "sparse.txt", 1 << 40)
    (tmp_path / "zeros.md").touch()
    os.truncate(tmp_path / "zeros.md", 40_000_000)
    os.mkfifo(tmp_path / "pipe.pdf")
    (tmp_path / "loop.md").symlink_to("loop.md")
    (tmp_path / "gone.md").symlink_to("nothing")
    with socket.socket(socket.AF_UNIX) as listening:
        # A name that is short enough for a socket, wherever the tests are.
        folder = os.open(tmp_path, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{folder}/socket.txt" if sys.platform == "linux" else "socket.txt")
        os.close(folder)
        parsers = Parsers(LIMITS)
        expected = {
            tmp_path / "sparse.txt": "has 1,099,511,627,776 bytes, and the limit is 50,000,000",
            tmp_path / "zeros.md": "holds binary data",
            tmp_path / "pipe.pdf": "is a device, a pipe or a socket",
            tmp_path / "socket.txt": "is a device, a pipe or a socket",
            tmp_path / "loop.md": "cannot be read (Too many levels of symbolic links)",
            tmp_path / "gone.md": "does not exist",
            tmp_path: "is a directory",
            Path("/dev/zero"): "is a device, a pipe or a socket",
            Path("/dev/stdin"): "",
            Path("/proc/self/environ"): "is empty",
            Path("/proc/self/mem"): "is empty",
            Path("/proc/kmsg"): "",
            Path("/proc/kcore"): "",
        }
        for path, sentence in expected.items():
            async with asyncio.timeout(20):
                assert sentence in (await digested(parsers, str(path), [Path("/")]) or "nothing"), path


async def test_attack_71_a_neighbour_keeps_its_lease_and_its_pace_while_a_hostile_document_is_parsed(bus: Bus) -> None:
    registry = built_in(allow_command=False, document_limits=Limits(seconds=2.0, memory_bytes=1 << 30))
    hostile = {"content": "&lt;" + "x <!-- y\n" * 25_000, "name": "slow.md"}
    waiting = {"name": "neighbour", "steps": [{"name": "wait", "options": {"seconds": 2}}]}
    async with working(bus, registry), lag_measured() as lags:
        neighbour, *documents = await asyncio.gather(
            run(bus, "pipeline", waiting), *(run(bus, "document", hostile) for _ in range(3))
        )
    assert types_of(neighbour)[-1] == "execution.completed"
    assert "execution.retrying" not in types_of(neighbour)
    assert all(types_of(entries)[-1].startswith("execution.") for entries in documents)
    assert bus.counters["leases_lost"] == 0
    assert max(lags) < 5.0


async def test_attack_71_a_cancelled_execution_ends_its_parser(bus: Bus, tmp_path: Path) -> None:
    file = tmp_path / "slow.html"
    file.write_bytes(SLOW_HTML)
    async with working(bus):
        execution_id = await bus.submit("document", {"path": str(file)})
        await until(lambda: bool(children_of(SERVER.pid)))
        await bus.control.cancel(execution_id)
        entries = await watch(bus, execution_id)
        await until(lambda: not children_of(SERVER.pid))
    assert entries[-1].type == "execution.cancelled"


async def test_attack_71_parsers_go_on_when_their_server_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    parsers = Parsers(LIMITS)
    for _ in range(2):
        with given_by_value(b"Words of a document.", "a.txt") as source:
            assert (await parsers.extract(source, lambda _done, _pages: None)).characters == 20
        assert SERVER.pid is not None
        os.killpg(SERVER.pid, signal.SIGKILL)
    assert "starting another" in caplog.text


async def test_attack_71_a_crash_of_a_parser_is_told_and_counted() -> None:
    parsers = Parsers(Limits(seconds=30, memory_bytes=MEMORY_BYTES))
    before = SERVER.given_up
    with given_by_value(SLOW_HTML, "slow.html") as source:
        reading = asyncio.create_task(parsers.extract(source, lambda _done, _pages: None))
        await until(lambda: bool(busy(SERVER.pid)))
        os.kill(busy(SERVER.pid)[0], signal.SIGSEGV)
        with pytest.raises(DocumentTooComplexError, match="its parser crashed with SIGSEGV"):
            await reading
    assert SERVER.given_up == before + 1


async def test_attack_71_a_worker_that_is_killed_leaves_no_parser_behind(tmp_path: Path) -> None:
    (tmp_path / "slow.html").write_bytes(SLOW_HTML)
    program = f"""
import asyncio
from pathlib import Path
from tailrace.workers.builtin.document.parsers import Limits, Parsers, SERVER
from tailrace.workers.builtin.document.source import opened

async def main():
    with opened({str(tmp_path / "slow.html")!r}, [Path("/")]) as source:
        reading = asyncio.create_task(Parsers(Limits()).extract(source, lambda done, pages: None))
        while SERVER.pid is None:
            await asyncio.sleep(0.01)
        print(SERVER.pid, flush=True)
        await reading

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as worker:  # noqa: ASYNC220 - it takes a moment only
        assert worker.stdout is not None
        server = int(await asyncio.to_thread(worker.stdout.readline))
        await until(lambda: bool(children_of(server)))
        children = children_of(server)
        worker.kill()
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in [server, *children]))


async def test_attack_79_a_reference_of_five_thousand_digits_is_a_character_that_does_not_exist(bus: Bus) -> None:
    text = "# One &#" + "9" * 5000 + "; two\n\nThe mill &#" + "0" * 5000 + "65; stands by the river."
    async with working(bus):
        entries = await run(bus, "document", {"content": text, "name": "mill.md"})
    assert entries[-1].type == "execution.completed"
    assert entries[-1].data["result"]["title"] == "One \ufffd two"
    assert "A stands" in entries[-1].data["result"]["summary"]


@pytest.mark.parametrize("name", ["word.txt", "word.md", "word.html", "word.pdf"])
async def test_attack_79_one_word_of_two_megabytes_is_analysed(bus: Bus, tmp_path: Path, name: str) -> None:
    word = b"w" * 2_000_000
    page = {"html": b"<title>" + word + b"</title><p>" + word, "md": b"# " + word, "pdf": pdf(word.decode())}
    (tmp_path / name).write_bytes(page.get(name.rpartition(".")[2], word))
    async with working(bus):
        entries = await run(bus, "document", {"path": str(tmp_path / name)})
    assert entries[-1].type == "execution.completed", entries[-1].data
    result = entries[-1].data["result"]
    assert result["statistics"]["words"] >= 1
    assert len(result["summary"]) < 20_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What may be read; a secret lies beside it."""
    (tmp_path / "secret.txt").write_text("The secret of the mill.")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "mill.txt").write_text("Water drives the mill.")
    (tmp_path / "reports-2").mkdir()
    (tmp_path / "reports-2" / "mill.txt").write_text("The secret of another.")
    return tmp_path / "reports"


def reading(*roots: Path) -> Registry:
    return built_in(allow_command=False, document_roots=roots)


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "../nothing.txt",
        "../reports-2/mill.txt",
        "link.txt",
        "folder/secret.txt",
        "/etc/passwd",
        "/etc/no-such-file",
        "/proc/self/environ",
        "/proc/self/cwd/README.md",
        "/dev/zero",
        "up/secret.txt",
    ],
)
async def test_attack_40_no_file_outside_the_named_folders_is_read(bus: Bus, folder: Path, path: str) -> None:
    (folder / "link.txt").symlink_to("../secret.txt")
    (folder / "folder").symlink_to("..")
    (folder / "up").symlink_to("/proc/self/root" + str(folder.parent))
    async with working(bus, reading(folder)):
        by_pipeline = await run(bus, "document", {"path": str(folder / path)})
        steps = {"name": "x", "steps": ["document.extract"], "input": {"path": str(folder / path)}}
        by_step = await run(bus, "pipeline", steps)
    for entries in (by_pipeline, by_step):
        assert entries[-1].data["reason"] == "document_forbidden"
        assert "is outside the folders that this worker may read documents from" in entries[-1].data["message"]
        assert "secret of" not in str(entries)


@pytest.mark.parametrize("path", ["mill.txt", "../reports/mill.txt", "inside.txt", "same/mill.txt"])
async def test_attack_40_what_is_really_in_a_named_folder_is_read(bus: Bus, folder: Path, path: str) -> None:
    (folder / "inside.txt").symlink_to("mill.txt")
    (folder / "same").symlink_to(folder)
    async with working(bus, reading(folder)):
        entries = await run(bus, "document", {"path": str(folder / path)})
    assert entries[-1].data["result"]["summary"] == "Water drives the mill."


async def test_attack_40_without_a_named_folder_documents_come_by_value_only(bus: Bus, folder: Path) -> None:
    async with working(bus, reading()):
        by_path = await run(bus, "document", {"path": str(folder / "mill.txt")})
        by_value = await run(bus, "document", {"content": "# Mill\n\nWater drives the mill.", "name": "mill.md"})
        given = {"content_base64": "JVBERi0xLjQK", "name": "mill.pdf"}
        steps = {"name": "x", "steps": ["document.extract"], "input": given}
        broken = await run(bus, "pipeline", steps)
    assert by_path[-1].data["reason"] == "document_forbidden"
    assert "TAILRACE_DOCUMENT_ROOTS" in by_path[-1].data["message"]
    assert by_value[-1].data["result"]["kind"] == "markdown"
    assert by_value[-1].data["result"]["summary"] == "Mill Water drives the mill."
    assert broken[-1].data["reason"] == "document_pdf_broken"
    assert "'mill.pdf'" in broken[-1].data["message"]


@pytest.mark.parametrize("name", ["文" * 100 + ".txt", "\x01" * 100 + ".txt", "a/../" * 40 + "b.txt"])
async def test_attack_71_a_document_may_have_any_name(bus: Bus, name: str) -> None:
    """What the kernel calls a file without a path is shorter than what people call theirs."""
    async with working(bus, reading()):
        done = await run(bus, "document", {"content": "Water drives the mill.", "name": name})
    assert done[-1].type == "execution.completed", done[-1].data


def test_attack_40_a_link_that_is_swapped_in_while_the_file_is_opened_is_not_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path is judged, and then the attacker acts, before anything is opened."""
    real = os.path.realpath

    def swapped(path: str) -> str:
        judged = real(path)
        if judged.endswith("below/secret.txt"):
            (folder / "below" / "secret.txt").unlink()
            (folder / "below").rmdir()
            (folder / "below").symlink_to("..")
        return judged

    (folder / "below").mkdir()
    (folder / "below" / "secret.txt").write_text("harmless")
    monkeypatch.setattr(os.path, "realpath", swapped)
    with pytest.raises(DocumentError), opened(str(folder / "below" / "secret.txt"), [folder]):
        pytest.fail("opened")
    assert (folder / "below" / "secret.txt").read_text() == "The secret of the mill."
