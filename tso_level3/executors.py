"""Where batches of frames are measured: here, in processes, or on any executor handed in."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from typing import Any

__all__ = ["mapped", "one_thread", "pool"]

log = logging.getLogger(__name__)

_BLAS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "BLIS_NUM_THREADS")


def one_thread() -> Any:
    """Hold linear algebra to one thread while the context lasts.

    Returns
    -------
    context manager
        From threadpoolctl where it is installed; otherwise one that does nothing.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    return threadpool_limits(limits=1)


def _start_worker() -> None:
    # Ctrl-C goes to the whole group: the parent ends the workers, which need not speak of it.
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
    kept = {name: os.environ.get(name) for name in _BLAS}
    os.environ.update(dict.fromkeys(_BLAS, "1"))
    executor = ProcessPoolExecutor(
        n_workers, mp_context=multiprocessing.get_context(method), initializer=_start_worker
    )
    try:
        yield executor
        executor.shutdown(wait=True)
    except BaseException:
        processes = list(getattr(executor, "_processes", None) or {})
        workers = [executor._processes[key] for key in processes]
        executor.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()
        raise
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def mapped(
    executor: Executor | None,
    work: Callable[[Any], Any],
    batches: list,
    done: Callable[[Any], None] | None = None,
) -> list:
    """Run batches and give their answers in the order of the batches.

    Parameters
    ----------
    executor : Executor or None
        Where to run them; None: here, one after the other.
    work : callable
        What is run; picklable where the executor has processes.
    batches : list
        Its arguments.
    done : callable, optional
        Called with each answer as it is taken.

    Returns
    -------
    list
        The answers.

    Raises
    ------
    RuntimeError
        A worker process died.
    """
    answers = []
    try:
        results = map(work, batches) if executor is None else executor.map(work, batches)
        for answer in results:
            answers.append(answer)
            if done is not None:
                done(answer)
    except BrokenProcessPool:
        raise RuntimeError(
            f"n_workers: a worker process died after {len(answers)} of {len(batches)} batches "
            "(killed, or out of memory); expected all to finish"
        ) from None
    return answers
