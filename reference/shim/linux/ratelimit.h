/* SPDX-License-Identifier: GPL-2.0-only */
/* What is kept of a program's messages is bounded anyhow (kernel/services.c). */
#ifndef S2FUZZ_LINUX_RATELIMIT_H
#define S2FUZZ_LINUX_RATELIMIT_H

#include <linux/ratelimit_types.h>

#define WARN_ON_RATELIMIT(condition, state) WARN_ON(condition)
#define WARN_RATELIMIT(condition, ...) WARN(condition, __VA_ARGS__)

#endif
