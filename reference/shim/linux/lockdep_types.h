/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef S2FUZZ_LINUX_LOCKDEP_TYPES_H
#define S2FUZZ_LINUX_LOCKDEP_TYPES_H
#include <linux/lockdep.h>
#endif
