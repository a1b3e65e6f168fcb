"""What a compiler or linker complains of is told under the names that the user knows, and no longer than helps."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from altered_tree import with_pgtable

from harness.errors import BadInput
from reference.build.complaints import in_source, name_for_people, told
from reference.build.hosted import PGTABLE
from reference.build.image import Image, build
from reference.build.sources import KernelChoice, prepare
from reference.build.tree import KernelTree


def refusal(tree: KernelTree) -> str:
    with pytest.raises(BadInput) as caught:
        build(tree)
    return str(caught.value)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small tree, in git; and a cache of the test's own."""
    monkeypatch.setenv("S2FUZZ_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "linux"
    kbuild = [f"{one}/Kbuild" for one in ("arch/arm64/include/asm", "arch/arm64/include/uapi/asm")]
    kbuild += [f"{one}/Kbuild" for one in ("include/asm-generic", "include/uapi/asm-generic")]
    for file in (str(PGTABLE), *kbuild):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("one;\n" if file == str(PGTABLE) else "")
    (root / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 0\nEXTRAVERSION =\n")
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "all"]):
        subprocess.run(["git", "-C", str(root), *words], check=True)
    return root


def test_of_a_patched_tree(root: Path, tmp_path: Path) -> None:
    patches = [tmp_path / f"{number}.patch" for number in (1, 2)]
    for patch, old, new in zip(patches, ("one", "two"), ("two", "three"), strict=True):
        patch.write_text(f"--- a/{PGTABLE}\n+++ b/{PGTABLE}\n@@ -1 +1 @@\n-{old};\n+{new};\n")
    tree = prepare(KernelChoice(str(root), tuple(patches)))
    assert tree.pgtable.read_text() == "three;\n"
    assert name_for_people(tree.pgtable, tree) == f"{PGTABLE} of {root} + 1.patch + 2.patch"
    assert told(f"{tree.pgtable}:1:2: error: wrong", tree) == (
        f"{PGTABLE}:1:2: error: wrong\n{PGTABLE} was changed by --patch {patches[0]} and --patch {patches[1]}"
    )
    assert told(f"{tree.root}/include/a.h:1:2: error: wrong", tree) == "include/a.h:1:2: error: wrong"
    mine = replace(tree, pgtable=tmp_path / "mine.c")
    assert name_for_people(mine.pgtable, mine) == str(tmp_path / "mine.c")
    assert told(f"{mine.pgtable}:1:2: error: wrong", mine) == f"{mine.pgtable}:1:2: error: wrong", "it is another file"


def test_of_a_revision(root: Path) -> None:
    tree = prepare(KernelChoice(f"{root}@HEAD"))
    assert name_for_people(tree.pgtable, tree) == f"{PGTABLE} of {tree.description}"
    assert told(f"{tree.pgtable}:1:2: error: wrong", tree) == f"{PGTABLE}:1:2: error: wrong"


def test_of_the_user_s_own_folder(root: Path) -> None:
    tree = prepare(KernelChoice(str(root)))
    assert name_for_people(tree.pgtable, tree) == str(root / PGTABLE), "an editor can open it"
    assert told(f"{tree.pgtable}:1:2: error: wrong", tree) == f"{root / PGTABLE}:1:2: error: wrong"


def test_of_the_linker(image: Image, tmp_path: Path, scratch_cache: Path) -> None:
    text = image.tree.pgtable.read_text()
    first = len(text.splitlines()) + 1
    lines = [f"int absent{n}(void); int caller{n}(void) {{ return absent{n}(); }}" for n in range(12)]
    more = [f"int caller0_{n}(void) {{ return absent0(); }}" for n in range(4)]
    mine = tmp_path / "mine.c"
    said = refusal(with_pgtable(image.tree, mine, text + "\n".join([*lines, *more]) + "\n")).splitlines()
    assert said[0].count("absent") == 8
    assert said[0].endswith(" and 4 more):")
    assert said[1] == (
        f"undefined: absent0, which is used by {mine}:{first} (caller0) and {mine}:{first + 12} (caller0_0), and 3 more"
    )
    assert said[5] == "… and 8 more errors"
    kept = Path(said[6].removeprefix("all of it: "))
    assert kept.is_relative_to(scratch_cache)
    assert "undefined symbol: absent11" in kept.read_text()
    assert len(said) == 7


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KernelTree:
    monkeypatch.setenv("S2FUZZ_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "cache/sources/linux"
    return KernelTree(root, tmp_path / "cache/generated/abc", root / PGTABLE, "", "6.12", "a tree")


def test_warnings_are_left_out_where_there_are_errors(tree: KernelTree) -> None:
    message = (
        f"In file included from {tree.root}/a.c:1:\n{tree.generated}/asm/it.h:3:4: warning: odd\n   3 | odd\n"
        f"In file included from {tree.root}/a.c:2:\n{tree.root}/b.h:5:6: error: wrong\n   5 | wrong\n"
        f"{tree.root}/b.h:4:6: note: declared here\n1 warning and 1 error generated.\n"
    )
    assert told(message, tree) == (
        "In file included from a.c:2:\nb.h:5:6: error: wrong\n   5 | wrong\nb.h:4:6: note: declared here"
    )


def test_a_long_error_is_cut_and_kept(tree: KernelTree) -> None:
    message = f"{tree.root}/a.c:1:1: error: wrong\n" + "".join(
        f"{tree.root}/a.c:{n}:1: note: here\n" for n in range(40)
    )
    said = told(message, tree).splitlines()
    assert len(said) == 14
    assert said[12] == "  … 29 more lines"
    assert Path(said[13].removeprefix("all of it: ")).read_text().count("note: here") == 40


def test_what_is_in_no_known_form_is_told_as_it_is(tree: KernelTree) -> None:
    assert told("a compiler's last words\nare these\n", tree) == "a compiler's last words\nare these"


def test_a_line_of_assembly_that_came_from_nowhere_keeps_its_place() -> None:
    assembly = '\t.file 1 "/there" "a.c"\n\tnop\n\t.loc 1 7 3\n\tbad\n'
    assert in_source("x.s:4:1: error: bad", assembly) == "/there/a.c:7: error: bad"
    assert in_source("x.s:2:1: error: bad", assembly) == "x.s:2:1: error: bad"
