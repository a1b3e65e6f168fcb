"""The C headers that give the test kernel the definitions of `harness`: operations, knobs, events, complaints.

Lists are macros that take another, X, and apply it to each entry: an enum, a structure or a switch is one line of C.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from harness.observation.events import (
    COUNTED,
    DSB_DOMAINS,
    EVENTS,
    IC_OPERATIONS,
    IN_CALL,
    MAX_EVENTS,
    MOST_UNCOUNTED,
    SYSREGS,
)
from harness.observation.layout import (
    CACHES,
    HOLDERS,
    LOCKING,
    LOCKING_REPORTS,
    MAX_COMPLAINTS,
    POOL_MISUSE,
    POOL_MISUSES,
    UBSAN,
    UBSAN_HANDLERS,
    WARN,
)
from harness.observation.tlbi import OPERATIONS, Operation, Target
from harness.program import guest
from harness.program.definition import Arg, Definitions, OpDef
from harness.program.kinds import ACCESS
from harness.program.kinds.entries import VISITOR_BITS, VISITORS
from harness.program.kinds.handles import MAX_HANDLES, MAX_MMUS, Handle
from harness.program.kinds.small import (
    BACKING,
    CACHE_CAPACITY,
    LOGGING,
    MOST_LOGGED,
    MOST_SLOT_PAGES,
    MOST_SLOTS,
    MOST_STEPS,
    SPLIT_CACHE_CAPACITY,
    VCPU,
    VMID_OWNERS,
)
from harness.program.machine import KNOBS, MOST_CPUS, Knob
from harness.program.ops import INIT, STANDARD
from harness.program.space import U64_MAX
from reference.memory_map import (
    EVENT_MEMORY,
    EVENT_MEMORY_SIZE,
    OUT_MEMORY,
    OUT_MEMORY_SIZE,
    POOL_MAX_PAGES,
    POOL_MEMORY,
    REPLY,
    REPLY_SIZE,
    REQUEST,
    REQUEST_SIZE,
    STUB_SIZE,
)
from reference.protocol import ENDLESS, GREETING, MESSAGE_SIZE, PRINTED, STACK, STALE, UNPRINTED

_COMPLAINTS: Final = {"WARN": WARN, "POOL": POOL_MISUSE, "UBSAN": UBSAN, "LOCKING": LOCKING}
_GRANULE: Final = "S2FUZZ_GRANULE"
"""The macro that says which an image is compiled for, as the knob has it."""


def generated_header(definitions: Definitions = STANDARD) -> str:
    """The C header that gives the test kernel the definitions of `harness`: operations, knobs and events."""
    ops = definitions.ops
    lines = [
        "/* Made by reference/build/header.py from what harness and reference/memory_map.py define. */",
        "#ifndef S2FUZZ_GENERATED_H",
        "#define S2FUZZ_GENERATED_H",
        f"#define POOL_MEMORY {POOL_MEMORY:#x}ul",
        f"#define POOL_MAX_PAGES {POOL_MAX_PAGES}ul",
        f"#define MAILBOX_REQUEST {REQUEST:#x}ul",
        f"#define MAILBOX_REQUEST_SIZE {REQUEST_SIZE:#x}ul",
        f"#define MAILBOX_REPLY {REPLY:#x}ul",
        f"#define MAILBOX_REPLY_SIZE {REPLY_SIZE:#x}ul",
        f"#define EVENT_MEMORY {EVENT_MEMORY:#x}ul",
        f"#define EVENT_MEMORY_SIZE {EVENT_MEMORY_SIZE:#x}ul",
        f"#define OUT_MEMORY {OUT_MEMORY:#x}ul",
        f"#define OUT_MEMORY_SIZE {OUT_MEMORY_SIZE:#x}ul",
        f"#define GUEST_WINDOW {guest.WINDOW:#x}ul",
        f"#define GUEST_WINDOW_SIZE {guest.WINDOW_SIZE:#x}ul",
        f"#define GUEST_STUB {guest.STUB:#x}ul",
        f"#define GUEST_STUB_SIZE {STUB_SIZE:#x}ul",
        f"#define GUEST_PIECE {guest.PIECE:#x}ul",
        f"#define GUEST_DATA {guest.DATA:#x}ul",
        f"#define GUEST_VCPUS {VCPU.limit + 1}",
        f"#define GUEST_VCPU_TABLES {guest.VCPU_TABLES:#x}ul",
        f"#define GUEST_VCPU_ENTRIES {guest.VCPU_ENTRIES}ul",
        f"#define GUEST_VCPU_REACH {guest.VCPU_REACH:#x}ul",
        f"#define GUEST_VCPU_CODE {guest.VCPU_CODE:#x}ul",
        f"#define GUEST_VCPU_ASID {guest.VCPU_ASID}ul",
        f'#define S2FUZZ_GREETING "{GREETING}"',
        f"#define S2FUZZ_MAX_ARGS {max(len(op.args) for op in ops)}",
        f"#define S2FUZZ_MAX_OUTS {max(len(op.results) for op in ops)}",
        f"#define S2FUZZ_MAX_COMPLAINTS {MAX_COMPLAINTS}",
        f"#define S2FUZZ_OP_INIT {INIT.number}",
        f"#define S2FUZZ_MAX_HANDLES {MAX_HANDLES}",
        f"#define S2FUZZ_CACHE_CAPACITY {CACHE_CAPACITY}",
        f"#define S2FUZZ_SPLIT_CACHE_CAPACITY {SPLIT_CACHE_CAPACITY}",
        f"#define S2FUZZ_MAX_MMUS {MAX_MMUS}",
        f"#define S2FUZZ_MAX_SLOTS {MOST_SLOTS}",
        f"#define S2FUZZ_MAX_STEPS {MOST_STEPS}ul",
        f"#define S2FUZZ_MAX_SLOT_PAGES {MOST_SLOT_PAGES}ul",
        f"#define S2FUZZ_MAX_LOGGED {MOST_LOGGED}ul",
        f"#define S2FUZZ_MOST_CPUS {MOST_CPUS}",
        f"#define S2FUZZ_VMID_OWNERS {VMID_OWNERS}",
        x_macro("KNOBS", map(_knob_range, KNOBS)),
        x_macro("CHOICES", ((knob.name, name, value) for knob in KNOBS for value, name in enumerate(knob.names))),
        x_macro("OPS", map(op_entry, ops)),
        x_macro("HANDLE_KINDS", ((_constant(kind.name), kind.number) for kind in _handle_kinds(ops))),
        x_macro("HANDLE_MAKERS", _makers(ops)),
        x_macro("HANDLE_USERS", _users(ops)),
        x_macro("EVENTS", ((one.name, one.number) for one in EVENTS)),
        x_macro("COMPLAINTS", _COMPLAINTS.items()),
        x_macro("HOLDERS", ((_constant(name), number) for number, name in HOLDERS.items())),
        x_macro("CACHES", ((_constant(name), number) for number, name in CACHES.items())),
        x_macro("MISUSES", ((_constant(name), number) for number, name in POOL_MISUSES.items())),
        x_macro("UBSAN_HANDLERS", ((name, number) for number, name in enumerate(UBSAN_HANDLERS, 1))),
        x_macro("NOTES", (("PRINTED", PRINTED), ("UNPRINTED", UNPRINTED), ("STACK", STACK), ("STALE", STALE))),
        f"#define S2FUZZ_IN_CALL {IN_CALL}",
        f"#define S2FUZZ_COUNTED {sum(1 << kind for kind in COUNTED):#x}ul",
        f"#define S2FUZZ_MOST_UNCOUNTED {MOST_UNCOUNTED}ul",
        f"#define S2FUZZ_MAX_EVENTS {MAX_EVENTS}",
        f"#define S2FUZZ_MESSAGE_SIZE {MESSAGE_SIZE}",
        f'#define S2FUZZ_ENDLESS "{ENDLESS}"',
        f"#define S2FUZZ_HCR_EL2 {SYSREGS['hcr_el2']:#x}",
        f"#define S2FUZZ_VTTBR_EL2 {SYSREGS['vttbr_el2']:#x}",
        x_macro("DSB_DOMAINS", DSB_DOMAINS.items()),
        x_macro("TLBI_OPERATIONS", (_tlbi_entry(one) for one in OPERATIONS if one.regime == 1)),
        x_macro("ACCESSES", ((name.upper(), number) for number, name in enumerate(ACCESS.words))),
        f"#define S2FUZZ_VISITOR_BITS {VISITOR_BITS}",
        x_macro("BACKINGS", ((name, number) for number, name in enumerate(BACKING.words))),
        x_macro("LOGGINGS", ((name, number) for number, name in enumerate(LOGGING.words))),
        x_macro("VISITORS", ((name, number) for number, name in enumerate(VISITORS))),
        "#define S2FUZZ_OP_DESCRIPTIONS " + ", ".join(map(_op_description, ops)),
        "#define S2FUZZ_KNOB_DESCRIPTIONS " + ", ".join(map(_knob_description, KNOBS)),
    ]
    for op in ops:
        fields = " ".join(f"u64 {arg.name};" for arg in op.args)
        lines.append(f"struct args_{op.name} {{ {fields} }};")
    lines.append("#endif")
    return "\n".join(lines) + "\n"


def generated_rules() -> str:
    """What a hosted file's headers need of that: the numbers of the rules about locks."""
    rules = ((_constant(name), number) for number, name in LOCKING_REPORTS.items())
    return f"/* Made by reference/build/header.py from harness/observation/layout.py. */\n{x_macro('RULES', rules)}\n"


def op_entry(op: OpDef) -> tuple[int, str, int, int]:
    """What the lists of operations (S2FUZZ_OPS and those of a tree) say of one."""
    return op.number, op.name, len(op.args), stages_mask(op)


def x_macro(name: str, entries: Iterable[Sequence[int | str]]) -> str:
    """A list that C walks by a macro of its own, X."""
    return f"#define S2FUZZ_{name}(X) " + " ".join(f"X({', '.join(map(str, entry))})" for entry in entries)


def _constant(name: str) -> str:
    return re.sub(r"[- ]", "_", name).upper()


_REACH: Final = {Target.ALL: "EVERY_VMID", Target.STAGE_2: "ITS_VMID", Target.STAGES_1_AND_2_OF_VMID: "ITS_VMID"}
"""What decides whom an operation of EL1&0 hits: nothing, VTTBR_EL2, or with VHE HCR_EL2.TGE as well."""


def _tlbi_entry(operation: Operation) -> tuple[int, int, int, int, str, str]:
    """An operation's number, its op1, CRm and op2, whether it takes a register, and its reach. The qualifier nXS, which
    QEMU before 9 lacks, only says which accesses a DSB need not wait for, so CRn is left out."""
    number = operation.number
    form = "OPERAND" if operation.takes_operand else "ALONE"
    return number, number >> 11, number >> 3 & 0xF, number & 7, form, _REACH.get(operation.target, "ITS_REGIME")


def _handle_kinds(ops: Sequence[OpDef]) -> list[Handle]:
    """The kinds of handles that some operation makes."""
    return list(dict.fromkeys(op.makes for op in ops if op.makes is not None))


def _makers(ops: Sequence[OpDef]) -> Iterator[tuple[int, str]]:
    """The operations that make a handle, and of which kind."""
    return ((op.number, _constant(op.makes.name)) for op in ops if op.makes is not None)


def _users(ops: Sequence[OpDef]) -> Iterator[tuple[int, int, str]]:
    """The arguments that are handles: operation, place and kind."""
    return ((op.number, place, _constant(op.args[place].kind.name)) for op in ops for place in op.handles)


def stages_mask(op: OpDef) -> int:
    """The stages of an op as a mask."""
    return sum(1 << stage for stage in op.stages)


def generated_include() -> str:
    """The numbers of events and instructions for kernel/instructions.inc."""
    tables = {
        "event": {one.name: one.number for one in EVENTS},
        "tlbi": {one.name: one.number for one in OPERATIONS},
        "dsb": DSB_DOMAINS,
        "ic": IC_OPERATIONS,
        "sysreg": SYSREGS,
    }
    lines = ["/* Made by reference/build/header.py from what harness/observation defines. */"]
    for table, numbers in tables.items():
        lines += [f".set .Ls2fuzz_{table}_{name}, {number:#x}" for name, number in numbers.items()]
    return "\n".join(lines) + "\n"


def _op_description(op: OpDef) -> str:
    """An initialiser of `struct description` (kernel/shell.c)."""
    args = ", ".join(map(_arg_description, op.args))
    outs = ", ".join(_c_string(result.name) for result in op.results)
    fields = (
        op.number,
        _c_string(op.name),
        _c_string(op.summary),
        stages_mask(op),
        len(op.args),
        f"{{ {args} }}",
        len(op.results),
    )
    return f"{{ {', '.join(map(str, fields))}, {{ {outs} }} }}"


def _arg_description(arg: Arg) -> str:
    mask = arg.kind.limit if arg.kind.bits else U64_MAX
    return _setting(arg.name, arg.default or 0, 0, arg.kind.limit, mask, 1, arg.default is None)


def _knob_range(knob: Knob) -> tuple[str, str, str, str]:
    """Name, default, and the lowest and highest value. Of the granule, the image has its own and no other."""
    if knob.name == "granule":
        return knob.name, _GRANULE, _GRANULE, _GRANULE
    return knob.name, f"{knob.default:#x}ul", f"{knob.low:#x}ul", f"{knob.high:#x}ul"


def _knob_description(knob: Knob) -> str:
    if knob.name == "granule":
        return _setting(knob.name, _GRANULE, _GRANULE, _GRANULE, U64_MAX, 1, required=False)
    align = "POOL_PAGE_SIZE" if knob.name == "pool_base" else knob.align
    return _setting(knob.name, knob.default, knob.low, knob.high, U64_MAX, align, required=False)


def _setting(
    name: str, initial: int | str, low: int | str, high: int | str, mask: int, align: int | str, required: bool
) -> str:
    """An initialiser of `struct setting` (kernel/shell.c); a number that only the image knows is a macro's name."""
    values = (initial, low, high, mask, align)
    numbers = ", ".join(value if isinstance(value, str) else f"{value:#x}ul" for value in values)
    return f"{{ {_c_string(name)}, {numbers}, {int(required)} }}"


def _c_string(text: str) -> str:
    return json.dumps(text)
