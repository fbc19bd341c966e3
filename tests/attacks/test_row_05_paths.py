"""Row 5: a manifest whose paths lead elsewhere, or mean another file on another system."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from registry.ipfs.cid import RAW, Cid
from tests.attacks.hall import Case, Hall
from tests.attacks.registered_victim import manifest_for

pytestmark = pytest.mark.timeout(120)

PATHS = {
    "parent": ("../x", "has the component '..'"),
    "parents": ("../../../../etc/passwd", "has the component '..'"),
    "parent inside": ("a/../config.json", "has the component '..'"),
    "parent at the end": ("a/..", "has the component '..'"),
    "absolute": ("/etc/passwd", "has the component ''"),
    "double slash": ("a//b", "has the component ''"),
    "trailing slash": ("a/", "has the component ''"),
    "nothing": ("", "has the component ''"),
    "here": ("./a", "has the component '.'"),
    "here inside": ("a/./b", "has the component '.'"),
    "backslash": ("a\\b", "has a backslash"),
    "backslash parent": ("..\\x", "has a backslash"),
    "network share": ("\\\\host\\share\\x", "has a backslash"),
    "drive letter": ("C:x", "begins with a drive letter"),
    "drive letter and slash": ("c:/windows/x", "begins with a drive letter"),
    "NUL": ("config.json\0.txt", "has a control"),
    "newline": ("a\nb", "has a control"),
    "escape": ("\x1b[2Ja", "has a control"),
    "delete": ("a\x7fb", "has a control"),
    "right to left": ("a\u202egpj.exe", "has a control, invisible"),
    "zero width": ("config\u200b.json", "has a control, invisible"),
    "soft hyphen": ("con\u00adfig.json", "has a control, invisible"),
    "byte order mark": ("\ufeffconfig.json", "has a control, invisible"),
    "line separator": ("a\u2028b", "has a control, invisible"),
    "private use": ("a\ue000b", "has a control, invisible"),
    "unassigned": ("a\u0378b", "has a control, invisible"),
    "trailing dot": ("config.json.", "ends in a dot or a space"),
    "trailing space": ("config.json ", "ends in a dot or a space"),
    "trailing dots in a folder": ("a. ./b", "ends in a dot or a space"),
    "three dots": ("...", "ends in a dot or a space"),
    "256 bytes": ("a" * 256, "more than 255 bytes"),
    "256 bytes of UTF-8": ("\u00e9" * 128, "more than 255 bytes"),
    "2049 bytes": ("/".join(["a" * 200] * 11), "longer than 2048 bytes"),
    "33 levels": ("/".join(["a"] * 33), "33 levels|32 levels"),
    "decomposed": ("e\u0301.txt", "normal form C"),
    "Angstrom sign": ("\u212b.txt", "normal form C"),
}

TWINS = {
    "itself": ("config.json", "not sorted"),
    "case": ("Config.JSON", "looks like the same name"),
    "full width": ("\uff43onfig.json", "looks like the same name"),
    "mathematical": ("\U0001d41config.json", "looks like"),
    "Cyrillic": ("\u0441onfig.json", "looks like the same name"),
    "Greek": ("c\u03bfnfig.json", "looks like the same name"),
    "Kelvin sign": ("to\u212aenizer.json", "normal form C"),
    "long s": ("config.j\u017fon", "looks like the same name"),
    "dotless": ("conf\u0131g.json", "looks like the same name"),
    "ligature": ("con\ufb01g.json", "looks like the same name"),
    "a folder of its name": ("config.json/x", "is a file and also a folder"),
    "a folder of its other name": ("CONFIG.json/x", "is a file and also a folder"),
}


def with_path(hall: Hall, folder: Path, path: str) -> Case:
    """Record the folder's manifest with one more file of that path, whose block exists."""
    cid = hall.workspace.blocks.put(RAW, b"attack")
    manifest = manifest_for(hall, folder)
    entry = {"path": path, "size": 6, "cid": str(cid)}
    # Sorted as manifests must be, so that only the path can be what is refused.
    manifest["files"] = sorted([*manifest["files"], entry], key=lambda file: file["path"])
    return Case(hall.publish(manifest), folder)


@pytest.mark.parametrize("what", PATHS)
def test_a_manifest_with_a_path_that_is_none_is_refused(
    hall: Hall, folder: Path, what: str
) -> None:
    path, rule = PATHS[what]
    refusal = hall.refuses(with_path(hall, folder, path), rf"step 2 \(manifest\): files: .*{rule}")
    assert refusal.text.isprintable()
    assert path.encode("unicode_escape").decode()[:100] in refusal.text


@pytest.mark.parametrize("what", TWINS)
def test_a_manifest_with_two_names_for_one_file_is_refused(
    hall: Hall, folder: Path, what: str
) -> None:
    path, rule = TWINS[what]
    refusal = hall.refuses(with_path(hall, folder, path), rf"step 2 \(manifest\): files.*{rule}")
    assert refusal.text.isascii()


def test_a_lone_surrogate_in_a_path_is_refused(hall: Hall, folder: Path) -> None:
    manifest = manifest_for(hall, folder)
    manifest["files"][0] = {**manifest["files"][0], "path": "A\ud800"}
    hall.refuses(Case(hall.publish(manifest), folder), r"step 2 \(manifest\): not UTF-8")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a\\b", "e\u0301.txt", "C:x"])
def test_it_is_refused_from_blocks_and_from_an_index_of_tensors_too(
    hall: Hall, folder: Path, path: str
) -> None:
    hall.refuses(Case(with_path(hall, folder, path).id, None), r"step 2 \(manifest\): files:")
    manifest = manifest_for(hall, folder)
    manifest["tensors"][-1] = {**manifest["tensors"][-1], "file": path}
    manifest["tensors"].sort(key=lambda tensor: (tensor["file"], tensor["name"]))
    hall.refuses(Case(hall.publish(manifest), folder), r"step 2 \(manifest\): .*no listed weight")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a//b", "model.safetensors\0"])
def test_a_header_digest_for_a_path_that_is_none_is_refused(
    hall: Hall, folder: Path, path: str
) -> None:
    manifest = manifest_for(hall, folder)
    manifest["headers"] = [{**manifest["headers"][0], "path": path}]
    hall.refuses(Case(hall.publish(manifest), folder), r"step 2 \(manifest\): .*header")


def test_a_file_outside_is_not_read_whatever_a_manifest_calls_it(hall: Hall, folder: Path) -> None:
    """The file exists, its CID is right, and it stands where the path leads."""
    (folder.parent / "x").write_bytes(b"attack")
    hall.refuses(with_path(hall, folder, "../x"), "has the component")
    assert Cid.of_block(RAW, b"attack") == hall.workspace.blocks.put(RAW, b"attack")


@pytest.mark.parametrize("name", ["e\u0301.md", "a\u202eb.md", "a\\b.md", "C:x.md", "a.md.", "a "])
def test_a_file_on_disk_of_such_a_name_is_refused(hall: Hall, folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    refusal = hall.refuses(Case(hall.good.id, folder), "has a|begins with|ends in|normal form C")
    assert refusal.path == name.encode("unicode_escape").decode()
    hall.register_refuses(folder, "has a|begins with|ends in|normal form C")


@pytest.mark.parametrize("name", ["Config.json", "\u0441onfig.json", "\uff43onfig.json"])
def test_two_files_on_disk_of_one_name_are_refused(hall: Hall, folder: Path, name: str) -> None:
    assert unicodedata.is_normalized("NFC", name)
    (folder / name).write_bytes((folder / "config.json").read_bytes())
    hall.refuses(Case(hall.good.id, folder), "looks like the same name")
    hall.register_refuses(folder, "looks like the same name")
