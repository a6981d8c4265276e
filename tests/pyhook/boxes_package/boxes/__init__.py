"""Boxes, which hold a lock and so cannot be pickled."""

import threading


class Box:
    def __init__(self, items):
        self.items = list(items)
        self.version = 0
        self.lock = threading.Lock()

    def put(self, item):
        with self.lock:
            self.version += 1
            self.items.append(item)


class Broken:
    """The package says how it is saved, and is wrong."""

    def __init__(self):
        self.value = 1
