/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef S2FUZZ_LINUX_RWLOCK_H
#define S2FUZZ_LINUX_RWLOCK_H
#include <linux/spinlock.h>
#endif
