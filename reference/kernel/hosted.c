// SPDX-License-Identifier: GPL-2.0-only
/* What the hosted files keep in memory (ONCE flags, statics) is restored before every program. */
#include "kernel.h"

extern u8 hosted_start[], hosted_end[];

#define HOSTED_MAX 0x10000
static u8 hosted_initial[HOSTED_MAX];

/* The hosted files' data as the image has it; taken before any of them has run. */
void hosted_save(void)
{
	if (hosted_end - hosted_start > HOSTED_MAX)
		panic("hosted files keep more data than we can restore");
	memcpy(hosted_initial, hosted_start, hosted_end - hosted_start);
}

void hosted_restore(void)
{
	memcpy(hosted_start, hosted_initial, hosted_end - hosted_start);
}
