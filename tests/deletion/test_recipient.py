"""What a recipient finds: any figure of a report that is not the receipt's, and tokens of other images."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from made_notice import made_receipt
from PIL import Image

from ltu_jax.deletion import recipient, tokens
from ltu_jax.deletion.notice import drawn_with, render_notice
from ltu_jax.deletion.receipt import code_sha256, read_receipt
from ltu_jax.setting import ConfigError

SALT = b"s" * 32


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A receipt of this version and its report."""
    folder = tmp_path_factory.mktemp("honest")
    receipt = made_receipt()
    receipt["code"]["sha256"], receipt["report"]["drawn_with"] = code_sha256(), drawn_with()
    page = render_notice(receipt)
    receipt["report"]["sha256"] = hashlib.sha256(page.encode()).hexdigest()
    (folder / "report.html").write_text(page, encoding="utf-8")
    return receipt, folder / "report.html"


@pytest.fixture
def sent(honest, tmp_path):
    receipt, page = honest
    return json.loads(json.dumps(receipt)), shutil.copy(page, tmp_path / "report.html")


def edited(receipt, page, old, new):
    """The page with something else in it, and the receipt of an operator who signs the hash of that."""
    text = page.read_text(encoding="utf-8")
    assert old in text
    page.write_text(text.replace(old, new, 1), encoding="utf-8")
    receipt["report"]["sha256"] = hashlib.sha256(page.read_bytes()).hexdigest()


def test_a_report_that_is_the_receipts_is_found_to_be(sent):
    assert recipient.check_report(*sent) == ([], None)


EDITS = [("in 50.8 of 100", "in 50.1 of 100"), ("28 %", "27 %"), ("<li>", "<li hidden>"), ("No such model", "A model")]


@pytest.mark.parametrize(("old", "new"), [EDITS[0], *EDITS[2:]])
def test_any_edit_is_found_though_its_hash_was_put_into_the_receipt(sent, old, new):
    receipt, page = sent
    edited(receipt, page, old, new)
    [finding], why = recipient.check_report(receipt, page)
    assert finding.startswith("report.html: it is not what the receipt gives: line ") and why is None
    assert new.split()[-1][:4] in finding


def test_a_mark_moved_in_a_figure_is_found(sent):
    receipt, page = sent
    svg = page.read_text(encoding="utf-8").split("<svg")[1]
    mark = svg[svg.index('<use xlink:href="') :].split("/>")[0]
    edited(receipt, page, mark, mark.replace(' y="', ' y="1'))
    [finding], _ = recipient.check_report(receipt, page)
    assert "it is not what the receipt gives" in finding


def test_a_figure_of_the_receipt_that_the_report_has_not_is_found(sent):
    receipt, page = sent
    receipt["evidence"]["after"]["attack_auc"][0] = 0.501
    [finding], _ = recipient.check_report(receipt, page)
    assert "and the receipt gives" in finding and "50.1" in finding


def test_another_page_than_the_hash_tells_of_is_found(sent):
    receipt, page = sent
    page.write_bytes(page.read_bytes() + b"\n")
    found, _ = recipient.check_report(receipt, page)
    assert found[0] == "report.html: it is not the report of this receipt, which tells of another SHA-256"


@pytest.mark.parametrize("what", ["code", "matplotlib"])
def test_what_another_version_made_is_compared_where_it_makes_the_same_and_else_said_not_to_be(sent, what):
    """Status 0 would let an operator edit a page, and say that another version made it."""
    receipt, page = sent
    if what == "code":
        receipt["code"]["sha256"] = "0" * 64
    else:
        receipt["report"]["drawn_with"]["matplotlib"] = "1.5.1"
    assert recipient.check_report(receipt, page) == ([], None)
    edited(receipt, page, *EDITS[0])
    found, why = recipient.check_report(receipt, page)
    assert found == [] and why.startswith("it was made by another version, which can: ltu-jax 0.1.0, jinja2 ")
    assert why.endswith("commit dc79a5619fd6") and ("matplotlib 1.5.1" in why) == (what == "matplotlib")


@pytest.mark.parametrize("evil", [{}, {"tries": 1, "sureness": []}, {"tries": {"trials": 7}, "sureness": None}])
def test_a_receipt_that_makes_no_report_is_a_finding_and_no_traceback(sent, evil):
    receipt, page = sent
    receipt["report"] = {"sha256": receipt["report"]["sha256"], "drawn_with": drawn_with(), **evil}
    found, _ = recipient.check_report(receipt, page)
    assert found[0].startswith("report.html: no report can be made of this receipt (")


def test_a_receipt_of_another_version_that_makes_no_report_here_is_not_said_to_be_wrong(sent):
    """A later version may put anything into its receipts."""
    receipt, page = sent
    receipt["report"] = {"sha256": receipt["report"]["sha256"], "drawn_with": {}, "new": "form"}
    found, why = recipient.check_report(receipt, page)
    assert found == [] and why.startswith("it was made by another version, which can: ")


def test_versions_of_a_receipt_may_be_anything(sent):
    receipt, page = sent
    receipt["code"] |= {"versions": ["x"], "sha256": "0" * 64}
    receipt["report"]["drawn_with"] = "y"
    page.write_text("x")
    assert "by another version, which can: , commit dc79a5619fd6" in str(recipient.check_report(receipt, page))


def test_a_receipt_of_an_older_version_tells_nothing_of_its_report_and_tokens(sent, tmp_path):
    receipt, page = sent
    del receipt["report"]
    with pytest.raises(ConfigError, match="--report: the receipt is of a version that noted nothing"):
        recipient.check_report(receipt, page)
    with pytest.raises(ConfigError, match="--token: the receipt is of a version that had no tokens"):
        recipient.check_token(receipt, tmp_path / "token.json", None)


@pytest.fixture
def mine(tmp_path):
    """A receipt of three images, two of them files, and their tokens by id."""
    rng = np.random.default_rng(0)
    pixels = {name: rng.integers(0, 256, (4, 4, 3), np.uint8) for name in ("a/1.png", "b/2.png", "three")}
    images = {}
    for name, one in pixels.items():
        path = tmp_path / name.replace("/", "_")
        Image.fromarray(one).save(path, "PNG")
        is_file = name.endswith(".png")
        images[name] = recipient.file_hash(path.read_bytes()) if is_file else recipient.pixels_hash(one)
    receipt = {"tokens": tokens.commitments(SALT, images)}
    tokens.write_tokens(tmp_path / "tokens", 1, receipt["tokens"], SALT, images)
    return receipt, {json.loads(path.read_text())["id"]: path for path in (tmp_path / "tokens").iterdir()}, tmp_path


def test_a_token_and_the_own_image_find_it(mine):
    receipt, files, folder = mine
    for name, path in files.items():
        assert recipient.check_token(receipt, path, None) == ([], name)
        assert recipient.check_token(receipt, path, folder / name.replace("/", "_")) == ([], name)
    again = Image.open(folder / "three").save(folder / "again.bmp", "BMP")  # the same pixels, in another file
    assert again is None and recipient.check_token(receipt, files["three"], folder / "again.bmp") == ([], "three")


def test_the_token_of_another_is_not_for_my_image(mine):
    receipt, files, folder = mine
    found, name = recipient.check_token(receipt, files["b/2.png"], folder / "a_1.png")
    assert found == [recipient.OTHER_IMAGE] and name == "b/2.png"
    Image.open(folder / "a_1.png").save(folder / "other.bmp", "BMP")
    assert recipient.check_token(receipt, files["a/1.png"], folder / "other.bmp")[0] == [recipient.OTHER_IMAGE]
    (folder / "text").write_text("no image")
    assert recipient.check_token(receipt, files["three"], folder / "text")[0] == [recipient.OTHER_IMAGE]


@pytest.mark.parametrize("key", ["id", "image", "nonce"])
def test_a_token_made_up_or_of_another_receipt_is_of_no_image(mine, key):
    receipt, files, folder = mine
    token = json.loads(files["a/1.png"].read_text())
    others = json.loads(files["b/2.png"].read_text())
    (folder / "made.json").write_text(json.dumps(token | {key: others[key]}))
    assert recipient.check_token(receipt, folder / "made.json", None)[0] == [recipient.NOT_TOLD]
    assert recipient.check_token({"tokens": receipt["tokens"][:0]}, files["a/1.png"], None)[0] == [recipient.NOT_TOLD]


def test_a_token_without_a_hash_needs_the_image(mine):
    """The operator had deleted the images before the token was asked for."""
    receipt, files, folder = mine
    token = json.loads(files["a/1.png"].read_text())
    (folder / "late.json").write_text(json.dumps(token | {"image": None}))
    with pytest.raises(ConfigError, match="--image: None, and the token has no hash"):
        recipient.check_token(receipt, folder / "late.json", None)
    assert recipient.check_token(receipt, folder / "late.json", folder / "a_1.png") == ([], "a/1.png")
    assert recipient.check_token(receipt, folder / "late.json", folder / "b_2.png")[0] == [recipient.OTHER_IMAGE]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"token": "x", "id": "a", "nonce": "b", "image": "c"}', None])
def test_what_is_no_token_is_one_line(mine, text):
    receipt, _, folder = mine
    if text is not None:
        (folder / "bad.json").write_text(text)
    with pytest.raises(ConfigError, match="--token: .*bad.json.* cannot be read .*allowed: a token") as caught:
        recipient.check_token(receipt, folder / "bad.json", None)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("token", [{"id": 3}, {"image": []}, {"nonce": None}])
def test_a_token_with_other_types_is_none(mine, token):
    receipt, files, folder = mine
    (folder / "bad.json").write_text(json.dumps(json.loads(files["three"].read_text()) | token))
    with pytest.raises(ConfigError, match="it is no token"):
        recipient.check_token(receipt, folder / "bad.json", None)


def test_a_hundred_thousand_tokens_are_read_in_seconds(tmp_path):
    from ltu_jax.deletion import receipt as module

    told = sorted(hashlib.sha256(str(i).encode()).hexdigest() for i in range(100_000))
    body = made_receipt(earlier=False) | {
        "tokens": told,
        "config_sha256": "e",
        "claim": {"shown": True, "findings": [], "numbers": {}},
    }
    body["request"]["previous"] = "b"
    body["code"]["sha256"] = "c"
    body["files_salted_sha256"] = dict.fromkeys(module.ALWAYS, "g")
    path = tmp_path / "receipt.json"
    path.write_text(module.receipt_text(module.seal_receipt(body)))
    assert read_receipt(path)["tokens"] == told and path.stat().st_size < 10e6
