"""The handwritten digits that come with scikit-learn: nothing to download."""

import numpy as np

from ltu_jax.data.records import Example, Records


def read_digits() -> Records:
    """The 1797 grey 8x8 images in scikit-learn's order, ids ``digits_0000`` to ``digits_1796``.

    There is no test part. Neighbouring rows are by the same writer, so any split must shuffle first.
    A value v in 0..16 becomes round(255 v / 16): black and white stay black and white.
    """
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    images = np.rint(values.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    examples = (
        Example(image, int(label), f"digits_{row:04d}")
        for row, (image, label) in enumerate(zip(images, labels, strict=True))
    )
    return Records(examples, num_classes=10, num_train=len(labels), num_test=0, class_names=tuple("0123456789"))
