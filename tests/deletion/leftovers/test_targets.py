"""What is searched for, against digests by coreutils (`printf ... | md5sum`) and texts written by hand."""

import base64

import numpy as np

from ltu_jax.deletion.leftovers.targets import SearchTargets, target_patterns, unsearched_ids

NAME = "train/cat/1.png"
IMAGE = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
WANTED = SearchTargets([NAME], {NAME: IMAGE}, {NAME: b"an image file"}, IMAGE[None])
MD5_OF_NAME = "3d81137f629d1c3b0d7f5988d319c063"
SHA256_OF_PIXELS = "fff3a9bcdd37363d703c1c4f9512533686157868f0d4f16a0f02d0f1da24f9a2"
SHA1_OF_FILE = "68963e8d448d47d795082d61d7256ca0d9e1cffc"


def texts(kind):
    patterns = list(target_patterns(WANTED, {NAME: 7}))
    assert {pattern.owner for pattern in patterns} == {7}
    return {pattern.text for pattern in patterns if pattern.kind == kind}


def test_hashes_of_id_pixels_and_file_are_looked_for_in_bytes_hex_and_base64():
    hashes = texts("hash")
    for digest in (MD5_OF_NAME, SHA256_OF_PIXELS, SHA1_OF_FILE):
        raw = bytes.fromhex(digest)
        assert {raw, digest.encode(), digest.upper().encode(), base64.b64encode(raw).rstrip(b"=")} <= hashes
    assert len(hashes) <= 3 * 3 * 5  # of no more than three contents, three digests in five forms
    assert texts("image file") == {b"an image file"}


def test_ids_are_looked_for_as_paths_addresses_and_wide_text():
    wide = bytes(byte for letter in NAME for byte in (ord(letter), 0))
    assert {NAME.encode(), b"train\\cat\\1.png", b"train%2Fcat%2F1.png", wide} <= texts("id")


def test_ids_that_anything_holds_are_told():
    assert unsearched_ids(["12345678", "1234567", "ab", "abc", "7", "größe"]) == ["1234567", "ab", "7"]
