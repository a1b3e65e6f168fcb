// SPDX-License-Identifier: GPL-2.0-only
#include "handles.h"

/* `end` is NULL of one that does not live. */
struct handle {
	enum handle_kind kind;
	u64 number;
	void (*end)(u64 number);
};

static struct handle handles[HANDLE_KINDS][S2FUZZ_MAX_HANDLES];
static u64 begun[HANDLE_KINDS];
static struct handle *in_order[HANDLE_KINDS * S2FUZZ_MAX_HANDLES];
static u64 made;

void handles_reset(void)
{
	memset(begun, 0, sizeof(begun));
	made = 0;
}

bool handle_begin(enum handle_kind kind)
{
	u64 number = begun[kind];

	if (number == S2FUZZ_MAX_HANDLES)
		return false;
	handles[kind][number] = (struct handle){ kind, number, NULL };
	begun[kind]++;
	return true;
}

u64 handles_begun(enum handle_kind kind)
{
	return begun[kind];
}

u64 handle_made(enum handle_kind kind, void (*end)(u64 number))
{
	struct handle *handle = &handles[kind][begun[kind] - 1];

	handle->end = end;
	in_order[made++] = handle;
	return handle->number;
}

bool handle_is_live(enum handle_kind kind, u64 number)
{
	return number < begun[kind] && handles[kind][number].end;
}

void handle_ends(enum handle_kind kind, u64 number)
{
	handles[kind][number].end = NULL;
}

u64 handles_live(enum handle_kind kind)
{
	u64 count = 0;

	for (u64 i = 0; i < begun[kind]; i++)
		count += handle_is_live(kind, i);
	return count;
}

bool handle_next_live(enum handle_kind kind, u64 *number)
{
	while (++*number < begun[kind])
		if (handle_is_live(kind, *number))
			return true;
	return false;
}

bool handles_any_live(void)
{
	u64 count = 0;

	for (int kind = 0; kind < HANDLE_KINDS; kind++)
		count += handles_live(kind);
	return count;
}

void handles_end_all(void)
{
	while (made) {
		struct handle *handle = in_order[--made];
		void (*end)(u64 number) = handle->end;

		if (!end)
			continue;
		handle->end = NULL;
		end(handle->number);
	}
}
