/* SPDX-License-Identifier: GPL-2.0-only */
/* ops/vmid.c: the allocator of VMIDs and whom it serves. */
#ifndef S2FUZZ_VMIDS_H
#define S2FUZZ_VMIDS_H

/* Nobody has a VMID, and the allocator has not begun. */
void vmids_reset(void);

#endif
