/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of the VFS glue share.
 */
#ifndef DAXFS_VFS_H
#define DAXFS_VFS_H

#include <linux/fs.h>
#include <linux/iosys-map.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/srcu.h>

#include "engine.h"

struct fs_context;

enum daxfs_kind {
	DAXFS_NOTHING,
	DAXFS_PHYS,	/* a range of physical memory that nobody owns */
	DAXFS_DEVICE,	/* a DAX device, /dev/daxN.M */
	DAXFS_BLOCK,	/* a block device whose memory can be addressed, /dev/pmemN */
	DAXFS_DMABUF,	/* a DMA buffer */
};

/* The memory that an image lies in, and the hold on it. */
struct daxfs_backing {
	enum daxfs_kind kind;
	u64 phys;
	u64 size;
	bool pages;		/* the memory has struct pages */
	void *start;		/* where the kernel sees it */
	struct resource *resource;
	struct file *file;
	struct device *device;
	struct dax_device *dax;
	u64 dax_start;		/* where in it the block device begins */
	struct list_head held;	/* among those that hold a block device */
	struct dma_buf *dmabuf;
	struct iosys_map map;
	struct notifier_block notifier;
	struct super_block *sb;
};

struct daxfs_super {
	struct daxfs_image image;
	struct daxfs_backing backing;
	char *device;			/* as given by dax=, for showing */
	bool validated;
	bool gone;			/* the memory was taken away */
	struct srcu_struct readers;	/* copies that the memory must stay for */
	atomic64_t room;		/* directory entries that may still be indexed */
	struct mutex ordering;		/* held while an index is made */
	struct rcu_head rcu;
};

struct daxfs_inode {
	struct inode vfs;
	u64 data;			/* image offset */
	u64 xattrs;			/* image offset, 0 = none */
	u32 *order;			/* index of a directory that is not sorted */
	u32 next;			/* where its next search begins */
};

static inline struct daxfs_super *DAXFS_SB(const struct super_block *sb)
{
	return sb->s_fs_info;
}

static inline struct daxfs_inode *DAXFS_I(const struct inode *inode)
{
	return container_of(inode, struct daxfs_inode, vfs);
}

static inline bool daxfs_is_gone(const struct super_block *sb)
{
	return unlikely(READ_ONCE(DAXFS_SB(sb)->gone));
}

/* The engine's view of a directory or symlink that was looked up before. */
static inline struct daxfs_node daxfs_node_of(const struct inode *inode)
{
	return (struct daxfs_node){
		.ino = inode->i_ino,
		.mode = inode->i_mode,
		.size = inode->i_size,
		.data = DAXFS_I(inode)->data,
	};
}

/* vfs_super.c */
int daxfs_report(struct super_block *sb, int ret, const struct daxfs_error *err);
void daxfs_unmap_all(struct super_block *sb);
void daxfs_take_away(struct super_block *sb);

/* backing.c and its parts */
int daxfs_phys_open(struct daxfs_backing *backing, struct fs_context *fc);
int daxfs_device_open(struct daxfs_backing *backing, const char *path, struct fs_context *fc);
int daxfs_dmabuf_open(struct daxfs_backing *backing, struct fs_context *fc);
int daxfs_backing_map(struct daxfs_backing *backing, struct fs_context *fc);
int daxfs_block_map(struct daxfs_backing *backing, struct block_device *bdev,
		    struct fs_context *fc);
void daxfs_backing_close(struct daxfs_backing *backing);
unsigned long daxfs_backing_pfn(const struct daxfs_backing *backing, u64 offset);

/* vfs_inode.c */
struct inode *daxfs_iget(struct super_block *sb, u32 ino);
struct inode *daxfs_alloc_inode(struct super_block *sb);
void daxfs_free_inode(struct inode *inode);
void daxfs_evict_inode(struct inode *inode);
int daxfs_inode_cache_init(void);
void daxfs_inode_cache_exit(void);

extern const struct inode_operations daxfs_dir_inode_operations;
extern const struct file_operations daxfs_dir_operations;
extern const struct inode_operations daxfs_symlink_inode_operations;
extern const struct inode_operations daxfs_file_inode_operations;
extern const struct inode_operations daxfs_special_inode_operations;
extern const struct file_operations daxfs_file_operations;
extern const struct export_operations daxfs_export_operations;
extern const struct xattr_handler *const daxfs_xattr_handlers[];

/* vfs_mmap.c */
void daxfs_mmap_init(void);
int daxfs_mmap(struct file *file, struct vm_area_struct *vma);

/* vfs_xattr.c */
ssize_t daxfs_listxattr(struct dentry *dentry, char *list, size_t size);
struct posix_acl *daxfs_get_acl(struct inode *inode, int type, bool rcu);

#endif
