"""From the user's choice of kernel to a source tree that the reference can be compiled from.

A choice is a version that Debian packages (`6.12`), a folder, or a commit of a repository
(`DIR@REV`), each with patches and another `pgtable.c` on top. Trees of the user are used in place
and never written to; what has to be unpacked, patched or generated goes into the cache, under names
made from everything that it depends on. An entry of the cache is filled under another name and
renamed when complete, so an entry that exists is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from harness.errors import BadInput, ToolFailure
from harness.outside import shown
from harness.settings import setting

SUPPORTED: Final = ("6.12", "6.1")
"""What Debian packages and the model knows; the first is the default."""

TARBALLS: Final = Path("/usr/src")
"""Where Debian's linux-source packages put their tarballs."""

PGTABLE: Final = Path("arch/arm64/kvm/hyp/pgtable.c")

NEEDED: Final = ("Makefile", "include", "arch/arm64/include", "arch/arm64/kvm", "arch/arm64/tools")
"""What the build reads of a kernel tree."""

# What `whole_tree` leaves out, as tar's patterns (whose * matches any number of folders).
_LEFT_OUT: Final = (
    *(f"{folder}/*.[chS]" for folder in ("drivers", "sound", "fs", "net", "crypto", "arch/[b-z]*")),
    "*.dts",
    "*.dtsi",
    "Documentation/*.*",
    "tools/testing/*",
    "tools/perf/*",
)

# Results of a build in the user's own tree: one configuration's, not source.
_BUILT_FOLDERS: Final = ("include/config", "include/generated", "arch/arm64/include/generated")
_BUILT_SUFFIXES: Final = (".o", ".cmd", ".a", ".ko", ".mod", ".order", ".d")

# Header: its generator and table, both in arch/arm64/tools (6.1 has cpucaps.h for cpucap-defs.h).
_AWK_HEADERS: Final = {
    "sysreg-defs.h": ("gen-sysreg.awk", "sysreg"),
    "cpucap-defs.h": ("gen-cpucaps.awk", "cpucaps"),
    "cpucaps.h": ("gen-cpucaps.awk", "cpucaps"),
}

GENERATED: Final = "arch/arm64/include/generated"
"""Under which name the generated headers are told of: where the kernel's build has them."""

GENERATORS: Final = (
    "Makefile",
    *(f"{folder}/Kbuild" for folder in ("arch/arm64/include/asm", "arch/arm64/include/uapi/asm")),
    *(f"{folder}/Kbuild" for folder in ("include/asm-generic", "include/uapi/asm-generic")),
    *(f"arch/arm64/tools/{name}" for name in sorted({name for pair in _AWK_HEADERS.values() for name in pair})),
)
"""What is read of a tree besides what the compiler reads: its version, and what headers are generated from."""

_PACKAGES: Final = {"awk": "mawk", "git": "git", "tar": "tar", "xz": "xz-utils"}
_HELP: Final = "run `make setup`, then `s2fuzz doctor`"


class BadKernelChoice(BadInput):
    """A kernel that cannot be had; the message says what was wrong, where, and what to do."""


class MissingSource(ToolFailure):
    """The machine lacks what a correct choice needs: a package, a tool, room in the cache."""


@dataclass(frozen=True)
class KernelChoice:
    """What the user asked for: the values of --linux, --patch and --pgtable."""

    linux: str = SUPPORTED[0]
    patches: tuple[Path, ...] = ()
    pgtable: Path | None = None


@dataclass(frozen=True)
class KernelTree:
    """What can be compiled. All paths are absolute; nothing in them is to be written to.

    The include roots are, after any shims and in this order: `root/arch/arm64/include`,
    `generated`, `root/include`, `root/arch/arm64/include/uapi`, `root/include/uapi`.
    """

    root: Path
    generated: Path
    pgtable: Path
    pgtable_sha256: str
    version: str
    description: str
    commit: str = ""
    """The commit that it is, in full; empty where it is none."""
    folder: Path | None = None
    """The user's own folder that it is, or was copied from, which may be changed at any time."""


@dataclass(frozen=True)
class _Base:
    """A tree. `identity` stands for its contents; None: the user may change them at any time."""

    root: Path
    identity: str | None
    description: str
    commit: str = ""
    folder: Path | None = None


Progress = Callable[[str], None]


def _silent(_message: str) -> None:
    pass


def cache_dir() -> Path:
    """Where unpacked and generated files go: $S2FUZZ_CACHE, or s2fuzz in the user's cache.

    Raises MissingSource when the user has no home folder.
    """
    if own := setting("S2FUZZ_CACHE"):
        return Path(own).absolute()
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):  # the XDG specification has relative values ignored
        return Path(xdg) / "s2fuzz"
    try:
        return Path.home() / ".cache" / "s2fuzz"
    except RuntimeError as error:
        raise MissingSource("there is no home folder to keep a cache in: set S2FUZZ_CACHE") from error


def prepare(choice: KernelChoice, progress: Progress = _silent, tarballs: Path = TARBALLS) -> KernelTree:
    """Makes the chosen kernel available and says where it lies. `progress` is told of slow steps.

    Raises BadKernelChoice when the choice is at fault, MissingSource when the machine is.
    """
    base = _find_base(choice.linux, tarballs, progress)
    _check_tree(base)
    if choice.patches:
        base = _patch(base, choice.patches, progress)
        _check_tree(base)
    pgtable, description = base.root / PGTABLE, base.description
    if choice.pgtable is not None:
        _check_file(choice.pgtable, "--pgtable")
        pgtable = choice.pgtable.absolute()
        description += f", pgtable.c from {shown(choice.pgtable)}"
    return KernelTree(
        root=base.root,
        generated=_generate(base.root, progress),
        pgtable=pgtable,
        pgtable_sha256=hashlib.sha256(_read(pgtable)).hexdigest(),
        version=_version(base.root),
        description=description,
        commit=base.commit,
        folder=base.folder,
    )


def version_of(linux: str) -> str | None:
    """The version of a choice's tree (`6.1.192`, or a packaged one as it was given) without preparing it; None where
    it cannot be told. What is wrong with the choice is for `prepare` to say."""
    if _is_version(linux):
        return linux
    try:
        if os.path.isdir(linux):
            return _version(Path(linux))
        split = _at_revision(linux)
        if split is not None and not split[1].startswith("-"):
            result = _run(["git", "-C", split[0], "show", f"{split[1]}:Makefile"], env=git_environment())
            return None if result.returncode else _version_in(result.stdout, split[0])
    except (BadKernelChoice, MissingSource):
        pass
    return None


def commit_of(tree: KernelTree, names: Iterable[str]) -> tuple[str, list[str]]:
    """The commit that a tree is or is checked out from, and which files of those names (relative to it) are otherwise
    in the user's folder. An empty commit where git knows of none."""
    if tree.commit or tree.folder is None:
        return tree.commit, []
    folder = tree.folder

    def git(*arguments: str) -> bytes | None:
        result = _run(["git", "-C", folder, "-c", "core.fsmonitor=false", *arguments], env=git_environment())
        return None if result.returncode else result.stdout

    try:
        top, head = git("rev-parse", "--show-toplevel"), git("rev-parse", "--verify", "HEAD^{commit}")
    except MissingSource:  # no git
        return "", []
    if top is None or head is None or Path(os.fsdecode(top).rstrip("\n")).resolve() != folder:
        return "", []
    commit = head.decode().strip()
    wanted = sorted(name for name in set(names) if Path(name) != PGTABLE or tree.pgtable == tree.root / PGTABLE)
    listing = git("--literal-pathspecs", "ls-tree", "-z", commit, "--", *wanted) or b""
    blobs = {}
    for entry in listing.split(b"\0")[:-1]:
        about, _, name = entry.partition(b"\t")
        blobs[os.fsdecode(name)] = about.split()[2].decode()
    return commit, [name for name in wanted if _blob(folder / name, len(blobs.get(name, ""))) != blobs.get(name)]


def _blob(path: Path, digits: int) -> str | None:
    """git's name for a file's content, of so many digits; None where there is no such file."""
    if not path.is_file():
        return None
    data = _read(path)
    kind = hashlib.sha256 if digits == 64 else partial(hashlib.sha1, usedforsecurity=False)
    return kind(b"blob %d\0" % len(data) + data).hexdigest()


# Choosing the tree


def _is_version(linux: str) -> bool:
    return re.fullmatch(r"[0-9]+(\.[0-9]+)+", linux) is not None


def _at_revision(linux: str) -> tuple[Path, str] | None:
    """Folder and revision of REPOSITORY@REVISION. Both may contain an @: the longest existing folder wins."""
    for at in reversed([match.start() for match in re.finditer("@", linux)]):
        if at > 0 and os.path.isdir(linux[:at]):
            return Path(linux[:at]).resolve(), linux[at + 1 :]
    return None


def repository_of(linux: str) -> Path | None:
    """The folder in a choice of a kernel: of a tree, or of a repository; None for a version, and where it is gone."""
    if _is_version(linux):
        return None
    if os.path.isdir(linux):
        return Path(linux).resolve()
    split = _at_revision(linux)
    return None if split is None else split[0]


def _find_base(linux: str, tarballs: Path, progress: Progress) -> _Base:
    # Versions first: "6.12" must not depend on the current folder ("./6.12" names a folder).
    if _is_version(linux):
        return _debian_tree(linux, tarballs, progress)
    if os.path.isdir(linux):
        root = Path(linux).resolve()
        return _Base(root, None, shown(root), folder=root)
    split = _at_revision(linux)
    if split is not None:
        return _git_tree(*split, progress)
    raise BadKernelChoice(
        f"--linux {shown(linux)}: no such folder (or not readable), and not a known version; give one of"
        f" {', '.join(SUPPORTED)}, the folder of a kernel tree, or REPOSITORY@REVISION"
    )


def _debian_tree(version: str, tarballs: Path, progress: Progress) -> _Base:
    if version not in SUPPORTED:
        raise BadKernelChoice(
            f"--linux {version}: {version} is not supported; use {' or '.join(SUPPORTED)}, or give the folder of a"
            " kernel tree"
        )
    name = f"linux-{version}-{_tarball_key(version, tarballs, *NEEDED)}"
    message = f"unpacking linux-source-{version}.tar.xz (once; about 10 s)"
    members = tuple(f"linux-source-{version}/{path}" for path in NEEDED)
    root = cached(Path("sources") / name, message, lambda part: _unpack(version, tarballs, part, members), progress)
    return _Base(root, name, f"{version} (Debian linux-source-{version})")


def whole_tree(version: str, progress: Progress = _silent, tarballs: Path = TARBALLS) -> Path:
    """A packaged kernel's tree with all that its own build needs, but without what takes the most room and never
    reaches KVM: drivers, file systems, other architectures, documentation.

    Raises BadKernelChoice for a version that is not packaged, MissingSource as `prepare` does.
    """
    if version not in SUPPORTED:
        raise BadKernelChoice(f"{version} is not supported; use {' or '.join(SUPPORTED)}")
    name = f"linux-{version}-whole-{_tarball_key(version, tarballs, *_LEFT_OUT)}"
    leave_out = ("--anchored", *(f"--exclude=linux-source-{version}/{pattern}" for pattern in _LEFT_OUT))
    message = f"unpacking all of linux-source-{version}.tar.xz that is needed (once; about 15 s)"
    return cached(Path("sources") / name, message, lambda part: _unpack(version, tarballs, part, leave_out), progress)


def _tarball(version: str, tarballs: Path) -> Path:
    return tarballs / f"linux-source-{version}.tar.xz"


def _tarball_key(version: str, tarballs: Path, *parts: str) -> str:
    tarball = _tarball(version, tarballs)
    with _environment(f"the Debian package linux-source-{version} is needed ({_HELP})"):
        stat = tarball.stat()
    return digest(tarball.name, stat.st_size, stat.st_mtime_ns, *parts)[:16]


def _unpack(version: str, tarballs: Path, part: Path, what: Sequence[str]) -> None:
    """Unpacks a Debian tarball into `part`; `what` are tar's last arguments."""
    _require("xz")
    tarball = _tarball(version, tarballs)
    # Debian's tarballs have many blocks: -T0 halves the time on two cores.
    unpack = ["tar", "-x", "--use-compress-program=xz -T0", f"--file={tarball}"]
    result = _run([*unpack, f"--directory={part}", "--strip-components=1", *_TAR_OPTIONS, *what])
    if result.returncode:
        raise MissingSource(f"{tarball} cannot be unpacked (reinstall linux-source-{version}): {_said(result)}")


def _git_tree(repository: Path, rev: str, progress: Progress) -> _Base:
    where = f"--linux {shown(repository)}@{shown(rev)}"

    def git(*arguments: str | Path, folder: Path = repository) -> bytes:
        result = _run(["git", "-C", folder, *arguments], env=git_environment())
        if result.returncode:
            raise BadKernelChoice(f"{where}: git says: {_said(result)}; give REPOSITORY@REVISION")
        return result.stdout

    if not rev or rev.startswith("-"):
        raise BadKernelChoice(f"{where}: {rev!r} is no revision; give REPOSITORY@REVISION")
    # git archive would pack only the folder that it is called in.
    top = repository / os.fsdecode(git("rev-parse", "--show-cdup").strip())
    commit = git("rev-parse", "--verify", f"{rev}^{{commit}}").decode().strip()
    listing = git("ls-tree", "-z", "--name-only", commit, "--", *NEEDED, folder=top)
    present = os.fsdecode(listing).rstrip("\0").split("\0")
    description = f"{shown(repository)}@{commit[:12]}"
    if not listing:
        raise BadKernelChoice(f"{where}: nothing of Linux is in that commit; choose another")

    def fill(part: Path) -> None:
        archive = git("archive", "--format=tar", commit, "--", *present, folder=top)
        result = _run(["tar", "-x", "-f", "-", "-C", part, *_TAR_OPTIONS], stdin=archive)
        if result.returncode:
            raise MissingSource(f"cannot unpack into {part.parent}: {_said(result)}")

    name = f"git-{commit}-{digest(*NEEDED)[:8]}"
    root = cached(Path("sources") / name, f"taking {commit[:12]} from {shown(repository)}", fill, progress)
    return _Base(root, name, description, commit)


def _check_tree(base: _Base) -> None:
    for path in (Path("Makefile"), PGTABLE):
        if not os.path.isfile(base.root / path):
            raise BadKernelChoice(
                f"{base.description}: {shown(path)} is missing or cannot be read; give the top folder of a Linux tree"
            )


def _version(root: Path) -> str:
    """VERSION.PATCHLEVEL.SUBLEVEL and EXTRAVERSION from the tree's Makefile."""
    return _version_in(_read(root / "Makefile"), root)


def _version_in(makefile: bytes, root: Path) -> str:
    text = makefile.decode(errors="replace")
    pattern = r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(\S*)"
    found: dict[str, str] = dict(re.findall(pattern, text, re.MULTILINE))
    numbers = [found.get(name, "") for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL")]
    if not all(numbers):
        raise BadKernelChoice(
            f"{shown(root / 'Makefile')}: VERSION, PATCHLEVEL or SUBLEVEL is missing; give the top folder of a Linux "
            "tree"
        )
    return ".".join(numbers) + found.get("EXTRAVERSION", "")


# Patches


def _patch(base: _Base, patches: Sequence[Path], progress: Progress) -> _Base:
    contents = [_read_patch(patch) for patch in patches]
    identity = base.identity or _tree_digest(base.root)

    def fill(part: Path) -> None:
        _populate(base, part)
        if base.identity is None and _tree_digest(part) != identity:
            raise BadKernelChoice(f"{shown(base.root)}: changed while it was being copied; try again")
        for patch, content in zip(patches, contents, strict=True):
            _apply(part, patch, content)

    name = f"patched-{digest(identity, *NEEDED, *contents)}"
    root = cached(Path("sources") / name, f"patching {base.description}", fill, progress)
    description = " + ".join([base.description, *(shown(patch.name) for patch in patches)])
    return _Base(root, name, description, base.commit, base.folder)


def _read_patch(patch: Path) -> bytes:
    _check_file(patch, "--patch")
    content = _read(patch)
    if not content.strip():
        raise BadKernelChoice(f"--patch {shown(patch)}: the file is empty; give a diff or a mail with one")
    return content


def _populate(base: _Base, target: Path) -> None:
    """Fills `target` with what is needed: links to what never changes, copies of what may."""
    for path in _needed_files(base.root):
        new = target / path
        new.parent.mkdir(parents=True, exist_ok=True)
        if base.identity is None:
            new.write_bytes(_read(base.root / path))
        else:
            try:
                os.link(base.root / path, new)
            except OSError:  # a file system without links, or too many of them
                shutil.copyfile(base.root / path, new)


def _apply(tree: Path, patch: Path, content: bytes) -> None:
    """Applies what concerns needed files. git replaces files; it never writes through a link."""
    environment = git_environment() | {
        # Without a repository: inside one, git would silently skip all that is not in this folder.
        "GIT_DIR": os.devnull,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    command = ["git", "apply", "--numstat", "--apply", "-p1", "--whitespace=nowarn"]
    command += [f"--include={path}{'' if path == 'Makefile' else '/*'}" for path in NEEDED]
    touched = False
    for part in _diffs(patch, content, environment):
        result = _run([*command, "-"], cwd=tree, env=environment, stdin=part)
        if result.returncode:
            raise BadKernelChoice(
                f"--patch {shown(patch)}: does not apply; choose the tree that it was made for. git says: "
                f"{_said(result)}"
            )
        if b".awk" in result.stdout:
            raise BadKernelChoice(
                f"--patch {shown(patch)}: changes a script that the build runs on this machine; if you trust it, apply "
                "it to a tree of your own and use --linux"
            )
        touched = touched or bool(result.stdout)
    if not touched:
        raise BadKernelChoice(
            f"--patch {shown(patch)}: touches nothing that is used here ({', '.join(NEEDED)};"
            " paths are read as `git apply -p1` does); leave it out"
        )


def _diffs(patch: Path, content: bytes, environment: dict[str, str]) -> list[bytes]:
    """The diffs of a patch file, in order: of each mail that has one, or the file as it is."""
    header = content.lstrip().replace(b"\r\n", b"\n").split(b"\n\n")[0]
    if not re.match(rb"From \S", header) and not all(
        re.search(rb"(?mi)^%s:" % name, header) for name in (b"from", b"subject")
    ):
        return [content]
    bodies = []
    with tempfile.TemporaryDirectory() as scratch:

        def git(*arguments: str, stdin: bytes) -> None:
            result = _run(["git", *arguments], cwd=Path(scratch), env=environment, stdin=stdin)
            if result.returncode:
                raise BadKernelChoice(f"--patch {shown(patch)}: not a readable mail: {_said(result)}")

        git("mailsplit", "-b", "-o.", stdin=content.lstrip())
        for mail in sorted(Path(scratch).glob("[0-9]*"), key=lambda path: int(path.name)):
            git("mailinfo", "-n", "message", "diff", stdin=mail.read_bytes())
            bodies.append((Path(scratch) / "diff").read_bytes())
    diffs = [body for body in bodies if re.search(rb"(?m)^(diff --git|\+\+\+) ", body)]
    if not diffs:
        raise BadKernelChoice(f"--patch {shown(patch)}: no mail in it holds a diff; leave it out")
    return diffs


def _needed_files(root: Path) -> Iterator[Path]:
    """The source files of the needed folders, relative to `root`, in a fixed order.

    Raises BadKernelChoice for a folder that cannot be read.
    """

    def unreadable(error: OSError) -> None:
        raise BadKernelChoice(f"{shown(error.filename)}: {error.strerror}; make it readable") from error

    for needed in NEEDED:
        if os.path.isfile(root / needed):
            yield Path(needed)
            continue
        if not os.path.isdir(root / needed):
            continue  # old kernels have no arch/arm64/tools
        for folder, subfolders, files in os.walk(root / needed, onerror=unreadable):
            here = Path(folder).relative_to(root)
            subfolders[:] = sorted(name for name in subfolders if str(here / name) not in _BUILT_FOLDERS)
            for name in sorted(files):
                # Not every name is a file: editors leave dangling links.
                if not name.endswith(_BUILT_SUFFIXES) and os.path.isfile(root / here / name):
                    yield here / name


def _tree_digest(root: Path) -> str:
    parts = ((os.fsencode(path), _read(root / path)) for path in _needed_files(root))
    return digest(*(part for pair in parts for part in pair))


# Generated headers


def _generate(root: Path, progress: Progress) -> Path:
    """The folder with the headers that the kernel's build would generate and pgtable.c needs.

    Raises BadKernelChoice when the tree lacks the generators' inputs or they fail.
    """
    arch, generic = root / "arch/arm64/include", root / "include"
    kernel = _wrappers(arch / "asm", generic / "asm-generic/Kbuild")
    uapi = _wrappers(arch / "uapi/asm", generic / "uapi/asm-generic/Kbuild")
    # The kernel's build has a second root for the uapi wrappers. One can do for both: a header of
    # the kernel's own comes first either way, and the wrappers' text is the same.
    shared = {name for name in uapi if not os.path.exists(arch / "asm" / name)}
    wrappers = {f"asm/{name}" for name in kernel | shared} | {f"uapi/asm/{name}" for name in uapi}
    by_awk: dict[str, tuple[bytes, ...]] = {
        name: tuple(_read(root / "arch/arm64/tools" / path) for path in _AWK_HEADERS[name])
        for name in sorted(_kbuild(arch / "asm/Kbuild", "generated-y") & _AWK_HEADERS.keys())
    }

    def fill(part: Path) -> None:
        (part / "asm").mkdir()
        (part / "uapi/asm").mkdir(parents=True)
        for path in wrappers:
            (part / path).write_text(f"#include <asm-generic/{Path(path).name}>\n")
        for name, (script, table) in by_awk.items():
            (part / "asm" / name).write_bytes(_awk(_AWK_HEADERS[name][0], script, table))

    inputs = [part for name, files in by_awk.items() for part in (name.encode(), *files)]
    key = digest(*sorted(wrappers), *inputs)
    return cached(Path("generated") / key, "generating headers", fill, progress)


def _wrappers(own: Path, generic_kbuild: Path) -> set[str]:
    """The headers to be taken from asm-generic, as scripts/Makefile.asm-headers chooses them."""
    names = _kbuild(own / "Kbuild", "generic-y") | _kbuild(generic_kbuild, "mandatory-y")
    names -= _kbuild(own / "Kbuild", "generated-y")
    return {name for name in names if not os.path.exists(own / name)}


def _kbuild(path: Path, variable: str) -> set[str]:
    """The headers that a Kbuild file lists in `variable`."""
    text = _read(path).decode(errors="replace").replace("\\\n", " ")
    lists = re.findall(rf"^{variable}[ \t]*[+:]?=([^#\n]*)", text, re.MULTILINE)
    # Only plain names: they become files in the cache.
    return {name for words in lists for name in words.split() if re.fullmatch(r"[\w-]+(\.[\w-]+)+", name)}


def _awk(name: str, script: bytes, table: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / name
        path.write_bytes(script)
        result = _run(["awk", "-f", path], stdin=table)
    if result.returncode:
        raise BadKernelChoice(f"the kernel's own arch/arm64/tools/{name} fails: {_said(result)}")
    return result.stdout


# The cache


def cached(name: Path, message: str, fill: Callable[[Path], None], progress: Progress) -> Path:
    """The cache's entry `name`; made, if it does not exist, by letting `fill` fill a folder."""
    target = cache_dir() / name
    with _environment(f"the cache {cache_dir()} cannot be used (set S2FUZZ_CACHE to another folder)"):
        if target.is_dir():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(progress):
            if target.is_dir():
                return target
            for leftover in target.parent.glob(".part-*"):  # of a crash: we hold the lock
                shutil.rmtree(leftover, ignore_errors=True)
            progress(message)
            part = Path(tempfile.mkdtemp(prefix=".part-", dir=target.parent))
            try:
                fill(part)
                part.rename(target)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return target


@contextmanager
def _locked(progress: Progress) -> Iterator[None]:
    with (cache_dir() / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another s2fuzz that is preparing sources")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# Files and tools


@contextmanager
def _environment(problem: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MissingSource(f"{problem}: {error}") from error


def _check_file(path: Path, option: str) -> None:
    if not os.path.isfile(path):
        problem = "is not a regular file" if os.path.exists(path) else "no such file"
        raise BadKernelChoice(f"{option} {shown(path)}: {problem}; give a file that can be read")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadKernelChoice(f"{shown(path)}: {error.strerror}; make it readable or choose another") from error


def digest(*parts: bytes | str | int) -> str:
    """A name for these parts, each hashed with its length so that none runs into the next."""
    whole = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        whole.update(b"%d:" % len(data) + data)
    return whole.hexdigest()


_TAR_OPTIONS: Final = ("--no-same-owner", "--no-same-permissions")


def _require(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            raise MissingSource(f"{tool} is not installed: it is in Debian's {_PACKAGES[tool]}; {_HELP}")


def git_environment() -> dict[str, str]:
    """Ours without what points git at a repository, as in a hook; messages in English."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith("GIT_CONFIG")
    }
    return inherited | {"LC_ALL": "C"}


def _run(
    command: Sequence[str | Path],
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    stdin: bytes = b"",
) -> subprocess.CompletedProcess[bytes]:
    _require(str(command[0]))
    return subprocess.run(
        command,
        cwd=cwd,
        env=env or os.environ | {"LC_ALL": "C"},
        input=stdin,
        capture_output=True,
        check=False,
    )


def _said(result: subprocess.CompletedProcess[bytes]) -> str:
    """The end of what a tool complained of."""
    lines = result.stderr.decode(errors="replace").split("\n")
    return "; ".join(line.strip() for line in lines[-12:] if line.strip()) or f"status {result.returncode}"
