// SPDX-License-Identifier: GPL-2.0
/*
 * Directories: look-up by binary search, listing in the image's order.
 */
#include "compat.h"
#include "vfs.h"

/*
 * Sound directories together have no more entries than the base image has room for; others shall
 * not take more memory.
 */
static const u32 *make_order(struct inode *dir, struct daxfs_error *err)
{
	struct daxfs_super *super = DAXFS_SB(dir->i_sb);
	struct daxfs_node node = daxfs_node_of(dir);
	s64 count = daxfs_dirent_count(&node);
	u32 *order;

	if (atomic64_sub_return(count, &super->room) < 0) {
		atomic64_add(count, &super->room);
		return ERR_PTR(daxfs_corrupt(err, "size of a directory", node.data,
					     "expected fewer entries than %lld", count));
	}
	order = daxfs_base_order(&super->image.base, &node, err);
	if (IS_ERR(order))
		atomic64_add(count, &super->room);
	else
		smp_store_release(&DAXFS_I(dir)->order, order);
	return order;
}

/* The order of names in a directory that is not sorted, made once. */
static noinline const u32 *order_of(struct inode *dir, struct daxfs_error *err)
{
	struct daxfs_super *super = DAXFS_SB(dir->i_sb);
	const u32 *order = smp_load_acquire(&DAXFS_I(dir)->order);

	if (order)
		return order;
	/* Look-ups run side by side; each would take the room that there is for one index. */
	if (mutex_lock_killable(&super->ordering))
		return ERR_PTR(-EINTR);
	order = DAXFS_I(dir)->order ?: make_order(dir, err);
	mutex_unlock(&super->ordering);
	return order;
}

static struct dentry *daxfs_lookup(struct inode *dir, struct dentry *dentry, unsigned int flags)
{
	const struct daxfs_base *base = &DAXFS_SB(dir->i_sb)->image.base;
	struct daxfs_node node = daxfs_node_of(dir);
	struct daxfs_error err __uninitialized;
	u32 next, ino;
	struct inode *inode = NULL;
	const u32 *order = NULL;
	int ret;

	if (dentry->d_name.len > DAXFS_NAME_MAX)
		return ERR_PTR(-ENAMETOOLONG);
	if (daxfs_is_gone(dir->i_sb))
		return ERR_PTR(-EIO);
	if (!daxfs_base_has(base, DAXFS_SORTED_DIRS) && node.size) {
		order = order_of(dir, &err);
		if (IS_ERR(order))
			return ERR_PTR(daxfs_report(dir->i_sb, PTR_ERR(order), &err));
	}
	/* Look-ups side by side may each spoil the other's beginning, and nothing else. */
	next = READ_ONCE(DAXFS_I(dir)->next);
	ret = daxfs_base_lookup(base, &node, order, dentry->d_name.name, dentry->d_name.len, &next,
				&ino, &err);
	if (!ret) {
		WRITE_ONCE(DAXFS_I(dir)->next, next);
		inode = daxfs_iget(dir->i_sb, ino);
	} else if (ret != -ENOENT) {
		return ERR_PTR(daxfs_report(dir->i_sb, ret, &err));
	}
	return d_splice_alias(inode, dentry);
}

static int daxfs_iterate(struct file *file, struct dir_context *ctx)
{
	struct inode *dir = file_inode(file);
	const struct daxfs_base *base = &DAXFS_SB(dir->i_sb)->image.base;
	struct daxfs_node node = daxfs_node_of(dir);
	u64 count = daxfs_dirent_count(&node);
	struct daxfs_dirent entry __uninitialized;
	struct daxfs_error err __uninitialized;
	int ret;

	if (!dir_emit_dots(file, ctx))
		return 0;
	for (; ctx->pos - 2 < count; ctx->pos++) {
		u64 position = ctx->pos - 2;

		/* Who listens inside the kernel may have room for millions of names. */
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
		if (daxfs_is_gone(dir->i_sb))
			return -EIO;
		ret = daxfs_base_dirent(base, &node, position, &entry, &err);
		if (!ret && !daxfs_name_is_legal(&entry))
			ret = daxfs_corrupt(&err, "name", node.data + position * sizeof(entry) + 16,
					    "expected neither . nor .., no slash, no NUL");
		if (ret)
			return daxfs_report(dir->i_sb, ret, &err);
		if (!dir_emit(ctx, entry.name, le16_to_cpu(entry.name_len), le32_to_cpu(entry.ino),
			      S_DT(le32_to_cpu(entry.mode))))
			break;
	}
	return 0;
}

const struct inode_operations daxfs_dir_inode_operations = {
	.lookup = daxfs_lookup,
	.listxattr = daxfs_listxattr,
	.compat_get_acl = daxfs_get_acl,
};

const struct file_operations daxfs_dir_operations = {
	.llseek = generic_file_llseek,
	.read = generic_read_dir,
	.iterate_shared = daxfs_iterate,
	.fsync = noop_fsync,
};
