"""Sources: folders, files and globs in, each image file once out; nothing odd in a folder stops the walk."""

from __future__ import annotations

import os
import socket

import pytest
from drawn import RED, plain, save
from hypothesis import given, settings
from hypothesis import strategies as st

from imagier.sources import check, root, scan
from imagier.types import SourceError


def names(*sources, **more) -> list[str]:
    return [each.name for each in scan(list(sources), **more).files]


def problems(*sources) -> dict[str, str]:
    return {each.name: each.problem for each in scan(list(sources)).files if each.problem}


@pytest.fixture
def folder(tmp_path):
    """a.png, deep/b.JPG, deep/deeper/c.tif, notes.txt, .hidden.png, .git/d.png"""
    base = tmp_path / "photos"
    for name in ("a.png", "deep/b.JPG", "deep/deeper/c.tif", ".hidden.png", ".git/d.png"):
        save(base / name, plain(RED))
    (base / "notes.txt").write_text("x")
    return base


def test_a_folder_is_walked_whole_and_what_is_no_image_is_counted(folder):
    found = scan([folder])
    assert [each.name for each in found.files] == ["a.png", "deep/b.JPG", "deep/deeper/c.tif"]
    assert found.skipped == 1
    assert all(each.source == str(folder) and each.problem is None for each in found.files)
    assert [each.size for each in found.files] == [os.stat(each.path).st_size for each in found.files]
    assert [each.mtime_ns for each in found.files] == [os.stat(each.path).st_mtime_ns for each in found.files]


def test_a_file_named_itself_is_taken_whatever_its_suffix(folder):
    assert names(folder / "notes.txt") == ["notes.txt"]
    assert names(folder / ".hidden.png") == [".hidden.png"]


def test_a_glob_names_files_relative_to_what_stands_before_its_pattern(folder):
    assert names(f"{folder}/**/*.JPG") == ["deep/b.JPG"]
    assert names(f"{folder}/*") == ["a.png", "deep/b.JPG", "deep/deeper/c.tif"]
    assert names(f"{folder}/*.txt") == []


def test_relative_sources_and_dots(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    for source in ("photos", "photos/", "./photos", "photos/deep/.."):
        assert [each.source for each in scan([source]).files] == [str(folder)] * 3


def test_a_file_that_several_sources_lead_to_is_found_once(folder):
    found = scan([folder / "deep", folder, f"{folder}/**/*.JPG", folder / "deep" / "b.JPG"]).files
    assert len({each.path for each in found}) == len(found) == 3


@pytest.mark.parametrize("name", ["nowhere", "nowhere/*.png", "photos/*.xyz", "photos/[", ""])
def test_what_is_not_there_is_refused(folder, monkeypatch, name):
    monkeypatch.chdir(folder.parent)
    with pytest.raises(SourceError):
        check(name)


def test_a_folder_whose_name_looks_like_a_glob_is_a_folder(folder):
    odd = folder.rename(folder.with_name("batch [1]*"))
    assert check(odd) == str(odd)
    assert names(odd) == ["a.png", "deep/b.JPG", "deep/deeper/c.tif"]
    assert names(f"{odd}/*.png") == ["a.png"], "a glob below a folder whose name has brackets"


def test_the_root_of_each_kind_of_source(folder):
    assert root(str(folder)) == str(folder)
    assert root(str(folder / "a.png")) == str(folder)
    assert root(f"{folder}/**/*.png") == str(folder)
    assert root(f"{folder}/de?p/*.png") == str(folder)


# ---------------------------------------------------------------- links


def test_links_to_folders_are_followed_once_and_cycles_end(folder):
    (folder / "deep" / "up").symlink_to(folder)
    (folder / "deep" / "self").symlink_to(folder / "deep")
    (folder / "zdeep").symlink_to(folder / "deep")
    assert names(folder) == ["a.png", "deep/b.JPG", "deep/deeper/c.tif"]


def test_links_to_files_are_files(folder):
    (folder / "link.png").symlink_to(folder / "a.png")
    assert "link.png" in names(folder)
    assert problems(folder) == {}


def test_a_dangling_link_is_told(folder):
    (folder / "link.png").symlink_to(folder / "nowhere.png")
    assert problems(folder) == {"link.png": "a link to a file that is not there"}
    assert problems(folder / "link.png") == {"link.png": "a link to a file that is not there"}


@pytest.mark.parametrize("name", ["loop.png", "loop"])
def test_a_link_to_itself_stops_nothing(folder, name):
    (folder / name).symlink_to(folder / name)
    assert "a.png" in names(folder)


def test_a_glob_through_a_cycle_finds_each_file_once(folder):
    (folder / "deep" / "up").symlink_to(folder)
    paths = [os.path.realpath(each.path) for each in scan([f"{folder}/**/*.png"]).files]
    assert len(paths) == len(set(paths))


# ---------------------------------------------------------------- collections


def test_collections_are_left_out(folder):
    save(folder / "out" / "plots" / "p.png", plain(RED))
    assert "out/plots/p.png" in names(folder)
    assert "out/plots/p.png" not in names(folder, beside=folder / "out")
    (folder / "out" / "collection.json").write_text("{}")
    (folder / "out" / "receipts").mkdir()
    assert "out/plots/p.png" not in names(folder)
    assert "out/plots/p.png" not in names(f"{folder}/**/*.png")


def test_the_collection_is_left_out_of_a_glob(folder):
    save(folder / "out" / "plots" / "p.png", plain(RED))
    assert "out/plots/p.png" not in names(f"{folder}/**/*.png", beside=folder / "out")


# ---------------------------------------------------------------- odd things in a folder


def test_a_folder_named_like_an_image_is_told_but_one_that_holds_images_is_a_folder(folder):
    (folder / "empty.png").mkdir()
    save(folder / "full.png" / "x.png", plain(RED))
    assert problems(folder) == {"empty.png": "is a directory, not a file"}
    assert "full.png/x.png" in names(folder)


def test_what_is_no_plain_file_is_told_and_never_opened(folder, tmp_path, monkeypatch):
    os.mkfifo(folder / "pipe.png")
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket.png")
        (folder / "zero.png").symlink_to("/dev/zero")
        assert set(problems(folder)) == {"pipe.png", "socket.png", "zero.png"}


def test_a_name_that_is_no_unicode_is_told(folder):
    os.close(os.open(os.fsencode(folder) + b"/caf\xe9.png", os.O_CREAT | os.O_WRONLY))
    ((name, problem),) = problems(folder).items()
    assert name == "caf\\udce9.png"
    assert "Unicode" in problem


def test_a_source_whose_name_is_no_unicode_is_refused(tmp_path):
    odd = os.fsencode(tmp_path) + b"/caf\xe9"
    os.makedirs(odd)
    os.close(os.open(odd + b"/a.png", os.O_CREAT | os.O_WRONLY))
    with pytest.raises(SourceError, match="not valid Unicode"):
        scan([os.fsdecode(odd)])


def test_a_folder_that_cannot_be_read_is_told(folder, monkeypatch):
    scandir = os.scandir

    def refuse(path="."):
        if os.fspath(path).endswith("deeper"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert problems(folder) == {"deep/deeper": "folder cannot be read: Permission denied"}


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_any_name_is_found(tmp_path_factory, text):
    base = tmp_path_factory.mktemp("any")
    name = text.lstrip(".") or "x"
    try:
        (base / f"{name}.png").write_bytes(b"x")
    except OSError:
        return  # the file system's own limits
    assert names(base) == [f"{name}.png"]
    (found,) = scan([base]).files
    assert os.path.samefile(found.path, base / f"{name}.png")
