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
	struct daxfs_base_inode raw __uninitialized;
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

/* Bytes of a name that lie in one cache line with what precedes it, and are enough for most. */
#define LEADING		(2 * sizeof(u64))

/*
 * Copies out the entry at @position, which is below the directory's count, up to the end of its
 * name.
 */
int daxfs_base_dirent(const struct daxfs_base *base, const struct daxfs_node *dir, u64 position,
		      struct daxfs_dirent *entry, struct daxfs_error *err)
{
	u64 at = dirent_offset(dir, position);
	size_t head = offsetof(struct daxfs_dirent, name) + LEADING, len;
	int ret = daxfs_region_read(base->region, at, entry, head, err);

	if (ret)
		return ret;
	len = le16_to_cpu(entry->name_len);
	if (len > DAXFS_NAME_MAX)
		return daxfs_corrupt(err, "length of a name", at + 8,
				     "expected at most 128, found %zu", len);
	return len <= LEADING ? 0 :
	       daxfs_region_read(base->region, at + head, entry->name + LEADING, len - LEADING, err);
}

bool daxfs_name_is_legal(const struct daxfs_dirent *entry)
{
	size_t len = le16_to_cpu(entry->name_len), i;
	const u8 *name = entry->name;

	if (!len || len > DAXFS_NAME_MAX)
		return false;
	for (i = 0; i < len; i++)
		if (!name[i] || name[i] == '/')
			return false;
	return name[0] != '.' || (len > 1 && (len > 2 || name[1] != '.'));
}

static int compare_names(const void *a, size_t a_len, const void *b, size_t b_len)
{
	return memcmp(a, b, min(a_len, b_len)) ?: (a_len > b_len) - (a_len < b_len);
}

/* Hiding a value from the compiler makes it load it once. */
#define load(type, from)				\
({							\
	type loaded;					\
							\
	memcpy(&loaded, (from), sizeof(loaded));	\
	OPTIMIZER_HIDE_VAR(loaded);			\
	loaded;						\
})

/* The first bytes of a name as numbers that are ordered as names are, which have no NUL. */
struct leading {
	u64 first;
	u64 second;
};

static struct leading leading_of(const char *name, size_t len)
{
	__be64 words[2] = {};

	memcpy(words, name, min(len, sizeof(words)));
	return (struct leading){ be64_to_cpu(words[0]), be64_to_cpu(words[1]) };
}

/* A word of a name that has @len bytes left. Plain version 3 leaves what it likes behind them. */
static inline u64 without_rest(u64 word, size_t len)
{
	if (len >= sizeof(word))
		return word;
	return len ? word & ~0ull << (64 - 8 * len) : 0;
}

static inline int compare_leading(const u8 *dirent, size_t len, const struct leading *wanted)
{
	const u8 *name = dirent + offsetof(struct daxfs_dirent, name);
	u64 word = without_rest(be64_to_cpu(load(__be64, name)), len);

	if (word != wanted->first)
		return word < wanted->first ? -1 : 1;
	if (len > sizeof(word))
		word = without_rest(be64_to_cpu(load(__be64, name + 8)), len - 8);
	else
		word = 0;
	return (word > wanted->second) - (word < wanted->second);
}

static noinline_for_stack int compare_whole(const struct daxfs_base *base,
					    const struct daxfs_node *dir, u64 position,
					    const char *name, size_t len, int *way,
					    struct daxfs_error *err)
{
	struct daxfs_dirent entry __uninitialized;
	int ret = daxfs_base_dirent(base, dir, position, &entry, err);

	if (!ret)
		*way = compare_names(entry.name, le16_to_cpu(entry.name_len), name, len);
	return ret;
}

/*
 * Finds a name by binary search; @order gives positions in order of names, or is NULL where the
 * entries are in that order themselves. The first bytes of a name mostly decide, and cost one
 * cache line instead of three.
 *
 * @next is where the search begins, and where it is wise to begin the next one: names are often
 * asked for in their order. In a sound directory any value finds the same.
 */
int daxfs_base_lookup(const struct daxfs_base *base, const struct daxfs_node *dir,
		      const u32 *order, const char *name, size_t len, u32 *next, u32 *ino,
		      struct daxfs_error *err)
{
	struct leading wanted = leading_of(name, len);
	u64 low = 0, high = daxfs_dirent_count(dir), middle = *next;

	if (!daxfs_region_holds(base->region, dir->data, dir->size))
		return daxfs_corrupt(err, "directory", dir->data, "ends outside the region");
	if (middle >= high)
		middle = high / 2;
	for (; low < high; middle = low + (high - low) / 2) {
		u64 position = order ? order[middle] : middle;
		const u8 *dirent = base->region->start + dirent_offset(dir, position);
		size_t found = le16_to_cpu(load(__le16, dirent + offsetof(struct daxfs_dirent,
									  name_len)));
		int way = compare_leading(dirent, found, &wanted);

		/* Short names of one length are compared by now. */
		if (!way && (len > LEADING || len != found)) {
			int ret = compare_whole(base, dir, position, name, len, &way, err);

			if (ret)
				return ret;
		}
		if (!way) {
			*ino = le32_to_cpu(load(__le32, dirent));
			*next = middle + 1;
			return 0;
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
	bool killed;
};

/* Sorting stays bounded however the names change meanwhile. */
static int compare_positions(const void *a, const void *b, const void *private)
{
	struct sorting *sorting = (struct sorting *)private;
	u32 one = *(const u32 *)a, two = *(const u32 *)b;
	struct daxfs_dirent x, y;
	struct daxfs_error err;

	if (!(++sorting->compared % 1024)) {
		cond_resched();
		sorting->killed |= fatal_signal_pending(current);
	}
	/* What is left of the work is then next to none. */
	if (sorting->killed)
		return 0;
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
		if (!(position % 1024)) {
			cond_resched();
			sorting.killed |= fatal_signal_pending(current);
			if (sorting.killed)
				break;
		}
	}
	if (!sorting.killed)
		sort_r(order, count, sizeof(*order), compare_positions, NULL, &sorting);
	if (!sorting.killed)
		return order;
	ret = daxfs_fail(err, EINTR, "directory", dir->data, "interrupted");
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
