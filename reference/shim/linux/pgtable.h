/* SPDX-License-Identifier: GPL-2.0-only */
/* Hosted files want the architecture's descriptors and TLBI encodings from here, not the host's own tables. */
#ifndef S2FUZZ_LINUX_PGTABLE_H
#define S2FUZZ_LINUX_PGTABLE_H

#include <linux/types.h>
#include <linux/limits.h>
#include <linux/math.h>
#include <linux/minmax.h>
#include <linux/align.h>
#include <linux/errno.h>
#include <linux/err.h>
#include <linux/container_of.h>
#include <asm/cpufeature.h>
#include <asm/pgtable-hwdef.h>
#include <asm/pgtable-prot.h>
#include <asm/tlbflush.h>

#define PTRS_PER_PTE (1 << (PAGE_SHIFT - 3))
#define PAGE_ALIGN(addr) ALIGN(addr, PAGE_SIZE) /* linux/mm.h has it, with everything else */

#endif
