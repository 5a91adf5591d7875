"""Keys: the file of the KEK is looked after, wrapped keys that were touched do not unwrap, and memory holds only so many."""

import base64
import errno
import json
import os
import stat
from pathlib import Path

import pytest

from db.errors import SealError, SettingsError
from db.sealing.keys import LocalKeyFile

SECRET = b"k" * 32


def write_key(path: Path, *, mode: int = 0o600, **changes: object) -> Path:
    path.write_text(json.dumps({"version": 1, "kek_id": "one", "key": base64.b64encode(SECRET).decode(), **changes}))
    path.chmod(mode)
    return path


# The key file


def test_a_new_key_file_is_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "kek.json"
    mask = os.umask(0)
    try:
        made = LocalKeyFile.create(path)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    loaded = LocalKeyFile.load(path)
    assert loaded.kek_id == made.kek_id
    assert loaded.unwrap(made.wrap(b"key", b"bound"), b"bound") == b"key"


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = write_key(tmp_path / "kek.json")
    before = path.read_bytes()
    with pytest.raises(SettingsError, match="never overwritten"):
        LocalKeyFile.create(path)
    assert path.read_bytes() == before


def test_a_full_disk_leaves_no_half_a_key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be taken for a damaged one for ever after, and there is no backup of it."""

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "kek.json"
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            LocalKeyFile.create(path)
    assert not path.exists()
    assert LocalKeyFile.create(path).kek_id == LocalKeyFile.load(path).kek_id


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666, 0o777])
def test_a_key_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = write_key(tmp_path / "kek.json", mode=mode)
    with pytest.raises(SettingsError, match=f"chmod 600 {path}"):
        LocalKeyFile.load(path)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_file_of_its_user_alone_is_read(tmp_path: Path, mode: int) -> None:
    assert LocalKeyFile.load(write_key(tmp_path / "kek.json", mode=mode)).kek_id == "one"


def test_a_missing_key_file_says_how_to_come_by_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"No key file at .*TEXTMILL_KEK_FILE"):
        LocalKeyFile.load(tmp_path / "kek.json")
    with pytest.raises(SettingsError, match="cannot be read"):
        LocalKeyFile.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b'"text"',
        b"\xff\xfe" + SECRET,
        b'{"version": 1}',
        b'{"version": 1, "kek_id": "one", "key": "not base64!"}',
        b'{"version": 1, "kek_id": "one", "key": 5}',
        b'{"version": 1, "kek_id": "one", "key": "' + base64.b64encode(SECRET[:31]) + b'"}',
        b'{"version": 1, "kek_id": "one", "key": "' + base64.b64encode(SECRET)[:-6],
    ],
)
def test_a_damaged_key_file_says_so_and_shows_nothing_of_itself(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kek.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="is damaged: restore it") as caught:
        LocalKeyFile.load(path)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert "kkk" not in str(caught.value)


def test_a_key_file_of_a_later_version_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="newer version"):
        LocalKeyFile.load(write_key(tmp_path / "kek.json", version=2))


def test_a_wrapped_key_opens_bound_as_it_was_and_unchanged_only() -> None:
    kek = LocalKeyFile("one", SECRET)
    wrapped = kek.wrap(b"key", b"bound")
    assert kek.wrap(b"key", b"bound") != wrapped
    broken = [wrapped[:at] + bytes((wrapped[at] ^ 1,)) + wrapped[at + 1 :] for at in range(len(wrapped))]
    broken += [wrapped[:size] for size in range(len(wrapped))]
    for value in broken:
        with pytest.raises(SealError):
            kek.unwrap(value, b"bound")
    with pytest.raises(SealError):
        kek.unwrap(wrapped, b"bounds")
    with pytest.raises(SealError):
        LocalKeyFile("one", bytes(32)).unwrap(wrapped, b"bound")


# The ring, over the database
