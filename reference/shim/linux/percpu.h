/* SPDX-License-Identifier: GPL-2.0-only */
/* One CPU. */
#ifndef S2FUZZ_LINUX_PERCPU_H
#define S2FUZZ_LINUX_PERCPU_H

#define DECLARE_PER_CPU(type, name) extern __typeof__(type) name
#define DEFINE_PER_CPU(type, name) __typeof__(type) name
#define this_cpu_ptr(pointer) (pointer)

#endif
