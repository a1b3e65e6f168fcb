"""Builds the test kernel: our C files, the tree's pgtable.c and its TLB maintenance, in one bare-metal ELF image.

Hosted files are compiled to assembly first. It is assembled behind kernel/instructions.inc, which has the instructions
recorded that the kernel maintains TLBs with; the files and the tree's headers stay as they are.

Objects are cached by what went into them: our sources, the flags, the compiler, and the content of every header that
the compiler read. So a changed pgtable.c costs one compilation and a link, and a changed tree is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from harness.errors import BadInput, ToolFailure
from harness.files import HOSTED_FILES, file_lines
from harness.outside import shown
from harness.program.capabilities import Capabilities
from harness.program.granule import GRANULE_4K, Granule
from reference.build.cache import cache_dir
from reference.build.declared import declared
from reference.build.generated import GENERATED, GENERATORS
from reference.build.git import commit_of
from reference.build.header import generated_header, generated_include, generated_rules
from reference.build.hosted import PGTABLE
from reference.build.own_files import OURS, SHIM, hot_files, meets_tree, name_of, own_files
from reference.build.tree import KernelTree
from reference.tools import Toolchain, find_toolchain

CALLS: Final = "calls"
FLAVOURS: Final = ("plain", "ubsan", "lines", CALLS)
"""How the hosted files are compiled: as they are; with UBSan, whose reports become WARN-class events; with clang's
source-based counters, which `reference/probe/lines.py` reads; or without the tree's TLB maintenance, so that its
functions are known by their calls alone."""

_SHIM_HEADERS: Final = sorted(str(path.relative_to(SHIM)) for path in SHIM.rglob("*.h"))
"""One that is new may hide a header of the tree's from an object that is otherwise up to date."""

OBJECTS: Final[Mapping[str, tuple[str, ...]]] = {
    "host": (),
    "hyp": ("-D__KVM_NVHE_HYPERVISOR__", "-D__DISABLE_EXPORTS", "-D__DISABLE_TRACE_MMIO__"),
}
"""What pgtable.c is built as: part of the kernel proper, or of what runs at EL2 (with the kernel's own flags for that,
arch/arm64/kvm/hyp/nvhe/Makefile). The TLB maintenance is the same in both."""

_INSTRUCTIONS: Final = OURS / "instructions.inc"

_TLB_FILES: Final = {
    "nvhe_tlb": (Path("arch/arm64/kvm/hyp/nvhe/tlb.c"), "__kvm_nvhe_", "-D__KVM_NVHE_HYPERVISOR__"),
    "vhe_tlb": (Path("arch/arm64/kvm/hyp/vhe/tlb.c"), "__kvm_vhe_", "-D__KVM_VHE_HYPERVISOR__"),
}
"""The tree's TLB maintenance: file, the prefix that its functions get, and what says for which of KVM's modes."""

_TLB_FUNCTIONS: Final = (
    "__kvm_tlb_flush_vmid",
    "__kvm_tlb_flush_vmid_ipa",
    "__kvm_tlb_flush_vmid_ipa_nsh",
    "__kvm_tlb_flush_vmid_range",
    "__kvm_flush_cpu_context",
    "__kvm_flush_vm_context",
)
"""What both files define."""

TLB_SHIM: Final = (OURS / "context.c",)
"""Those of ours that only TLB maintenance needs."""

_MISSING: Final = re.compile(
    r"(?:undefined symbol: |undeclared (?:identifier|function) '|unknown type name '|no member named '"
    r"|has no number here: ')([^'\s]+(?: [^'\s]+)?)"
)
"""What a compiler or linker says that there is not."""

_MOVED: Final = re.compile(
    r"conflicting types for '(\w+)|incompatible (?:function )?pointer types [^'\n]*'(?:const )?(?:struct |enum )?(\w+)"
    r"|too (?:few|many) arguments to function call.*\n(?:(?!.* error: ).*\n)*?.*note: '(\w+)' declared here"
)
"""What a compiler says that there is in another form than ours."""

_HEADER_FOLDERS: Final = ("arch/arm64/include", "include", "arch/arm64/include/uapi", "include/uapi", "arch/arm64/kvm")
"""Where the kernel's headers are."""

_ABSENT: Final = re.compile(
    r"error: (?:use of undeclared identifier '(?P<identifier>\w+)'"
    r"|call to undeclared (?:library )?function '(?P<function>\w+)'"
    r"|unknown type name '(?P<type>\w+)'|no member named '(?P<member>\w+)' in '(?P<holder>struct \w+)'"
    r"|[^\n]*?(?:incomplete type|has type) '(?P<struct>(?:struct|union|enum) \w+)')"
    r"|'(?P<header>[\w/.-]+\.h)' file not found|undefined symbol: (?P<symbol>\w+)"
)
"""What a compiler or linker says that a hosted file asks for in vain."""

_PLAIN_WORD: Final = re.compile(r"(?!current$|jiffies$)[a-z0-9]+")
"""A variable's name that some header is sure to declare something by: where it is missing, it was mistyped."""

_DECLARED: Final = (
    r"^[ \t]*#[ \t]*define[ \t]+({0})\b|^(?!return\b)(?:[A-Za-z_][\w \t*]*[\s*])?({0})[ \t]*\("
    r"|^extern [^\n;]*\b({0})\b|^typedef [^\n]*\b({0});|^\}}[ \t]*({0});"
    r"|^[ \t]+((?=[A-Z0-9_]+\b)(?:{0}))[ \t]*(?:=[^=\n]*)?,?[ \t]*$|^((?:{0}))[ \t]*\{{"
)
"""How a header declares one of these names: a macro, a function, a variable, a type, a constant, a structure."""

_COMMON_FLAGS: Final = (
    "--target=aarch64-linux-gnu",
    "-O2",
    "-gdwarf-4",
    "-ffreestanding",
    "-fno-builtin",
    "-fno-common",
    "-fno-pic",
    "-fno-stack-protector",
    "-fno-omit-frame-pointer",
    "-mgeneral-regs-only",
    "-mstrict-align",
    "-Werror=implicit-function-declaration",
)
_ASSEMBLER_FLAGS: Final = (_COMMON_FLAGS[0], "-gdwarf-4")
_OWN_FLAGS: Final = ("-std=gnu11", "-fshort-wchar", "-Wall", "-Wextra", "-Wno-unused-parameter", "-march=armv8-a+crc")
_HOSTED_FLAGS: Final = (
    "-std=gnu11",
    "-fno-strict-aliasing",
    "-fno-strict-overflow",
    "-fshort-wchar",
    "-funsigned-char",
    "-Wno-gnu",
    "-D__KERNEL__",
    "-DKASAN_SHADOW_SCALE_SHIFT=0",
    '-DARM64_ASM_ARCH="armv8.5-a"',
)
_COVERAGE_FLAGS: Final = ("-fsanitize-coverage=inline-8bit-counters,pc-table",)
_LINES_FLAGS: Final = (
    "-fprofile-instr-generate",
    "-fcoverage-mapping",
    "-mllvm",
    "-enable-name-compression=false",
    "-U__OPTIMIZE__",  # compile-time assertions would count as branches that are never taken, and their lines with them
)
_FLAVOUR_FLAGS: Final[Mapping[str, tuple[str, ...]]] = {
    "plain": (),
    "ubsan": ("-fsanitize=undefined", "-fno-sanitize=function,vptr,object-size"),
    "lines": _LINES_FLAGS,
    CALLS: (),
}


@dataclass(frozen=True, slots=True)
class Image:
    """A test kernel: its ELF file and what it is made of (for reports)."""

    elf: Path
    tree: KernelTree
    flavour: str
    compiler: str
    sha256: str
    capabilities: Capabilities
    """What programs may ask of it."""
    granule: Granule = GRANULE_4K
    is_made: bool = False
    """Whether pgtable.o is that of the kernel's own build."""
    kernel_object: str = "host"
    files: Mapping[str, str] = field(default_factory=dict)
    """The tree's files that the hosted code was compiled from, headers included: their names in the tree, and the
    sha256 of what they held. Empty where that is not known."""
    read: frozenset[str] = frozenset()
    """Names of all of the tree's files that were read, by ours as well."""
    commit: str = ""
    """The commit that the tree is, or is checked out from; empty where it is none."""
    changed: tuple[str, ...] = ()
    """Which of `read` are otherwise than in that commit."""

    @property
    def has_counters(self) -> bool:
        """Whether the hosted files count what they reach."""
        return not self.is_made

    @property
    def identity(self) -> Mapping[str, str]:
        more = {"commit": self.commit, "commit_changed": " ".join(self.changed)} if self.commit else {}
        if self.files:
            more[HOSTED_FILES] = ", ".join(file_lines(self.files))
        return more | {
            "compiler": self.compiler,
            "flavour": f"{self.flavour}, made by the kernel's build" if self.is_made else self.flavour,
            "granule": self.granule.name,
            "image_sha256": self.sha256,
            "linux": self.tree.version,
            "object": self.kernel_object,
            "pgtable_sha256": self.tree.pgtable_sha256,
            "source": self.tree.description,
        }


def build(
    tree: KernelTree,
    flavour: str = "plain",
    progress: Callable[[str], None] = lambda _: None,
    granule: Granule = GRANULE_4K,
    kernel_object: str = "host",
) -> Image:
    """The test kernel that hosts `tree`'s pgtable.c, compiled for that granule and as that object of OBJECTS.

    Raises BadInput, with the compiler's message, when the tree's file does not compile or no longer fits the shim
    headers, and ToolFailure when our own files or the toolchain fail.
    """
    return Builder(tree, flavour, find_toolchain(), progress, granule, kernel_object).image()


class Builder:
    """One build. `make_build.py` makes one whose hosted objects come from elsewhere."""

    def __init__(
        self,
        tree: KernelTree,
        flavour: str,
        toolchain: Toolchain,
        progress: Callable[[str], None],
        granule: Granule,
        kernel_object: str = "host",
    ) -> None:
        self.tree = tree
        self.flavour = flavour
        self.toolchain = toolchain
        self.progress = progress
        self.granule = granule
        self.kernel_object = kernel_object
        self.cache = cache_dir() / "kernels"
        self.cache.mkdir(parents=True, exist_ok=True)
        self.declared = declared(tree.root)
        self.generated = self._generated_dir(
            "generated",
            {
                "generated.h": generated_header(),
                "generated.inc": generated_include(),
                "generated_rules.h": generated_rules(),
            },
        )
        self._hosted_files: dict[str, str] = {str(PGTABLE): tree.pgtable_sha256}
        self._read: set[str] = {*GENERATORS, str(PGTABLE)}
        self.generated_for_tree = self._generated_dir("declared", {"declared.h": self.declared.header})

    def image(self) -> Image:
        objects = [self._bridge(path) if meets_tree(path) else self._own(path) for path in own_files()]
        objects += self._hosted_objects()
        if self.flavour != CALLS:
            objects += [self._tlb(name) for name in _TLB_FILES]
        elf = self._link(objects)
        digest = _sha256(elf.read_bytes())
        capabilities, which = self.declared.capabilities, self.kernel_object
        commit, changed = commit_of(self.tree, self._read)
        return Image(
            elf,
            self.tree,
            self.flavour,
            self.toolchain.version,
            digest,
            capabilities,
            self.granule,
            kernel_object=which,
            files=dict(sorted(self._hosted_files.items())),
            read=frozenset(self._read),
            commit=commit,
            changed=tuple(changed),
        )

    def _generated_dir(self, name: str, files: Mapping[str, str]) -> Path:
        """A folder with these files."""
        directory = self.cache / f"{name}-{_sha256(json.dumps(files).encode())[:16]}"
        directory.mkdir(exist_ok=True)
        for file, text in files.items():
            replace_file(directory / file, text.encode())
        return directory

    def _hosted_objects(self) -> list[Path]:
        return [self._hosted("pgtable", self.tree.pgtable, (*OBJECTS[self.kernel_object], *_COVERAGE_FLAGS))]

    @property
    def _ours(self) -> tuple[str, ...]:
        return (f"-DS2FUZZ_PAGE_SHIFT={self.granule.shift}", f"-I{OURS}", f"-I{self.generated}")

    def _own(self, source: Path) -> Path:
        flags = (*_COMMON_FLAGS, *_OWN_FLAGS, *_inlining(source), *self._ours)
        return self._object(source.stem, source, flags, _own_failure)

    def _bridge(self, source: Path) -> Path:
        name = name_of(source)
        calls = ("-DS2FUZZ_CALLS_ONLY",) if self.flavour == CALLS else ()
        flags = (*self._bridge_flags(source), *self._ours, f"-I{self.generated_for_tree}", *calls)
        return self._object(name.partition(".")[0].replace("/", "_"), source, flags, self._misfit, label=name)

    def _bridge_flags(self, source: Path) -> tuple[str, ...]:
        return (*self._tree_flags(), *OBJECTS[self.kernel_object], *_inlining(source))

    def _hosted(
        self,
        name: str,
        source: Path,
        flags: tuple[str, ...] = _COVERAGE_FLAGS,
        label: str = "",
        failure: Callable[[Path, str], Exception] | None = None,
    ) -> Path:
        # `-x c`: the user's file may have any name.
        flags = (*self._tree_flags(), *flags, *_FLAVOUR_FLAGS[self.flavour], "-x", "c")
        return self._object(f"hosted_{name}", source, flags, failure or self._bad_source, is_hosted=True, label=label)

    def _tlb(self, name: str) -> Path:
        source, prefix, mode = _TLB_FILES[name]
        renames = (f"-D{function}={prefix}{function}" for function in _TLB_FUNCTIONS)
        label = f"{source.parent.name}/{source.name}"
        return self._hosted(name, self.tree.root / source, (mode, *renames), label, self._misfit)

    def _tree_flags(self) -> tuple[str, ...]:
        root, generated = self.tree.root, self.tree.generated
        roots = (
            SHIM,
            root / "arch/arm64/include",
            generated,
            root / "include",
            root / "arch/arm64/include/uapi",
            generated / "uapi",
            root / "include/uapi",
            root / "arch/arm64/kvm/hyp/include",
        )
        forced = (root / "include/linux/kconfig.h", root / "include/linux/compiler_types.h")
        includes = tuple(f"-I{path}" for path in roots)
        return (
            *_COMMON_FLAGS,
            *_HOSTED_FLAGS,
            f"-DS2FUZZ_PAGE_SHIFT={self.granule.shift}",
            f"-I{self.generated}",
            "-nostdinc",
            *includes,
            *(word for path in forced for word in ("-include", str(path))),
        )

    def _object(
        self,
        name: str,
        source: Path,
        flags: Iterable[str],
        failure: Callable[[Path, str], Exception],
        is_hosted: bool = False,
        label: str = "",
    ) -> Path:
        command = [self.toolchain.clang, *flags]
        content = [self.toolchain.version, command, str(source), _hash_of(source), _SHIM_HEADERS]
        if is_hosted:
            content += [_ASSEMBLER_FLAGS, self.generated.name, _hash_of(_INSTRUCTIONS)]
        key = _sha256(json.dumps(content).encode())[:24]
        directory = self.cache / f"object-{key}"
        target = directory / f"{name}.o"
        if target.exists() and (known := _up_to_date(directory / "dependencies.json")) is not None:
            self._note_read(known, is_hosted)
            return target
        self.progress(f"compiling {label or source.name}")
        with tempfile.TemporaryDirectory(dir=self.cache, prefix="tmp-") as scratch:
            out, deps = Path(scratch) / f"{name}.o", Path(scratch) / "deps"
            compile_to = [*command, "-MD", "-MF", str(deps), str(source)]
            if is_hosted:
                assembly = out.with_suffix(".s")
                # Text as the tree's headers have it, rather than as the compiler would put it.
                _run([*compile_to, "-S", "-fno-integrated-as", "-o", str(assembly)], source, failure)
                self._assemble(assembly, out, source)
            else:
                _run([*compile_to, "-c", "-o", str(out)], source, failure)
            directory.mkdir(exist_ok=True)
            replace_file(target, out.read_bytes())
            found = _dependencies(deps)
            replace_file(directory / "dependencies.json", json.dumps(found).encode())
        self._note_read(found, is_hosted)
        return target

    def _note_read(self, dependencies: Mapping[str, str], is_hosted: bool) -> None:
        """Remember what an object was made of that is the tree's, by its name there."""
        for path, digest in dependencies.items():
            name = self._name_in_tree(Path(os.path.normpath(path)))
            if name is None:
                continue
            if not name.startswith(GENERATED):
                self._read.add(name)
            if is_hosted:
                self._hosted_files[name] = digest

    def _name_in_tree(self, path: Path) -> str | None:
        if path == self.tree.pgtable:
            return str(PGTABLE)
        for root, prefix in ((self.tree.generated, GENERATED), (self.tree.root, "")):
            if path.is_relative_to(root):
                return str(Path(prefix) / path.relative_to(root))
        return None

    def _assemble(self, assembly: Path, out: Path, source: Path) -> None:
        assembly.write_text(f'.include "generated.inc"\n.include "instructions.inc"\n{assembly.read_text()}')
        includes = (f"-Wa,-I,{self.generated}", f"-Wa,-I,{OURS}")
        _run(
            [self.toolchain.clang, *_ASSEMBLER_FLAGS, *includes, "-c", str(assembly), "-o", str(out)],
            source,
            self._misfit,
        )

    def _link(self, objects: list[Path]) -> Path:
        script = OURS / "link.ld"
        content = [self.toolchain.version, _hash_of(script), *(_hash_of(path) for path in objects)]
        directory = self.cache / f"image-{_sha256(json.dumps(content).encode())[:24]}"
        elf = directory / "kernel.elf"
        if elf.exists():
            return elf
        self.progress("linking kernel.elf")
        with tempfile.TemporaryDirectory(dir=self.cache, prefix="tmp-") as scratch:
            out = Path(scratch) / "kernel.elf"
            command = [
                self.toolchain.lld,
                "--orphan-handling=error",
                "-T",
                str(script),
                "-o",
                str(out),
                *map(str, objects),
            ]
            result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            if result.returncode:
                _check_environment(result)
                raise self._misfit(self.tree.pgtable, result.stderr)
            directory.mkdir(exist_ok=True)
            replace_file(elf, out.read_bytes())
        return elf

    def _bad_source(self, source: Path, message: str) -> Exception:
        lacks = self._shim_lacks(message)
        if lacks:
            return BadInput(f"{shown(source)}: {lacks}\n{message.rstrip()}")
        return BadInput(f"{shown(source)} does not compile:\n{message.rstrip()}")

    def _shim_lacks(self, message: str) -> str:
        """Of what is missing, that which the kernel does have, with what to do; empty where there is none of it. What
        no header of the tree declares is a mistake of the file's author's."""
        root, names, members, known = self.tree.root, set[str](), set[tuple[str, str]](), set[str]()
        for match in _ABSENT.finditer(message):
            found = {kind: text for kind, text in match.groupdict().items() if text}
            if "member" in found:
                members.add((found["holder"], found["member"]))
            elif "header" in found:
                known |= {found["header"]} if _has_header(root, found["header"]) else set()
            elif not _PLAIN_WORD.fullmatch(found.get("identifier", found.get("type", ""))):
                names |= set(found.values())
        known |= _declared_in_headers(root, names, members)
        if not known:
            return ""
        names_text = ", ".join(f"`{name}`" for name in sorted(known))
        return (
            f"{names_text} {'is' if len(known) == 1 else 'are'} not in s2fuzz's shim, which stands for the rest of the"
            " kernel; the file may well be right. Leave it out where S2FUZZ_PAGE_SHIFT is defined (#ifndef), or add it"
            f" to {SHIM.parent.name}/{SHIM.name}/linux/kvm_host.h (docs/kernels.md)"
        )

    def _misfit(self, source: Path, message: str) -> Exception:
        missing = sorted(set(_MISSING.findall(message)))
        moved = sorted({"".join(groups) for groups in _MOVED.findall(message)})
        reasons = [f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("moved", moved)) if names]
        named = f" ({'; '.join(reasons)})" if reasons else ""
        hint = ""
        tlb_files = (*TLB_SHIM, *(self.tree.root / path for path, _, _ in _TLB_FILES.values()))
        is_tlb = source in tlb_files or any(f"hosted_{name}.o" in message for name in _TLB_FILES)
        if is_tlb and self.flavour != CALLS:
            hint = "\n--flavour calls does without the tree's TLB maintenance, and records the calls of it alone"
        lacks = self._shim_lacks(message)
        hint = f"\n{lacks}{hint}" if lacks else hint
        return BadInput(f"{self.tree.description} does not fit the test kernel{named}:\n{message.rstrip()}{hint}")


def _inlining(source: Path) -> tuple[str, ...]:
    return ("-flto",) if source in hot_files() else ()


def _run(command: list[str], source: Path, failure: Callable[[Path, str], Exception]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode:
        _check_environment(result)
        raise failure(source, result.stderr)


def _check_environment(result: subprocess.CompletedProcess[str]) -> None:
    """Raise ToolFailure when a compiler or linker failed for reasons that are not its input's."""
    tool = Path(result.args[0]).name
    if result.returncode < 0:
        raise ToolFailure(f"{tool} was killed by signal {-result.returncode}")
    if "No space left on device" in result.stderr:
        raise ToolFailure(f"{tool}: no space left on device")


def _declared_in_headers(root: Path, names: Collection[str], members: Collection[tuple[str, str]]) -> set[str]:
    """Those of the names that some header of the tree declares, and those of the members that a structure has there, as
    `struct kvm.slots_lock`."""
    found: set[str] = set()
    if not names and not members:
        return found
    words = re.compile("|".join(rf"\b{name}\b" for name in [*names, *(member for _, member in members)]).encode())
    declared_as = re.compile(_DECLARED.format("|".join(names)), re.MULTILINE) if names else None
    for folder in _HEADER_FOLDERS:
        for path in (root / folder).rglob("*.h"):
            with suppress(OSError):  # a link that leads nowhere, or a folder of that name
                content = path.read_bytes()
                if not words.search(content):
                    continue
                code = re.sub(r"/\*.*?\*/|//[^\n]*", " ", content.decode(errors="replace"), flags=re.DOTALL)
                if declared_as is not None:
                    found.update(name for groups in declared_as.findall(code) for name in groups if name)
                found.update(f"{holder}.{member}" for holder, member in members if _has_member(code, holder, member))
    return found


def _has_member(code: str, holder: str, member: str) -> bool:
    body = re.search(rf"^{holder} \{{\n(.*?)^\}}", code, re.MULTILINE | re.DOTALL)
    return body is not None and re.search(rf"\b{member}\b[^\n;,(]*[;,:]", body[1]) is not None


def _has_header(root: Path, name: str) -> bool:
    """Whether `#include <name>` is right in the kernel."""
    return any((root / folder / name).is_file() for folder in _HEADER_FOLDERS)


def _own_failure(source: Path, message: str) -> Exception:
    return ToolFailure(f"{source.name} of the test kernel does not compile:\n{message.rstrip()}")


def _dependencies(makefile_rule: Path) -> dict[str, str]:
    text = makefile_rule.read_text().replace("\\\n", " ").partition(":")[2]
    names = re.findall(r"(?:\\ |\S)+", text)
    return {name.replace("\\ ", " "): _hash_of(Path(name.replace("\\ ", " "))) for name in sorted(set(names))}


def _up_to_date(manifest: Path) -> dict[str, str] | None:
    """What an object was made of, where all of that is as it was."""
    try:
        recorded: dict[str, str] = json.loads(manifest.read_text())
        return recorded if all(_hash_of(Path(name)) == digest for name, digest in recorded.items()) else None
    except (OSError, ValueError):
        return None


def _hash_of(path: Path) -> str:
    return _sha256(path.read_bytes())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that nobody, now or after a crash, sees half of it."""
    if path.exists() and path.read_bytes() == data:
        return
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as scratch:
        scratch.write(data)
    os.replace(scratch.name, path)
