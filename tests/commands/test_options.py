"""The folders that a command may write to."""

import argparse
import json
from pathlib import Path

import pytest

from ltu_jax.commands.options import check_request_folders, check_run_folders, default_workdir
from ltu_jax.config import Config, Seeds, resolve
from ltu_jax.setting import ConfigError, to_dict


def folders(workdir, cache="cache", prepare=False, dry_run=False):
    return argparse.Namespace(workdir=Path(workdir), cache=Path(cache), prepare=prepare, dry_run=dry_run)


@pytest.fixture(autouse=True)
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "seed, num_seeds, forget, wanted",
    [(3, 1, None, "digits-ltu-3"), (3, 2, None, "digits-ltu-3-to-4"), (3, 1, "ids.txt", "digits-requests")],
)
def test_a_folder_that_is_not_named_says_what_is_in_it(seed, num_seeds, forget, wanted):
    assert default_workdir(resolve(Config(seed=seed, num_seeds=num_seeds)), forget) == f"runs/{wanted}"


def test_each_of_several_seeds_has_a_folder_in_the_workdir():
    [first, second] = check_run_folders(resolve(Config(seed=3, num_seeds=2)), folders("out"))
    assert [first[1], second[1]] == [Path("out/seed-3"), Path("out/seed-4")]
    assert [first[0].seeds, second[0].seeds] == [Seeds(3, 3, 3), Seeds(4, 4, 4)]
    assert check_run_folders(resolve(Config()), folders("out"))[0][1] == Path("out")
    assert not Path("out").exists()


def test_a_folder_of_another_run_is_refused_and_the_first_differences_are_named():
    Path("out").mkdir()
    written = to_dict(resolve(Config()))
    Path("out/config.json").write_text(json.dumps(written))
    assert check_run_folders(resolve(Config()), folders("out"))
    written["data"]["forget_fraction"], written["eval_every"] = 0.5, 7
    Path("out/config.json").write_text(json.dumps(written))
    message = r"'out' holds another run \(.*config.data.forget_fraction was 0.5, is 0.1.*\); allowed: a new folder"
    with pytest.raises(ConfigError, match=message) as caught:
        check_run_folders(resolve(Config()), folders("out"))
    assert "config.eval_every was 7, is 0" in str(caught.value)
    assert check_run_folders(resolve(Config()), folders("out", prepare=True))  # it writes to the cache alone
    assert check_run_folders(resolve(Config()), folders("out", dry_run=True))  # it writes nothing


def test_what_a_run_leaves_that_was_killed_at_its_first_step_is_no_reason_to_refuse():
    Path("out").mkdir()
    for name in ("lock", "config.json.0123abcd.partial"):
        Path("out", name).touch()
    assert check_run_folders(resolve(Config()), folders("out"))
    Path("out/photo.png").touch()
    with pytest.raises(ConfigError, match="'out' holds files that are no run"):
        check_run_folders(resolve(Config()), folders("out"))


@pytest.mark.parametrize("left", ["", "{", '{"da'])
def test_a_config_that_a_power_cut_emptied_is_no_reason_to_refuse_a_run_and_says_nothing_about_other_files(left):
    for name in ("checkpoints", "model"):
        Path("out", name).mkdir(parents=True)
    Path("out/config.json").write_text(left)
    assert check_run_folders(resolve(Config()), folders("out"))
    Path("out/index.js").touch()
    with pytest.raises(ConfigError, match="'out' holds files that are no run"):
        check_run_folders(resolve(Config()), folders("out"))
    Path("out/index.js").unlink()
    Path("out/config.json").unlink()
    with pytest.raises(ConfigError, match="'out' holds files that are no run"):
        check_run_folders(resolve(Config()), folders("out"))


@pytest.mark.parametrize("check", [lambda given: check_run_folders(resolve(Config()), given), check_request_folders])
def test_a_folder_that_orbax_takes_for_a_pattern_is_refused(check, monkeypatch):
    for given, flag in ((folders("[v2]/out"), "workdir"), (folders("out", "a*b"), "cache")):
        with pytest.raises(ConfigError, match=f"--{flag}: .* which Orbax takes for a pattern"):
            check(given)
    Path("a?b").mkdir()
    monkeypatch.chdir("a?b")  # it need not be in what was given
    with pytest.raises(ConfigError, match=r"--workdir: .*a\?b/out' has '\?', which Orbax takes for a pattern"):
        check(folders("out"))
    assert not list(Path().iterdir())


def test_a_folder_of_requests_holds_requests_their_ledger_and_the_cache_alone():
    check_request_folders(folders("out"))
    for name in ("request-1", "cache"):
        Path("out", name).mkdir(parents=True)
    for name in ("ledger.jsonl", "salt", "lock"):
        Path("out", name).touch()
    check_request_folders(folders("out", "out/cache"))
    with pytest.raises(ConfigError, match="--workdir: 'out' holds 'cache', no request; allowed: a folder of requests"):
        check_request_folders(folders("out"))


@pytest.mark.parametrize("check", [lambda given: check_run_folders(resolve(Config()), given), check_request_folders])
def test_a_folder_or_cache_below_a_file_is_refused(check):
    Path("file").touch()
    for given, flag in ((folders("file/out"), "workdir"), (folders("out", "file"), "cache")):
        with pytest.raises(ConfigError, match=f"--{flag}: 'file.*' cannot be made, .*file is no folder"):
            check(given)


@pytest.mark.parametrize("check", [lambda given: check_run_folders(resolve(Config()), given), check_request_folders])
@pytest.mark.parametrize("cache", ["out", "out/../out/.", "link", "out/checkpoints", "out/model/x", "out/request-1"])
def test_a_cache_that_is_the_workdir_or_among_its_files_is_refused_in_one_line(check, cache):
    Path("link").symlink_to("out")
    with pytest.raises(ConfigError, match=f"--cache: '{cache.removesuffix('/.')}' is --workdir or among") as caught:
        check(folders("out", cache))
    assert len(str(caught.value).splitlines()) == 1 and not Path("out").exists()
    for apart in ("out/cache", "cache", "."):
        check(folders("out", apart))


def test_a_cache_is_no_folder_of_a_seed_and_a_preparation_has_no_workdir():
    with pytest.raises(ConfigError, match="--cache: 'out/seed-1' is --workdir or among"):
        check_run_folders(resolve(Config(num_seeds=2)), folders("out", "out/seed-1"))
    check_run_folders(resolve(Config()), folders("out", "out", prepare=True))
