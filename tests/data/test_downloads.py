"""Fetching published archives, from a server on this machine."""

import contextlib
import dataclasses
import hashlib
import http.server
import io
import os
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mt3.data import downloads
from mt3.data.downloads import DownloadError, TransferOptions, download_all, part_path, select_downloads
from mt3.data.sources.base import Download, Source

CONTENT = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
QUICK = TransferOptions(retries=3, wait_seconds=0.0, timeout_seconds=10.0)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`; `server.faults` are taken one a request."""

    def do_GET(self):
        server = self.server
        fault = server.faults.pop(0) if server.faults else ""
        server.requests.append((self.path, self.headers.get("Range")))
        if fault.isdecimal():
            self.send_response(int(fault))
            for name, value in server.error_headers.items():
                self.send_header(name, value)
            self.end_headers()
            return
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        first = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked and fault != "ignores ranges":
            first = int(asked[1])
            if first >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206)
            start = first + (fault == "another range")
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[first:]
        self.send_header("Content-Type", "text/html" if fault == "web page" else "application/zip")
        if server.last_modified:
            self.send_header("Last-Modified", server.last_modified)
        if fault != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "cut":
            body = body[:100_000]
        server.bytes_served += len(body)
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    """A running server of /set.zip; `address` is its folder."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.files, httpd.faults, httpd.requests, httpd.bytes_served = {"/set.zip": CONTENT}, [], [], 0
    httpd.error_headers, httpd.last_modified = {}, ""
    httpd.address = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def source(server, **options):
    """A dataset of one file."""
    download = Download(**{"url": f"{server.address}/set.zip", "file": "set.zip", "md5": MD5, **options})
    return Source("set", object, None, None, "CC0", homepage="https://set.org", downloads=[download])


def fetch(server, directory, **options):
    (path,) = download_all(source(server, **options), directory, progress=False, options=QUICK)
    return path


@pytest.mark.parametrize("known", [{}, {"num_bytes": len(CONTENT)}, {"md5": ""}])
def test_a_file_arrives_whole_under_its_name(server, tmp_path, known):
    path = fetch(server, tmp_path / "new" / "folder", **known)
    assert path == tmp_path / "new" / "folder" / "set.zip"
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["set.zip"]
    assert server.requests == [("/set.zip", None)]


def test_what_is_there_is_continued(server, tmp_path):
    part_path(tmp_path / "set.zip").write_bytes(CONTENT[:120_000])
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == [("/set.zip", "bytes=120000-")]
    assert server.bytes_served == 180_000


def test_a_server_that_ignores_ranges_starts_over(server, tmp_path):
    part_path(tmp_path / "set.zip").write_bytes(OTHER[:120_000])
    server.faults = ["ignores ranges"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.bytes_served == len(CONTENT)


def test_a_server_that_sends_another_range_is_not_believed(server, tmp_path):
    part_path(tmp_path / "set.zip").write_bytes(CONTENT[:120_000])
    server.faults = ["another range"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == ["bytes=120000-", None]


@pytest.mark.parametrize(("known", "num_requests"), [({}, 1), ({"num_bytes": len(CONTENT)}, 0)])
def test_a_whole_part_is_only_checked(server, tmp_path, known, num_requests):
    part_path(tmp_path / "set.zip").write_bytes(CONTENT)
    assert fetch(server, tmp_path, **known).read_bytes() == CONTENT
    assert (len(server.requests), server.bytes_served) == (num_requests, 0)


def test_a_part_longer_than_the_file_starts_over(server, tmp_path):
    part_path(tmp_path / "set.zip").write_bytes(CONTENT + b"more")
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == ["bytes=300004-", None]


def test_without_a_checksum_a_part_of_an_older_file_starts_over(server, tmp_path):
    part = part_path(tmp_path / "set.zip")
    part.write_bytes(OTHER[:120_000])
    server.last_modified = "Wed, 01 Jan 2020 00:00:00 GMT"
    os.utime(part, (1.5e9, 1.5e9))  # of 2017
    assert fetch(server, tmp_path, md5="").read_bytes() == CONTENT
    part.write_bytes(CONTENT[:120_000])
    (tmp_path / "set.zip").unlink()
    server.requests.clear()
    assert fetch(server, tmp_path, md5="").read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_cut_connection_is_taken_up_again(server, tmp_path):
    server.faults = ["cut", "cut"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=100000-", "bytes=200000-"]
    assert server.bytes_served == len(CONTENT)


def test_a_connection_that_stays_cut_keeps_the_part_and_the_next_run_goes_on(server, tmp_path):
    server.faults = ["cut", *["503"] * 10]
    with pytest.raises(DownloadError, match=r"503.*100000 bytes that came are kept") as error:
        fetch(server, tmp_path)
    assert "\n" not in str(error.value)
    assert part_path(tmp_path / "set.zip").stat().st_size == 100_000
    server.faults.clear()
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.bytes_served == len(CONTENT)


def test_a_short_body_without_a_length_is_noticed_by_the_published_size(server, tmp_path):
    server.files["/set.zip"] = CONTENT[:-1]
    server.faults = ["no length"] * 10
    with pytest.raises(DownloadError, match=r"has 299999 bytes, the published set\.zip 300000"):
        fetch(server, tmp_path, num_bytes=len(CONTENT))


@pytest.mark.parametrize("status", ["503", "500", "429"])
def test_passing_trouble_is_waited_out(server, tmp_path, status):
    server.faults = [status, status]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_waits_double_and_servers_may_ask_for_more(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    server.faults = ["503"] * 3
    download_all(source(server), tmp_path / "a", options=TransferOptions(wait_seconds=0.5))
    server.faults, server.error_headers = ["503", "503"], {"Retry-After": "7"}
    download_all(source(server), tmp_path / "b")
    assert waits == [0.5, 1.0, 2.0, 7.0, 7.0]


@pytest.mark.parametrize("status", ["404", "403"])
def test_a_refusal_is_final_and_says_what_to_do(server, tmp_path, status):
    server.faults = [status]
    with pytest.raises(DownloadError, match=rf"answered {status}.*by hand from https://set\.org") as error:
        fetch(server, tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(server.requests) == 1


def test_a_web_page_is_not_taken_for_the_file(server, tmp_path):
    server.faults = ["web page"]
    with pytest.raises(DownloadError, match="a web page, not the file"):
        fetch(server, tmp_path)


def test_an_unreachable_server_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    download = Download("http://host.invalid/set.zip", "set.zip")
    lost = Source("set", object, None, None, "CC0", downloads=[download])
    with pytest.raises(DownloadError, match=r"host\.invalid.* cannot be reached.*by hand") as error:
        download_all(lost, tmp_path, options=QUICK)
    assert "\n" not in str(error.value)


def test_a_wrong_checksum_deletes_the_part_and_names_both(server, tmp_path):
    server.files["/set.zip"] = OTHER
    with pytest.raises(DownloadError, match=f"set.zip has md5 {hashlib.md5(OTHER).hexdigest()}.* {MD5};"):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_checksum_is_of_the_old_part_too(server, tmp_path):
    part_path(tmp_path / "set.zip").write_bytes(OTHER[:1000])
    with pytest.raises(DownloadError, match="md5"):
        fetch(server, tmp_path)
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_server_with_a_file_of_another_size_is_refused_before_it_is_fetched(server, tmp_path):
    with pytest.raises(DownloadError, match=r"has 300000 bytes, the published set\.zip 299999"):
        fetch(server, tmp_path, num_bytes=299_999)
    assert not (tmp_path / "set.zip").exists()


def test_a_finished_file_is_not_fetched_again(server, tmp_path):
    (tmp_path / "set.zip").write_bytes(CONTENT)
    assert fetch(server, tmp_path, num_bytes=len(CONTENT)) == tmp_path / "set.zip"
    assert server.requests == []


@pytest.mark.parametrize(
    ("content", "message"), [(CONTENT[:-1], "299999 bytes, published 300000"), (OTHER, "md5")]
)
def test_another_file_of_that_name_is_reported_and_left(server, tmp_path, content, message):
    (tmp_path / "set.zip").write_bytes(content)
    with pytest.raises(DownloadError, match=rf"is not the published file.*{message}"):
        fetch(server, tmp_path, num_bytes=len(CONTENT))
    assert (tmp_path / "set.zip").read_bytes() == content
    assert server.requests == []


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_mirror_holds_the_files_under_their_names(server, tmp_path, ending):
    server.files = {"/copies/of/my%20set.zip": CONTENT}
    mirrored = source(server, url="https://set.invalid/record/1?download=1", file="my set.zip")
    (path,) = download_all(mirrored, tmp_path, mirror=f"{server.address}/copies/of{ending}", options=QUICK)
    assert path == tmp_path / "my set.zip"
    assert path.read_bytes() == CONTENT


def test_a_mirror_must_be_a_web_address(server, tmp_path):
    with pytest.raises(DownloadError, match="'/data' is no web address"):
        download_all(source(server), tmp_path, mirror="/data")


def in_variants(server, *variants):
    files = [Download(f"{server.address}/set.zip", f"{v or 'all'}.zip", MD5, variant=v) for v in variants]
    return dataclasses.replace(source(server), downloads=files)


def test_a_variant_brings_its_own_files_and_those_of_all(server, tmp_path):
    several = in_variants(server, "v1", "", "v2")
    assert [path.name for path in download_all(several, tmp_path, variant="v2", options=QUICK)] == [
        "all.zip",
        "v2.zip",
    ]
    with pytest.raises(DownloadError, match="choose v1 or v2"):
        download_all(several, tmp_path)
    with pytest.raises(DownloadError, match="no variant 'v3'; choose one of v1, v2"):
        download_all(several, tmp_path, variant="v3")
    assert [d.file for d in select_downloads(in_variants(server, "", "v1"))] == ["all.zip", "v1.zip"]
    with pytest.raises(DownloadError, match="it has none"):
        select_downloads(in_variants(server, ""), "v1")


def test_a_dataset_without_links_says_how_to_get_it(tmp_path):
    closed = Source("set", object, None, None, "by request", access="fill in the form at set.org")
    with pytest.raises(DownloadError, match=r"set has no direct link: fill in the form at set\.org"):
        download_all(closed, tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_and_the_part_stays(server, tmp_path):
    part = part_path(tmp_path / "set.zip")
    part.symlink_to("/dev/full")
    with pytest.raises(DownloadError, match=r"No space left on device.*kept") as error:
        fetch(server, tmp_path)
    assert "\n" not in str(error.value)
    assert part.is_symlink()


def test_a_bar_counts_from_where_it_broke_off(server, tmp_path, monkeypatch):
    bars = []

    class Bar(downloads.tqdm.tqdm):
        def __init__(self, **options):
            super().__init__(**{**options, "disable": False, "delay": 0, "file": io.StringIO()})
            bars.append((options["desc"], options["total"], options["disable"], self))

    monkeypatch.setattr(downloads.tqdm, "tqdm", Bar)
    part_path(tmp_path / "set.zip").write_bytes(CONTENT[:120_000])
    download_all(source(server), tmp_path, options=QUICK)
    (checked, *_), (fetched, total, disabled, bar) = bars
    assert (checked, fetched, total) == ("checking set.zip", "set.zip", 300_000)
    assert (disabled, bar.n) == (None, 300_000)
