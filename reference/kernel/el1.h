/* SPDX-License-Identifier: GPL-2.0-only */
/* el1.S: where the guest's code begins, by access, and what its HVCs say. */
#ifndef S2FUZZ_EL1_H
#define S2FUZZ_EL1_H

#define EL1_READ 0x20
#define EL1_WRITE 0x30
#define EL1_EXEC 0x40

#define HVC_PIECE 0x1000 /* and up: code at the begin of the window's piece of that number */
#define HVC_VECTOR 0x2000 /* and up: that vector of EL1's; the first also of whoever jumps to the page's begin */
#define HVC_DONE 0x3000

#endif
