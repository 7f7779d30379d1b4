"""Where batches of frames are measured: here, in processes, or on any executor handed in."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from typing import Any

from threadpoolctl import threadpool_limits

__all__ = ["mapped", "one_thread", "pool"]

log = logging.getLogger(__name__)

_BLAS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "BLIS_NUM_THREADS")
_lock = threading.Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold linear algebra to one thread while the context lasts.

    The limit is the process's, not the thread's, and only the main thread can be sure to set it:
    who comes first sets and lifts it, and contexts inside, or in other threads meanwhile, leave
    it alone.

    Yields
    ------
    None
        Nothing.
    """
    if not _lock.acquire(blocking=False):
        yield
        return
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        _lock.release()


def _start_worker() -> None:
    # Ctrl-C goes to the whole group: the parent ends the workers, which need not speak of it.
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # NumPy is not there yet: it comes with the first batch, and finds these.
    os.environ.update(dict.fromkeys(_BLAS, "1"))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Let no worker outlive a parent that was killed before it could end it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def pool(n_workers: int) -> Iterator[Executor | None]:
    """Open processes for a run.

    Parameters
    ----------
    n_workers : int
        How many; one means none.

    Yields
    ------
    Executor or None
        The processes; ended, with whatever they were at, when the context is left early.
    """
    if n_workers <= 1:
        yield None
        return
    # A fork of a process with threads can hang; a fresh start cannot.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    executor = ProcessPoolExecutor(
        n_workers, mp_context=multiprocessing.get_context(method), initializer=_start_worker
    )
    try:
        yield executor
        executor.shutdown(wait=True)
    except BaseException:
        workers = list((getattr(executor, "_processes", None) or {}).values())
        executor.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()
        raise


@contextmanager
def _without_main(payload: Any) -> Iterator[None]:
    """Keep new processes from running the user's script, or `strun`, over again.

    They would import what it imports, and a script without a guard would start itself for ever.
    Only where something sent comes from that script do they need it.
    """
    main = sys.modules.get("__main__")
    if main is None or b"__main__" in pickle.dumps(payload):
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


def mapped(executor: Executor | None, work: Callable[[Any], Any], batches: list) -> Iterator[Any]:
    """Run batches and give their answers in the order of the batches, as they are ready.

    Parameters
    ----------
    executor : Executor or None
        Where to run them; None: here, one after the other.
    work : callable
        What is run; picklable where the executor has processes.
    batches : list
        Its arguments.

    Yields
    ------
    object
        The answers. None is kept here.

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
        else:
            own = isinstance(executor, ProcessPoolExecutor) and batches
            with _without_main((work, batches[0])) if own else nullcontext():
                results = executor.map(work, batches)
        for answer in results:
            count += 1
            yield answer
    except BrokenProcessPool:
        raise RuntimeError(
            f"n_workers: a worker process died after {count} of {len(batches)} batches "
            "(killed, or out of memory); expected all to finish"
        ) from None
    finally:
        # What has not begun need not: the answer of a later batch is of no use without this one.
        if hasattr(results, "close"):
            results.close()
