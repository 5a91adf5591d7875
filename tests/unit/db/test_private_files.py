"""What others could have read or put in place is not used, as ssh does not."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from api.local.first_start import role_passwords
from api.local.home.home import Home
from api.local.home.instance import find_running, read_state
from api.local.home.refusals import StackError, StackExit
from api.local.home.secret_files import read_or_make, write_private
from db.errors import SettingsError
from db.private_files import why_others_may_read, why_others_may_write
from db.sealing.keys import LocalKeyFile
from db.settings import Role, StoreSettings
from workers.engines.calibration import findings
from workers.engines.calibration.findings import Finding

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="a file is given to another user, which takes root")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """With what a stack keeps in it."""
    home = Home(tmp_path / "above" / "home")
    home.prepare()
    LocalKeyFile.create(home.keys / "kek.json")
    for path, text in (
        (home.secrets / "api-key", "tm_x"),
        (home.secrets / "db-api", "password"),
        (home.run / "state.json", '{"api": "http://127.0.0.1:1"}'),
        (home.run / "up.pid", "1 1 x"),
        (home.run / "database.url", "postgresql://localhost/textmill"),
        (home.run / "redis.url", "redis://localhost/0"),
    ):
        write_private(path, text)
    return home


READERS: dict[str, Callable[[Home], object]] = {
    "keys/kek.json": lambda home: LocalKeyFile.load(home.keys / "kek.json"),
    "secrets/api-key": lambda home: read_or_make(home.secrets / "api-key"),
    "secrets/db-api": lambda home: StoreSettings(home=home.path).database_url_for(Role.API),
    "run/database.url": lambda home: StoreSettings(home=home.path).database_url_for(Role.API),
    "run/redis.url": lambda home: StoreSettings(home=home.path).broker_url(),
    "run/state.json": read_state,
    "run/up.pid": find_running,
}
readers = pytest.mark.parametrize("name", READERS)


@readers
def test_what_is_this_users_alone_is_read(name: str, home: Home) -> None:
    """The control of all that follow."""
    READERS[name](home)


@readers
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o666])
def test_a_file_that_others_may_read_or_write_is_refused(name: str, mode: int, home: Home) -> None:
    (home.path / name).chmod(mode)
    with pytest.raises(SettingsError, match=rf"may be read by others \(mode 0{mode:o}\): run `chmod 600 ") as caught:
        READERS[name](home)
    assert str(home.path / name) in caught.value.message


@readers
@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"abc\x00def", b"p\xe4ssword"])
def test_a_file_that_holds_no_text_is_refused_and_of_a_stack_none_is_read(name: str, content: bytes, home: Home) -> None:
    (home.path / name).write_bytes(content)
    if name in ("run/state.json", "run/up.pid"):
        assert not READERS[name](home)
        return
    with pytest.raises(SettingsError, match=r"restore it from your backup\.") as caught:
        READERS[name](home)
    assert str(home.path / name) in caught.value.message


@readers
@as_root
def test_a_file_of_another_user_is_refused(name: str, home: Home) -> None:
    os.chown(home.path / name, NOBODY, NOBODY)
    with pytest.raises(SettingsError, match=r"belongs to another user \(uid 65534\)"):
        READERS[name](home)


@readers
@pytest.mark.parametrize("place", ["home/{}", "home", "."])
def test_a_file_is_refused_where_others_could_replace_it_or_a_folder_above(name: str, place: str, home: Home) -> None:
    folder = home.path.parent / place.format(Path(name).parent)
    folder.chmod(0o777)
    with pytest.raises(SettingsError, match=r"may be written by others \(mode 0777\)") as caught:
        READERS[name](home)
    assert f"`chmod go-w {folder}`" in caught.value.message


@readers
def test_the_sticky_bit_saves_what_stands_in_a_folder(name: str, home: Home) -> None:
    home.path.parent.chmod(0o1777)
    READERS[name](home)


@readers
def test_a_link_is_judged_by_where_it_lies_and_where_it_leads(name: str, home: Home, tmp_path: Path) -> None:
    place, elsewhere = home.path / name, tmp_path / "elsewhere"
    elsewhere.mkdir()
    place.rename(elsewhere / "kept")
    place.symlink_to(elsewhere / "kept")
    READERS[name](home)
    elsewhere.chmod(0o777)
    with pytest.raises(SettingsError, match="may be written by others"):
        READERS[name](home)


@as_root
def test_what_root_gives_to_a_group_is_for_its_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kubernetes lays down a secret: root's, and readable by the group of the pod, whose user is another."""
    path = tmp_path / "secret"
    write_private(path, "x")
    for mode, passes in ((0o440, True), (0o444, False), (0o460, False)):
        path.chmod(mode)
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
        assert (why_others_may_read(path, path.stat()) is None) is passes
        monkeypatch.undo()
        assert why_others_may_read(path, path.stat()) is not None, "of root itself"


@as_root
def test_a_folder_that_a_users_own_group_may_write_is_theirs_alone(tmp_path: Path) -> None:
    """Many systems give each user a group, and let it write by default."""
    tmp_path.chmod(0o770)
    assert why_others_may_write(tmp_path) is None
    os.chown(tmp_path, -1, 4)  # of some other group
    assert "chmod go-w" in str(why_others_may_write(tmp_path))
    assert why_others_may_write(tmp_path, group=False) is None


FOLDERS = ["", "keys", "secrets", "run", "logs", "valkey", "models", "flower", "calibration", "postgres"]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("mode", [0o777, 0o702, 0o1777])
def test_no_stack_starts_in_a_home_that_others_may_write(folder: str, mode: int, home: Home) -> None:
    """To close it now would hide that somebody may have been there."""
    (home.path / folder).mkdir(exist_ok=True)
    assert home.why_not_ours() is None
    (home.path / folder).chmod(mode)
    with pytest.raises(StackError, match="may be written by others") as caught:
        home.prepare()
    assert caught.value.exit_code is StackExit.BAD_HOME
    assert home.why_not_ours() == caught.value.message, "doctor says the same"


@as_root
@pytest.mark.parametrize("folder", [each for each in FOLDERS if each != "postgres"])
def test_no_stack_starts_in_folders_of_another_user(folder: str, home: Home) -> None:
    (home.path / folder).mkdir(exist_ok=True)
    os.chown(home.path / folder, NOBODY, -1)
    with pytest.raises(StackError, match="belongs to another user"):
        home.prepare()


def test_a_home_that_others_may_only_look_at_is_used_and_its_rooms_are_closed(home: Home) -> None:
    home.path.chmod(0o755)
    for folder in FOLDERS[1:]:
        (home.path / folder).mkdir(exist_ok=True)
        (home.path / folder).chmod(0o755)
    home.prepare()
    assert {folder: (home.path / folder).stat().st_mode & 0o777 for folder in FOLDERS[1:]} == dict.fromkeys(FOLDERS[1:], 0o700)


FOUND = Finding("a model", "its digest", True, 64, 1.0, ())
MAKERS: dict[str, Callable[[Path], object]] = {
    "a key file": lambda home: LocalKeyFile.create(home / "keys" / "kek.json"),
    "a finding": lambda home: findings.keep(home / "calibration", "x", FOUND),
    "a calibration that waits": lambda home: findings.alone(home / "calibration").__enter__(),
    "a calibration that tries": lambda home: findings.attempts(home / "calibration", "x").trying("onnx").__enter__(),
    "passwords": lambda home: role_passwords(Home(home)),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_whatever_makes_a_home_makes_it_for_this_user_alone(make: Callable[[Path], object], tmp_path: Path) -> None:
    """`calibrate` and `keys` may run before the first `up`, which then must not refuse what they made."""
    home, before = tmp_path / "above" / "home", os.umask(0)
    try:
        make(home)
    finally:
        os.umask(before)
    made = [home.parent, home, *(folder for folder in home.iterdir() if folder.is_dir())]
    assert [folder.stat().st_mode & 0o777 for folder in made] == [0o700] * 3
    Home(home).prepare()


@as_root
def test_what_else_lies_in_a_home_is_left_as_it_is(home: Home, tmp_path: Path) -> None:
    """A volume of its own has a lost+found, and people keep things where they please: nothing there is run or believed."""
    (home.path / "lost+found").mkdir(mode=0o700)
    os.chown(home.path / "lost+found", NOBODY, NOBODY)
    (home.path / "notes").mkdir()
    (home.path / "notes").chmod(0o777)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o755)
    (home.path / "link").symlink_to(elsewhere)
    (home.path / "models").rmdir()
    (home.path / "models").symlink_to(elsewhere)
    home.prepare()
    assert home.why_not_ours() is None
    assert [folder.stat().st_mode & 0o777 for folder in (home.path / "notes", elsewhere)] == [0o777, 0o755]


@as_root
def test_a_room_that_leads_to_another_users_folder_is_refused(home: Home, tmp_path: Path) -> None:
    """The control."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    os.chown(tmp_path / "elsewhere", NOBODY, -1)
    (home.path / "models").rmdir()
    (home.path / "models").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StackError, match="belongs to another user"):
        home.prepare()
