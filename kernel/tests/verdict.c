// SPDX-License-Identifier: GPL-2.0
/*
 * What the engine says of images, in user space: verdict [--tree | --killed] FILE...
 *
 * For each file one line: "sound", or what is wrong, at which offset, and the errno. With --tree
 * the base tree follows, one name a line, walked with the bounds that a hostile image needs. With
 * --killed the proof of a sound image is ended by a signal at every place where that is possible,
 * and their number follows.
 */
#include "../engine.h"

#include <err.h>
#include <fcntl.h>
#include <unistd.h>

#define DEPTH_MAX	64
#define NAMES_MAX	100000

static struct daxfs_image image;
static unsigned long names;

static void escaped(const char *bytes, size_t len)
{
	for (; len--; bytes++)
		if (*bytes > ' ' && *bytes < 127 && *bytes != '\\')
			putchar(*bytes);
		else
			printf("\\x%02x", (u8)*bytes);
}

static void print_attributes(const struct daxfs_node *node)
{
	struct daxfs_xattr entry;
	struct daxfs_xattrs set;
	struct daxfs_error error;
	int ret;

	if (!node->xattrs)
		return;
	if (daxfs_xattrs_open(&image.base, node->xattrs, &set, &error)) {
		printf("\t!attributes\n");
		return;
	}
	while ((ret = daxfs_xattrs_next(&set, &entry, &error)) > 0) {
		putchar('\t');
		escaped(entry.name, entry.name_len);
		printf("=%08x\n", daxfs_crc32c(0, entry.value, entry.value_len));
	}
	if (ret)
		printf("\t!attributes\n");
	daxfs_xattrs_close(&set);
}

static void print_node(const char *path, const struct daxfs_node *node)
{
	static char target[DAXFS_TARGET_MAX + 1];
	struct daxfs_error error;

	escaped(path, strlen(path));
	printf(" ino %u mode %o %u:%u size %llu links %u device %u time %lld", node->ino, node->mode,
	       node->uid, node->gid, (unsigned long long)node->size, node->nlink, node->rdev,
	       (long long)node->mtime);
	if (S_ISREG(node->mode))
		printf(" sum %08x", daxfs_crc32c(0, image.region.start + node->data, node->size));
	if (S_ISLNK(node->mode)) {
		printf(" -> ");
		if (daxfs_base_target(&image.base, node, target, &error))
			printf("!target");
		else
			escaped(target, node->size);
	}
	putchar('\n');
	print_attributes(node);
}

static void walk(const char *path, const struct daxfs_node *dir, int depth)
{
	struct daxfs_error error;
	u32 *order = daxfs_base_order(&image.base, dir, &error);
	u64 i, count = daxfs_dirent_count(dir);

	if (IS_ERR(order)) {
		printf("!directory %s\n", error.what);
		return;
	}
	for (i = 0; i < count && names < NAMES_MAX; i++, names++) {
		struct daxfs_dirent entry;
		struct daxfs_node node;
		u32 ino, middle = U32_MAX;
		char *below;

		if (daxfs_base_dirent(&image.base, dir, order[i], &entry, &error) ||
		    !daxfs_name_is_legal(&entry)) {
			printf("!name\n");
			continue;
		}
		if (asprintf(&below, "%s/%.*s", path, le16_to_cpu(entry.name_len),
			     (const char *)entry.name) < 0)
			err(2, "memory");
		if (daxfs_base_lookup(&image.base, dir,
				      daxfs_base_has(&image.base, DAXFS_SORTED_DIRS) ? NULL : order,
				      (const char *)entry.name, le16_to_cpu(entry.name_len),
				      &middle, &ino, &error) ||
		    daxfs_base_node(&image.base, ino, &node, &error)) {
			printf("!look-up of ");
			escaped(below, strlen(below));
			putchar('\n');
		} else {
			print_node(below, &node);
			if (S_ISDIR(node.mode) && depth < DEPTH_MAX)
				walk(below, &node, depth + 1);
		}
		free(below);
	}
	kvfree(order);
}

static void kill_proofs(void)
{
	unsigned long places = signals_asked;
	struct daxfs_error error;

	for (signal_at = 1; signal_at <= places; signal_at++) {
		signals_asked = 0;
		if (daxfs_validate(&image, &error) != -EINTR)
			errx(2, "killed at %lu, and it went on", signal_at);
	}
	signal_at = 0;
	printf("%lu\n", places);
}

static void judge(const char *path, bool tree, bool killed)
{
	int file = open(path, O_RDONLY), ret;
	struct daxfs_error error;
	struct daxfs_node root;
	struct stat status;
	void *start = NULL;

	if (file < 0 || fstat(file, &status))
		err(2, "%s", path);
	/* A heap block of just that size: whatever reads beyond it is seen. */
	start = malloc(status.st_size);
	if (pread(file, start, status.st_size, 0) != status.st_size)
		err(2, "%s", path);
	close(file);
	ret = daxfs_image_open(&image, start, status.st_size, &error);
	if (!ret) {
		ret = daxfs_branches_untouched(&image.region, image.superblock, &error);
		signals_asked = 0;
		if (!ret)
			ret = daxfs_validate(&image, &error);
		if (!ret)
			printf("sound\n");
		else
			printf("%d %#llx %s: %s\n", -ret, (unsigned long long)error.offset,
			       error.what, error.detail);
		if (killed && !ret)
			kill_proofs();
		names = 0;
		if (tree && !daxfs_base_node(&image.base, DAXFS_ROOT_INO, &root, &error)) {
			print_node("", &root);
			if (S_ISDIR(root.mode))
				walk("", &root, 0);
		}
		daxfs_image_close(&image);
	} else {
		printf("%d %#llx %s: %s\n", -ret, (unsigned long long)error.offset, error.what,
		       error.detail);
	}
	free(start);
}

int main(int argc, char **argv)
{
	bool tree = argc > 1 && !strcmp(argv[1], "--tree");
	bool killed = argc > 1 && !strcmp(argv[1], "--killed");
	int i;

	for (i = 1 + tree + killed; i < argc; i++) {
		judge(argv[i], tree, killed);
		fflush(stdout);
	}
	return 0;
}
