/* SPDX-License-Identifier: GPL-2.0-only */
/* One CPU. */
#ifndef S2FUZZ_LINUX_PERCPU_H
#define S2FUZZ_LINUX_PERCPU_H

#define DECLARE_PER_CPU(type, name) extern __typeof__(type) name
#define DEFINE_PER_CPU(type, name) __typeof__(type) name
#define this_cpu_ptr(pointer) (pointer)
#define raw_cpu_ptr(pointer) (pointer)
#define per_cpu_ptr(pointer, cpu) ((void)(cpu), (pointer))
#define per_cpu(variable, cpu) (*per_cpu_ptr(&(variable), cpu))
#define this_cpu_read(variable) (variable)
#define this_cpu_write(variable, value) ((void)((variable) = (value)))
#define this_cpu_inc(variable) ((void)(variable)++)
#define this_cpu_dec(variable) ((void)(variable)--)
#define this_cpu_add(variable, value) ((void)((variable) += (value)))

#endif
