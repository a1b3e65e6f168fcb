// SPDX-License-Identifier: GPL-2.0-only
/* The boundary events of an op, as harness/observation/events.py defines them. Those of the kinds that it lists count
 * against the program's budget before they are carried out; when it is spent, the op is left at once. Whatever else
 * there is has a bound that only endless work reaches. */
#include "kernel.h"

#define MAX_EVENTS (S2FUZZ_MAX_EVENTS + S2FUZZ_MAX_COMPLAINTS) /* WARNs are complaints, and free */

struct op_exit op_exit;

static u64 budget_left;
static u64 uncounted_left;
/* What is large lies apart from the rest, so that a boot need not clear it. */
static struct event_record *const events = (struct event_record *)EVENT_MEMORY;
static u64 event_count;

void budget_reset(u64 budget)
{
	budget_left = budget;
	uncounted_left = S2FUZZ_MOST_UNCOUNTED;
}

void count_boundary(void)
{
	if (!budget_left)
		op_leave(&op_exit);
	budget_left--;
}

void bound_uncounted(void)
{
	if (!uncounted_left)
		panic(S2FUZZ_ENDLESS "nothing that the budget counts");
	uncounted_left--;
}

void events_begin(void)
{
	event_count = 0;
}

void op_event(enum event kind, u64 a, u64 b)
{
	if (event_count == MAX_EVENTS)
		panic(S2FUZZ_ENDLESS "events that no budget counts");
	events[event_count++] = (struct event_record){ kind, a, b };
}

void event(enum event kind, u64 a, u64 b)
{
	if (S2FUZZ_COUNTED >> (kind & ~S2FUZZ_IN_CALL) & 1)
		count_boundary();
	else
		bound_uncounted();
	op_event(kind, a, b);
}

const struct event_record *events_recorded(u64 *count)
{
	*count = event_count;
	return events;
}
