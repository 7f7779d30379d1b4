"""What is quicker kept than made again, as much of it as fits into some memory."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

__all__ = ["Kept"]

_ROOM = 40_000_000
# What goes along to another process, the first made first: as much as saves more than it costs.
_LUGGAGE = 8_000_000


class Kept:
    """Values by key; emptied when full. The first few megabytes go along to another process.

    Parameters
    ----------
    room : int
        Bytes that may be kept.
    luggage : int
        Bytes that go along.

    Notes
    -----
    Threads may share one: a value is handed out as it was made or found, never looked up again.
    """

    def __init__(self, room: int = _ROOM, luggage: int = _LUGGAGE) -> None:
        self._room, self._luggage = room, luggage
        # Values and their sizes.
        self._items: dict[Hashable, tuple[Any, int]] = {}

    def __reduce__(self) -> tuple:
        taken, left = {}, self._luggage
        # A copy: another thread may put something in meanwhile.
        for key, (value, size) in list(self._items.items()):
            if size <= left:
                taken[key], left = (value, size), left - size
        return _with, (self._room, self._luggage, taken)

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: Hashable, make: Callable[[], Any], size: int = 0) -> Any:
        """Find a value, or make it.

        Parameters
        ----------
        key : hashable
            Its key.
        make : callable
            Makes it where it is not there.
        size : int
            Bytes that it takes.

        Returns
        -------
        object
            The value.
        """
        found = self._items.get(key)
        if found is None:
            found = make(), size
            if sum(used for _, used in list(self._items.values())) + size > self._room:
                self._items.clear()
            self._items[key] = found
        return found[0]


def _with(room: int, luggage: int, items: dict[Hashable, tuple[Any, int]]) -> Kept:
    kept = Kept(room, luggage)
    kept._items.update(items)
    return kept
