/* SPDX-License-Identifier: GPL-2.0-only */
/* The guest: how EL1 is entered and left, and the code that it runs. */
#include "el1.h"

	.text
/* void el1_run(u64 registers[2]): enters EL1 where ELR_EL2 and SPSR_EL2 say, with x0 and x1 from there, and comes back by the
 * first exception that is taken from it to EL2; then they are there again. SP_EL2 stays as it is meanwhile. */
	.globl el1_run
el1_run:
	stp	x29, x30, [sp, #-112]!
	mov	x29, sp
	stp	x18, x19, [sp, #16]
	stp	x20, x21, [sp, #32]
	stp	x22, x23, [sp, #48]
	stp	x24, x25, [sp, #64]
	stp	x26, x27, [sp, #80]
	stp	x28, x0, [sp, #96]
	ldp	x0, x1, [x0]
	eret

/* The vector of a synchronous exception from EL1 (start.S). The guest's code uses no other registers. */
	.globl el1_exit
el1_exit:
	ldp	x28, x2, [sp, #96]
	stp	x0, x1, [x2]
	ldp	x26, x27, [sp, #80]
	ldp	x24, x25, [sp, #64]
	ldp	x22, x23, [sp, #48]
	ldp	x20, x21, [sp, #32]
	ldp	x18, x19, [sp, #16]
	ldp	x29, x30, [sp], #112
	ret

/* The page of the guest's code, position-independent. It begins with EL1's vectors: what EL1 takes itself, it hands over at
 * once, and so it does when it is sent to the page's begin. In the room that the first vector has left stand the accesses. */
	.section .rodata.el1, "a"
	.balign	8
	.globl el1_code_start
el1_code_start:
	.irp	number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	.org	el1_code_start + 128 * \number
	hvc	#(HVC_VECTOR + \number)
	.if	\number == 0
	.org	el1_code_start + EL1_READ
	ldr	x0, [x1]
	hvc	#HVC_DONE
	.org	el1_code_start + EL1_WRITE
	str	x0, [x1]
	hvc	#HVC_DONE
	.org	el1_code_start + EL1_EXEC
	br	x1
	.endif
	.endr
	.globl el1_code_end
el1_code_end:

	.section .note.GNU-stack, "", @progbits
