/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef S2FUZZ_ASM_CPUTYPE_H
#define S2FUZZ_ASM_CPUTYPE_H
/* Included by tlbflush.h; hosted files ask for capabilities, not for CPU models. */
#endif
