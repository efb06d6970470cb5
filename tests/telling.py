"""A progress that records its calls and can end the work, like a kill."""

import contextlib


class Killed(BaseException):
    """A BaseException, which ``except Exception`` does not catch."""


def telling(counts, until=None, labels=None):
    """Adds the label of each piece of work and the counts of its steps to lists; ends it at step ``until``."""

    @contextlib.contextmanager
    def progress(label, total):
        if labels is not None:
            labels.append(label)

        def advance(count):
            counts.append(count)
            if until is not None and sum(counts) >= until:
                raise Killed

        yield advance

    return progress
