"""Which step runs ours, and where its log goes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from stpipe import Step, _log

__all__ = ["heard", "host_of", "is_strun"]


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


@contextmanager
def heard() -> Iterator[None]:
    """Send this package's lines where a host sends its own; it does not know their name.

    Yields
    ------
    None
        While the lines are heard.
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
