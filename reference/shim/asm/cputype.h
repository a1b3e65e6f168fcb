/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef S2FUZZ_ASM_CPUTYPE_H
#define S2FUZZ_ASM_CPUTYPE_H
/* Hosted files ask for capabilities, not for CPU models; what uses this in cache.h is never called. */
unsigned int read_cpuid_cachetype(void);
#endif
