"""Files at an https:// or hf:// address: found, and downloaded whole before any is read.

A downloaded file has a digest and is read like a local one, row by row, however often; a dead address fails here, within
seconds, and not in the middle of decoding.
"""

import fnmatch
import hashlib
import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from lgmamba.data.errors import DataError
from lgmamba.data.progress import progress_bar

HUB = "https://huggingface.co"
TIMEOUT_S = 10  # to connect, and for each silence after that
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """One file to download: its name for people, where it is, and the digest its host states."""

    name: str
    url: str
    sha256: str | None = None


def find(pattern: str) -> list[RemoteFile]:
    """Files behind an address, in the order of their names.

    Args:
        pattern: https://host/file, or hf://datasets/<owner>/<name>[@revision]/<folders>/<file, which may hold * ? [ ]>.
    Raises:
        DataError: a dead address, no match, or a form that is not understood.
    """
    if not pattern.startswith("hf://"):
        return [RemoteFile(pattern, pattern)]
    parts = pattern.removeprefix("hf://").split("/")
    if len(parts) < 4 or parts[0] != "datasets" or not all(parts):
        raise DataError(f"{pattern} is not understood, expected hf://datasets/<owner>/<name>/<file or glob>")
    name, _, revision = parts[2].partition("@")
    repo, folders, wanted = f"{parts[1]}/{name}", parts[3:-1], parts[-1]
    if set("*?[") & set("/".join(folders)):
        raise DataError(f"{pattern}: wildcards are understood in the file name only; name each folder, as a list")
    revision = urllib.parse.quote(revision.replace("~parquet", "refs/convert/parquet") or "main", safe="")
    folder = urllib.parse.quote("/".join(folders))
    entries = _list(f"{HUB}/api/datasets/{repo}/tree/{revision}/{folder}".rstrip("/"), pattern)
    files = []
    for entry in sorted(entries, key=lambda e: e["path"]):
        if entry["type"] == "file" and fnmatch.fnmatchcase(entry["path"].rsplit("/", 1)[-1], wanted):
            url = f"{HUB}/datasets/{repo}/resolve/{revision}/{urllib.parse.quote(entry['path'])}"
            digest = (entry.get("lfs") or {}).get("oid")
            files.append(RemoteFile(f"hf://datasets/{parts[1]}/{parts[2]}/{entry['path']}", url, digest))
    if not files:
        there = ", ".join(sorted(e["path"] for e in entries)[:8]) or "nothing"
        raise DataError(f"no file matches {pattern}; that folder holds: {there}")
    return files


def download(file: RemoteFile, folder: Path, progress: bool | None) -> tuple[Path, str | None]:
    """Download a file into `folder`.

    Returns:
        the path, and the host's ETag if it gave one.
    Raises:
        DataError: the address is dead, or what came is not whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(file.url.encode()).hexdigest()[:16]}.parquet"
    digest, n_bytes = hashlib.sha256(), 0
    with _open(file.url, file.name) as response, path.open("wb") as out:
        size = int(response.headers["Content-Length"]) if response.headers.get("Content-Length") else None
        with progress_bar(f"downloading {file.name.rsplit('/', 1)[-1]}", size, "bytes", progress) as advance:
            while block := _read(response, file.name):
                out.write(block)
                digest.update(block)
                n_bytes += len(block)
                advance(len(block))
        etag = response.headers.get("ETag")
    if size is not None and n_bytes != size:
        raise DataError(f"{file.name}: the connection ended after {n_bytes:,} of {size:,} bytes; try again")
    if file.sha256 is not None and digest.hexdigest() != file.sha256:
        raise DataError(
            f"{file.name}: what came has SHA-256 {digest.hexdigest()[:16]}..., expected {file.sha256[:16]}...; try again"
        )
    return path, etag


def _list(url: str | None, pattern: str) -> list[dict]:
    """Entries of a folder on the hub, over all pages."""
    entries: list[dict] = []
    while url is not None:
        with _open(url, pattern) as response:
            try:
                entries += json.loads(_read(response, pattern, everything=True))
            except ValueError:
                raise DataError(f"{pattern}: {url} did not answer with a list of files") from None
            url = _next_page(response.headers.get("Link"))
    return entries


def _next_page(link: str | None) -> str | None:
    for part in (link or "").split(","):
        address, _, relation = part.partition(";")
        if 'rel="next"' in relation:
            return address.strip().strip("<>")
    return None


def _open(url: str, name: str) -> HTTPResponse:
    where = name if name == url else f"{name} ({url})"
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers={"User-Agent": "lgmamba"}), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as e:
        e.close()
        raise DataError(f"{where} cannot be read: the host answered {e.code} {e.reason}; correct the address") from None
    except (urllib.error.URLError, HTTPException, OSError, ValueError) as e:
        reason = getattr(e, "reason", None) or e
        raise DataError(f"{where} cannot be reached ({reason}); correct the address or look at the network") from None


def _read(response: HTTPResponse, name: str, everything: bool = False) -> bytes:
    try:
        return response.read(None if everything else BLOCK_BYTES)
    except (HTTPException, OSError) as e:
        raise DataError(f"{name}: the connection broke ({e or type(e).__name__}); try again") from None
