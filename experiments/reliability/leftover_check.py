"""Plants forgotten images in many forms and asks ``verify --leftovers`` for them: found, not searched, or missed.

python experiments/reliability/leftover_check.py --out runs/forms                        all forms, a command for each
python experiments/reliability/leftover_check.py --out runs/forms --forms 45 --together  one command for all

The data set is 60 crops of 48x48 of the two photographs that scikit-learn brings, as PNG and JPEG. Five of them are the
forgotten ones. A form is found if lines tell of all five in it, found in part if they tell of some and nothing of the
rest, named if it is said not to be searched (status 3, or a line about it), and missed otherwise. Five others are
planted in the same forms; of these nothing may be found. Exit status 1 if a form is missed, be it in part, or another
image is found.
"""

import argparse
import collections
import importlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.reliability.leftover_forms import Form, Photo

ROOT = Path(__file__).parents[2]
SIDE, CROPS, TRAIN, PLANTED = 48, 30, 20, 5  # crops and training images of each photograph; planted of each kind
CONFIG = """from ltu_jax.config import Config, Data, Model


def get_config(method="ltu"):
    return Config(data=Data("folder", data_dir="photos", held_out="test"), model=Model("resnet8", width=8))
"""
NOT_SEARCHED = re.compile(r"(not|never) (be |been )?(searched|read|opened)|unsearched", re.IGNORECASE)
WAIT_S = 600


class Answer(NamedTuple):
    """What the search said of a folder."""

    status: int
    lines: list[str]


def main() -> int:
    """Parses the arguments, plants, searches, prints the tables; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--forms", choices=("45", "new", "all"), default="all")
    parser.add_argument("--together", action="store_true", help="search all forms by one command; status is of all")
    given = parser.parse_args()
    out = given.out.absolute()
    out.mkdir(parents=True)
    photos = make_folder(out)
    forms = chosen(given.forms)
    for which, some in (("forgotten", photos[:PLANTED]), ("others", photos[PLANTED : 2 * PLANTED])):
        for number, form in enumerate(forms.values()):
            folder = out / which / f"{number:02d}"
            folder.mkdir(parents=True)
            form.plant(folder, some)

    ids = [photo.id for photo in photos[:PLANTED]]
    whole = search(out, "forgotten") if given.together else None
    verdicts = collections.Counter()
    print(f"{'form':<46}{'planted as':<12}{'verdict':<15}status  what it said", flush=True)
    for number, (name, form) in enumerate(forms.items()):
        folder = f"{number:02d}"
        answer = part(whole, folder) if whole else search(out, f"forgotten/{folder}")
        names = [folder + "/"] if whole else [path.name for path in (out / "forgotten" / folder).iterdir()]
        verdict, said = judged(answer, names, ids, alone=not whole)
        verdicts[verdict.partition(" ")[0]] += 1
        print(f"{name:<46}{form.kind:<12}{verdict:<15}{answer.status:^6}  {said[0][:110] if said else ''}", flush=True)
    print(f"\n{len(forms)} forms: {', '.join(f'{count} {verdict}' for verdict, count in verdicts.most_common())}")

    control = search(out, "others")
    false = found_lines(control, ids)
    print(f"the same forms of {PLANTED} images that stay: {len(false)} false alarms, status {control.status}")
    for line in false:
        print(f"  {line}")
    bad = verdicts["MISSED"] + verdicts["PARTLY"] + verdicts["FAILED"] + len(false)
    return 1 if bad or control.status not in (0, 3) else 0


def judged(answer: Answer, names: Sequence[str], ids: Sequence[str], alone: bool) -> tuple[str, list[str]]:
    """What became of a form, and the lines that say so.

    Args:
      answer: What the search said.
      names: Parts of paths by which a line can name what was planted.
      ids: The images planted.
      alone: Whether nothing else was searched, so that the status is of this form.
    """
    found = found_lines(answer, ids)
    named = [line for line in answer.lines if NOT_SEARCHED.search(line) and any(name in line for name in names)]
    if answer.status not in (0, 1, 3):
        return "FAILED", answer.lines[-1:]
    if found and answer.status == 1:
        told = {one for one in ids if any(one in line.partition(": ")[2] for line in found)}
        silent = len(told) < len(ids) and not named
        return f"{'PARTLY' if silent else 'found'} {len(told)} of {len(ids)}", found
    if named or alone and answer.status == 3:
        return "named", named
    return "MISSED", []


def found_lines(answer: Answer, ids: Sequence[str]) -> list[str]:
    """The lines that tell of one of these images, ``PATH: WHAT: IDS``."""
    told = [line for line in answer.lines if any(one in line.partition(": ")[2] for one in ids)]
    return [line for line in told if not NOT_SEARCHED.search(line)]


def chosen(which: str) -> dict[str, Form]:
    """The forms of one list or of both."""
    names = {"45": ("leftover_forms",), "new": ("leftover_forms_new",)}
    modules = names.get(which, ("leftover_forms", "leftover_forms_new"))
    found = [importlib.import_module(f"experiments.reliability.{name}").FORMS for name in modules]
    return {name: form for forms in found for name, form in forms.items()}


def make_folder(out: Path) -> list[Photo]:
    """Writes photos/PART/CLASS/ID, ids.txt and mine.py; the training images, forgotten ones first, both classes mixed.

    The crops are those of the most contrast, none over another: a plain sky is nobody's.
    """
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photos: dict[str, list[Photo]] = {}
    for name, image in zip(("china", "flower"), load_sample_images().images, strict=True):
        rows, columns = image.shape[0] // SIDE, image.shape[1] // SIDE
        tiles = image[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE, 3).swapaxes(1, 2)
        tiles = tiles.reshape(-1, SIDE, SIDE, 3)
        best = np.argsort(-tiles.std((1, 2, 3)), kind="stable")[:CROPS]
        best = np.random.default_rng(0).permutation(best)
        for number, tile in enumerate(tiles[best]):
            ending, options = (("png", {}), ("jpg", {"quality": 90}))[number % 2]
            file = io.BytesIO()
            Image.fromarray(tile).save(file, {"png": "PNG", "jpg": "JPEG"}[ending], **options)
            part_name = "train" if number < TRAIN else "test"
            path = out / "photos" / part_name / name / f"IMG_{2041 + 7 * number}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.getvalue())
            pixels = np.asarray(Image.open(file).convert("RGB"))
            photos.setdefault(part_name, []).append(
                Photo(path.relative_to(out / "photos").as_posix(), pixels, file.getvalue())
            )
    train = [photo for pair in zip(photos["train"][:TRAIN], photos["train"][TRAIN:], strict=True) for photo in pair]
    (out / "ids.txt").write_text("".join(f"{photo.id}\n" for photo in train[:PLANTED]))
    (out / "mine.py").write_text(CONFIG)
    return train


def search(out: Path, folder: str) -> Answer:
    """Searches a folder by the command line, from within ``out``."""
    words = ["--leftovers", folder, "--forget", "ids.txt", "--config", "mine.py"]
    done = subprocess.run(
        [sys.executable, "-m", "ltu_jax.verify", *words],
        cwd=out,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WAIT_S,
    )
    return Answer(done.returncode, done.stdout.splitlines())


def part(answer: Answer, folder: str) -> Answer:
    """The lines about one folder of those searched."""
    return Answer(answer.status, [line for line in answer.lines if re.search(rf"(^|[\s/'\"]){folder}/", line)])


if __name__ == "__main__":
    sys.exit(main())
