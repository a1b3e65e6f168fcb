// SPDX-License-Identifier: GPL-2.0-only
/* The PL011 of QEMU's `virt` machine. Between lines the CPU sleeps in WFI: the UART's interrupt is routed to it
 * through the GIC but stays masked, which is enough to wake it. */
#include "kernel.h"

#define UART 0x09000000ul
#define UARTDR (UART + 0x00)
#define UARTFR (UART + 0x18)
#define UARTLCR_H (UART + 0x2c)
#define UARTCR (UART + 0x30)
#define UARTIMSC (UART + 0x38)
#define UARTFR_RXFE (1u << 4)
#define UARTFR_TXFF (1u << 5)
#define UARTLCR_H_8BIT_FIFO 0x70u
#define UARTCR_UARTEN_TX_RX 0x301u
#define UARTIMSC_RX_AND_TIMEOUT 0x50u

#define GICD 0x08000000ul
#define GICC 0x08010000ul
#define UART_INTID 33u

/* Within a line the next byte is near, and sleeping costs more than it takes to come. */
#define POLLS_BEFORE_SLEEP 400

static void write32(u64 address, u32 value)
{
	*(volatile u32 *)address = value;
}

static u32 read32(u64 address)
{
	return *(volatile u32 *)address;
}

void console_init(void)
{
	write32(UARTLCR_H, UARTLCR_H_8BIT_FIFO);
	write32(UARTCR, UARTCR_UARTEN_TX_RX);
	write32(UARTIMSC, UARTIMSC_RX_AND_TIMEOUT);

	write32(GICD + 0x100 + 4 * (UART_INTID / 32), 1u << (UART_INTID % 32));
	*(volatile u8 *)(GICD + 0x400 + UART_INTID) = 0;
	*(volatile u8 *)(GICD + 0x800 + UART_INTID) = 1;
	write32(GICD, 1);
	write32(GICC + 4, 0xff);
	write32(GICC, 1);
}

static u8 get(int polls)
{
	for (int tries = 0; read32(UARTFR) & UARTFR_RXFE; tries++)
		if (tries >= polls)
			asm volatile("wfi" ::: "memory");
	return read32(UARTDR);
}

/* The next byte of a line. */
u8 console_get(void)
{
	return get(POLLS_BEFORE_SLEEP);
}

/* The first byte of a line, which may be long in coming. */
u8 console_await(void)
{
	return get(0);
}

void console_put(u8 byte)
{
	while (read32(UARTFR) & UARTFR_TXFF)
		;
	write32(UARTDR, byte);
}

void console_text(const char *text)
{
	while (*text)
		console_put(*text++);
}

void console_hex(u64 value)
{
	for (int shift = 60; shift >= 0; shift -= 4)
		console_put("0123456789abcdef"[(value >> shift) & 15]);
}
