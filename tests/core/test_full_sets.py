"""Full digit sets in IDX: read, downloaded from the first mirror that works, and refused when damaged."""

import gzip
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from lessons_src import data

X = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
Y = np.array([0, 9, 4], np.uint8)
FILES = {
    "train-images-idx3-ubyte.gz": gzip.compress(b"\0\0\x08\x03" + np.array(X.shape, ">u4").tobytes() + X.tobytes()),
    "train-labels-idx1-ubyte.gz": gzip.compress(b"\0\0\x08\x01" + np.array(Y.shape, ">u4").tobytes() + Y.tobytes()),
}


@pytest.fixture
def server(tmp_path):
    """A mirror on this machine: its folder, its address, and the paths asked for."""
    folder, asked = tmp_path / "mirror", []
    folder.mkdir()
    for name, packed in FILES.items():
        (folder / name).write_bytes(packed)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_port}/", asked
        http.shutdown()
        thread.join()


@pytest.fixture
def mirrors(monkeypatch):
    """Let "mnist" come from the given addresses."""
    md5 = {name: hashlib.md5(packed, usedforsecurity=False).hexdigest() for name, packed in FILES.items()}
    return lambda *urls: monkeypatch.setitem(data.IDX, "mnist", data.IdxSet(urls, md5))


def test_downloads_once_and_reads_what_was_packed(server, mirrors, tmp_path):
    _, url, asked = server
    mirrors(url)
    for _ in range(2):
        x, label = data.full("mnist", tmp_path / "data")
        assert torch.equal(((x[:, 0] + 1) * 127.5).round().byte(), torch.from_numpy(X))
        assert (x.dtype, x.shape, label.tolist(), label.dtype) == (
            torch.float32,
            (3, 1, 28, 28),
            [0, 9, 4],
            torch.int64,
        )
    assert len(asked) == 2
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == sorted(FILES)


def test_the_next_mirror_is_asked_when_one_fails_or_lies(server, mirrors, tmp_path):
    folder, url, _ = server
    (folder / "liar").mkdir()
    for name in FILES:
        (folder / "liar" / name).write_bytes(b"moved")
    mirrors("http://127.0.0.1:9/", url + "none/", url + "liar/", url)
    assert len(data.full("mnist", tmp_path / "data")[0]) == 3


def test_without_a_mirror_the_error_names_them_and_the_bundled_digits(mirrors, tmp_path):
    mirrors("http://127.0.0.1:9/")
    with pytest.raises(ConnectionError, match=r"train-images.*127\.0\.0\.1:9/: .*data\.digits\(\)"):
        data.full("mnist", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_replaced_or_refused(server, mirrors, tmp_path):
    mirrors(server[1])
    data.full("mnist", tmp_path / "data")
    path = tmp_path / "data" / "train-labels-idx1-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert data.full("mnist", tmp_path / "data")[1].tolist() == Y.tolist()
    assert path.read_bytes() == whole
    path.write_bytes(whole[:-1])
    mirrors("http://127.0.0.1:9/")
    with pytest.raises(ConnectionError, match=r"no mirror gave train-labels-idx1-ubyte\.gz"):
        data.full("mnist", tmp_path / "data")
    assert path.read_bytes() == whole[:-1]


@pytest.mark.parametrize(("name", "split"), [("cifar", "train"), ("mnist", "valid")])
def test_unknown_names_are_refused(name, split, tmp_path):
    with pytest.raises(ValueError, match="expected one of"):
        data.full(name, tmp_path, split)


def test_the_real_set_lists_four_files_and_two_mirrors():
    mnist = data.IDX["mnist"]
    assert len(mnist.md5) == 4
    assert all(len(digest) == 32 for digest in mnist.md5.values())
    assert [url.split("/")[2] for url in mnist.mirrors] == ["ossci-datasets.s3.amazonaws.com", "storage.googleapis.com"]
