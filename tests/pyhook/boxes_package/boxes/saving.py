"""How boxes are saved. Imported when a box is, and when one is loaded; it needs no chipmink."""

from boxes import Box

SAVED = []


class BoxReducer:
    subclasses = True

    @staticmethod
    def save(box):
        SAVED.append(box.version)
        return {"class": type(box), "items": list(box.items)}

    @staticmethod
    def load(state):
        box = object.__new__(state["class"])
        Box.__init__(box, state["items"])
        return box

    @staticmethod
    def unchanged(box):
        return box.version
