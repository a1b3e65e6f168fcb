"""Which lines of pgtable.c were reached, counted by clang in the guest and judged by llvm-cov."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing

import pytest

from harness.errors import ToolFailure
from harness.observation.executor import TargetDied
from harness.program.text import parse
from reference.build.image import Image, build
from reference.link.executor import Reference
from reference.link.ram import RamLink
from reference.probe.lines import judge

MAPPING = "s2 1\nmap ipa=0x1000 size=4K phys=0x80001000 prot=rw mc=4\n"
UNMAPPING = MAPPING + "unmap ipa=0x1000 size=4K\n"


@pytest.fixture(scope="module")
def lines_image(image: Image) -> Image:
    return build(image.tree, "lines")


@pytest.fixture
def kernel(lines_image: Image) -> Iterator[Reference]:
    with closing(Reference(lines_image, "kernel:6.12+lines", RamLink(lines_image.elf))) as reference:
        yield reference


def body(image: Image, function: str) -> range:
    """The lines of a function of pgtable.c."""
    text = image.tree.pgtable.read_text()
    start = re.search(rf"^static int {function}\(.*?^{{", text, re.MULTILINE | re.DOTALL)
    assert start
    first = text.count("\n", 0, start.end()) + 1
    return range(first, first + text[start.end() : text.index("\n}\n", start.end())].count("\n"))


def counts(kernel: Reference, function: str) -> list[int]:
    image = kernel.image
    found = judge(image.elf, [kernel.line_profile()], image.tree.pgtable, image.compiler)
    return [found.lines[line] for line in body(image, function) if line in found.lines]


def test_lines_count_when_they_run(kernel: Reference) -> None:
    kernel.observe(parse(MAPPING))
    assert not any(counts(kernel, "stage2_unmap_walker"))
    assert any(counts(kernel, "stage2_map_walk_leaf"))
    kernel.observe(parse(UNMAPPING))
    assert any(counts(kernel, "stage2_unmap_walker"))


def test_counts_add_up_over_programs(kernel: Reference) -> None:
    kernel.observe(parse(MAPPING))
    once = counts(kernel, "stage2_map_walk_leaf")
    kernel.observe(parse(MAPPING))
    assert counts(kernel, "stage2_map_walk_leaf") == [2 * count for count in once]


def test_profiles_are_summed(kernel: Reference) -> None:
    kernel.observe(parse(MAPPING))
    image, profile = kernel.image, kernel.line_profile()
    once, twice = (judge(image.elf, [profile] * n, image.tree.pgtable, image.compiler).lines for n in (1, 2))
    assert twice == {line: 2 * count for line, count in once.items()}


def test_it_observes_what_the_plain_kernel_does(kernel: Reference, image: Image) -> None:
    with closing(Reference(image, "kernel:plain", RamLink(image.elf))) as plain:
        assert kernel.observe(parse(UNMAPPING)).words == plain.observe(parse(UNMAPPING)).words


def test_lost_counts_are_not_reported(kernel: Reference) -> None:
    kernel.observe(parse(MAPPING))
    with pytest.raises(TargetDied):
        kernel.misbehave("n")
    kernel.observe(parse(MAPPING))
    with pytest.raises(ToolFailure, match="restarted"):
        kernel.line_profile()


def test_another_flavour_has_no_counters(image: Image) -> None:
    plain = Reference(image, "kernel:plain", RamLink(image.elf))
    with closing(plain), pytest.raises(ToolFailure, match="--flavour lines"):
        plain.line_profile()
