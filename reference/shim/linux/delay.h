/* SPDX-License-Identifier: GPL-2.0-only */
/* Nothing here takes time. */
#ifndef S2FUZZ_LINUX_DELAY_H
#define S2FUZZ_LINUX_DELAY_H

#include <linux/sched.h>

#define ndelay(time) ((void)(time))
#define udelay(time) ((void)(time))
#define mdelay(time) ((void)(time))
#define msleep(time) ((void)(time), s2fuzz_might_sleep())
#define usleep_range(low, high) ((void)(low), (void)(high), s2fuzz_might_sleep())

#endif
