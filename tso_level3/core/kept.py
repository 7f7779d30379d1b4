"""What is quicker kept than made again, as much of it as fits into some memory."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

__all__ = ["Kept"]

_ROOM = 40_000_000


class Kept:
    """Values by key; emptied when full, and when it travels to another process.

    Parameters
    ----------
    room : int
        Bytes that may be kept.

    Notes
    -----
    Threads may share one: a value is handed out as it was made or found, never looked up again.
    """

    def __init__(self, room: int = _ROOM) -> None:
        self._room = room
        self._items: dict[Hashable, Any] = {}
        self._used = 0

    def __reduce__(self) -> tuple:
        return Kept, (self._room,)

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
            found = make()
            if self._used + size > self._room:
                self._items.clear()
                self._used = 0
            self._items[key] = found
            self._used += size
        return found
