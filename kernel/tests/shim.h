/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the engine uses of the kernel, for user space.
 */
#ifndef DAXFS_SHIM_H
#define DAXFS_SHIM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include <linux/types.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

#define le16_to_cpu	le16toh
#define le32_to_cpu	le32toh
#define le64_to_cpu	le64toh
#define be64_to_cpu	be64toh

#define U32_MAX		UINT32_MAX
#define U64_MAX		UINT64_MAX
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define fallthrough	__attribute__((__fallthrough__))
#define noinline_for_stack __attribute__((__noinline__))
#define __uninitialized
#define OPTIMIZER_HIDE_VAR(var) __asm__("" : "=r"(var) : "0"(var))
#define min(a, b)	((a) < (b) ? (a) : (b))
#define max(a, b)	((a) > (b) ? (a) : (b))
#define min_t(type, a, b) min((type)(a), (type)(b))
#define check_add_overflow(a, b, sum) __builtin_add_overflow(a, b, sum)
#define check_mul_overflow(a, b, product) __builtin_mul_overflow(a, b, product)

#define GFP_KERNEL_ACCOUNT 0
#define __GFP_NOWARN	0
#define __GFP_ZERO	0
#define kvzalloc(size, flags) calloc(1, size)
#define __vmalloc(size, flags) calloc(1, size)
#define kvfree		free

#define MAX_ERRNO	4095
#define ERR_PTR(error)	((void *)(long)(error))
#define PTR_ERR(ptr)	((long)(ptr))
#define IS_ERR(ptr)	((unsigned long)(ptr) >= (unsigned long)-MAX_ERRNO)

#define barrier()	asm volatile("" : : : "memory")
#define cond_resched()	do { } while (0)

/* How often it was asked for, and from which time on it is there; 0 = never. */
extern unsigned long signals_asked, signal_at;
#define fatal_signal_pending(task) (++signals_asked >= signal_at && signal_at)

#define BITS_PER_LONG	(8 * sizeof(long))
#define BITS_TO_LONGS(bits) (((bits) + BITS_PER_LONG - 1) / BITS_PER_LONG)

static inline void __set_bit(u64 bit, unsigned long *words)
{
	words[bit / BITS_PER_LONG] |= 1ul << bit % BITS_PER_LONG;
}

static inline bool test_bit(u64 bit, const unsigned long *words)
{
	return words[bit / BITS_PER_LONG] >> bit % BITS_PER_LONG & 1;
}

/* Returns how many bytes were not copied. */
static inline unsigned long copy_mc_to_kernel(void *to, const void *from, size_t len)
{
	memcpy(to, from, len);
	return 0;
}

static inline void *memchr_inv(const void *start, int c, size_t len)
{
	const u8 *at = start;

	for (; len; at++, len--)
		if (*at != (u8)c)
			return (void *)at;
	return NULL;
}

u32 crc32c(u32 sum, const void *bytes, size_t len);
void sort_r(void *base, size_t count, size_t size,
	    int (*compare)(const void *, const void *, const void *), void *swap,
	    const void *private);

#endif
