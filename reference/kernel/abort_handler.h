/* SPDX-License-Identifier: GPL-2.0-only */
/* abort_handler.c: what the host does when stage 2 has aborted a guest's access. */
#ifndef S2FUZZ_ABORT_HANDLER_H
#define S2FUZZ_ABORT_HANDLER_H

#include "under_test.h"

/* What the handler decided, and what its memcache saw: bytes of the mapping (0: it came to none), whether it was topped up,
 * how many pages that took from the pool, and how many the walk took from it. */
struct handled {
	u64 size, topped_up, added, used;
	bool is_writable; /* whether it has mapped memory that the guest may write now */
};

/* Handles an abort, where `memory` lies behind the page. 0, or why the guest cannot go on. */
s64 handle_abort(const struct abort *abort, const struct args_handle *memory, struct handled *handled);

#endif
