"""The data directory of an embedded installation."""

import os
import stat
from pathlib import Path

import pytest

from services.cli import datadir
from services.cli.datadir import DataDir, Runtime
from services.cli.failure import Failure


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    made = DataDir(tmp_path / "installation")
    made.create()
    return made


def test_only_one_supervisor_holds_the_lock(data: DataDir) -> None:
    second = DataDir(data.path)
    assert data.lock()
    assert not second.lock()
    data.unlock()
    assert second.lock()
    second.unlock()


def test_it_is_running_while_the_lock_is_held(data: DataDir) -> None:
    assert not data.is_running()
    assert data.lock()
    assert data.is_running()
    data.unlock()
    assert not data.is_running()


def test_directories_are_closed_to_others(data: DataDir) -> None:
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (data.path, *data.path.iterdir())}
    assert modes == {0o700}


def test_files_are_closed_to_others_whatever_the_umask(data: DataDir) -> None:
    before = os.umask(0)
    try:
        datadir.write(data.runtime_file, {"a": 1})
    finally:
        os.umask(before)
    assert stat.S_IMODE(data.runtime_file.stat().st_mode) == 0o600


def test_a_runtime_file_left_by_a_killed_supervisor_is_not_believed(data: DataDir) -> None:
    datadir.write(data.runtime_file, Runtime("", "", "", "", "", "", {}))
    with pytest.raises(Failure, match="nothing is running"):
        data.runtime()


def test_a_damaged_file_is_named(data: DataDir) -> None:
    data.ports_file.write_text("{")
    with pytest.raises(Failure, match=r"ports\.json"):
        datadir.read(data.ports_file, dict[str, int])


def test_the_control_socket_has_a_short_address_in_a_deep_directory(tmp_path: Path) -> None:
    data = DataDir(tmp_path / ("d" * 200))
    data.create()
    assert len(data.control_path()) < 108


def test_a_directory_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failure) as caught:
        DataDir(tmp_path / "file" / "data").create()
    assert "--data-dir" in caught.value.hint
