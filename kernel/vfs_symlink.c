// SPDX-License-Identifier: GPL-2.0
/*
 * Symbolic links. The VFS walks along a target, so it gets a copy that nobody changes.
 */
#include "compat.h"
#include "vfs.h"

static const char *daxfs_get_link(struct dentry *dentry, struct inode *inode,
				  struct delayed_call *done)
{
	const struct daxfs_base *base = &DAXFS_SB(inode->i_sb)->image.base;
	struct daxfs_node link = daxfs_node_of(inode);
	struct daxfs_error err;
	char *target;
	int ret;

	/* Nothing may sleep here, memory is needed: ask again. */
	if (!dentry)
		return ERR_PTR(-ECHILD);
	if (daxfs_is_gone(inode->i_sb))
		return ERR_PTR(-EIO);
	target = kmalloc(link.size + 1, GFP_KERNEL_ACCOUNT);
	if (!target)
		return ERR_PTR(-ENOMEM);
	ret = daxfs_base_target(base, &link, target, &err);
	if (!ret && !*target)
		ret = daxfs_corrupt(&err, "target of a symlink", link.data, "expected a path");
	if (ret) {
		kfree(target);
		return ERR_PTR(daxfs_report(inode->i_sb, ret, &err));
	}
	/* Kept with the inode; of two that come at once the first counts. */
	if (cmpxchg_release(&inode->i_link, NULL, target))
		kfree(target);
	return smp_load_acquire(&inode->i_link);
}

const struct inode_operations daxfs_symlink_inode_operations = {
	.get_link = daxfs_get_link,
	.listxattr = daxfs_listxattr,
};
