/* SPDX-License-Identifier: GPL-2.0-only */
/* The reference's half of every operation: one function each, named op_NAME, with the arguments that
 * harness/program defines (generated.h is made from it). It returns the result code; op_out() adds the out-values.
 * Those of a family are in the file of its name. */
#ifndef S2FUZZ_OPS_H
#define S2FUZZ_OPS_H

#include <asm/kvm_pgtable.h>
#include "../kernel.h"
#include "../boundary.h"
#include "../faults.h"
#include "../handles.h"
#include "../under_test.h"

#define OP(number, name, count, stages) s64 op_##name(const struct args_##name *args);
S2FUZZ_OPS(OP)
#undef OP

/* table.c: give the MMU in use a table, and yield what init does. */
s64 make_table(u64 ia_bits);

/* guest.c: whether a guest runs in the table in use, for whom an abort can be handled. */
bool guest_runs(void);

/* unlinked.c: of a live one. */
struct root unlinked_root(u64 number);

#endif
