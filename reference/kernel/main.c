// SPDX-License-Identifier: GPL-2.0-only
/* Greets the host, then answers its requests for ever. */
#include "kernel.h"

void kernel_main(void);

static void reply(u8 type, u32 seq, const char *text)
{
	frame_begin(type, seq);
	frame_bytes(text, strlen(text));
	frame_end();
}

/* What the tests of the driver ask for: the ways in which a kernel goes wrong. */
static void misbehave(const struct frame *frame)
{
	switch (frame->size ? *frame->payload : 0) {
	case 'n':
		*(volatile u64 *)8 = 1;
		break;
	case 'x':
		*(volatile u32 *)(u64)kernel_main = 0;
		break;
	case 's':
		asm volatile("mov sp, %0\n\tstr xzr, [sp, #-16]!" :: "r"(4096ul) : "memory");
		break;
	case 'h':
		for (;;)
			asm volatile("" ::: "memory");
	case 'b':
		for (int i = 0; i < 2000; i++)
			console_text(i % 3 ? "\x1b[31m<D0000AAAA*00000000\n" : "\xff\xfe garbage <<<");
		break;
	}
	panic("asked to");
}

static void answer(const struct frame *frame)
{
	struct reader reader = { frame->payload, frame->payload + frame->size, false };
	u64 stop_before = NO_RECORD;

	switch (frame->type) {
	case 'G':
		stop_before = read_varint(&reader);
		__attribute__((fallthrough));
	case 'D':
	case 'F':
		shell_forget();
		if (program_run(&reader, frame->type != 'D', stop_before))
			observe_end(frame->seq);
		else
			reply('E', frame->seq, "malformed program");
		break;
	case 'H':
		reply('H', frame->seq, S2FUZZ_GREETING);
		break;
	case 'S':
		shell_observe();
		observe_end(frame->seq);
		break;
	case SHELL_LINE:
		shell_line(frame->payload, frame->size);
		break;
	case 'M':
		misbehave(frame);
		break;
	default:
		reply('E', frame->seq, "unknown request");
	}
}

void kernel_main(void)
{
	struct frame frame;

	console_init();
	crc32_init();
	cpus_init();
	hosted_save();
	console_text("s2fuzz test kernel\n");
	reply('H', 0, S2FUZZ_GREETING);
	for (;;) {
		if (frame_receive(&frame))
			answer(&frame);
		else
			reply('E', 0xffff, "malformed frame");
	}
}
