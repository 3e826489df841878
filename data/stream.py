"""A stream of choices that depends on its name alone, on every machine and Python version."""

import hashlib

SEED = 2017


class Stream:
    """Counter-based: choice i of stream `purpose` is a hash of (SEED, purpose, i)."""

    def __init__(self, purpose):
        self._purpose = purpose
        self._counter = 0

    def below(self, bound):
        """A whole number from 0 to bound - 1."""
        text = f"{SEED}/{self._purpose}/{self._counter}"
        self._counter += 1
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % bound

    def between(self, first, last):
        """A whole number from first to last, both included."""
        return first + self.below(last - first + 1)

    def choose(self, items):
        return items[self.below(len(items))]

    def sample(self, items, count):
        """`count` different items in the order of drawing (Fisher-Yates)."""
        pool = list(items)
        for i in range(count):
            j = self.between(i, len(pool) - 1)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:count]

    def shuffled(self, items):
        items = list(items)
        return self.sample(items, len(items))
