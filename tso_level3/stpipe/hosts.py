"""Finds the step that runs ours as its hook, and sends our log where that step's goes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from stpipe import Step, _log

from tso_level3.utils.threads import shared

__all__ = ["host_of", "is_strun", "logging_like_host"]


def host_of(step: Step, frame: FrameType | None) -> Step | None:
    """Find the step whose hook a run is.

    A hook given as an instance, or as text with parameters, has no parent; but hooks alone are
    run by `stpipe.Step.run` itself.

    Parameters
    ----------
    step : Step
        The step that runs.
    frame : frame or None
        Who called its ``run``.

    Returns
    -------
    Step or None
        The host; None where this run is not a hook's.
    """
    while frame is not None and frame.f_locals.get("self") is step:
        frame = frame.f_back
    if frame is not None and frame.f_code is Step.run.__code__:
        return frame.f_locals["self"]
    return None


def is_strun() -> bool:
    """Tell whether this process is the command `strun`.

    Returns
    -------
    bool
        True where stpipe's command was started.
    """
    main = getattr(sys.modules.get("__main__"), "main", None)
    return getattr(main, "__module__", "") == "stpipe._cli.strun"


@shared
@contextmanager
def logging_like_host() -> Iterator[None]:
    """Send this package's log where a host sends its own; the host does not know the logger.

    Yields
    ------
    None
        While the log goes there.
    """
    applied, logger = _log.LogConfig.applied, logging.getLogger("tso_level3")
    handlers = [] if applied is None else applied.handlers
    added = [handler for handler in handlers if handler not in logger.handlers]
    level = logger.level
    for handler in added:
        logger.addHandler(handler)
    if added:
        logger.setLevel(applied.level)
    try:
        yield
    finally:
        for handler in added:
            logger.removeHandler(handler)
        logger.setLevel(level)
