/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The engine: everything that is known of an image without a mount. Its files use nothing of the
 * kernel but what tests/shim.h offers too, so that they are tested in user space.
 *
 * Whoever shares the memory may store to it at any moment. Every field is loaded once, by a copy,
 * and judged and used from there. Every access is checked against the region, whether or not the
 * image was proved.
 *
 * What looking up a name fills is __uninitialized: kernels that clear every variable on the stack
 * would spend more on that than on the look-up.
 */
#ifndef DAXFS_ENGINE_H
#define DAXFS_ENGINE_H

#ifdef __KERNEL__
#include <linux/bitmap.h>
#include <linux/crc32c.h>
#include <linux/err.h>
#include <linux/limits.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/stat.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#else
#include "tests/shim.h"
#endif

#include "daxfs_format.h"
#include "error.h"

/* region.c: the mapped memory of an image. */
struct daxfs_region {
	const u8 *start;
	u64 size;
};

static inline bool daxfs_region_holds(const struct daxfs_region *region, u64 offset, u64 len)
{
	return offset <= region->size && len <= region->size - offset;
}

int daxfs_region_failed(const struct daxfs_region *region, u64 offset, size_t len,
			struct daxfs_error *err);

static inline int daxfs_region_read(const struct daxfs_region *region, u64 offset, void *to,
				    size_t len, struct daxfs_error *err)
{
	/* A poisoned line gives EIO where the machine can tell, instead of a panic. */
	if (daxfs_region_holds(region, offset, len) &&
	    !copy_mc_to_kernel(to, region->start + offset, len)) {
		/* Where that is inlined, nothing shall be loaded again that was judged. */
		barrier();
		return 0;
	}
	return daxfs_region_failed(region, offset, len, err);
}

void *daxfs_alloc(u64 count, size_t size);
u32 daxfs_crc32c(u32 sum, const void *bytes, size_t len);

/* superblock.c: where every region lies. */
struct daxfs_span {
	const char *name;
	u64 offset;
	u64 size;
};

int daxfs_superblock_read(const struct daxfs_region *region, struct daxfs_superblock *sb,
			  struct daxfs_error *err);
int daxfs_superblock_check(const struct daxfs_superblock *sb, u64 len, struct daxfs_error *err);

/* base.c: the read-only tree. */
struct daxfs_base {
	const struct daxfs_region *region;
	struct daxfs_base_superblock *header;	/* as it was when the image was opened */
	u32 flags;
	u32 inode_count;
	u64 offset;
	u64 size;
	u64 inode_table;
	u64 xattr_start;
	u64 xattr_end;
};

struct daxfs_node {
	u32 ino;
	u32 mode;
	u32 uid;
	u32 gid;
	u32 nlink;
	u32 rdev;
	u64 size;
	s64 mtime;	/* ns since 1970 */
	u64 data;	/* image offset */
	u64 xattrs;	/* image offset of the attribute set, 0 = none */
};

static inline bool daxfs_base_has(const struct daxfs_base *base, u32 bit)
{
	return base->flags & bit;
}

static inline u64 daxfs_inode_offset(const struct daxfs_base *base, u32 ino)
{
	return base->inode_table + (u64)(ino - 1) * sizeof(struct daxfs_base_inode);
}

/* Bytes that the data of an inode take, the NUL of a symlink included. */
static inline u64 daxfs_stored(const struct daxfs_node *node)
{
	return S_ISLNK(node->mode) ? node->size + 1 : node->size;
}

static inline u64 daxfs_dirent_count(const struct daxfs_node *dir)
{
	return dir->size / sizeof(struct daxfs_dirent);
}

int daxfs_base_open(struct daxfs_base *base, const struct daxfs_region *region,
		    const struct daxfs_superblock *sb, struct daxfs_error *err);
int daxfs_base_decode(const struct daxfs_base *base, u32 ino, const struct daxfs_base_inode *raw,
		      struct daxfs_node *node, struct daxfs_error *err);
int daxfs_base_node(const struct daxfs_base *base, u32 ino, struct daxfs_node *node,
		    struct daxfs_error *err);
int daxfs_base_dirent(const struct daxfs_base *base, const struct daxfs_node *dir, u64 position,
		      struct daxfs_dirent *entry, struct daxfs_error *err);
bool daxfs_name_is_legal(const struct daxfs_dirent *entry);
int daxfs_base_lookup(const struct daxfs_base *base, const struct daxfs_node *dir,
		      const u32 *order, const char *name, size_t len, u32 *next, u32 *ino,
		      struct daxfs_error *err);
u32 *daxfs_base_order(const struct daxfs_base *base, const struct daxfs_node *dir,
		      struct daxfs_error *err);
int daxfs_base_target(const struct daxfs_base *base, const struct daxfs_node *link, char *target,
		      struct daxfs_error *err);

/* xattr.c: attribute sets. */
struct daxfs_xattr {
	const char *name;
	const void *value;
	u32 value_len;
	u8 name_len;
};

struct daxfs_xattrs {
	u8 *bytes;		/* one copy of the set, judged and used */
	u32 size;
	u32 count;		/* entries still to come */
	u32 position;		/* of the next entry */
	u64 offset;
	struct daxfs_xattr last;
};

int daxfs_xattrs_open(const struct daxfs_base *base, u64 offset, struct daxfs_xattrs *set,
		      struct daxfs_error *err);
int daxfs_xattrs_next(struct daxfs_xattrs *set, struct daxfs_xattr *entry,
		      struct daxfs_error *err);

static inline void daxfs_xattrs_close(struct daxfs_xattrs *set)
{
	kvfree(set->bytes);
}

/* branch.c: whether the base tree is all there is. */
int daxfs_branches_untouched(const struct daxfs_region *region, const struct daxfs_superblock *sb,
			     struct daxfs_error *err);

/* image.c: from a region to an image. */
struct daxfs_image {
	struct daxfs_region region;
	struct daxfs_superblock *superblock;	/* as it was when the image was opened */
	struct daxfs_base base;
};

int daxfs_image_open(struct daxfs_image *image, const void *start, u64 size,
		     struct daxfs_error *err);
void daxfs_image_close(struct daxfs_image *image);

/* validate.c: the whole-image proof. */
int daxfs_validate(const struct daxfs_image *image, struct daxfs_error *err);

#endif
