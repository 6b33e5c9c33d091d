// SPDX-License-Identifier: GPL-2.0
/*
 * Inodes: from a record of the inode table to what the VFS works with, and handles of them.
 */
#include <linux/exportfs.h>

#include "compat.h"
#include "vfs.h"

static struct kmem_cache *inode_cache;

static void init_once(void *object)
{
	struct daxfs_inode *inode = object;

	inode_init_once(&inode->vfs);
}

int daxfs_inode_cache_init(void)
{
	inode_cache = kmem_cache_create("daxfs_inode", sizeof(struct daxfs_inode), 0,
					SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT, init_once);
	return inode_cache ? 0 : -ENOMEM;
}

void daxfs_inode_cache_exit(void)
{
	/* Inodes are freed after a grace period. */
	rcu_barrier();
	kmem_cache_destroy(inode_cache);
}

struct inode *daxfs_alloc_inode(struct super_block *sb)
{
	struct daxfs_inode *inode = alloc_inode_sb(sb, inode_cache, GFP_KERNEL);

	if (!inode)
		return NULL;
	inode->order = NULL;
	inode->next = 0;
	return &inode->vfs;
}

void daxfs_free_inode(struct inode *inode)
{
	if (S_ISLNK(inode->i_mode))
		kfree(inode->i_link);
	kmem_cache_free(inode_cache, DAXFS_I(inode));
}

void daxfs_evict_inode(struct inode *inode)
{
	struct daxfs_node dir = daxfs_node_of(inode);

	truncate_inode_pages_final(&inode->i_data);
	clear_inode(inode);
	if (DAXFS_I(inode)->order) {
		kvfree(DAXFS_I(inode)->order);
		atomic64_add(daxfs_dirent_count(&dir), &DAXFS_SB(inode->i_sb)->room);
	}
}

static int set_operations(struct inode *inode, u32 rdev)
{
	switch (inode->i_mode & S_IFMT) {
	case S_IFREG:
		inode->i_op = &daxfs_file_inode_operations;
		inode->i_fop = &daxfs_file_operations;
		inode->i_flags |= COMPAT_S_DAX;
		return 0;
	case S_IFDIR:
		inode->i_op = &daxfs_dir_inode_operations;
		inode->i_fop = &daxfs_dir_operations;
		return 0;
	case S_IFLNK:
		inode->i_op = &daxfs_symlink_inode_operations;
		inode->i_link = NULL;
		return 0;
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		inode->i_op = &daxfs_special_inode_operations;
		init_special_inode(inode, inode->i_mode, new_decode_dev(rdev));
		return 0;
	default:
		return -EUCLEAN;
	}
}

static int fill_inode(struct inode *inode, const struct daxfs_node *node, struct daxfs_error *err)
{
	u64 at = daxfs_inode_offset(&DAXFS_SB(inode->i_sb)->image.base, node->ino);

	inode->i_mode = node->mode;
	if (set_operations(inode, node->rdev))
		return daxfs_corrupt(err, "mode of an inode", at + 4,
				     "expected a file type, found %#o", node->mode);
	if (node->size > MAX_LFS_FILESIZE)
		return daxfs_corrupt(err, "size of an inode", at + 16, "found %llu", node->size);
	inode->i_uid = KUIDT_INIT(node->uid);
	inode->i_gid = KGIDT_INIT(node->gid);
	/* Removed files have no links; in an image there are none, whatever plain version 3 says. */
	set_nlink(inode, node->nlink ?: 1);
	inode->i_size = node->size;
	inode->i_blocks = DIV_ROUND_UP(node->size, DAXFS_BLOCK_SIZE) * (DAXFS_BLOCK_SIZE / 512);
	compat_set_times(inode, ns_to_timespec64(node->mtime));
	DAXFS_I(inode)->data = node->data;
	DAXFS_I(inode)->xattrs = node->xattrs;
	if (!node->xattrs)
		cache_no_acl(inode);
	return 0;
}

static int read_inode(struct inode *inode, u32 ino)
{
	struct super_block *sb = inode->i_sb;
	struct daxfs_error err __uninitialized;
	struct daxfs_node node __uninitialized;
	int ret;

	if (daxfs_is_gone(sb))
		return -EIO;
	ret = daxfs_base_node(&DAXFS_SB(sb)->image.base, ino, &node, &err) ?:
	      fill_inode(inode, &node, &err);
	return ret ? daxfs_report(sb, ret, &err) : 0;
}

struct inode *daxfs_iget(struct super_block *sb, u32 ino)
{
	struct inode *inode = iget_locked(sb, ino);
	int ret;

	if (!inode)
		return ERR_PTR(-ENOMEM);
	if (!compat_inode_is_new(inode))
		return inode;
	ret = read_inode(inode, ino);
	if (ret) {
		iget_failed(inode);
		return ERR_PTR(ret);
	}
	unlock_new_inode(inode);
	return inode;
}

static struct inode *inode_of_handle(struct super_block *sb, u64 ino, u32 generation)
{
	struct inode *inode;

	if (!ino || ino > max(DAXFS_SB(sb)->image.base.inode_count, 1u))
		return ERR_PTR(-ESTALE);
	inode = daxfs_iget(sb, ino);
	if (!IS_ERR(inode) && generation != inode->i_generation) {
		iput(inode);
		return ERR_PTR(-ESTALE);
	}
	return inode;
}

static struct dentry *fh_to_dentry(struct super_block *sb, struct fid *fid, int len, int type)
{
	return generic_fh_to_dentry(sb, fid, len, type, inode_of_handle);
}

static struct dentry *fh_to_parent(struct super_block *sb, struct fid *fid, int len, int type)
{
	return generic_fh_to_parent(sb, fid, len, type, inode_of_handle);
}

const struct export_operations daxfs_export_operations = {
	COMPAT_ENCODE_FH
	.fh_to_dentry = fh_to_dentry,
	.fh_to_parent = fh_to_parent,
};

const struct inode_operations daxfs_file_inode_operations = {
	.listxattr = daxfs_listxattr,
	.compat_get_acl = daxfs_get_acl,
};

const struct inode_operations daxfs_special_inode_operations = {
	.listxattr = daxfs_listxattr,
	.compat_get_acl = daxfs_get_acl,
};
