"""Where the prepared real data sets lie, and a small folder of PNG images."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def tfds_dir():
    """``LTU_TFDS_DIR``, else ``../shared/tfds`` beside the repository; skips where it is absent."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "tfds"
    path = Path(os.environ.get("LTU_TFDS_DIR", beside))
    if not path.is_dir():
        pytest.skip("no prepared real data sets: set LTU_TFDS_DIR to a folder that holds cifar10_jpeg")
    return path


@pytest.fixture
def write_image():
    """``write_image(path, shape, seed)`` writes random pixels losslessly and returns them."""

    def write(path, shape=(6, 5, 3), seed=0):
        pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return pixels

    return write
