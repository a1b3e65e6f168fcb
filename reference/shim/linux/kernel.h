/* SPDX-License-Identifier: GPL-2.0-only */
/* The tree's, but for what is to be heard of here: sleeping where that is forbidden, and what is traced. */
#include_next <linux/kernel.h>

#ifndef S2FUZZ_LINUX_KERNEL_H
#define S2FUZZ_LINUX_KERNEL_H

#include <linux/printk.h>
#include <s2fuzz/locking.h>

#undef might_sleep
#define might_sleep() s2fuzz_might_sleep()
#undef might_sleep_if
#define might_sleep_if(condition) do { if (condition) might_sleep(); } while (0)

/* Into the kernel's trace there, to what is printed here. */
#define trace_printk(...) ((void)_printk(__VA_ARGS__))
#define trace_puts(text) ((void)_printk("%s", text))

#endif
