"""Functions that are taken out of a file of the tree, as they stand there."""

from __future__ import annotations

import pytest

from reference.build.slices import slice_of

TEXT = """\
#include <nothing.h>

/* one(): not this */
static int one(int a,
			int b)
{
	if (a) {
		return b;
	}
	return 0;
}

#define both(a) \\
	one(a, a)

int two(void);

int two(void)
{
	return one(1, 2) + both(3);
}

struct three {
	int four;
};
"""


def test_functions_and_macros_come_whole_in_the_order_of_the_file_with_their_lines() -> None:
    taken = slice_of(TEXT, ("two", "both", "one"), "arch/some.c")
    assert taken.split("\n#line ") == [
        '#line 4 "arch/some.c"\nstatic int one(int a,\n\t\t\tint b)\n'
        "{\n\tif (a) {\n\t\treturn b;\n\t}\n\treturn 0;\n}\n",
        '13 "arch/some.c"\n#define both(a) \\\n\tone(a, a)\n',
        '18 "arch/some.c"\nint two(void)\n{\n\treturn one(1, 2) + both(3);\n}\n\n',
    ]


@pytest.mark.parametrize("name", ["five", "three", "wo", "nothing"])
def test_what_is_no_function_there_is_left_out(name: str) -> None:
    assert slice_of(TEXT, (name,), "some.c") == ""
