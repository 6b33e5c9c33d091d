// SPDX-License-Identifier: GPL-2.0
/*
 * The read-only tree: inode table, dirent arrays, symlinks.
 */
#include "engine.h"

static int check_field(const char *what, u64 at, u64 expected, u64 found, struct daxfs_error *err)
{
	if (expected == found)
		return 0;
	return daxfs_corrupt(err, what, at, "expected %#llx, found %#llx",
			     (unsigned long long)expected, (unsigned long long)found);
}

static int check_inside(const struct daxfs_base *base, const char *what, u64 at, u64 start,
			u64 len, struct daxfs_error *err)
{
	if (start <= base->size && len <= base->size - start)
		return 0;
	return daxfs_corrupt(err, what, at,
			     "expected inside the base image of %#llx bytes, found %#llx bytes from %#llx",
			     (unsigned long long)base->size, (unsigned long long)len,
			     (unsigned long long)start);
}

/* Reads the base superblock and checks that its tables lie inside the base image. */
int daxfs_base_open(struct daxfs_base *base, const struct daxfs_region *region,
		    const struct daxfs_superblock *sb, struct daxfs_error *err)
{
	struct daxfs_base_superblock *header;
	u64 at, start, size;
	u32 count;
	int ret;

	memset(base, 0, sizeof(*base));
	base->region = region;
	base->flags = le32_to_cpu(sb->flags);
	base->offset = le64_to_cpu(sb->base_offset);
	base->size = le64_to_cpu(sb->base_size);
	at = base->offset;
	header = daxfs_alloc(1, sizeof(*header));
	if (!header)
		return daxfs_fail(err, ENOMEM, "base superblock", at, "no memory");
	base->header = header;	/* the image frees it */
	if (!at)
		return 0;
	ret = daxfs_region_read(region, at, header, sizeof(*header), err) ?:
	      check_field("magic number of the base image", at, DAXFS_BASE_MAGIC,
			  le32_to_cpu(header->magic), err) ?:
	      check_field("version of the base image", at + 4, DAXFS_VERSION,
			  le32_to_cpu(header->version), err) ?:
	      check_field("block size of the base image", at + 12, DAXFS_BLOCK_SIZE,
			  le32_to_cpu(header->block_size), err) ?:
	      check_field("root inode", at + 36, DAXFS_ROOT_INO, le32_to_cpu(header->root_inode),
			  err);
	if (ret)
		return ret;
	count = le32_to_cpu(header->inode_count);
	if (!count || count > DAXFS_INODES_MAX)
		return daxfs_corrupt(err, "inode count", at + 32, "expected 1 to %u, found %u",
				     DAXFS_INODES_MAX, count);
	start = le64_to_cpu(header->inode_offset);
	ret = check_inside(base, "inode table", at + 24, start,
			   (u64)count * sizeof(struct daxfs_base_inode), err);
	if (ret)
		return ret;
	base->inode_table = at + start;
	base->inode_count = count;
	if (daxfs_base_has(base, DAXFS_XATTRS)) {
		start = le64_to_cpu(header->xattr_offset);
		size = le64_to_cpu(header->xattr_size);
		ret = check_inside(base, "extended attributes", at + 48, start, size, err);
		if (ret)
			return ret;
		base->xattr_start = at + start;
		base->xattr_end = at + start + size;
	}
	return 0;
}

/* Turns an inode's record into a node whose data are proved to lie inside the base image. */
int daxfs_base_decode(const struct daxfs_base *base, u32 ino, const struct daxfs_base_inode *raw,
		      struct daxfs_node *node, struct daxfs_error *err)
{
	bool extended = daxfs_base_has(base, DAXFS_INODE_EXT);
	u64 at = daxfs_inode_offset(base, ino);
	u64 start = le64_to_cpu(raw->data_offset);
	int ret;

	if (le32_to_cpu(raw->ino) != ino)
		return daxfs_corrupt(err, "inode number", at, "expected %u, found %u", ino,
				     le32_to_cpu(raw->ino));
	node->ino = ino;
	node->mode = le32_to_cpu(raw->mode);
	node->uid = le32_to_cpu(raw->uid);
	node->gid = le32_to_cpu(raw->gid);
	node->nlink = le32_to_cpu(raw->nlink);
	node->rdev = extended ? le32_to_cpu(raw->rdev) : 0;
	node->size = le64_to_cpu(raw->size);
	node->mtime = extended ? (s64)le64_to_cpu(raw->mtime) : 0;
	node->data = 0;
	node->xattrs = 0;
	if (S_ISLNK(node->mode) && node->size > DAXFS_TARGET_MAX)
		return daxfs_corrupt(err, "size of a symlink", at + 16,
				     "expected at most %d, found %llu", DAXFS_TARGET_MAX,
				     (unsigned long long)node->size);
	if (node->size) {
		ret = check_inside(base, "data of an inode", at + 24, start, daxfs_stored(node),
				   err);
		if (ret)
			return ret;
		node->data = base->offset + start;
	}
	if (daxfs_base_has(base, DAXFS_XATTRS) && raw->xattr_offset) {
		u64 set;

		if (check_add_overflow((u64)le64_to_cpu(raw->xattr_offset), base->offset, &set) ||
		    set < base->xattr_start || set >= base->xattr_end)
			return daxfs_corrupt(err, "attribute set of an inode", at + 48,
					     "expected inside %#llx to %#llx",
					     (unsigned long long)base->xattr_start,
					     (unsigned long long)base->xattr_end);
		node->xattrs = set;
	}
	return 0;
}

int daxfs_base_node(const struct daxfs_base *base, u32 ino, struct daxfs_node *node,
		    struct daxfs_error *err)
{
	struct daxfs_base_inode raw;
	int ret;

	if (!base->offset && ino == DAXFS_ROOT_INO) {
		*node = (struct daxfs_node){ .ino = ino, .mode = S_IFDIR | 0755, .nlink = 2 };
		return 0;
	}
	if (!ino || ino > base->inode_count)
		return daxfs_corrupt(err, "inode number", base->inode_table,
				     "expected 1 to %u, found %u", base->inode_count, ino);
	ret = daxfs_region_read(base->region, daxfs_inode_offset(base, ino), &raw, sizeof(raw),
				err);
	return ret ?: daxfs_base_decode(base, ino, &raw, node, err);
}

static u64 dirent_offset(const struct daxfs_node *dir, u64 position)
{
	return dir->data + position * sizeof(struct daxfs_dirent);
}

/* Copies out the entry at @position, which is below the directory's count. */
int daxfs_base_dirent(const struct daxfs_base *base, const struct daxfs_node *dir, u64 position,
		      struct daxfs_dirent *entry, struct daxfs_error *err)
{
	u64 at = dirent_offset(dir, position);
	int ret = daxfs_region_read(base->region, at, entry, sizeof(*entry), err);

	if (!ret && le16_to_cpu(entry->name_len) > DAXFS_NAME_MAX)
		return daxfs_corrupt(err, "length of a name", at + 8,
				     "expected at most 128, found %u",
				     le16_to_cpu(entry->name_len));
	return ret;
}

bool daxfs_name_is_legal(const struct daxfs_dirent *entry)
{
	const char *name = (const char *)entry->name;
	size_t len = le16_to_cpu(entry->name_len);

	return len && len <= DAXFS_NAME_MAX && !memchr(name, 0, len) && !memchr(name, '/', len) &&
	       !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

static int compare_names(const void *a, size_t a_len, const void *b, size_t b_len)
{
	return memcmp(a, b, min(a_len, b_len)) ?: (a_len > b_len) - (a_len < b_len);
}

/* The first bytes of a name as a number that is ordered as names are, which have no NUL. */
struct head {
	u64 first;
	u64 second;
};

static struct head mask_head(u64 first, u64 second, size_t len)
{
	if (len < 8) {
		first = len ? first & (~0ull << (64 - 8 * len)) : 0;
		second = 0;
	} else if (len < 16) {
		second = len > 8 ? second & (~0ull << (128 - 8 * len)) : 0;
	}
	return (struct head){ first, second };
}

static struct head head_of_name(const char *name, size_t len)
{
	__be64 words[2] = {};

	memcpy(words, name, min(len, sizeof(words)));
	return (struct head){ be64_to_cpu(words[0]), be64_to_cpu(words[1]) };
}

/* Hiding a value from the compiler makes it load it once. */
static u64 load_be64(const u8 *from)
{
	__be64 word;

	memcpy(&word, from, sizeof(word));
	OPTIMIZER_HIDE_VAR(word);
	return be64_to_cpu(word);
}

static u16 load_le16(const u8 *from)
{
	__le16 word;

	memcpy(&word, from, sizeof(word));
	OPTIMIZER_HIDE_VAR(word);
	return le16_to_cpu(word);
}

/* The same of a dirent. Plain version 3 leaves what it likes behind a name. */
static struct head head_of_dirent(const struct daxfs_base *base, u64 at)
{
	const u8 *raw = base->region->start + at;
	const u8 *name = raw + offsetof(struct daxfs_dirent, name);

	return mask_head(load_be64(name), load_be64(name + 8),
			 load_le16(raw + offsetof(struct daxfs_dirent, name_len)));
}

/*
 * Finds a name by binary search; @order gives positions in order of names, or is NULL where the
 * entries are in that order themselves. The first bytes of a name mostly decide, and cost one
 * cache line instead of three.
 */
int daxfs_base_lookup(const struct daxfs_base *base, const struct daxfs_node *dir,
		      const u32 *order, const char *name, size_t len, u32 *ino,
		      struct daxfs_error *err)
{
	struct head wanted = head_of_name(name, len);
	u64 low = 0, high = daxfs_dirent_count(dir);

	if (!daxfs_region_holds(base->region, dir->data, dir->size))
		return daxfs_corrupt(err, "directory", dir->data, "ends outside the region");
	while (low < high) {
		u64 middle = low + (high - low) / 2;
		u64 position = order ? order[middle] : middle;
		struct head found = head_of_dirent(base, dirent_offset(dir, position));
		struct daxfs_dirent entry;
		int way;

		if (found.first != wanted.first) {
			way = found.first < wanted.first ? -1 : 1;
		} else if (found.second != wanted.second) {
			way = found.second < wanted.second ? -1 : 1;
		} else {
			int ret = daxfs_base_dirent(base, dir, position, &entry, err);

			if (ret)
				return ret;
			way = compare_names(entry.name, le16_to_cpu(entry.name_len), name, len);
			if (!way) {
				*ino = le32_to_cpu(entry.ino);
				return 0;
			}
		}
		if (way < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return -ENOENT;
}

struct sorting {
	const struct daxfs_base *base;
	const struct daxfs_node *dir;
	u32 compared;
};

/* Sorting stays bounded however the names change meanwhile. */
static int compare_positions(const void *a, const void *b, const void *private)
{
	struct sorting *sorting = (struct sorting *)private;
	u32 one = *(const u32 *)a, two = *(const u32 *)b;
	struct daxfs_dirent x, y;
	struct daxfs_error err;

	if (!(++sorting->compared % 1024))
		cond_resched();
	if (daxfs_base_dirent(sorting->base, sorting->dir, one, &x, &err) ||
	    daxfs_base_dirent(sorting->base, sorting->dir, two, &y, &err))
		return 0;
	return compare_names(x.name, le16_to_cpu(x.name_len), y.name, le16_to_cpu(y.name_len)) ?:
	       (one > two) - (one < two);
}

/* Positions of an unsorted directory's entries in order of names. */
u32 *daxfs_base_order(const struct daxfs_base *base, const struct daxfs_node *dir,
		      struct daxfs_error *err)
{
	struct sorting sorting = { .base = base, .dir = dir };
	u64 count = daxfs_dirent_count(dir), position;
	u32 *order = NULL;
	int ret;

	if (count > U32_MAX) {
		ret = daxfs_corrupt(err, "size of a directory", dir->data,
				    "expected at most %u entries, found %llu", U32_MAX,
				    (unsigned long long)count);
		goto fail;
	}
	order = daxfs_alloc(count ?: 1, sizeof(*order));
	if (!order) {
		ret = daxfs_fail(err, ENOMEM, "directory", dir->data, "no memory");
		goto fail;
	}
	for (position = 0; position < count; position++) {
		struct daxfs_dirent entry;

		ret = daxfs_base_dirent(base, dir, position, &entry, err);
		if (ret)
			goto fail;
		order[position] = position;
		if (!(position % 1024))
			cond_resched();
	}
	sort_r(order, count, sizeof(*order), compare_positions, NULL, &sorting);
	return order;
fail:
	kvfree(order);
	return ERR_PTR(ret);
}

/* Copies out a symlink's target, of size + 1 bytes, and ends it with a NUL whatever is there. */
int daxfs_base_target(const struct daxfs_base *base, const struct daxfs_node *link, char *target,
		      struct daxfs_error *err)
{
	target[link->size] = 0;
	return daxfs_region_read(base->region, link->data, target, link->size, err);
}
