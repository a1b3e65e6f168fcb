/* SPDX-License-Identifier: GPL-2.0-only */
/* Variables of each logical CPU, laid out as Linux does: copies of one section, so far apart. `s2fuzz_cpu` is the CPU that
 * the program says, whichever one QEMU executes on. What is static in a file is seen outside it as well, by its name. */
#ifndef S2FUZZ_LINUX_PERCPU_H
#define S2FUZZ_LINUX_PERCPU_H

#include <s2fuzz/cpus.h>

#define DECLARE_PER_CPU(type, name) extern __typeof__(type) name
#define DEFINE_PER_CPU(type, name)						\
	__attribute__((__unused__)) char s2fuzz_scope_of_##name;		\
	__attribute__((__section__(".data..percpu"))) __typeof__(type) name

#define per_cpu_ptr(pointer, cpu) ((__typeof__(pointer))((unsigned long)(pointer) + __per_cpu_offset[cpu]))
#define this_cpu_ptr(pointer) per_cpu_ptr(pointer, s2fuzz_cpu)
#define raw_cpu_ptr(pointer) this_cpu_ptr(pointer)
#define per_cpu(variable, cpu) (*per_cpu_ptr(&(variable), cpu))
#define this_cpu_read(variable) (*this_cpu_ptr(&(variable)))
#define this_cpu_write(variable, value) ((void)(*this_cpu_ptr(&(variable)) = (value)))
#define this_cpu_inc(variable) ((void)(*this_cpu_ptr(&(variable)))++)
#define this_cpu_dec(variable) ((void)(*this_cpu_ptr(&(variable)))--)
#define this_cpu_add(variable, value) ((void)(*this_cpu_ptr(&(variable)) += (value)))

#endif
