// SPDX-License-Identifier: GPL-2.0
/*
 * Extended attributes, and the access control lists among them.
 */
#include <linux/fs.h>
#include <linux/posix_acl_xattr.h>

#include "compat.h"
#include "vfs.h"

/* Copies the value of @name to @value, which may be NULL, and returns its size. */
static int get_xattr(struct inode *inode, const char *name, void *value, size_t size)
{
	const struct daxfs_base *base = &DAXFS_SB(inode->i_sb)->image.base;
	size_t len = strlen(name);
	struct daxfs_xattr entry;
	struct daxfs_xattrs set;
	struct daxfs_error err;
	int found = -ENODATA;
	int ret;

	if (!DAXFS_I(inode)->xattrs)
		return -ENODATA;
	if (daxfs_is_gone(inode->i_sb))
		return -EIO;
	ret = daxfs_xattrs_open(base, DAXFS_I(inode)->xattrs, &set, &err);
	if (ret)
		return daxfs_report(inode->i_sb, ret, &err);
	while ((ret = daxfs_xattrs_next(&set, &entry, &err)) > 0) {
		if (entry.name_len != len || memcmp(entry.name, name, len))
			continue;
		found = entry.value_len;
		if (value && entry.value_len > size)
			found = -ERANGE;
		else if (value)
			memcpy(value, entry.value, entry.value_len);
	}
	daxfs_xattrs_close(&set);
	return ret ? daxfs_report(inode->i_sb, ret, &err) : found;
}

static int daxfs_xattr_get(const struct xattr_handler *handler, struct dentry *dentry,
			   struct inode *inode, const char *name, void *value, size_t size)
{
	return get_xattr(inode, name, value, size);
}

/* Names are stored whole, so one handler with an empty prefix takes them all. */
static const struct xattr_handler daxfs_xattr_handler = {
	.prefix = "",
	.get = daxfs_xattr_get,
};

const struct xattr_handler *const daxfs_xattr_handlers[] = {
	&daxfs_xattr_handler,
	NULL,
};

ssize_t daxfs_listxattr(struct dentry *dentry, char *list, size_t size)
{
	struct inode *inode = d_inode(dentry);
	const struct daxfs_base *base = &DAXFS_SB(inode->i_sb)->image.base;
	/* To list is not to try: security modules shall not write it down. */
	bool trusted = ns_capable_noaudit(&init_user_ns, CAP_SYS_ADMIN);
	struct daxfs_xattr entry;
	struct daxfs_xattrs set;
	struct daxfs_error err;
	size_t len = 0;
	int ret;

	if (!DAXFS_I(inode)->xattrs)
		return 0;
	if (daxfs_is_gone(inode->i_sb))
		return -EIO;
	ret = daxfs_xattrs_open(base, DAXFS_I(inode)->xattrs, &set, &err);
	if (ret)
		return daxfs_report(inode->i_sb, ret, &err);
	while ((ret = daxfs_xattrs_next(&set, &entry, &err)) > 0) {
		if (!trusted && entry.name_len > XATTR_TRUSTED_PREFIX_LEN &&
		    !memcmp(entry.name, XATTR_TRUSTED_PREFIX, XATTR_TRUSTED_PREFIX_LEN))
			continue;
		if (list && len + entry.name_len + 1 <= size) {
			memcpy(list + len, entry.name, entry.name_len);
			list[len + entry.name_len] = 0;
		}
		len += entry.name_len + 1;
	}
	daxfs_xattrs_close(&set);
	if (ret)
		return daxfs_report(inode->i_sb, ret, &err);
	return list && len > size ? -ERANGE : len;
}

struct posix_acl *daxfs_get_acl(struct inode *inode, int type, bool rcu)
{
	const char *name = type == ACL_TYPE_ACCESS ? XATTR_NAME_POSIX_ACL_ACCESS :
						     XATTR_NAME_POSIX_ACL_DEFAULT;
	struct posix_acl *acl = NULL;
	void *value;
	int len;

	if (rcu)
		return ERR_PTR(-ECHILD);
	len = get_xattr(inode, name, NULL, 0);
	if (len == -ENODATA)
		return NULL;
	if (len <= 0)
		return ERR_PTR(len ?: -EUCLEAN);
	value = kvmalloc(len, GFP_KERNEL);
	if (!value)
		return ERR_PTR(-ENOMEM);
	len = get_xattr(inode, name, value, len);
	acl = len > 0 ? posix_acl_from_xattr(inode->i_sb->s_user_ns, value, len) :
			ERR_PTR(len ?: -EUCLEAN);
	kvfree(value);
	return acl;
}
