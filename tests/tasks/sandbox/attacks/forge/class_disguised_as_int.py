"""Claims to be an int through `__class__`."""
# fools: a check in the candidate's process


class Disguised:
    @property
    def __class__(self):
        return int

    def __eq__(self, other):
        return True

    def __index__(self):
        return 3

    __hash__ = None


def add(a, b):
    return Disguised()
