"""What is kept is bounded, and shared by threads."""

import pickle
from concurrent.futures import ThreadPoolExecutor

from tso_level3.utils.cache import Kept


def test_it_holds_no_more_than_its_room():
    kept = Kept(room=100)
    for key in range(50):
        assert kept.get(key, lambda k=key: k + 1, size=30) == key + 1
        assert len(kept) <= 3


def test_a_value_is_made_once():
    made = []
    kept = Kept()
    for _ in range(3):
        assert kept.get("a", lambda: made.append(1) or 7) == 7
    assert len(made) == 1


def test_the_first_few_travel():
    kept = Kept(room=1000, luggage=100)
    for key, size in (("a", 40), ("b", 50), ("large", 200), ("c", 20), ("d", 10)):
        kept.get(key, lambda k=key: k, size)
    found = pickle.loads(pickle.dumps(kept))
    assert len(found) == 3
    for key in "abd":
        assert found.get(key, lambda: "made again") == key
    assert found.get("large", lambda: "made again") == "made again"
    # It is as full as what it holds: emptied when more comes.
    found.get("e", lambda: 1, size=950)
    assert len(found) == 1
    assert len(pickle.loads(pickle.dumps(Kept(luggage=0)))) == 0


def test_threads_get_the_value_of_their_own_key():
    # used to: another thread emptied it, or put another value there, between test and return
    kept = Kept(room=3)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda k: kept.get(k % 5, lambda: k % 5 + 1, size=1), range(4000)))
    assert found == [k % 5 + 1 for k in range(4000)]
