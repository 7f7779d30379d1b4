"""Calls a function with many items in this process, in worker processes or on any executor.

``n_workers=1``, ``n_workers=N`` and an executor of the user all go through `mapped`.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from loky import ProcessPoolExecutor

__all__ = ["WorkerPool", "keep_memory", "mapped", "worker_pool"]

log = logging.getLogger(__name__)

_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "BLIS_NUM_THREADS")
# The largest block that the C library learns from [byte].
_BLOCK = 32_000_000
# Workers end after so long without a task [s]. Until then the next run has them at once.
_IDLE = 30.0


def keep_memory() -> None:
    """Let the process keep the memory that it frees.

    The C library returns it to the system, and every chunk of frames would ask for the same again,
    page by page, which takes a fifth of its time. Once a large block has been freed, up to twice
    as much is kept. The block itself is never touched.
    """
    bytes(_BLOCK)


class WorkerPool(ProcessPoolExecutor):
    """Worker processes beside this process, which works too.

    loky starts each process afresh and never imports the user's script in it, so that a script
    needs no ``if __name__ == "__main__"``.

    Parameters
    ----------
    n_workers : int
        Number of processes that work, this one included.
    modules : sequence of str, optional
        Modules that each worker imports before there is work.
    """

    def __init__(self, n_workers: int, modules: Sequence[str] = ()) -> None:
        self.n_workers, self.owner = n_workers, os.getpid()
        self._futures: list[Future] = []
        # Workers hold the other end. This one closes with the process, however that ends.
        watched, self._lifeline = Pipe(duplex=False)
        super().__init__(
            n_workers - 1,
            initializer=_start_worker,
            initargs=(watched, tuple(modules)),
            env=dict.fromkeys(_THREADS, "1"),
            timeout=_IDLE,
        )
        # The first task starts all processes.
        self.submit(os.getpid)

    def submit(self, *args: Any, **kwargs: Any) -> Future:
        """Submit a task; see `concurrent.futures.Executor.submit`."""
        with _no_interrupt():
            future = super().submit(*args, **kwargs)
        self._futures = [other for other in self._futures if not other.done()] + [future]
        return future

    @property
    def busy(self) -> bool:
        """Whether a task has not ended."""
        return not all(future.done() for future in self._futures)


def _start_worker(lifeline: Connection, modules: Sequence[str]) -> None:
    # Ctrl-C reaches all processes of a terminal; the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    for name in modules:
        import_module(name)
    keep_memory()


def _end_with_parent(lifeline: Connection) -> None:
    """End a worker whose parent was killed before it could end the worker."""
    try:
        lifeline.poll(None)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Start processes that block SIGINT, so that Ctrl-C prints nothing while they import."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # When this process starts, it unblocks the signal.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_idle: list[WorkerPool] = []


def _started(n_workers: int, modules: Sequence[str]) -> WorkerPool:
    """Return the pool of an earlier run if it can be used again, else a new one."""
    while _idle:
        pool = _idle.pop()
        # After a fork the pool is the parent's.
        if pool.owner == os.getpid():
            if pool.n_workers == n_workers:
                with suppress(BrokenProcessPool):
                    pool.submit(os.getpid)
                    return pool
            pool.shutdown(wait=False)
    return WorkerPool(n_workers, modules)


@contextmanager
def worker_pool(n_workers: int, modules: Sequence[str] = ()) -> Iterator[WorkerPool | None]:
    """Have worker processes for a run, which end with it if it fails, else when they are idle.

    Parameters
    ----------
    n_workers : int
        Number of processes that work, this one included.
    modules : sequence of str, optional
        Modules that each worker imports before there is work.

    Yields
    ------
    WorkerPool or None
        The pool. None where this process works alone: for one worker, and, with a warning, where
        no process can be started.
    """
    if n_workers <= 1:
        yield None
        return
    try:
        if multiprocessing.current_process().daemon:
            raise RuntimeError("this is a daemonic process, such as a worker of another pool")
        pool = _started(n_workers, modules)
    except (OSError, ImportError, RuntimeError) as error:
        log.warning(
            "n_workers=%d is not used, this process measures alone: it cannot start others (%s).",
            n_workers,
            error,
        )
        yield None
        return
    finished = False
    try:
        yield pool
        finished = True
    finally:
        if finished and not pool.busy:
            _idle.append(pool)
        else:
            pool.shutdown(wait=False, kill_workers=True)


class _Shipped:
    """A function for other processes: pickled once, and unpickled once in each of them.

    Parameters
    ----------
    function : callable
        The function.
    folder : str, optional
        Where to put a file with the pickled bytes, for processes of this machine; without it they
        travel with every task.
    """

    def __init__(self, function: Callable[[Any], Any], folder: str | None = None) -> None:
        self._function, self._key = function, uuid.uuid4().hex
        self._source: Path | bytes = b""
        if folder is not None:
            self._source = Path(folder) / self._key
            self._source.write_bytes(self._pickled())

    def __call__(self, item: Any) -> Any:
        return self._function(item)

    def __reduce__(self) -> tuple:
        self._source = self._source or self._pickled()
        return _received, (self._key, self._source)

    def _pickled(self) -> bytes:
        return pickle.dumps(self._function, pickle.HIGHEST_PROTOCOL)


_latest: dict[str, Callable[[Any], Any]] = {}


def _received(key: str, source: Path | bytes) -> Callable[[Any], Any]:
    """Return the function that this process has unpickled before, or unpickle it."""
    function = _latest.get(key)
    if function is None:
        function = pickle.loads(source.read_bytes() if isinstance(source, Path) else source)
        # One at a time: it holds the plan.
        _latest.clear()
        _latest[key] = function
    return function


def mapped(
    executor: Executor | None, function: Callable[[Any], Any], items: Sequence[Any]
) -> Iterator[tuple[int, Any]]:
    """Call a function with each item, and yield the results as they are ready.

    Parameters
    ----------
    executor : Executor or None
        Where to call it. None: in this process. A `WorkerPool`: in its workers and in this
        process. Any other: all calls are submitted to it at once.
    function : callable
        The function; picklable where the executor has processes.
    items : sequence
        Its arguments.

    Yields
    ------
    (int, object)
        Place among the items, and the result, of which no reference stays here.

    Raises
    ------
    RuntimeError
        A worker process died.
    """
    pool = executor if isinstance(executor, WorkerPool) else None
    here = executor is None or pool is not None
    # One more than there are workers, so that none waits for its next item.
    ahead = len(items) if pool is None else pool.n_workers
    waiting, running = deque(range(len(items))), dict[Future, int]()
    count, answered = 0, False
    with TemporaryDirectory(prefix="tso_level3_") if pool else nullcontext() as folder:
        shipped = _Shipped(function, folder)
        try:
            while waiting or running:
                while executor is not None and waiting and len(running) < ahead:
                    place = waiting.popleft()
                    running[executor.submit(shipped, items[place])] = place
                for future in [future for future in running if future.done()]:
                    answered = True
                    yield running.pop(future), future.result()
                    count += 1
                if here and (waiting or (running and not answered)):
                    # What was submitted is done here too where no worker has even started.
                    place = waiting.popleft() if waiting else running.popitem()[1]
                    yield place, function(items[place])
                    count += 1
                elif running:
                    wait(running, return_when=FIRST_COMPLETED)
        except BrokenProcessPool as error:
            raise RuntimeError(
                f"{'n_workers' if pool else 'executor'}: a worker process died after {count} of"
                f" {len(items)} batches (killed, or out of memory); expected all to finish"
            ) from error
        finally:
            # What has not begun need not.
            for future in running:
                future.cancel()
