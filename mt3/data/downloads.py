"""Fetches the archives that a dataset's authors publish.

It promises: a file has its name only once it is whole and its checksum is
right; what came before a broken line, a full disk or a kill is kept beside it
(`.FILE.part`) and continued by the next run; every failure is one line that
names the file and the remedy.
"""

from __future__ import annotations

import contextlib
import dataclasses
import email.utils
import hashlib
import http.client
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tqdm

import mt3
from mt3.data.sources.base import Download, Source

_BLOCK_BYTES = 1 << 20
# Answers after which asking again can help: time-out, too many requests, trouble at the server's end.
_PASSING_STATUSES = (408, 429, 500, 502, 503, 504)
_LONGEST_WAIT_SECONDS = 60.0


class DownloadError(ValueError):
    """A file that could not be fetched; the message says which, why, and what to do."""


class _InterruptedTransfer(Exception):
    """A transfer that broke off, or that the server put off; trying again may help."""

    def __init__(self, reason: str, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


@dataclasses.dataclass(frozen=True)
class TransferOptions:
    """How patiently files are fetched.

    Attributes:
      retries: after a failure, as long as nothing at all arrives between; the
        count starts again whenever something has arrived.
      wait_seconds: before the first retry; doubled for each further one.
      timeout_seconds: longest silence of the server.
    """

    retries: int = 5
    wait_seconds: float = 1.0
    timeout_seconds: float = 60.0


def download_all(
    source: Source,
    directory: Path | str,
    *,
    variant: str = "",
    mirror: str = "",
    progress: bool = True,
    options: TransferOptions | None = None,
) -> list[Path]:
    """Fetches what a dataset consists of; files that are there already are only checked.

    Args:
      source: the dataset.
      directory: for the files; made where it does not exist.
      variant: version or part; may be left out where there is only one.
      mirror: address of a folder that holds the files under their names, used
        in place of the published addresses; empty for those.
      progress: show a bar for each file, where stderr is a terminal.
      options: of the transfers.

    Returns:
      The files, in the order of `source.downloads`.

    Raises:
      DownloadError: when the dataset has no direct links, when a variant must be
        chosen, or when a file cannot be fetched or is not the published one.
    """
    downloads = select_downloads(source, variant)
    if mirror and urllib.parse.urlsplit(mirror).scheme not in ("http", "https"):
        raise DownloadError(f"The mirror {mirror!r} is no web address; give one such as http://HOST/FOLDER.")
    directory = Path(directory)
    with _reporting_disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    where = f" from {source.homepage}" if source.homepage else ""
    remedy = f"fetch it by hand{where} and put it into {directory}"
    paths = []
    for download in downloads:
        path, url = directory / download.file, download.url
        if mirror:
            url = f"{mirror.rstrip('/')}/{urllib.parse.quote(download.file)}"
        transfer = _Transfer(download, path, url, remedy, options or TransferOptions(), progress)
        paths.append(transfer.run())
    return paths


def select_downloads(source: Source, variant: str = "") -> list[Download]:
    """The files of a variant, with those that belong to all.

    Raises:
      DownloadError: as `download_all`.
    """
    if not source.downloads:
        how = source.access or (f"see {source.homepage}" if source.homepage else "ask its authors")
        raise DownloadError(f"{source.name} has no direct link: {how}")
    variants = list(dict.fromkeys(download.variant for download in source.downloads if download.variant))
    if variant and variant not in variants:
        choice = f"choose one of {', '.join(variants)}" if variants else "it has none; leave the variant out"
        raise DownloadError(f"{source.name} has no variant {variant!r}; {choice}.")
    if not variant and len(variants) > 1:
        raise DownloadError(
            f"{source.name} is published in several variants; choose {' or '.join(variants)}."
        )
    wanted = ("", variant or (variants[0] if variants else ""))
    return [download for download in source.downloads if download.variant in wanted]


def part_path(path: Path) -> Path:
    """Where a file lies until it is whole."""
    return path.with_name(f".{path.name}.part")


class _Transfer:
    """The fetching of one file; of the part on disk it knows size and digest, of the whole the total."""

    def __init__(
        self,
        download: Download,
        path: Path,
        url: str,
        remedy: str,
        options: TransferOptions,
        progress: bool,
    ) -> None:
        self.download, self.path, self.url, self.remedy = download, path, url, remedy
        self.options, self.progress = options, progress
        self.part = part_path(path)
        self.size = 0
        self.total = download.num_bytes
        self.digest = _new_digest()

    def run(self) -> Path:
        """The finished file."""
        with _reporting_disk_errors(self.path):
            if self.path.exists():
                self._check_finished()
                return self.path
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.part.exists():
                self._take_up_part()
            if self.total is None or self.size < self.total:
                self._fetch_patiently()
            self._check_part()
            self.part.replace(self.path)
        return self.path

    def _bar(self, what: str, total: int | None) -> Any:
        return tqdm.tqdm(
            desc=what,
            total=total,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            delay=1.0,
            disable=None if self.progress else True,
        )

    def _hash_file(self, path: Path) -> None:
        """`digest` and `size` of a file's present content."""
        present = path.stat().st_size
        with path.open("rb") as file, self._bar(f"checking {self.download.file}", present) as bar:
            while self.size < present and (block := file.read(_BLOCK_BYTES)):
                self.digest.update(block)
                self.size += len(block)
                bar.update(len(block))

    def _check_finished(self) -> None:
        size, expected = self.path.stat().st_size, self.download.num_bytes
        found = wanted = ""
        if expected is not None and size != expected:
            found, wanted = f"{size} bytes", f"{expected}"
        elif self.download.md5:
            self._hash_file(self.path)
            if self.digest.hexdigest() != self.download.md5.lower():
                found, wanted = f"md5 {self.digest.hexdigest()}", f"{self.download.md5}"
        if found:
            raise DownloadError(
                f"{self.path} is not the published file ({found}, published {wanted}); "
                "delete or move it to fetch that."
            )

    def _take_up_part(self) -> None:
        if self.total is not None and self.part.stat().st_size > self.total:
            self._start_over()
        elif self.download.md5:
            self._hash_file(self.part)
        else:
            self.size = self.part.stat().st_size

    def _start_over(self) -> None:
        self.part.write_bytes(b"")
        self.size = 0
        self.digest = _new_digest()

    def _check_part(self) -> None:
        if self.total is not None and self.size != self.total:
            self.part.unlink()
            raise DownloadError(
                f"{self.url} sent {self.size} bytes, expected {self.total}; "
                f"they are deleted, run the command again or {self.remedy}."
            )
        expected, found = self.download.md5.lower(), self.digest.hexdigest()
        if expected and found != expected:
            self.part.unlink()
            raise DownloadError(
                f"{self.url} arrived damaged or is not the published file: {self.download.file} has md5 "
                f"{found}, expected {expected}; it is deleted, run the command again or {self.remedy}."
            )

    def _fetch_patiently(self) -> None:
        """Requests until the part is whole."""
        failures = 0
        while True:
            before = self.size
            try:
                self._fetch()
                return
            except _InterruptedTransfer as error:
                failures = 1 if self.size > before else failures + 1
                if failures > self.options.retries:
                    kept = f"the {self.size} bytes that came are kept; " if self.size else ""
                    raise DownloadError(
                        f"{self.url}: {error}, {failures} times in a row; {kept}"
                        f"run the command again later, or {self.remedy}."
                    ) from error
                wait = self.options.wait_seconds * 2 ** (failures - 1)
                time.sleep(min(max(wait, error.wait_seconds), _LONGEST_WAIT_SECONDS))

    def _fetch(self) -> None:
        """One request for what is missing."""
        headers = {"User-Agent": f"mt3/{mt3.__version__}", "Accept-Encoding": "identity"}
        if self.size:
            headers["Range"] = f"bytes={self.size}-"
        request = urllib.request.Request(self.url, headers=headers)
        try:
            response = urllib.request.urlopen(request, timeout=self.options.timeout_seconds)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416 and self.size:
                    self._settle_unsatisfiable(error.headers.get("Content-Range", ""))
                    return
                raise self._refusal(error) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._connection_failure(error) from error
        with response:
            self._read_headers(response)
            self._append(response)
        if self.total is not None and self.size < self.total:
            raise _InterruptedTransfer(f"the connection was cut after {self.size} of {self.total} bytes")

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        answer = f"the server answered {error.code} {error.reason}"
        if error.code in _PASSING_STATUSES:
            pause = error.headers.get("Retry-After", "")
            return _InterruptedTransfer(answer, float(pause) if pause.isdecimal() else 0.0)
        return DownloadError(f"{self.url}: {answer}; {self.remedy}.")

    def _connection_failure(self, error: Exception) -> Exception:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            return DownloadError(
                f"{self.url}: the server's certificate is not trusted ({reason.verify_message}); "
                f"check the clock and the system's certificates, or {self.remedy}."
            )
        return _InterruptedTransfer(f"the server cannot be reached ({_one_line(reason)})")

    def _settle_unsatisfiable(self, content_range: str) -> None:
        """After "nothing from there on": the part is whole, or it is of another file."""
        found = re.fullmatch(r"bytes \*/(\d+)", content_range.strip())
        if not found or int(found[1]) != self.size:
            self._start_over()
            raise _InterruptedTransfer("the server has no such range")
        self._settle_total(int(found[1]))

    def _read_headers(self, response: http.client.HTTPResponse) -> None:
        """Learns the total; starts over where the answer is not what was asked for."""
        if response.headers.get_content_type() == "text/html" and self.path.suffix not in (".html", ".htm"):
            raise DownloadError(f"{self.url} answered with a web page, not the file; {self.remedy}.")
        length = response.headers.get("Content-Length")
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            content_range = response.headers.get("Content-Range", "")
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", content_range.strip())
            if not found or int(found[1]) != self.size or self._has_changed(response):
                self._start_over()
                raise _InterruptedTransfer("the server did not continue the file from where it broke off")
            self._settle_total(int(found[2]))
        else:
            if length is not None:
                self._settle_total(int(length))
            self._start_over()

    def _has_changed(self, response: http.client.HTTPResponse) -> bool:
        """Whether the server's file is newer than the part; where there is a checksum, that decides."""
        modified = response.headers.get("Last-Modified")
        if self.download.md5 or not modified:
            return False
        with contextlib.suppress(ValueError):
            return email.utils.parsedate_to_datetime(modified).timestamp() > self.part.stat().st_mtime
        return False

    def _settle_total(self, total: int) -> None:
        expected = self.download.num_bytes
        if expected is not None and total != expected:
            raise DownloadError(
                f"{self.url} has {total} bytes, the published {self.download.file} {expected}; {self.remedy}."
            )
        self.total = total

    def _append(self, response: http.client.HTTPResponse) -> None:
        with self.part.open("ab") as file, self._bar(self.download.file, self.total) as bar:
            bar.update(self.size)
            for block in _blocks(response):
                file.write(block)
                self.digest.update(block)
                self.size += len(block)
                bar.update(len(block))


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body in blocks; what goes wrong is told apart from what goes wrong with the disk."""
    while True:
        try:
            block = response.read(_BLOCK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _InterruptedTransfer(f"the connection broke ({_one_line(error)})") from error
        if not block:
            return
        yield block


@contextlib.contextmanager
def _reporting_disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DownloadError(
            f"{path} cannot be read or written ({error.strerror or error}); what has come is kept: "
            "make room or name another folder, and run the command again to go on."
        ) from error


def _new_digest() -> Any:
    return hashlib.md5(usedforsecurity=False)  # what the publishers give; against damage, not attacks


def _one_line(error: object) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
