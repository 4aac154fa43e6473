"""Anonymous names: stable under a key, telling nothing without it; a key that is damaged is never replaced."""

import hashlib
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobeff.errors import JobeffError
from jobeff.views import anonymous
from jobeff.views.anonymous import DIGITS, KEY_FILE, Anonymous

KEY = bytes(range(32))
names = st.text(st.characters(), max_size=40)


def hmac_sha256(key, text):
    """As RFC 2104 says it."""
    padded = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded) + text).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in padded) + inner).hexdigest()


@given(st.sampled_from(sorted(DIGITS)), names)
def test_a_name_is_that_of_its_key_and_kind(kind, name):
    text = kind.encode() + b"\0" + name.encode("utf-8", "surrogatepass")
    assert Anonymous(KEY).name(kind, name) == f"{kind}-{hmac_sha256(KEY, text)[: DIGITS[kind]]}"


@given(names)
def test_kinds_and_keys_have_nothing_in_common(name):
    found = {Anonymous(key).name(kind, name)[-10:] for key in (KEY, KEY[::-1]) for kind in ("user", "project", "node")}
    assert len(found) == 6


def test_many_names_stay_apart():
    turned = Anonymous(KEY)
    assert len({turned.name("user", f"user{i}") for i in range(10_000)}) == 10_000
    assert len({turned.name("job", f"run_{i}.sh") for i in range(200_000)}) == 200_000


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path):
    umask = os.umask(0)
    try:
        first = anonymous.load(tmp_path)
    finally:
        os.umask(umask)
    path = tmp_path / "db" / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert anonymous.load(tmp_path).name("user", "ann") == first.name("user", "ann")
    assert anonymous.load(tmp_path, path).fingerprint == first.fingerprint
    path.unlink()
    assert anonymous.load(tmp_path).fingerprint != first.fingerprint


def test_a_new_key_is_durable_before_it_is_used(tmp_path, monkeypatch):
    (tmp_path / "db").mkdir()
    synced = []
    monkeypatch.setattr(anonymous, "sync_folder", lambda folder: synced.append((folder / KEY_FILE).read_text()))
    used = anonymous.load(tmp_path)
    assert [Anonymous(bytes.fromhex(text)).fingerprint for text in synced] == [used.fingerprint]


@pytest.mark.parametrize("content", [b"", b"00" * 31, b"x" * 64, b"\0" * 64, b"\xff" * 100, b"0" * 4000])
def test_what_is_no_key_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "db" / KEY_FILE
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(JobeffError, match=r"hexadecimal digits.*backup"):
        anonymous.load(tmp_path)
    assert path.read_bytes() == content


def test_a_key_that_others_read_a_pipe_and_a_link_are_refused(tmp_path):
    path = tmp_path / "db" / KEY_FILE
    anonymous.load(tmp_path)
    path.chmod(0o644)
    with pytest.raises(JobeffError, match=r"everybody.*chmod o="):
        anonymous.load(tmp_path)
    path.chmod(0o600)
    moved = path.rename(tmp_path / "key")
    path.symlink_to(moved)
    with pytest.raises(JobeffError, match="cannot use the key"):
        anonymous.load(tmp_path)
    assert anonymous.load(tmp_path, path).name("user", "x")
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(JobeffError, match="not a regular file"):
        anonymous.load(tmp_path)


def test_a_configured_key_is_never_made(tmp_path):
    with pytest.raises(JobeffError, match=r"no such file.*anonymous_key"):
        anonymous.load(tmp_path, tmp_path / "elsewhere")
    assert list(tmp_path.iterdir()) == []


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Anonymous(KEY[:31])


def test_a_key_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    """A part of a key would be taken for one by nobody, and be in the way for ever."""

    synced = os.fsync

    def full(handle):
        if Path(f"/proc/self/fd/{handle}").readlink().name == f"{KEY_FILE}.tmp":
            raise OSError(28, "No space left on device")
        synced(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JobeffError, match=r"cannot use the key.*No space left on device"):
        anonymous.load(tmp_path)
    assert [path.name for path in (tmp_path / "db").iterdir() if not path.name.endswith(".lock")] == []
    monkeypatch.undo()
    assert anonymous.load(tmp_path).fingerprint == anonymous.load(tmp_path).fingerprint
