/* SPDX-License-Identifier: GPL-2.0-only */
/* The tree's, but for alternatives that a callback computes at boot. Hosted files have one of these, kern_hyp_va(), and
 * here hyp code runs at the same addresses as the rest: nothing needs to be done to one. */
#include_next <asm/alternative-macros.h>

#ifndef __ASSEMBLY__
#undef ALTERNATIVE_CB
#define ALTERNATIVE_CB(oldinstr, feature, cb) ""
#endif
