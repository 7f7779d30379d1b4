"""Size-bounded cache of values that are expensive to compute."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

__all__ = ["SizedCache"]


class SizedCache:
    """Values by key up to a total size; emptied when full. Some are pickled with the cache.

    Parameters
    ----------
    max_bytes : int
        Total size of the values.
    pickled_bytes : int
        Total size of the values that are pickled, the first made first: as much as is sent to
        another process faster than it is computed there.

    Notes
    -----
    Threads may share a cache: a value is returned as it was made or found, never looked up again.
    """

    def __init__(self, max_bytes: int = 40_000_000, pickled_bytes: int = 8_000_000) -> None:
        self._max_bytes, self._pickled_bytes = max_bytes, pickled_bytes
        # Values and their sizes.
        self._items: dict[Hashable, tuple[Any, int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        sent, left = {}, self._pickled_bytes
        # A copy: another thread may add a value meanwhile.
        for key, (value, size) in list(self._items.items()):
            if size <= left:
                sent[key], left = (value, size), left - size
        return {**self.__dict__, "_items": sent}

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: Hashable, make: Callable[[], Any], size: int = 0) -> Any:
        """Return a value, and make it where it is not in the cache.

        Parameters
        ----------
        key : hashable
            Its key.
        make : callable
            Makes the value.
        size : int
            Size of the value in bytes.

        Returns
        -------
        object
            The value.
        """
        found = self._items.get(key)
        if found is None:
            found = make(), size
            if sum(used for _, used in list(self._items.values())) + size > self._max_bytes:
                self._items.clear()
            self._items[key] = found
        return found[0]
