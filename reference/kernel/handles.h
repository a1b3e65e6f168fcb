/* SPDX-License-Identifier: GPL-2.0-only */
/* handles.c: what ops make and later ops name by a number. Each kind counts from 0. */
#ifndef S2FUZZ_HANDLES_H
#define S2FUZZ_HANDLES_H

#include "kernel.h"

#define KIND(name, number) HANDLE_##name,
enum handle_kind { S2FUZZ_HANDLE_KINDS(KIND) HANDLE_KINDS };
#undef KIND

/* There are none. */
void handles_reset(void);

/* An op is about to make one: the next of its kind, whether it succeeds or not. False: there are too many. */
bool handle_begin(enum handle_kind kind);

/* How many of that kind ops set out to make so far. */
u64 handles_begun(enum handle_kind kind);

/* It has made it, and `end` ends it if no op does. Its number. */
u64 handle_made(enum handle_kind kind, void (*end)(u64 number));

bool handle_is_live(enum handle_kind kind, u64 number);

/* An op ends it, or gives it away. */
void handle_ends(enum handle_kind kind, u64 number);

u64 handles_live(enum handle_kind kind);

/* Steps through those that live, by number; start with NO_HANDLE. */
#define NO_HANDLE (~0ul)
bool handle_next_live(enum handle_kind kind, u64 *number);

/* Ends what still lives, in reverse order of making. */
bool handles_any_live(void);
void handles_end_all(void);

#endif
