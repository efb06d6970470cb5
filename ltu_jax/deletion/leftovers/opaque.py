"""Tells bytes that look compressed or encrypted.

All values are about as frequent there, whatever is beside them. In weights of any type some bytes are frequent, those
of signs and exponents; pixels are like their neighbours, text has few values.
"""

from collections.abc import Iterator

import numpy as np

BLOCK = 4096
LEAST = 512
"""Fewer bytes tell nothing."""
_MISSING = 0.5
"""Bits of entropy that a byte may lack: what was compressed well lacks none, a dull text after zlib up to 0.5."""
_ALIKE = 0.15
"""Correlation with the byte before, or with the one three before, from which on they are pixels."""
_CODED = 5.7
"""Bits of entropy of a character: base64 has 6, prose and programs 4 to 5.3."""


def opaque_blocks(data: np.ndarray) -> Iterator[tuple[int, int]]:
    """First and last of the blocks of bytes, u8[n], that look compressed or encrypted."""
    for start in range(0, len(data), BLOCK):
        block = data[start : start + BLOCK]
        if len(block) >= LEAST and _is_random(block[:LEAST]) and _is_random(block) and not _is_smooth(block):
            yield start, start + len(block)


def opaque_text(text: bytes) -> int:
    """How many bytes of a text look encoded."""
    blocks = (np.frombuffer(text[start : start + BLOCK], np.uint8) for start in range(0, len(text), BLOCK))
    return sum(
        len(block)
        for block in blocks
        if len(block) >= BLOCK // 2 and _entropy(block) >= _CODED and not _is_smooth(block)
    )


def _is_random(block: np.ndarray) -> bool:
    """By chi square, five deviations beyond what bytes of the least entropy are expected to have."""
    counts = np.bincount(block, minlength=256)
    size = len(block)
    chi2 = float(counts @ counts) * 256 / size - size
    return chi2 <= 255 + 5 * 22.6 + 2 * np.log(2) * size * _MISSING


def _entropy(block: np.ndarray) -> float:
    share = np.bincount(block, minlength=256) / len(block)
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


def _is_smooth(block: np.ndarray) -> bool:
    values = block - block.mean()
    limit = _ALIKE * float(values @ values)
    return any(float(values[step:] @ values[:-step]) > limit for step in (1, 3))
