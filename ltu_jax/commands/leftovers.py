"""What ``python -m ltu_jax.verify --leftovers`` does: searches a folder for what was forgotten."""

from pathlib import Path

from ltu_jax.config import Config
from ltu_jax.data.sources import image_files, load_source
from ltu_jax.data.splits import read_ids
from ltu_jax.deletion.leftovers.search import not_searched_for, report_lines, search_folder, search_targets
from ltu_jax.reporting.terminal import progress_for
from ltu_jax.setting import plain


def find_leftovers(config: Config, folder: Path, forget: str) -> int:
    """Searches a folder for images of the data whose ids a file holds.

    Returns:
      The exit status: 0 if none is found, 1 if some are, 3 if none is found and something was not searched, or not for.

    Raises:
      ConfigError: if the ids or the data cannot be read.
    """
    ids = read_ids(forget, "--forget")
    wanted = search_targets(load_source(config.data, progress_for()), ids, image_files(config.data, ids))
    done = search_folder(folder, wanted)
    for line in report_lines(done, wanted):
        print(plain(line))
    return 1 if done.findings else 3 if done.unsearched or not_searched_for(done, wanted) else 0
