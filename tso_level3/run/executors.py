"""Where batches of frames are measured: here, in processes, or on any executor handed in."""

from __future__ import annotations

import io
import logging
import mmap
import multiprocessing
import os
import pickle
import sys
import tempfile
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

__all__ = ["Crew", "crew", "keep_memory", "mapped"]

log = logging.getLogger(__name__)

_BLAS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "BLIS_NUM_THREADS")
# Bytes: what the processor loads at once begins at multiples of it.
_ALIGNED = 64
# The largest block that the C library learns from, and what a batch takes, in pieces [byte].
_BLOCK, _PIECE, _PIECES = 32_000_000, 4_000_000, 12


def _start_worker(modules: tuple[str, ...]) -> None:
    # Ctrl-C goes to the whole group: the parent ends the workers, which need not speak of it.
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Where no server has loaded NumPy, it comes with the first task, and finds these.
    os.environ.update(dict.fromkeys(_BLAS, "1"))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name in modules:
        import_module(name)
    _make_room()
    # For good: to look all libraries up with every batch takes as long as several frames.
    threadpool_limits(limits=1)


def keep_memory() -> None:
    """Let the process keep the memory that it frees.

    The C library gives it back to the system, and every chunk of frames would ask for the same
    again, page by page, which takes a fifth of its time; until a large block has been freed: from
    then on up to twice as much is kept. The block itself is never touched.
    """
    bytes(_BLOCK)


def _make_room() -> None:
    """Have the memory of a batch before there is one."""
    keep_memory()
    # In pieces, as arrays are; ones, since zeros would take no memory yet.
    _ = [b"1" * _PIECE for _ in range(_PIECES)]


def _end_with_parent() -> None:
    """Let no worker outlive a parent that was killed before it could end it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class Crew:
    """Processes of a run, beside this one, which works too.

    Parameters
    ----------
    n_workers : int
        How many work, this process included.
    modules : tuple of str, optional
        What each loads before there is work.
    """

    def __init__(self, n_workers: int, modules: tuple[str, ...] = ()) -> None:
        self._max_workers = n_workers
        # A fork of a process with threads can hang; a fresh start cannot.
        several = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if "forkserver" in several else "spawn")
        if modules and "forkserver" in several:
            # What the server has loaded its processes need not: a second run starts at once.
            context.set_forkserver_preload(list(modules))
        self._executor = ProcessPoolExecutor(
            n_workers - 1, context, initializer=_start_worker, initargs=(modules,)
        )

    def start(self) -> None:
        """Start all processes."""
        # The server loads NumPy, and finds these.
        with _environment(dict.fromkeys(_BLAS, "1")), _no_interrupt():
            for _ in range(self._max_workers - 1):
                # A task is what starts a process; this one is done at once.
                self._executor.submit(os.getpid)

    def end(self) -> None:
        """End the processes, whatever they are at."""
        workers = list((getattr(self._executor, "_processes", None) or {}).values())
        self._executor.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join(1.0)

    def run(self, work: Callable[[Any], Any], batches: list) -> Iterator[tuple[int, Any]]:
        """Run batches, and give place and answer of each as it is ready.

        Parameters
        ----------
        work : callable
            What is run.
        batches : list
            Its arguments.

        Yields
        ------
        (int, object)
            Place among the batches, and the answer.
        """
        waiting = deque(range(len(batches)))
        running: dict[Future, int] = {}
        answered = False
        with _filed(work) as filed:
            while waiting or running:
                # One more than there are processes: none waits for its next.
                while waiting and len(running) < self._max_workers:
                    place = waiting.popleft()
                    running[self._executor.submit(filed, batches[place])] = place
                for future in [future for future in running if future.done()]:
                    answered = True
                    yield running.pop(future), future.result()
                if waiting:
                    place = waiting.popleft()
                    yield place, work(batches[place])
                elif running and answered:
                    wait(running, return_when=FIRST_COMPLETED)
                elif running:
                    # The processes have not even started: nobody waits for them.
                    _, place = running.popitem()
                    yield place, work(batches[place])


class _Packed:
    """What is run, for processes that may be anywhere: pickled once, and unpickled once in each."""

    def __init__(self, work: Callable[[Any], Any], name: str = "", content: bytes = b"") -> None:
        self._work, self._name, self._content = work, name or uuid.uuid4().hex, content

    def __call__(self, item: Any) -> Any:
        return self._work(item)

    def __reduce__(self) -> tuple:
        if not self._content:
            self._content = pickle.dumps(self._work, pickle.HIGHEST_PROTOCOL)
        return _unpacked, (self._name, self._content)


_latest: dict[str, _Packed] = {}


def _unpacked(name: str, content: bytes) -> _Packed:
    """Find what a process runs, or unpack it in place of what it ran before."""
    if name not in _latest:
        found = _Packed(pickle.loads(content), name, content)
        _latest.clear()
        _latest[name] = found
    return _latest[name]


@dataclass(frozen=True)
class _Filed:
    """What is run, in a file: arrays first, then what holds them; a process maps it once."""

    path: str
    start: int

    def __call__(self, item: Any) -> Any:
        return _mapped(self.path, self.start)(item)


@lru_cache(maxsize=1)
def _mapped(path: str, start: int) -> Callable[[Any], Any]:
    with Path(path).open("rb") as file:
        # Mapped, the arrays take no memory of their own, and are there at once. Elsewhere a file
        # that is mapped cannot be removed.
        posix = os.name == "posix"
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if posix else file.read()
    view = memoryview(content)
    spans, stream = pickle.loads(view[start:])
    return pickle.loads(stream, buffers=[view[first:last] for first, last in spans])


@contextmanager
def _filed(work: Callable[[Any], Any]) -> Iterator[_Filed]:
    """Put what is run into a file: through a pipe all of it would go with every batch."""
    arrays: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(work, pickle.HIGHEST_PROTOCOL, buffer_callback=arrays.append)
    with tempfile.TemporaryDirectory(prefix="tso_level3_") as folder:
        path = Path(folder) / "work"
        with path.open("wb") as file:
            spans = []
            for array in arrays:
                file.write(bytes(-file.tell() % _ALIGNED))
                first = file.tell()
                spans.append((first, first + file.write(array.raw())))
            start = file.tell()
            pickle.dump((spans, stream), file, pickle.HIGHEST_PROTOCOL)
        yield _Filed(str(path), start)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for processes that start while the context lasts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: while they load modules they would speak of it.

    A process inherits what its parent's thread blocks. The parent itself stops once they have
    started: one that is half started cannot be ended.
    """
    import signal

    main = threading.current_thread() is threading.main_thread()
    if not (main and hasattr(signal, "pthread_sigmask")):
        yield
        return
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler or signal.SIG_DFL)
        if came:
            raise KeyboardInterrupt


@contextmanager
def crew(
    n_workers: int, *, modules: tuple[str, ...] = (), payload: Any = None
) -> Iterator[Crew | None]:
    """Start processes for a run.

    Parameters
    ----------
    n_workers : int
        How many work, this process included; one means none beside it.
    modules : tuple of str, optional
        What each process loads before there is work.
    payload : object, optional
        What will be sent to them.

    Yields
    ------
    Crew or None
        The processes; ended, with whatever they are at, when the context is left.
    """
    if n_workers <= 1:
        yield None
        return
    found = Crew(n_workers, modules)
    try:
        with _without_main(payload):
            found.start()
        yield found
    finally:
        found.end()


class _Names(pickle.Pickler):
    """Writes what classes and functions something is made of, and none of its numbers."""

    def persistent_id(self, item: Any) -> str | None:
        kind = type(item)
        return "numbers" if (kind.__module__, kind.__name__) == ("numpy", "ndarray") else None


@contextmanager
def _without_main(payload: Any) -> Iterator[None]:
    """Keep new processes from running the user's script, or `strun`, over again.

    They would import what it imports, and a script without a guard would start itself for ever.
    Only where something sent comes from that script do they need it.
    """
    main, names = sys.modules.get("__main__"), io.BytesIO()
    _Names(names).dump(payload)
    if main is None or b"__main__" in names.getvalue():
        yield
        return
    kept = {name: vars(main).get(name) for name in ("__file__", "__spec__")}
    main.__spec__ = None
    vars(main).pop("__file__", None)
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is not None:
                setattr(main, name, value)


def mapped(
    executor: Executor | Crew | None, work: Callable[[Any], Any], batches: list
) -> Iterator[tuple[int, Any]]:
    """Run batches, and give place and answer of each as it is ready.

    Parameters
    ----------
    executor : Executor, Crew or None
        Where to run them; None: here, one after the other.
    work : callable
        What is run; picklable where the executor has processes.
    batches : list
        Its arguments.

    Yields
    ------
    (int, object)
        Place among the batches, and the answer; in their order but from a `Crew`. None is kept
        here.

    Raises
    ------
    RuntimeError
        A worker process died.
    """
    count = 0
    results: Any = None
    try:
        if executor is None:
            results = map(work, batches)
        elif isinstance(executor, Crew):
            results = executor.run(work, batches)
        else:
            own = isinstance(executor, ProcessPoolExecutor) and batches
            with _without_main((work, batches[0])) if own else nullcontext():
                results = executor.map(_Packed(work), batches)
        for item in results if isinstance(executor, Crew) else enumerate(results):
            count += 1
            yield item
    except BrokenProcessPool:
        raise RuntimeError(
            f"n_workers: a worker process died after {count} of {len(batches)} batches "
            "(killed, or out of memory); expected all to finish"
        ) from None
    finally:
        # What has not begun need not: the answer of a later batch is of no use without this one.
        if hasattr(results, "close"):
            results.close()
