/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is wrong with an image: what, where, and in words what was expected and found.
 */
#ifndef DAXFS_ERROR_H
#define DAXFS_ERROR_H

#ifdef __KERNEL__
#include <linux/errno.h>
#include <linux/kernel.h>
#else
#include "tests/shim.h"
#endif

struct daxfs_error {
	const char *what;	/* field or structure */
	u64 offset;		/* image offset in bytes */
	char detail[120];	/* "expected ..., found ..." */
};

/*
 * Each failure of the engine has one errno: EUCLEAN for an image that contradicts the format,
 * EOPNOTSUPP for one that needs more than is known here, EIO for memory that cannot be read.
 */
#define daxfs_fail(err, code, name, at, ...)						\
({											\
	(err)->what = (name);								\
	(err)->offset = (at);								\
	snprintf((err)->detail, sizeof((err)->detail), __VA_ARGS__);			\
	-(code);									\
})

#define daxfs_corrupt(err, name, at, ...) daxfs_fail(err, EUCLEAN, name, at, __VA_ARGS__)

#endif
