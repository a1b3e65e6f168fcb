/* SPDX-License-Identifier: GPL-2.0-only */
/* Boot at EL2, or at EL3 by way of el3.S; the exception vectors, and the jump out of an op. What the guest ends with is in el1.S. */

	.section .text.start, "ax"
	.globl _start
_start:
	mov	x28, #0		/* whether EL3 is ours */
	mrs	x0, CurrentEL
	cmp	x0, #(3 << 2)
	b.ne	1f
	mov	x28, #1
	adr	x30, 1f
	b	el3_boot
1:	mrs	x0, CurrentEL
	cmp	x0, #(2 << 2)
	b.ne	.
	adrp	x0, stack_end
	add	x0, x0, :lo12:stack_end
	mov	sp, x0
	mov	x29, xzr
	mov	x30, xzr

	adrp	x0, bss_start
	add	x0, x0, :lo12:bss_start
	adrp	x1, bss_end
	add	x1, x1, :lo12:bss_end
1:	cmp	x0, x1
	b.hs	2f
	stp	xzr, xzr, [x0], #16
	b	1b
2:
	adrp	x0, vectors
	add	x0, x0, :lo12:vectors
	msr	vbar_el2, x0
	adrp	x0, stack_guard
	add	x0, x0, :lo12:stack_guard
	msr	sp_el0, x0
	isb
	adrp	x0, has_monitor
	strb	w28, [x0, :lo12:has_monitor]
	bl	mmu_enable
	bl	kernel_main
	b	.

/* The vectors clobber the scratch registers that EL0 and EL1 would use: the interrupted x0 and sp go there while the
 * emergency stack is set up (the old stack may be what is broken). */
	.macro	vector number
	.balign	128
	msr	tpidr_el0, x0
	mov	x0, sp
	msr	tpidr_el1, x0
	adrp	x0, emergency_stack_end
	add	x0, x0, :lo12:emergency_stack_end
	mov	sp, x0
	mov	x0, #\number
	b	save_registers
	.endm

	.text
	.balign	2048
vectors:
	.irp	number, 0, 1, 2, 3, 4, 5, 6, 7
	vector	\number
	.endr
	.balign	128 /* synchronous, from EL1 */
	b	el1_exit
	.irp	number, 9, 10, 11, 12, 13, 14, 15
	vector	\number
	.endr

save_registers:
	sub	sp, sp, #(8 * 32)
	stp	x30, x0, [sp, #(8 * 30)]	/* the slot after x30 carries the vector's number for now */
	mrs	x0, tpidr_el0
	stp	x0, x1, [sp, #(8 * 0)]
	stp	x2, x3, [sp, #(8 * 2)]
	stp	x4, x5, [sp, #(8 * 4)]
	stp	x6, x7, [sp, #(8 * 6)]
	stp	x8, x9, [sp, #(8 * 8)]
	stp	x10, x11, [sp, #(8 * 10)]
	stp	x12, x13, [sp, #(8 * 12)]
	stp	x14, x15, [sp, #(8 * 14)]
	stp	x16, x17, [sp, #(8 * 16)]
	stp	x18, x19, [sp, #(8 * 18)]
	stp	x20, x21, [sp, #(8 * 20)]
	stp	x22, x23, [sp, #(8 * 22)]
	stp	x24, x25, [sp, #(8 * 24)]
	stp	x26, x27, [sp, #(8 * 26)]
	stp	x28, x29, [sp, #(8 * 28)]
	ldr	x0, [sp, #(8 * 31)]
	mrs	x1, tpidr_el1
	str	x1, [sp, #(8 * 31)]
	mov	x1, sp
	bl	exception

	/* It returns where the interrupted code is to go on. */
	ldr	x0, [sp, #(8 * 31)]
	msr	tpidr_el1, x0
	ldp	x0, x1, [sp, #(8 * 0)]
	msr	tpidr_el0, x0
	ldp	x2, x3, [sp, #(8 * 2)]
	ldp	x4, x5, [sp, #(8 * 4)]
	ldp	x6, x7, [sp, #(8 * 6)]
	ldp	x8, x9, [sp, #(8 * 8)]
	ldp	x10, x11, [sp, #(8 * 10)]
	ldp	x12, x13, [sp, #(8 * 12)]
	ldp	x14, x15, [sp, #(8 * 14)]
	ldp	x16, x17, [sp, #(8 * 16)]
	ldp	x18, x19, [sp, #(8 * 18)]
	ldp	x20, x21, [sp, #(8 * 20)]
	ldp	x22, x23, [sp, #(8 * 22)]
	ldp	x24, x25, [sp, #(8 * 24)]
	ldp	x26, x27, [sp, #(8 * 26)]
	ldp	x28, x29, [sp, #(8 * 28)]
	ldr	x30, [sp, #(8 * 30)]
	mrs	x0, tpidr_el1
	mov	sp, x0
	mrs	x0, tpidr_el0
	eret

/* int op_enter(struct op_exit *): 0 at first, 1 when op_leave() jumped back. */
	.globl op_enter
op_enter:
	stp	x19, x20, [x0, #0]
	stp	x21, x22, [x0, #16]
	stp	x23, x24, [x0, #32]
	stp	x25, x26, [x0, #48]
	stp	x27, x28, [x0, #64]
	stp	x29, x30, [x0, #80]
	mov	x1, sp
	str	x1, [x0, #96]
	mov	x0, #0
	ret

	.globl op_leave
op_leave:
	ldp	x19, x20, [x0, #0]
	ldp	x21, x22, [x0, #16]
	ldp	x23, x24, [x0, #32]
	ldp	x25, x26, [x0, #48]
	ldp	x27, x28, [x0, #64]
	ldp	x29, x30, [x0, #80]
	ldr	x1, [x0, #96]
	mov	sp, x1
	mov	x0, #1
	ret

/* From hosted code, in the middle of anything (instructions.inc): x0, x1 and x30 are saved there, and all else here that
 * a C function may change. */
	.globl s2fuzz_instruction
s2fuzz_instruction:
	stp	x29, x30, [sp, #-176]!
	mov	x29, sp
	stp	x2, x3, [sp, #16]
	stp	x4, x5, [sp, #32]
	stp	x6, x7, [sp, #48]
	stp	x8, x9, [sp, #64]
	stp	x10, x11, [sp, #80]
	stp	x12, x13, [sp, #96]
	stp	x14, x15, [sp, #112]
	stp	x16, x17, [sp, #128]
	mrs	x2, nzcv
	stp	x18, x2, [sp, #144]
	bl	s2fuzz_record_instruction
	ldp	x18, x2, [sp, #144]
	msr	nzcv, x2
	ldp	x16, x17, [sp, #128]
	ldp	x14, x15, [sp, #112]
	ldp	x12, x13, [sp, #96]
	ldp	x10, x11, [sp, #80]
	ldp	x8, x9, [sp, #64]
	ldp	x6, x7, [sp, #48]
	ldp	x4, x5, [sp, #32]
	ldp	x2, x3, [sp, #16]
	ldp	x29, x30, [sp], #176
	ret

	.section .note.GNU-stack, "", @progbits
