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

/* Fewer than 8 are what KVM is told of, on a CPU that has 8: VMIDs then run out soon. */
u64 vmid_bits(void)
{
	static const u8 bits[] = {
		[vmid_bits_8] = 8, [vmid_bits_16] = 16, [vmid_bits_2] = 2, [vmid_bits_3] = 3,
		[vmid_bits_4] = 4, [vmid_bits_5] = 5, [vmid_bits_6] = 6, [vmid_bits_7] = 7,
	};

	return bits[config.vmid_bits];
}
