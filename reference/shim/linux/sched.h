/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef S2FUZZ_LINUX_SCHED_H
#define S2FUZZ_LINUX_SCHED_H
/* Included by tlbflush.h; hosted files use nothing of it. */
#endif
