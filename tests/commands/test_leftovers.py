"""The search for what was forgotten, after a request and where something was planted."""

import pytest
from test_check import CONFIG, REQUEST, run, trained_ids

from ltu_jax import config
from ltu_jax.commands.leftovers import find_leftovers


def test_what_is_not_searched_for_is_not_said_to_be_absent(tmp_path, capsys):
    """Ids that are gone from the data: their images cannot be looked for."""
    ids, folder = tmp_path / "ids.txt", tmp_path / "left"
    folder.mkdir()
    (folder / "notes.txt").write_text("nothing")
    for name, status in (("digits_0001", 0), ("digits_that_is_gone", 3)):
        ids.write_text(name)
        assert find_leftovers(config.resolve(config.Config()), folder, str(ids)) == status
    assert "NOT SEARCHED: 1, see above" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.slow
def test_a_request_leaves_nothing_and_what_is_planted_is_found(tmp_path):
    """The whole command, without --keep_original; thumbnails that were asked for are found, as is a planted list."""
    (tmp_path / "mine.py").write_text(CONFIG.replace("trials=2, evaluations=3", "trials=0"))
    ids = trained_ids(20)
    (tmp_path / "ids.txt").write_text(ids)
    workdir, search = ("--workdir", "left/out"), ("verify", "--leftovers", "left", *REQUEST[1:5])
    done = run(tmp_path, *REQUEST[:5], *workdir)
    assert done.returncode in (0, 4), done.stderr  # of so few rows forgetting may not be shown
    models = [path.parent.relative_to(tmp_path / "left").as_posix() for path in tmp_path.rglob("_METADATA")]
    assert len(models) == 1 and models[0].startswith("out/request-1/model")
    done = run(tmp_path, *search)
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith("found: none of 20 ("), done.stdout
    (tmp_path / "left" / "cache" / "list").write_text(ids)
    done = run(tmp_path, *search)
    assert done.returncode == 1 and done.stdout.startswith("cache/list: 20 ids in clear: digits_"), done.stdout
    assert done.stdout.splitlines()[-1].startswith("FOUND: 20 of 20 (")
    (tmp_path / "left" / "cache" / "list").unlink()
    mapped = ("--config.data.memory_map=left/cache/mapped", "--config.calibration.trials=0")
    (tmp_path / "ids.txt").write_text("\n".join(reversed(ids.split()[:3])) + "\n")
    done = run(tmp_path, *REQUEST[:5], "--workdir", "left/other", "--show_images", *mapped)
    assert done.returncode == 4, done.stderr
    assert "left/cache/mapped (config.data.memory_map): the pixels of all images" in done.stdout
    done = run(tmp_path, *search)
    assert done.returncode == 1
    found = "\n".join(done.stdout.splitlines())
    assert "/images.u8: pixels of 3 images" in found and "other/request-1/images.html: pictures of 3 images" in found
    assert "/columns.npz: 3 ids in clear" in found  # small members are looked through together


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--leftovers", "none", "--forget", "ids.txt"], "error: --leftovers: 'none' is no folder; allowed: "),
        (["--leftovers", "out"], "error: --forget: no file given; allowed: "),
        pytest.param(
            ["--leftovers=out", "--forget", "none.txt"],
            "error: --forget: 'none.txt' cannot be read",
            marks=pytest.mark.slow,
        ),
        (["--leftovers=out", "--froget=ids.txt"], "error: --froget: no such flag; "),
    ],
)
def test_what_cannot_be_searched_for_is_one_line(tmp_path, words, message):
    (tmp_path / "out").mkdir()
    done = run(tmp_path, "verify", *words)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith(message) and len(done.stderr.splitlines()) == 1
