"""The cache is bounded, and shared by threads."""

import pickle
from concurrent.futures import ThreadPoolExecutor

from tso_level3.utils.cache import SizedCache


def test_it_holds_no_more_than_its_size():
    cache = SizedCache(100)
    for key in range(50):
        assert cache.get(key, lambda k=key: k + 1, size=30) == key + 1
        assert len(cache) <= 3


def test_a_value_is_made_once():
    made = []
    cache = SizedCache()
    for _ in range(3):
        assert cache.get("a", lambda: made.append(1) or 7) == 7
    assert len(made) == 1


def test_the_first_few_are_pickled():
    cache = SizedCache(1000, pickled_bytes=100)
    for key, size in (("a", 40), ("b", 50), ("large", 200), ("c", 20), ("d", 10)):
        cache.get(key, lambda k=key: k, size)
    found = pickle.loads(pickle.dumps(cache))
    assert len(found) == 3
    for key in "abd":
        assert found.get(key, lambda: "made again") == key
    assert found.get("large", lambda: "made again") == "made again"
    # It is as full as what it holds: emptied when more comes.
    found.get("e", lambda: 1, size=950)
    assert len(found) == 1
    assert len(pickle.loads(pickle.dumps(SizedCache(pickled_bytes=0)))) == 0


def test_threads_get_the_value_of_their_own_key():
    # used to: another thread emptied it, or put another value there, between test and return
    cache = SizedCache(3)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda k: cache.get(k % 5, lambda: k % 5 + 1, size=1), range(4000)))
    assert found == [k % 5 + 1 for k in range(4000)]
