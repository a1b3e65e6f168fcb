// SPDX-License-Identifier: GPL-2.0-only
/* What hosted code may expect of a kernel beside its page-table boundary: messages, which are kept for the report, and the
 * rules about sleeping and locks, whose breach is a complaint. */
#include "kernel.h"
#include "../shim/s2fuzz/locking.h"

int s2fuzz_rcu_depth;
int s2fuzz_atomic_depth;
int s2fuzz_irqs_off;

void services_reset(void)
{
	s2fuzz_rcu_depth = 0;
	s2fuzz_atomic_depth = 0;
	s2fuzz_irqs_off = 0;
}

/* At an op's end nothing may be held any more. Each op begins anew. */
void services_op_ends(void)
{
	if (s2fuzz_rcu_depth || s2fuzz_atomic_depth)
		op_complain(COMPLAINT_LOCKING, S2FUZZ_LEFT_HELD, 0, NULL);
	services_reset();
}

void s2fuzz_broken(enum s2fuzz_rule rule, const void *pc)
{
	op_complain(COMPLAINT_LOCKING, rule, 0, pc);
}

static void check_sleep(const void *pc)
{
	if (s2fuzz_rcu_depth > 0 || s2fuzz_atomic_depth > 0)
		s2fuzz_broken(S2FUZZ_SLEEPS_IN_ATOMIC, pc);
}

void s2fuzz_might_sleep(void)
{
	check_sleep(CALL_SITE);
}

static void change_atomic(int change, const void *pc)
{
	if (s2fuzz_atomic_depth + change < 0)
		s2fuzz_broken(S2FUZZ_UNBALANCED_UNLOCK, pc);
	else
		s2fuzz_atomic_depth += change;
}

void s2fuzz_atomic(int change)
{
	change_atomic(change, CALL_SITE);
}

/* One that waits for itself goes on, after a complaint: there is nobody to wake it. */
void s2fuzz_lock(int *held, int atomic)
{
	if (!atomic)
		check_sleep(CALL_SITE);
	if (*held)
		s2fuzz_broken(S2FUZZ_DEADLOCK, CALL_SITE);
	else if (atomic)
		change_atomic(1, CALL_SITE);
	*held = S2FUZZ_WRITER;
}

int s2fuzz_trylock(int *held, int atomic)
{
	if (*held)
		return 0;
	if (atomic)
		change_atomic(1, CALL_SITE);
	*held = S2FUZZ_WRITER;
	return 1;
}

void s2fuzz_unlock(int *held, int atomic)
{
	if (*held != S2FUZZ_WRITER)
		s2fuzz_broken(S2FUZZ_UNBALANCED_UNLOCK, CALL_SITE);
	else if (atomic)
		change_atomic(-1, CALL_SITE);
	*held = 0;
}

void s2fuzz_read_lock(int *held)
{
	if (*held == S2FUZZ_WRITER) {
		s2fuzz_broken(S2FUZZ_DEADLOCK, CALL_SITE);
		return;
	}
	change_atomic(1, CALL_SITE);
	(*held)++;
}

void s2fuzz_read_unlock(int *held)
{
	if (*held <= 0) {
		s2fuzz_broken(S2FUZZ_UNBALANCED_UNLOCK, CALL_SITE);
		return;
	}
	change_atomic(-1, CALL_SITE);
	(*held)--;
}

/* Messages */

struct line {
	char text[S2FUZZ_MESSAGE_SIZE];
	u64 length;
};

static void put(struct line *line, char byte)
{
	if (line->length < sizeof(line->text))
		line->text[line->length++] = byte;
}

struct conversion {
	bool left, zero, plus, space, alternate;
	u64 width;
	s64 precision; /* or -1 */
};

static void put_padded(struct line *line, const struct conversion *how, const char *text, u64 length)
{
	u64 padding = how->width > length ? how->width - length : 0;

	for (u64 i = 0; !how->left && i < padding; i++)
		put(line, ' ');
	for (u64 i = 0; i < length; i++)
		put(line, text[i]);
	for (u64 i = 0; how->left && i < padding; i++)
		put(line, ' ');
}

#define NUMBER_MAX 80

static void put_number(struct line *line, struct conversion how, u64 value, bool negative, u64 base, bool upper)
{
	const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
	char text[NUMBER_MAX], *at = text + NUMBER_MAX;
	char sign = negative ? '-' : how.plus ? '+' : how.space ? ' ' : 0;
	u64 prefix = !how.alternate ? 0 : base == 16 ? 2 : base == 8 ? 1 : 0;
	u64 least = how.precision > 0 ? how.precision : how.precision < 0;

	if (how.zero && !how.left && how.precision < 0 && how.width > prefix + !!sign)
		least = how.width - prefix - !!sign;
	if (least > NUMBER_MAX - 4)
		least = NUMBER_MAX - 4;
	for (; value; value /= base)
		*--at = digits[value % base];
	while ((u64)(text + NUMBER_MAX - at) < least)
		*--at = '0';
	if (prefix == 2)
		*--at = upper ? 'X' : 'x';
	if (prefix)
		*--at = '0';
	if (sign)
		*--at = sign;
	put_padded(line, &how, at, text + NUMBER_MAX - at);
}

static bool is_letter_or_digit(char byte)
{
	return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

static void put_string(struct line *line, struct conversion how, const char *text)
{
	u64 length = 0;

	if (!text)
		text = "(null)";
	while ((how.precision < 0 || length < (u64)how.precision) && text[length])
		length++;
	put_padded(line, &how, text, length);
}

/* Linux's formats, of which pointers are never hashed, and have no further meaning: %pS is the address as well. */
static void format_line(struct line *line, const char *format, __builtin_va_list args)
{
	for (; *format; format++) {
		struct conversion how = { .precision = -1 };
		int longs = 0;
		s64 number;

		if (*format != '%') {
			put(line, *format);
			continue;
		}
		for (format++;; format++) {
			if (*format == '-')
				how.left = true;
			else if (*format == '0')
				how.zero = true;
			else if (*format == '+')
				how.plus = true;
			else if (*format == ' ')
				how.space = true;
			else if (*format == '#')
				how.alternate = true;
			else
				break;
		}
		if (*format == '*') {
			number = __builtin_va_arg(args, int);
			how.left = how.left || number < 0;
			how.width = number < 0 ? -number : number;
			format++;
		}
		for (; *format >= '0' && *format <= '9'; format++)
			how.width = 10 * how.width + *format - '0';
		if (*format == '.') {
			format++;
			how.precision = 0;
			if (*format == '*') {
				how.precision = __builtin_va_arg(args, int);
				format++;
			}
			for (; *format >= '0' && *format <= '9'; format++)
				how.precision = 10 * how.precision + *format - '0';
		}
		for (;; format++) {
			if (*format == 'l' || *format == 'z' || *format == 't' || *format == 'j')
				longs++;
			else if (*format == 'h')
				longs--;
			else
				break;
		}
		switch (*format) {
		case 'd':
		case 'i':
			number = longs > 0 ? __builtin_va_arg(args, long) : __builtin_va_arg(args, int);
			if (longs == -1)
				number = (short)number;
			else if (longs < -1)
				number = (signed char)number;
			put_number(line, how, number < 0 ? -(u64)number : (u64)number, number < 0, 10, false);
			break;
		case 'u':
		case 'x':
		case 'X':
		case 'o': {
			u64 value = longs > 0 ? __builtin_va_arg(args, u64) : __builtin_va_arg(args, u32);

			if (longs < 0)
				value &= longs == -1 ? 0xffff : 0xff;
			how.plus = how.space = false;
			put_number(line, how, value, false, *format == 'u' ? 10 : *format == 'o' ? 8 : 16, *format == 'X');
			break;
		}
		case 'p':
			how.alternate = true;
			put_number(line, how, __builtin_va_arg(args, u64), false, 16, false);
			while (is_letter_or_digit(format[1]))
				format++;
			break;
		case 's':
			put_string(line, how, __builtin_va_arg(args, const char *));
			break;
		case 'c': {
			char byte = __builtin_va_arg(args, int);

			put_padded(line, &how, &byte, 1);
			break;
		}
		case '%':
			put(line, '%');
			break;
		case 0:
			return;
		default: /* what follows cannot be known */
			put(line, '%');
			while (*format)
				put(line, *format++);
			return;
		}
	}
}

#define KERN_SOH 1 /* precedes the level of a message, one character */

int _printk(const char *format, ...);
int _printk(const char *format, ...)
{
	struct line line;
	__builtin_va_list args;

	line.length = 0;
	while (format[0] == KERN_SOH && format[1])
		format += 2;
	__builtin_va_start(args, format);
	format_line(&line, format, args);
	__builtin_va_end(args);
	while (line.length && line.text[line.length - 1] == '\n')
		line.length--;
	op_print(line.text, line.length);
	return line.length;
}

/* printk_ratelimited() asks: what is kept is bounded anyhow. */
int ___ratelimit(void *state, const char *function);
int ___ratelimit(void *state, const char *function)
{
	return 1;
}

void dump_stack(void);
void dump_stack(void)
{
	op_note(NOTE_STACK, 0, CALL_SITE);
}

void __might_sleep(const char *file, int line);
void __might_sleep(const char *file, int line)
{
	check_sleep(CALL_SITE);
}
