// SPDX-License-Identifier: GPL-2.0-only
/* An exception, BUG or panic is reported twice: as text for people, and as a frame for the host, which symbolises it.
 * Then the machine stops; the host starts a new one. Only BRKs of alternatives.c's are not fatal. */
#include "kernel.h"

#define BACKTRACE 24

static bool reported;
extern char stack_start[], stack_end[];

static bool on_stack(u64 address)
{
	return address >= (u64)stack_start && address + 16 <= (u64)stack_end && !(address & 15);
}

static void backtrace(u64 fp)
{
	u64 count = 0, at;

	for (at = fp; on_stack(at) && count < BACKTRACE; at = *(u64 *)at)
		count++;
	frame_varint(count);
	for (at = fp; count--; at = *(u64 *)at)
		frame_varint(((u64 *)at)[1]);
}

static noreturn void report(const char *reason, u64 esr, u64 elr, u64 far, const u64 *registers, u64 fp)
{
	if (!reported) {
		reported = true;
		console_text("\n");
		observe_print_messages();
		console_text("panic: ");
		console_text(reason);
		console_text(" esr=");
		console_hex(esr);
		console_text(" elr=");
		console_hex(elr);
		console_text(" far=");
		console_hex(far);
		console_text("\n");

		frame_to_console();
		frame_begin('P', 0);
		frame_varint(strlen(reason));
		frame_bytes(reason, strlen(reason));
		frame_varint(esr);
		frame_varint(elr);
		frame_varint(far);
		for (int i = 0; i < 32; i++)
			frame_varint(registers ? registers[i] : 0);
		backtrace(fp);
		frame_end();
	}
	for (;;)
		asm volatile("wfi");
}

#define ESR_CLASS(esr) ((esr) >> 26 & 0x3f)
#define CLASS_BRK 0x3c

/* Returns to the instruction after a BRK that was carried out; from anything else it does not return. */
void exception(u64 vector, u64 *registers)
{
	static const char *const names[] = { "synchronous exception", "IRQ", "FIQ", "SError" };
	u64 esr, elr, far;

	asm volatile("mrs %0, esr_el2" : "=r"(esr));
	asm volatile("mrs %0, elr_el2" : "=r"(elr));
	asm volatile("mrs %0, far_el2" : "=r"(far));
	if (ESR_CLASS(esr) == CLASS_BRK) {
		enum brk outcome = alternatives_brk(esr & 0xffff, elr, registers);

		if (outcome == BRK_CARRIED_OUT) {
			asm volatile("msr elr_el2, %0" :: "r"(elr + 4));
			return;
		}
		if (outcome == BRK_BUG)
			report("BUG", 0, elr, 0, NULL, registers[29]);
	}
	report(names[vector % 4], esr, elr, far, registers, registers[29]);
}

noreturn void panic_at(const char *reason, const void *place)
{
	report(reason, 0, (u64)place, 0, NULL, *(u64 *)__builtin_frame_address(0));
}

noreturn void panic(const char *reason)
{
	panic_at(reason, CALL_SITE);
}
