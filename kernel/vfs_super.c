// SPDX-License-Identifier: GPL-2.0
/*
 * Mounting: options to memory, memory to image, image to superblock.
 */
#include <linux/ctype.h>
#include <linux/exportfs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/module.h>
#include <linux/namei.h>
#include <linux/seq_file.h>
#include <linux/statfs.h>

#include "compat.h"
#include "vfs.h"

/* What the options ask for; the memory is found when the file system is wanted. */
struct request {
	struct daxfs_backing backing;
	char *device;
	bool validate;
};

enum { OPT_PHYS, OPT_SIZE, OPT_DAX, OPT_DMABUF, OPT_SAME_DMABUF, OPT_VALIDATE };

static const struct fs_parameter_spec daxfs_parameters[] = {
	fsparam_string("phys", OPT_PHYS),
	fsparam_string("size", OPT_SIZE),
	fsparam_string("dax", OPT_DAX),
	fsparam_fd("dmabuf", OPT_DMABUF),
	/* As the table of mounts shows it, and mount(8) gives it back when it mounts anew. */
	fsparam_flag("dmabuf", OPT_SAME_DMABUF),
	fsparam_flag("validate", OPT_VALIDATE),
	{}
};

/* Says what is wrong with an image that is mounted, where the administrator looks. */
int daxfs_report(struct super_block *sb, int ret, const struct daxfs_error *err)
{
	if (ret == -EUCLEAN || ret == -EIO)
		pr_err_ratelimited("daxfs (%s): %s at offset %#llx: %s\n", sb->s_id, err->what,
				   err->offset, err->detail);
	return ret;
}

/* Numbers as people write them: 0x100000000, 256M. */
static int parse_amount(struct fs_context *fc, const struct fs_parameter *param, u64 *value)
{
	static const char suffixes[] = "kmgtp";
	char *last = param->string + strlen(param->string) - 1, letter = *last;
	const char *suffix = strchr(suffixes, tolower(letter));
	int shift = suffix ? 10 * (suffix - suffixes + 1) : 0;
	int base = strncasecmp(param->string, "0x", 2) ? 10 : 16, ret;

	if (suffix)
		*last = 0;
	ret = kstrtoull(param->string, base, value);
	*last = letter;
	if (ret == -ERANGE || (!ret && *value > U64_MAX >> shift))
		return invalf(fc, "daxfs: %s=%s: does not fit into 64 bits", param->key,
			      param->string);
	if (ret)
		return invalf(fc, "daxfs: %s=%s: not a number of bytes", param->key,
			      param->string);
	*value <<= shift;
	return 0;
}

/* One mount has one memory; what is said of it again replaces what was said before. */
static int choose(struct request *request, enum daxfs_kind kind, struct fs_context *fc)
{
	if (request->backing.kind != DAXFS_NOTHING && request->backing.kind != kind)
		return invalf(fc, "daxfs: phys=, dax= and dmabuf exclude each other");
	request->backing.kind = kind;
	return 0;
}

static int daxfs_parse_param(struct fs_context *fc, struct fs_parameter *param)
{
	struct request *request = fc->fs_private;
	struct fs_parse_result result;
	int opt = fs_parse(fc, daxfs_parameters, param, &result), ret;
	struct dma_buf *dmabuf;
	u64 phys, size;

	if (opt < 0)
		return opt;
	switch (opt) {
	case OPT_PHYS:
		ret = parse_amount(fc, param, &phys) ?: choose(request, DAXFS_PHYS, fc);
		if (!ret)
			request->backing.phys = phys;
		return ret;
	case OPT_SIZE:
		ret = parse_amount(fc, param, &size);
		if (!ret && !size)
			return invalf(fc, "daxfs: size=0: nothing fits there");
		if (!ret)
			request->backing.size = size;
		return ret;
	case OPT_DAX:
		ret = choose(request, DAXFS_DEVICE, fc);
		if (!ret)
			swap(request->device, param->string);
		return ret;
	case OPT_DMABUF:
		dmabuf = dma_buf_get(result.uint_32);
		if (IS_ERR(dmabuf))
			return invalf(fc, "daxfs: dmabuf: file descriptor %u is not a DMA buffer",
				      result.uint_32);
		ret = choose(request, DAXFS_DMABUF, fc);
		if (!ret)
			swap(request->backing.dmabuf, dmabuf);
		if (dmabuf)
			dma_buf_put(dmabuf);
		return ret;
	case OPT_SAME_DMABUF:
		if (fc->purpose == FS_CONTEXT_FOR_RECONFIGURE &&
		    DAXFS_SB(fc->root->d_sb)->backing.kind == DAXFS_DMABUF)
			return 0;
		return invalf(fc, "daxfs: dmabuf: which buffer? a file descriptor tells");
	case OPT_VALIDATE:
		request->validate = true;
		return 0;
	}
	return -EINVAL;
}

static int daxfs_show_options(struct seq_file *seq, struct dentry *root)
{
	const struct daxfs_super *super = DAXFS_SB(root->d_sb);

	if (super->backing.kind == DAXFS_PHYS)
		seq_printf(seq, ",phys=%#llx,size=%#llx", super->backing.phys,
			   super->backing.size);
	else if (super->device)
		seq_show_option(seq, "dax", super->device);
	else if (super->backing.kind == DAXFS_DMABUF)
		seq_puts(seq, ",dmabuf");
	if (super->validated)
		seq_puts(seq, ",validate");
	return 0;
}

/* Images of others have none. */
static bool has_identity(const struct daxfs_superblock *superblock)
{
	return memchr_inv(superblock->uuid, 0, UUID_SIZE);
}

static int daxfs_statfs(struct dentry *dentry, struct kstatfs *stat)
{
	const struct daxfs_image *image = &DAXFS_SB(dentry->d_sb)->image;

	stat->f_type = DAXFS_MAGIC3;
	stat->f_bsize = DAXFS_BLOCK_SIZE;
	stat->f_blocks = le64_to_cpu(image->superblock->total_size) / DAXFS_BLOCK_SIZE;
	stat->f_files = image->base.inode_count;
	stat->f_namelen = DAXFS_NAME_MAX;
	if (has_identity(image->superblock))
		stat->f_fsid = uuid_to_fsid(image->superblock->uuid);
	else
		stat->f_fsid = u64_to_fsid(huge_encode_dev(dentry->d_sb->s_dev));
	return 0;
}

/* Takes every mapping of the memory back; what was written to private ones is not in it. */
void daxfs_unmap_all(struct super_block *sb)
{
	struct inode *inode, *held = NULL;

	spin_lock(&sb->s_inode_list_lock);
	list_for_each_entry(inode, &sb->s_inodes, i_sb_list) {
		spin_lock(&inode->i_lock);
		if (!S_ISREG(inode->i_mode) || compat_inode_is_going(inode)) {
			spin_unlock(&inode->i_lock);
			continue;
		}
		__iget(inode);
		spin_unlock(&inode->i_lock);
		spin_unlock(&sb->s_inode_list_lock);
		/* The inode in hand keeps the place in the list. */
		iput(held);
		held = inode;
		filemap_invalidate_lock(inode->i_mapping);
		unmap_mapping_range(inode->i_mapping, 0, 0, 0);
		filemap_invalidate_unlock(inode->i_mapping);
		cond_resched();
		spin_lock(&sb->s_inode_list_lock);
	}
	spin_unlock(&sb->s_inode_list_lock);
	iput(held);
}

/* From here on nothing of the memory is served: EIO, and SIGBUS for those who mapped it. */
void daxfs_take_away(struct super_block *sb)
{
	WRITE_ONCE(DAXFS_SB(sb)->gone, true);
	synchronize_srcu(&DAXFS_SB(sb)->readers);
	pr_crit("daxfs (%s): its memory was taken away\n", sb->s_id);
	daxfs_unmap_all(sb);
}

static void daxfs_put_super(struct super_block *sb)
{
	/* Here, while nobody else can mount the same memory yet. */
	daxfs_backing_close(&DAXFS_SB(sb)->backing);
}

static const struct super_operations daxfs_super_operations = {
	.alloc_inode = daxfs_alloc_inode,
	.free_inode = daxfs_free_inode,
	.evict_inode = daxfs_evict_inode,
	.put_super = daxfs_put_super,
	.statfs = daxfs_statfs,
	.show_options = daxfs_show_options,
};

static int refuse(struct fs_context *fc, int ret, const struct daxfs_error *err)
{
	errorf(fc, "daxfs: %s at offset %#llx: %s", err->what, err->offset, err->detail);
	return ret;
}

static int prove(struct super_block *sb, struct fs_context *fc)
{
	struct daxfs_super *super = DAXFS_SB(sb);
	struct daxfs_error err;
	int ret = daxfs_validate(&super->image, &err);

	if (ret)
		return refuse(fc, ret, &err);
	super->validated = true;
	return 0;
}

/* What is mounted may have been there before: committed to since, and not proved yet. */
static int check_mounted(struct super_block *sb, struct fs_context *fc)
{
	const struct daxfs_image *image = &DAXFS_SB(sb)->image;
	const struct request *request = fc->fs_private;
	struct daxfs_error err;
	int ret = daxfs_branches_untouched(&image->region, image->superblock, &err);

	if (ret)
		return refuse(fc, ret, &err);
	return request->validate && !DAXFS_SB(sb)->validated ? prove(sb, fc) : 0;
}

static int set_root(struct super_block *sb, struct fs_context *fc)
{
	struct inode *root = daxfs_iget(sb, DAXFS_ROOT_INO);

	if (IS_ERR(root)) {
		errorf(fc, "daxfs: the root directory cannot be read (%ld)", PTR_ERR(root));
		return PTR_ERR(root);
	}
	if (!S_ISDIR(root->i_mode)) {
		iput(root);
		errorf(fc, "daxfs: the root inode is not a directory");
		return -EUCLEAN;
	}
	sb->s_root = d_make_root(root);
	return sb->s_root ? 0 : -ENOMEM;
}

static int daxfs_fill_super(struct super_block *sb, struct fs_context *fc)
{
	struct daxfs_super *super = DAXFS_SB(sb);
	struct daxfs_error err;
	int ret;

	super->backing.sb = sb;
	ret = sb->s_bdev ? daxfs_block_map(&super->backing, sb->s_bdev, fc) :
			   daxfs_backing_map(&super->backing, fc);
	if (ret)
		return ret;
	ret = daxfs_image_open(&super->image, super->backing.start, super->backing.size, &err);
	if (ret)
		return refuse(fc, ret, &err);
	atomic64_set(&super->room, super->image.base.size / sizeof(struct daxfs_dirent));

	sb->s_magic = DAXFS_MAGIC3;
	sb->s_op = &daxfs_super_operations;
	sb->s_export_op = &daxfs_export_operations;
	sb->s_flags |= SB_RDONLY | SB_NOATIME | SB_POSIXACL;
	sb->s_maxbytes = MAX_LFS_FILESIZE;
	sb->s_time_gran = 1;
	sb->s_blocksize = PAGE_SIZE;
	sb->s_blocksize_bits = PAGE_SHIFT;
	if (le32_to_cpu(super->image.superblock->flags) & DAXFS_XATTRS)
		compat_set_xattr_handlers(sb, daxfs_xattr_handlers);
	else
		sb->s_flags &= ~SB_POSIXACL;
	if (has_identity(super->image.superblock))
		compat_set_uuid(sb, super->image.superblock->uuid);
	return set_root(sb, fc);
}

/*
 * Mounts of the same memory are one file system. Superblocks are on the list that is searched from
 * before they are filled until after they are killed, so the key comes with them, and goes when no
 * search can look at it any more.
 */
static int same_memory(struct super_block *sb, struct fs_context *fc)
{
	const struct daxfs_super *super = READ_ONCE(sb->s_fs_info);
	const struct daxfs_backing *wanted = &((struct daxfs_super *)fc->s_fs_info)->backing;
	const struct daxfs_backing *there = &super->backing;

	/* What is gone from one may be back for another. */
	if (!super || READ_ONCE(super->gone))
		return false;

	return wanted->kind == there->kind && wanted->phys == there->phys &&
	       wanted->size == there->size && wanted->dmabuf == there->dmabuf;
}

static int get_tree_memory(struct fs_context *fc)
{
	struct super_block *sb = sget_fc(fc, same_memory, set_anon_super_fc);
	int ret = 0;

	if (IS_ERR(sb))
		return PTR_ERR(sb);
	if (!sb->s_root) {
		ret = daxfs_fill_super(sb, fc);
		if (ret) {
			deactivate_locked_super(sb);
			return ret;
		}
		sb->s_flags |= SB_ACTIVE;
	}
	fc->root = dget(sb->s_root);
	return 0;
}

/* What the source is, where the options do not say what memory is meant. */
static int open_source(struct request *request, struct fs_context *fc)
{
	struct path path;
	umode_t mode;
	int ret;

	if (!fc->source)
		return invalf(fc, "daxfs: no memory given: a device, or phys=, dax= or dmabuf");
	ret = kern_path(fc->source, LOOKUP_FOLLOW, &path);
	if (ret) {
		/* Such a device may be in a mode without a node; its own message says so. */
		if (strncmp(fc->source, "/dev/dax", 8))
			return invalf(fc, "daxfs: %s: not a device, and no phys=, dax= or dmabuf",
				      fc->source);
		return daxfs_device_open(&request->backing, fc->source, fc);
	}
	mode = d_inode(path.dentry)->i_mode;
	path_put(&path);
	if (S_ISBLK(mode)) {
		request->backing.kind = DAXFS_BLOCK;
		return 0;
	}
	/* Opening is not harmless for everything: of a FIFO it would wait. */
	if (!S_ISCHR(mode))
		return invalf(fc, "daxfs: %s: not a device", fc->source);
	request->backing.kind = DAXFS_DEVICE;
	return daxfs_device_open(&request->backing, fc->source, fc);
}

static void free_super(struct daxfs_super *super)
{
	daxfs_backing_close(&super->backing);
	daxfs_image_close(&super->image);
	cleanup_srcu_struct(&super->readers);
	kfree(super->device);
	kfree_rcu(super, rcu);
}

static int get_tree(struct fs_context *fc, struct request *request)
{
	struct daxfs_super *super = kzalloc(sizeof(*super), GFP_KERNEL);
	int ret;

	if (!super)
		return -ENOMEM;
	ret = init_srcu_struct(&super->readers);
	if (ret) {
		kfree(super);
		return ret;
	}
	mutex_init(&super->ordering);
	/* From here on the superblock holds the memory. */
	swap(super->backing, request->backing);
	swap(super->device, request->device);
	fc->s_fs_info = super;
	fc->sb_flags |= SB_RDONLY;
	ret = super->backing.kind == DAXFS_BLOCK ? get_tree_bdev(fc, daxfs_fill_super) :
						   get_tree_memory(fc);
	/* Unless there was one before. */
	if (fc->s_fs_info)
		free_super(fc->s_fs_info);
	fc->s_fs_info = NULL;
	return ret;
}

static int daxfs_get_tree(struct fs_context *fc)
{
	struct request *request = fc->fs_private;
	struct super_block *sb;
	int ret;

	if (request->backing.size && request->backing.kind != DAXFS_PHYS)
		return invalf(fc, "daxfs: size= goes with phys= only");
	switch (request->backing.kind) {
	case DAXFS_NOTHING:
		ret = open_source(request, fc);
		break;
	case DAXFS_PHYS:
		ret = daxfs_phys_open(&request->backing, fc);
		break;
	case DAXFS_DEVICE:
		ret = daxfs_device_open(&request->backing, request->device, fc);
		break;
	default:
		ret = daxfs_dmabuf_open(&request->backing, fc);
		break;
	}
	if (ret)
		return ret;
	ret = get_tree(fc, request);
	if (ret)
		return ret;
	sb = fc->root->d_sb;
	ret = check_mounted(sb, fc);
	if (ret) {
		dput(fc->root);
		fc->root = NULL;
		deactivate_locked_super(sb);
	}
	return ret;
}

/* mount(8) says where the memory is, as the mount's table or fstab do. It cannot be another. */
static int check_same(struct request *request, const struct daxfs_backing *there,
		      struct fs_context *fc)
{
	struct daxfs_backing *asked = &request->backing;
	int ret = 0;

	if (request->device)
		ret = daxfs_device_open(asked, request->device, fc);
	if (ret)
		return ret;
	if ((asked->size && asked->size != there->size) ||
	    (asked->kind != DAXFS_NOTHING &&
	     (asked->kind != there->kind || asked->phys != there->phys ||
	      asked->dmabuf != there->dmabuf)))
		return invalf(fc, "daxfs: other memory is mounted; a remount does not change that");
	return 0;
}

static int daxfs_reconfigure(struct fs_context *fc)
{
	struct super_block *sb = fc->root->d_sb;
	struct request *request = fc->fs_private;
	int ret;

	/* Who says nothing of it leaves it as it is. */
	if (fc->sb_flags_mask & SB_RDONLY && !(fc->sb_flags & SB_RDONLY)) {
		errorf(fc, "daxfs: the kernel only reads images");
		return -EROFS;
	}
	ret = check_same(request, &DAXFS_SB(sb)->backing, fc);
	if (ret)
		return ret;
	return request->validate && !DAXFS_SB(sb)->validated ? prove(sb, fc) : 0;
}

static void daxfs_free_fc(struct fs_context *fc)
{
	struct request *request = fc->fs_private;

	if (!request)
		return;
	daxfs_backing_close(&request->backing);
	kfree(request->device);
	kfree(request);
}

static const struct fs_context_operations daxfs_context_operations = {
	.parse_param = daxfs_parse_param,
	.get_tree = daxfs_get_tree,
	.reconfigure = daxfs_reconfigure,
	.free = daxfs_free_fc,
};

static int daxfs_init_fs_context(struct fs_context *fc)
{
	fc->fs_private = kzalloc(sizeof(struct request), GFP_KERNEL);
	if (!fc->fs_private)
		return -ENOMEM;
	fc->ops = &daxfs_context_operations;
	/* Owners in an image are the machine's, whoever has it mounted. */
	fc->global = true;
	return 0;
}

static void daxfs_kill_sb(struct super_block *sb)
{
	struct daxfs_super *super = DAXFS_SB(sb);

	/* A block device that could not be opened is not there, and there is no anonymous one. */
	if (super && super->backing.kind == DAXFS_BLOCK)
		kill_block_super(sb);
	else
		kill_anon_super(sb);
	if (!super)
		return;
	/* Whoever tells that memory fails looks for it here until nothing is held. */
	daxfs_backing_close(&super->backing);
	WRITE_ONCE(sb->s_fs_info, NULL);
	free_super(super);
}

static struct file_system_type daxfs_type = {
	.owner = THIS_MODULE,
	.name = "daxfs",
	.init_fs_context = daxfs_init_fs_context,
	.parameters = daxfs_parameters,
	.kill_sb = daxfs_kill_sb,
	/* Owners reach users by way of the VFS alone. */
	.fs_flags = FS_ALLOW_IDMAP,
};
MODULE_ALIAS_FS("daxfs");

static int __init daxfs_init(void)
{
	int ret = daxfs_inode_cache_init();

	if (ret)
		return ret;
	daxfs_mmap_init();
	ret = register_filesystem(&daxfs_type);
	if (ret)
		daxfs_inode_cache_exit();
	return ret;
}

static void __exit daxfs_exit(void)
{
	unregister_filesystem(&daxfs_type);
	daxfs_inode_cache_exit();
}

module_init(daxfs_init);
module_exit(daxfs_exit);

MODULE_DESCRIPTION("A filesystem for shared memory");
MODULE_AUTHOR("The daxfs authors");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
COMPAT_IMPORT_NS(DMA_BUF);
