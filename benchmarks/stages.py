"""Where the time goes: timers around the functions of the core, put there from outside."""

from __future__ import annotations

import functools
import inspect
import sys
import time
from collections import defaultdict
from types import FunctionType, TracebackType
from typing import Any

#: What is timed: functions and methods that are defined in these.
ROOMS = ("tso_level3.core.", "tso_level3.readers.fits.raw_frames", "tso_level3.run.batches")


class Stages:
    """While the context lasts, every function's own time is added up.

    Time spent in another timed function counts there; time spent in NumPy counts for the function
    that called it. Only what happens below `tso_level3.run.batches.work` is counted.
    """

    def __init__(self) -> None:
        self.own: dict[str, float] = defaultdict(float)
        self.total: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._stack: list[float] = []
        self._inside = 0
        self._undo: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> Stages:
        modules = [m for name, m in sys.modules.items() if name.startswith("tso_level3")]
        wrapped: dict[FunctionType, Any] = {}
        for module in modules:
            for name, item in list(vars(module).items()):
                if _ours(item):
                    wrapped.setdefault(item, self._timed(item))
                    self._replace(module, name, wrapped[item])
                elif inspect.isclass(item) and item.__module__ == module.__name__:
                    self._methods(item)
        return self

    def _methods(self, cls: type) -> None:
        for name, item in list(vars(cls).items()):
            if _ours(item) and not name.startswith("__"):
                self._replace(cls, name, self._timed(item))

    def _replace(self, holder: Any, name: str, item: Any) -> None:
        self._undo.append((holder, name, vars(holder)[name]))
        setattr(holder, name, item)

    def __exit__(
        self, kind: type | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for holder, name, item in reversed(self._undo):
            setattr(holder, name, item)

    def _timed(self, function: FunctionType) -> Any:
        title = f"{function.__module__.removeprefix('tso_level3.')}.{function.__qualname__}"
        outer = title == "batches.work"

        @functools.wraps(function)
        def inner(*args: Any, **options: Any) -> Any:
            if not (outer or self._inside):
                return function(*args, **options)
            self._inside += 1
            self._stack.append(0.0)
            began = time.process_time()
            try:
                return function(*args, **options)
            finally:
                took = time.process_time() - began
                below = self._stack.pop()
                self._inside -= 1
                self.own[title] += took - below
                self.total[title] += took
                self.calls[title] += 1
                if self._stack:
                    self._stack[-1] += took

        return inner

    def table(self, n_int: int, root: str = "work") -> str:
        """Lay out the stages, slowest first.

        Parameters
        ----------
        n_int : int
            Integrations that were measured.
        root : str
            What the shares are taken of.

        Returns
        -------
        str
            Microseconds an integration, share and calls.
        """
        whole = max(self.total.get(f"batches.{root}", 0.0), 1e-12)
        lines = [f"{'':40s}{'own us/int':>11s}{'share':>7s}{'with all below':>15s}{'calls':>8s}"]
        for title in sorted(self.own, key=self.own.get, reverse=True):
            share = self.own[title] / whole
            if share < 0.004:
                continue
            lines.append(
                f"{title:40s}{1e6 * self.own[title] / n_int:11.2f}{share:7.1%}"
                f"{1e6 * self.total[title] / n_int:15.2f}{self.calls[title]:8d}"
            )
        return "\n".join(lines)


def _ours(item: Any) -> bool:
    return isinstance(item, FunctionType) and item.__module__.startswith(ROOMS)
