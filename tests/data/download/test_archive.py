"""A zip of a stranger writes into its folder only, and no more than is stated."""

import io
import stat
import zipfile

import pytest
from hosts import zip_of

from recbole_genci.data.download import archive
from recbole_genci.data.download.archive import unpack
from recbole_genci.data.download.http import SourceError


def unpacked(tmp_path, content, wanted=lambda name: True):
    (tmp_path / "a.zip").write_bytes(content)
    (tmp_path / "room/folder").mkdir(parents=True)
    return unpack(tmp_path / "a.zip", tmp_path / "room/folder", wanted)


def files_below(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_wanted_members_are_written_with_their_folders(tmp_path):
    content = zip_of({"ml-1m/": "", "ml-1m/ratings.dat": "1::1::5::1\n", "ml-1m/README": "no"})
    files = unpacked(tmp_path, content, lambda name: name.suffix == ".dat")
    assert files == [tmp_path / "room/folder/ml-1m/ratings.dat"]
    assert files[0].read_text() == "1::1::5::1\n"
    assert files_below(tmp_path / "room") == ["folder/ml-1m/ratings.dat"]


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "a/../../outside",
        "/etc/outside",
        "//host/outside",
        "C:/outside",
        "c:outside",
        "..\\outside",
        "a\\b",
        "ml-1m/ratings.dat\0.txt",
    ],
)
def test_a_member_outside_the_folder_refuses_the_whole_archive(tmp_path, name):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as zipped:
        zipped.writestr("ml-1m/good.dat", "good")
        member = zipfile.ZipInfo("placeholder")
        member.filename = name  # past what the constructor mends
        zipped.writestr(member, "bad")
    # Not even where the member itself is not wanted, and nothing of it before.
    with pytest.raises(SourceError, match="which would be written outside its folder"):
        unpacked(tmp_path, stream.getvalue(), lambda name: name.suffix == ".dat")
    assert files_below(tmp_path) == ["a.zip"]


def test_links_are_refused(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as zipped:
        member = zipfile.ZipInfo("ml-1m/ratings.dat")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(member, "/etc/passwd")
    with pytest.raises(SourceError, match="the link 'ml-1m/ratings.dat'"):
        unpacked(tmp_path, stream.getvalue())


def _forged(content, size):
    """The zip with ``size`` as its member's size, in both places that state it."""
    with zipfile.ZipFile(io.BytesIO(content)) as zipped:
        real = zipped.infolist()[0].file_size.to_bytes(4, "little")
    assert content.count(real) == 2
    return content.replace(real, size.to_bytes(4, "little"))


def test_a_member_of_ten_gigabytes_is_refused_before_a_byte_is_written(tmp_path):
    """A real one is a zip64; this one claims it there."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("ml-1m/ratings.dat", "0" * 1000)
        zipped.infolist()[0].file_size = 10 * 10**9
    with pytest.raises(SourceError, match="would unpack to 10.0 GB, of at most"):
        unpacked(tmp_path, stream.getvalue())
    assert files_below(tmp_path) == ["a.zip"]


def test_a_bomb_is_refused_by_its_ratio(tmp_path):
    with pytest.raises(SourceError, match="would unpack to 10.0 MB, of at most"):
        unpacked(tmp_path, zip_of({"ratings.dat": b"0" * 10**7}))


def test_a_bomb_whose_header_lies_is_stopped_by_the_bytes(tmp_path):
    content = _forged(zip_of({"ratings.dat": b"0" * 10_000_001}), 1000)
    # zipfile stops at the stated size, where the checksum is wrong.
    with pytest.raises(SourceError, match="a damaged zip file"):
        unpacked(tmp_path, content)
    assert sum(p.stat().st_size for p in (tmp_path / "room").rglob("*") if p.is_file()) <= 1000


def test_the_bytes_are_counted_whatever_the_headers_say(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_check_members", lambda members, limit: None)
    monkeypatch.setattr(archive, "_CHUNK", 1000)
    content = zip_of({"ratings.dat": b"0" * 10**7})
    with pytest.raises(SourceError, match="unpacks to more than"):
        unpacked(tmp_path, content)
    written = sum(p.stat().st_size for p in (tmp_path / "room").rglob("*") if p.is_file())
    assert written <= archive.MAX_RATIO * len(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c[: len(c) // 2],
        lambda c: b"PK\x03\x04" + c[4:30] + b"x" * len(c),
        lambda c: c.replace(c[60:70], b"y" * 10, 1),
    ],
)
def test_damaged_archives_are_one_reason(tmp_path, damage):
    content = zip_of({"ratings.dat": "".join(f"{n}::{n * 7 % 13}::5::{n}\n" for n in range(500))})
    with pytest.raises(SourceError, match="a damaged zip file"):
        unpacked(tmp_path, damage(content))


def test_encrypted_members_and_too_many_of_them_are_refused(tmp_path, monkeypatch):
    content = bytearray(zip_of({"ratings.dat": "1"}))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(SourceError, match="a damaged zip file.*encrypted"):
        unpacked(tmp_path, bytes(content))
    monkeypatch.setattr(archive, "MAX_MEMBERS", 2)
    (tmp_path / "b.zip").write_bytes(zip_of({name: "1" for name in "abc"}))
    with pytest.raises(SourceError, match="with 3 members, of at most 2"):
        unpack(tmp_path / "b.zip", tmp_path / "room/folder", lambda name: True)


def test_a_damaged_lzma_member_is_a_damaged_zip(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as zipped:
        zipped.writestr("a.txt", bytes(range(256)) * 50)
    content = bytearray(archive.read_bytes())
    start = content.index(b"a.txt") + len("a.txt")
    content[start + 12 : start + 40] = b"\xff" * 28
    archive.write_bytes(content)
    (tmp_path / "out").mkdir()
    with pytest.raises(SourceError, match="a damaged zip file"):
        unpack(archive, tmp_path / "out", lambda name: True)
