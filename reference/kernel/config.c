// SPDX-License-Identifier: GPL-2.0-only
/* The program's machine: its knobs, as harness/program/machine.py has them. */
#include "kernel.h"

struct config config;

/* A mask of the knobs that follow, then those; the others have their defaults. */
bool config_read(struct reader *reader)
{
	u64 given = read_varint(reader);
	bool good = true;

#define READ_KNOB(name, initial, low, high)				\
	config.name = given & 1 ? read_scaled(reader) : initial;	\
	given >>= 1;							\
	good = good && config.name - (low) <= (high) - (low);
	S2FUZZ_KNOBS(READ_KNOB)
	return good && !reader->bad;
}
