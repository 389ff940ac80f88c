import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lgmamba.data.build import build_dataset
from lgmamba.data.errors import DataError
from lgmamba.data.sources import remote
from lgmamba.files import file_digest
from tests.data.samples import config, parquet, pngs, tree, write_table

REPO = "/api/datasets/owner/birds/tree/main/plain"


@pytest.fixture
def server():
    """A host on this machine: `answers` maps a path to (status, headers, body)."""
    answers: dict[str, tuple[int, dict[str, str], bytes]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for key, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        httpd.answers, httpd.url = answers, f"http://127.0.0.1:{httpd.server_port}"
        yield httpd
        httpd.shutdown()
        thread.join()


@pytest.fixture
def dead_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def hub(server, monkeypatch, files: dict[str, bytes], digests: dict[str, str] | None = None):
    """Make `server` the hub, with these files in the folder `plain` of owner/birds, listed on two pages."""
    monkeypatch.setattr(remote, "HUB", server.url)
    entries = [{"type": "directory", "path": "plain/old"}]
    for name, content in files.items():
        entries.append({"type": "file", "path": f"plain/{name}", "lfs": {"oid": (digests or {}).get(name)}})
        server.answers[f"/datasets/owner/birds/resolve/main/plain/{name}"] = (200, {"ETag": f'"{name}"'}, content)
    pages = [json.dumps(entries[:2]).encode(), json.dumps(entries[2:]).encode()]
    server.answers[REPO] = (200, {"Link": f'<{server.url}{REPO}?cursor=2>; rel="next"'}, pages[0])
    server.answers[f"{REPO}?cursor=2"] = (200, {}, pages[1])


def test_https_files_are_downloaded_and_digested(tmp_path, server):
    path = write_table(tmp_path / "x.parquet", pngs(30))
    server.answers["/x.parquet"] = (200, {"ETag": '"abc"'}, path.read_bytes())
    manifest = build_dataset(parquet(f"{server.url}/x.parquet"), 4, tmp_path / "out")
    local = build_dataset(parquet(path), 4, tmp_path / "local")
    assert manifest.sha256 == local.sha256
    (source,) = manifest.sources
    assert (source.url, source.etag, source.sha256) == (f"{server.url}/x.parquet", '"abc"', file_digest(path))
    assert sorted(tree(tmp_path / "out")) == sorted([manifest.file, "manifest.json"])


def test_hub_paths_with_wildcards(tmp_path, server, monkeypatch):
    files = {}
    for i, name in enumerate(["train-0.parquet", "train-1.parquet", "test-0.parquet"]):
        files[name] = write_table(tmp_path / name, pngs(20, first=20 * i)).read_bytes()
    hub(server, monkeypatch, files, {n: file_digest(tmp_path / n) for n in files})
    c = parquet("hf://datasets/owner/birds/plain/train-*", test_path="hf://datasets/owner/birds@main/plain/test-*")
    manifest = build_dataset(c, 4, tmp_path / "out")
    names = [s.name for s in manifest.sources]
    assert names == [
        "hf://datasets/owner/birds/plain/train-0.parquet",
        "hf://datasets/owner/birds/plain/train-1.parquet",
        "hf://datasets/owner/birds@main/plain/test-0.parquet",
    ]
    assert manifest.counts["test"] == 20 and manifest.n_images == 60
    local = parquet(tmp_path / "train-*.parquet", test_path=tmp_path / "test-*.parquet")
    assert build_dataset(local, 4, tmp_path / "local").sha256 == manifest.sha256


@pytest.mark.parametrize("scheme", ["http", "https", "hf"])
def test_a_dead_address_fails_at_once(tmp_path, monkeypatch, dead_port, scheme):
    monkeypatch.setattr(remote, "HUB", f"https://127.0.0.1:{dead_port}")
    url = "hf://datasets/a/b/c/x.parquet" if scheme == "hf" else f"{scheme}://127.0.0.1:{dead_port}/x.parquet"
    asked, urlopen = [], remote.urllib.request.urlopen
    monkeypatch.setattr(remote.urllib.request, "urlopen", lambda *a, **k: asked.append(1) or urlopen(*a, **k))
    with pytest.raises(DataError) as e:
        build_dataset(parquet(url), 4, tmp_path / "out")
    assert len(asked) == 1  # and is not asked again and again
    assert url in str(e.value) and str(dead_port) in str(e.value) and "refused" in str(e.value)
    assert tree(tmp_path) == {}


def test_a_host_that_does_not_know_the_file(tmp_path, server):
    with pytest.raises(DataError, match=r"gone.parquet cannot be read: the host answered 404"):
        build_dataset(parquet(f"{server.url}/gone.parquet"), 4, tmp_path / "out")


def test_a_silent_host_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.parquet"
        with pytest.raises(DataError, match="timed out"):
            build_dataset(parquet(url), 4, tmp_path / "out")


def test_a_download_that_ends_early(tmp_path, server):
    server.answers["/x.parquet"] = (200, {"Content-Length": "1000"}, b"PAR1")
    with pytest.raises(DataError, match=r"x.parquet: the connection (ended after 4 of 1,000 bytes|broke)"):
        build_dataset(parquet(f"{server.url}/x.parquet"), 4, tmp_path / "out")
    assert tree(tmp_path) == {}


def test_a_download_with_another_digest(tmp_path, server, monkeypatch):
    hub(server, monkeypatch, {"x.parquet": b"other"}, {"x.parquet": "0" * 64})
    with pytest.raises(DataError, match="expected 0000000000000000"):
        build_dataset(parquet("hf://datasets/owner/birds/plain/x.parquet"), 4, tmp_path / "out")


def test_a_web_page_is_not_a_table(tmp_path, server):
    server.answers["/x.parquet"] = (200, {}, b"<html>please log in</html>")
    with pytest.raises(DataError, match=r"x.parquet is not a readable Parquet file"):
        build_dataset(parquet(f"{server.url}/x.parquet"), 4, tmp_path / "out")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("hf://owner/birds/plain/x.parquet", "expected hf://datasets/<owner>/<name>/<file or glob>"),
        ("hf://datasets/owner/birds", "expected hf://datasets/<owner>/<name>/<file or glob>"),
        ("hf://datasets/owner/birds/pl*/x.parquet", "wildcards are understood in the file name only"),
        ("hf://datasets/owner/birds/plain/y-*", "that folder holds: plain/old, plain/x.parquet"),
        ("hf://datasets/owner/wolves/plain/x.parquet", "the host answered 404"),
    ],
)
def test_hub_paths_that_lead_nowhere(server, monkeypatch, path, message):
    hub(server, monkeypatch, {"x.parquet": b""})
    with pytest.raises(DataError) as e:
        remote.find(path)
    assert message in str(e.value) and path in str(e.value)


def test_a_revision_with_a_slash_is_quoted(server, monkeypatch):
    monkeypatch.setattr(remote, "HUB", server.url)
    entry = [{"type": "file", "path": "plain/x.parquet"}]
    server.answers["/api/datasets/owner/birds/tree/refs%2Fconvert%2Fparquet/plain"] = (
        200,
        {},
        json.dumps(entry).encode(),
    )
    (found,) = remote.find("hf://datasets/owner/birds@~parquet/plain/x.parquet")
    assert found.url == f"{server.url}/datasets/owner/birds/resolve/refs%2Fconvert%2Fparquet/plain/x.parquet"


def test_configuration_allows_lists_of_addresses():
    source = {
        "kind": "parquet",
        "path": ["https://a/x.parquet", "hf://datasets/a/b/c"],
        "image_column": "i",
        "label_column": "l",
    }
    assert len(config(source).source.path) == 2
