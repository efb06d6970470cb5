"""CIFAR from a tiny archive of the exact layout, served over local HTTP."""

import functools
import hashlib
import http.server
import io
import subprocess
import sys
import tarfile
import threading
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from ltu_jax.config import Data
from ltu_jax.data import cifar
from ltu_jax.data.sources import load_source
from ltu_jax.data.tfds import find_prepared
from ltu_jax.setting import ConfigError

FINE = [f"fine_{i}" for i in range(100)]
COARSE = [f"coarse_{i}" for i in range(20)]
TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
LAYOUT = {
    "cifar10": ("cifar-10-batches-bin", [f"data_batch_{i}.bin" for i in range(1, 6)], "test_batch.bin", [10],
                {"batches.meta.txt": TEN}),
    "cifar100": ("cifar-100-binary", ["train.bin"], "test.bin", [20, 100],
                 {"coarse_label_names.txt": COARSE, "fine_label_names.txt": FINE}),
}  # fmt: skip
ROWS_PER_FILE = 4


class Served:
    """A tiny archive of known pixels u8[M,32,32,3] and labels [M,1 or 2], train rows first."""

    def __init__(self, folder, name):
        rng = np.random.default_rng(0)
        top, train_files, test_file, bounds, label_files = LAYOUT[name]
        self.num_train = ROWS_PER_FILE * len(train_files)
        total = self.num_train + ROWS_PER_FILE
        self.images = rng.integers(0, 256, (total, 32, 32, 3), np.uint8)
        self.labels = rng.integers(0, bounds, (total, len(bounds)), np.uint8)
        planes = np.concatenate([self.images[..., channel].reshape(total, 1024) for channel in range(3)], axis=1)
        rows = np.concatenate([self.labels, planes], axis=1)
        self.path = folder / cifar.ARCHIVES[name].url.rsplit("/", 1)[1]
        with tarfile.open(self.path, "w:gz") as tar:
            for i, file in enumerate([*train_files, test_file]):
                add(tar, f"{top}/{file}", rows[ROWS_PER_FILE * i : ROWS_PER_FILE * (i + 1)].tobytes())
            for file, names in label_files.items():
                add(tar, f"{top}/{file}", ("\n".join(names) + "\n\n").encode())

    @property
    def sha256(self):
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def add(tar, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """A client that asks whether the archive is there hangs up before it is sent."""


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """``serve(name)`` makes an archive, and lets ``cifar`` fetch it from a local server."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = Server(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()

    def start(name, **changes):
        archive = Served(folder, name)
        changes = {"size": archive.path.stat().st_size, "sha256": archive.sha256} | changes
        url = f"http://127.0.0.1:{server.server_port}/{archive.path.name}"
        monkeypatch.setitem(cifar.ARCHIVES, name, cifar.ARCHIVES[name]._replace(**{"url": url} | changes))
        return archive

    yield start
    server.shutdown()
    thread.join()
    server.server_close()


def assert_holds(source, archive):
    """Every row, found by its id, has the pixels and labels of the archive."""
    total = len(archive.images)
    names = [f"train_{i:05d}" for i in range(archive.num_train)]
    names += [f"test_{i:05d}" for i in range(total - archive.num_train)]
    assert source.num_train == archive.num_train and sorted(source.ids) == sorted(names)
    assert set(source.ids[: source.num_train]) == set(names[: archive.num_train])
    order = [list(source.ids).index(name) for name in names]
    np.testing.assert_array_equal(source.images[order], archive.images)
    np.testing.assert_array_equal(source.labels[order], archive.labels[:, -1])
    if archive.labels.shape[1] == 2:
        np.testing.assert_array_equal(source.coarse[order], archive.labels[:, 0])
    else:
        assert source.coarse is None


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_first_use_downloads_and_prepares_and_the_second_needs_no_network(tmp_path, serve, monkeypatch, name):
    archive = serve(name)
    data = Data(name, data_dir=str(tmp_path / "data"))
    first = load_source(data)
    assert_holds(first, archive)
    assert first.num_classes == {"cifar10": 10, "cifar100": 100}[name]
    monkeypatch.setattr(cifar, "_fetch", None)
    assert load_source(data).sha256() == first.sha256()
    assert "tensorflow" not in sys.modules


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_stock_builder_reads_what_ours_wrote(tmp_path, serve, name):
    archive = serve(name)
    cifar.prepare_cifar(name, tmp_path / "data")
    stock = {"cifar10": tfds.image_classification.Cifar10, "cifar100": tfds.image_classification.Cifar100}[name]
    for builder in (tfds.builder(name, data_dir=tmp_path / "data"), stock(data_dir=tmp_path / "data")):
        assert str(builder.version) == "3.0.2"
        assert builder.info.features["label"].names == (TEN if name == "cifar10" else FINE)
        rows = list(builder.as_data_source(split="train"))
        index = [int(row["id"].decode().removeprefix("train_")) for row in rows]
        np.testing.assert_array_equal([row["image"] for row in rows], archive.images[index])
        assert len(rows) == archive.num_train


def test_a_wrong_checksum_is_one_line_and_leaves_nothing_prepared(tmp_path, serve):
    serve("cifar10", sha256="0" * 64)
    with pytest.raises(ConfigError, match=r"^config.data.name: 'cifar10', .* wrong checksum .*; allowed: ") as error:
        load_source(Data("cifar10", data_dir=str(tmp_path / "data")))
    assert "\n" not in str(error.value) and cifar.ARCHIVES["cifar10"].url in str(error.value)
    assert find_prepared(tmp_path / "data", "cifar10") is None
    archive = serve("cifar10")
    assert_holds(load_source(Data("cifar10", data_dir=str(tmp_path / "data"))), archive)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/cifar-10-binary.tar.gz", None])
def test_no_network_or_no_file_is_one_line_within_seconds(tmp_path, serve, url):
    archive = serve("cifar10", **({"url": url} if url else {}))
    archive.path.unlink()
    url, started = cifar.ARCHIVES["cifar10"].url, time.perf_counter()
    with pytest.raises(ConfigError) as error:
        load_source(Data("cifar10", data_dir=str(tmp_path / "data")))
    assert time.perf_counter() - started < 5
    message = str(error.value)
    assert message.startswith(f"config.data.name: 'cifar10' could not be fetched from {url} (") and "\n" not in message
    assert "allowed: a working network" in message and "data_dir that holds cifar10 prepared" in message


def test_an_archive_put_there_by_hand_needs_no_network(tmp_path, serve):
    archive = serve("cifar10", url="http://127.0.0.1:9/cifar-10-binary.tar.gz")
    manual = tmp_path / "data" / "downloads" / "manual"
    manual.mkdir(parents=True)
    archive.path.rename(manual / archive.path.name)
    assert_holds(load_source(Data("cifar10", data_dir=str(tmp_path / "data"))), archive)


def test_a_terminal_gets_tfds_bars_and_a_log_gets_our_progress(tmp_path, serve, capsys, monkeypatch):
    serve("cifar10")
    labels = []

    class Recorder:
        def __init__(self, label, total):
            labels.append(label)

        def __enter__(self):
            return lambda n: None

        def __exit__(self, *_):
            pass

    cifar.prepare_cifar("cifar10", tmp_path / "log", Recorder)
    captured = capsys.readouterr()
    assert labels == ["preparing cifar10"] and captured.out == captured.err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    cifar.prepare_cifar("cifar10", tmp_path / "terminal", Recorder)
    captured = capsys.readouterr()
    assert labels == ["preparing cifar10"] and "Dl Size" in captured.err and captured.out == ""


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="^config.data.data_dir: cifar10 cannot be prepared in .*file") as error:
        load_source(Data("cifar10", data_dir=str(tmp_path / "file")))
    assert "\n" not in str(error.value)


def test_the_archives_are_the_ones_tfds_knows():
    from tensorflow_datasets.core.download.checksums import get_all_url_infos

    known = get_all_url_infos()
    for archive in cifar.ARCHIVES.values():
        assert (int(known[archive.url].size), known[archive.url].checksum) == (archive.size, archive.sha256)


def test_importing_ours_leaves_tfds_registry_whole():
    code = (
        "import sys; from ltu_jax.data import cifar, tfds;"
        "sys.exit(not {'mnist', 'cifar10', 'cifar100'} <= set(tfds.registered_names()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
