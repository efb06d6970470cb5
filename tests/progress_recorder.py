"""A progress that records its calls and can stop the work at a step, as a kill would."""

import contextlib


class Killed(BaseException):
    """Raised at the step at which the work is to stop; ``except Exception`` does not catch it."""


def recording(counts, until=None, labels=None):
    """Appends labels and counts of finished steps to the given lists; raises ``Killed`` at step ``until``."""

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
